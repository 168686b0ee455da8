//! What came of the forgeries, and how much memory and time one of them may take.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, Once};
use std::thread;
use std::time::{Duration, Instant};

use isotherm::io::sim_disk::Disk;
use isotherm_sim::salvaged::{self, Tally};
use isotherm_sim::small::{Small, capacities};
use isotherm_sim::trial::{Name, Touched, Truth, Verdict};

/// More than a store of this size ever has at once.
const BYTES_MAX: usize = 300 << 20;
/// No store that is tried asks for so much at once.
const HUGE: usize = 1 << 30;
/// A trial takes a hundredth of a second, on a busy machine a few.
const PATIENCE: Duration = Duration::from_secs(120);

static LIVE: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);
/// What is being tried, and since when. One at a time, for its memory is measured.
static TRIAL: Mutex<Option<(String, Instant)>> = Mutex::new(None);
static ONE: Mutex<()> = Mutex::new(());

/// Counts bytes.
struct Counting;

fn grow(bytes: usize) {
    if bytes > HUGE {
        eprintln!("{bytes} bytes are asked for at once");
        std::process::abort();
    }
    let live = LIVE.fetch_add(bytes, Ordering::Relaxed) + bytes;
    MOST.fetch_max(live, Ordering::Relaxed);
}

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller's contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        grow(new_size);
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's contract.
        unsafe { System.realloc(at, layout, new_size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's contract.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Every how many'th change of a field is tried.
pub fn stride() -> usize {
    std::env::var("ISOTHERM_FORGED_STRIDE").map_or(499, |stride| stride.parse().unwrap())
}

/// See the module.
pub struct Bench {
    pub truth: Truth,
    /// What salvage is held against.
    ever: salvaged::Truth,
    /// What it brings back of the stores that are refused: how many, and their blobs.
    brought_back: (u64, Tally),
    table: BTreeMap<(String, Verdict), u64>,
    bad: Vec<String>,
    /// Most bytes that a trial took.
    most: usize,
}

impl Bench {
    pub fn new(small: &Small, disks: &[Disk]) -> Bench {
        watch();
        let truth = Truth::of(&small.blobs, disks).unwrap();
        let ever = salvaged::Truth::of(small).unwrap();
        let (table, bad) = (BTreeMap::new(), Vec::new());
        let mut bench =
            Bench { truth, ever, brought_back: Default::default(), table, bad, most: 0 };
        let verdict = bench.try_one("nothing", "", disks, &Touched::default());
        assert_eq!(verdict, Verdict::Right);
        bench
    }

    /// Tries these devices. `what` is told in the table, `place` where something is wrong.
    pub fn try_one(
        &mut self,
        what: &str,
        place: &str,
        disks: &[Disk],
        touched: &Touched,
    ) -> Verdict {
        let _one = ONE.lock().unwrap();
        *TRIAL.lock().unwrap() = Some((format!("{what}, {place}"), Instant::now()));
        let before = LIVE.load(Ordering::Relaxed);
        MOST.store(before, Ordering::Relaxed);
        let (verdict, told) = self.truth.try_on(disks, touched);
        if verdict == Verdict::StoreRefused
            && let Err(told) = self.salvage(disks, touched)
        {
            self.bad.push(format!("{what}, {place}: salvage: {told}"));
        }
        let bytes = MOST.load(Ordering::Relaxed) - before;
        *TRIAL.lock().unwrap() = None;
        self.most = self.most.max(bytes);
        *self.table.entry((what.to_owned(), verdict)).or_default() += 1;
        if !verdict.is_good() {
            self.bad.push(format!("{what}, {place}: {verdict:?}: {told}"));
        }
        if bytes > BYTES_MAX {
            self.bad.push(format!("{what}, {place}: {bytes} bytes of memory"));
        }
        if std::env::var_os("ISOTHERM_FORGED_TOLD").is_some() {
            println!("{what}, {place}: {verdict:?}: {told}");
        }
        verdict
    }

    /// Of a store that is refused, what is salvaged is right, or the forgery is about it.
    fn salvage(&mut self, disks: &[Disk], touched: &Touched) -> Result<(), String> {
        let disks: Vec<Option<Disk>> = disks.iter().cloned().map(Some).collect();
        let excused = |name: &Name| self.truth.is_touched(name, touched);
        let tally = self.ever.try_on(&disks, &capacities(), &excused)?;
        self.brought_back.0 += 1;
        self.brought_back.1.add(&tally);
        Ok(())
    }

    pub fn finish(self) {
        let (stores, tally) = self.brought_back;
        println!("salvage of {stores} stores that are refused: {tally:?}");
        for ((what, verdict), count) in &self.table {
            println!("{what}: {verdict:?} {count}");
        }
        println!("at most {} KiB of memory", self.most >> 10);
        assert!(self.bad.is_empty(), "{} bad:\n{}", self.bad.len(), self.bad.join("\n"));
    }
}

/// Ends the process if a trial does not end.
fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        thread::spawn(|| {
            loop {
                thread::sleep(Duration::from_secs(1));
                let trial = TRIAL.lock().unwrap();
                if let Some((what, since)) = &*trial
                    && since.elapsed() > PATIENCE
                {
                    eprintln!("{what}: it does not end");
                    std::process::abort();
                }
            }
        });
    });
}
