//! One behaviour, every backend: rings and executors.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::io::buffer::{AlignedBuf, BufferPool};
use crate::io::device::FileDevice;
use crate::io::runtime::{Nanos, Runtime};
use crate::io::sim::SimWorld;
use crate::io::sim_device::SimDevice;
use crate::io::sim_ring::SimRing;
use crate::io::threads::ThreadsRing;
use crate::io::uring::{UringRing, available};
use crate::io::{Device, Devices, IoDone, IoOp, Ring, Token, Wait};
use crate::limits::BLOCK;
use crate::types::TierId;

mod execs;

/// A directory of this test's own, gone at its end.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> TempDir {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("isotherm-io-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        TempDir(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const BLOCKS: u64 = 1024;
const TIER: TierId = TierId(0);

/// A ring under test with what it stands on.
struct Bench {
    ring: Box<dyn Ring>,
    runtime: Runtime,
    _dir: Option<TempDir>,
}

fn file_devices(dir: &TempDir) -> Devices {
    let device = FileDevice::create(&dir.file("tier0"), BLOCKS * BLOCK as u64).unwrap();
    Arc::new([Arc::new(device) as Arc<dyn Device>])
}

fn uring(depth: u32) -> Option<Bench> {
    let (dir, runtime) = (TempDir::new(), Runtime::os());
    let devices = file_devices(&dir);
    if let Err(reason) = available(&devices) {
        eprintln!("skipped: {reason}");
        return None;
    }
    let ring = Box::new(UringRing::new(devices, depth, runtime.clone()).unwrap());
    Some(Bench { ring, runtime, _dir: Some(dir) })
}

fn threads() -> Bench {
    let (dir, runtime) = (TempDir::new(), Runtime::os());
    let ring = Box::new(ThreadsRing::new(file_devices(&dir), 4, runtime.clone()));
    Bench { ring, runtime, _dir: Some(dir) }
}

fn sim() -> Bench {
    let world = SimWorld::new(7);
    let device = SimDevice::new(world.clone(), 0, BLOCKS * BLOCK as u64);
    let devices: Devices = Arc::new([device as Arc<dyn Device>]);
    Bench {
        ring: Box::new(SimRing::new(world.clone(), devices)),
        runtime: Runtime::Sim(world),
        _dir: None,
    }
}

/// Every backend, the kernel's twice: with room for all operations, and for few.
fn all() -> Vec<Bench> {
    [uring(64), uring(3), Some(threads()), Some(sim())].into_iter().flatten().collect()
}

fn write(block: u64, byte: u8, dsync: bool) -> IoOp {
    let mut buf = AlignedBuf::alloc(BLOCK);
    buf.as_mut_slice().fill(byte);
    IoOp::Write { tier: TIER, offset: block * BLOCK as u64, len: BLOCK, buf, dsync }
}

fn read(block: u64, blocks: usize) -> IoOp {
    let len = blocks * BLOCK;
    IoOp::Read { tier: TIER, offset: block * BLOCK as u64, len, buf: AlignedBuf::alloc(len) }
}

/// Turns until everything in flight is done.
fn finish(ring: &mut dyn Ring) -> Vec<IoDone> {
    let mut done = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(30);
    while ring.in_flight() > 0 {
        assert!(Instant::now() < deadline, "{} operations hang", ring.in_flight());
        ring.turn(Wait::Until(None), &mut done);
    }
    done
}

fn one(ring: &mut dyn Ring, op: IoOp) -> IoDone {
    ring.push(Token(99), op);
    let mut done = finish(ring);
    assert_eq!(done.len(), 1);
    done.remove(0)
}

#[test]
fn what_was_written_is_read_back_on_every_ring() {
    for mut bench in all() {
        let ring = &mut *bench.ring;
        one(ring, write(3, 7, false)).result.unwrap();
        one(ring, write(4, 8, true)).result.unwrap();
        let flushed = one(ring, IoOp::Flush { tier: TIER });
        assert!(flushed.result.is_ok() && flushed.buf.is_none());
        let done = one(ring, read(2, 3));
        done.result.unwrap();
        let expected: Vec<u8> = [0, 7, 8].iter().flat_map(|byte| [*byte; BLOCK]).collect();
        assert!(done.buf.unwrap().as_slice() == expected, "{}", ring.describe());
    }
}

#[test]
fn many_operations_complete_once_each_and_give_their_buffers_back() {
    for mut bench in all() {
        let ring = &mut *bench.ring;
        let pool = BufferPool::new(BLOCKS as usize * BLOCK);
        for block in 0..BLOCKS {
            let mut buf = pool.try_get(BLOCK).unwrap();
            buf.as_mut_slice().fill(block as u8);
            let offset = block * BLOCK as u64;
            ring.push(
                Token(block),
                IoOp::Write { tier: TIER, offset, len: BLOCK, buf, dsync: false },
            );
        }
        assert_eq!(ring.in_flight(), BLOCKS as usize);
        let done = finish(ring);
        let mut tokens: Vec<u64> = done.iter().map(|done| done.token.0).collect();
        tokens.sort_unstable();
        assert!(tokens == (0..BLOCKS).collect::<Vec<_>>(), "{}", ring.describe());
        assert!(done.iter().all(|done| done.result.is_ok()));
        drop(done);
        assert_eq!(pool.in_use(), 0);

        for block in 0..BLOCKS {
            ring.push(Token(block), read(block, 1));
        }
        for done in finish(ring) {
            done.result.unwrap();
            let buf = done.buf.unwrap();
            assert!(buf.as_slice().iter().all(|byte| *byte == done.token.0 as u8));
        }
    }
}

#[test]
fn the_end_of_the_file_and_wrong_arguments_are_errors_not_zeros() {
    for mut bench in all() {
        let ring = &mut *bench.ring;
        let past_end = one(ring, read(BLOCKS - 1, 2));
        assert_eq!(past_end.result.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
        assert!(past_end.buf.is_some());
        for wrong in [
            write(BLOCKS, 1, false),
            write(BLOCKS, 1, true),
            IoOp::Flush { tier: TierId(1) },
            IoOp::Read { tier: TIER, offset: 0, len: 2 * BLOCK, buf: AlignedBuf::alloc(BLOCK) },
        ] {
            let error = one(ring, wrong).result.unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "{error}");
        }
        // A failed operation gives its place back.
        one(ring, write(0, 1, false)).result.unwrap();
    }
}

#[test]
fn a_doorbell_rung_before_the_sleep_ends_it() {
    for mut bench in all() {
        let start = Instant::now();
        bench.ring.doorbell().ring();
        bench.ring.doorbell().ring();
        bench.ring.turn(Wait::Until(Some(Nanos(u64::MAX / 2))), &mut Vec::new());
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn a_doorbell_rung_during_the_sleep_ends_it_every_time() {
    for mut bench in [uring(4), Some(threads())].into_iter().flatten() {
        // The ringer waits for each answer, so a lost ring shows as a sleep of a minute. Reads in
        // between end sleeps too, just when the bell is rung: then its signal comes late.
        let (sent, seen) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        const LETTERS: u64 = 5000;
        let ringer = {
            let (bell, sent, seen) = (bench.ring.doorbell(), sent.clone(), seen.clone());
            thread::spawn(move || {
                for letter in 1..=LETTERS {
                    if letter % 50 == 0 {
                        thread::sleep(Duration::from_millis(1));
                    }
                    sent.store(letter, Ordering::Relaxed);
                    bell.ring();
                    while seen.load(Ordering::Relaxed) < letter {
                        thread::yield_now();
                    }
                }
            })
        };
        let until = Some(bench.runtime.now().after(Duration::from_secs(60)));
        let start = Instant::now();
        let mut done = Vec::new();
        for turn in 0u64.. {
            let got = sent.load(Ordering::Relaxed);
            seen.store(got, Ordering::Relaxed);
            if got == LETTERS {
                break;
            }
            if turn % 3 == 0 {
                bench.ring.push(Token(turn), read(turn % BLOCKS, 1));
            }
            bench.ring.turn(Wait::Until(until), &mut done);
            done.clear();
        }
        ringer.join().unwrap();
        assert!(start.elapsed() < Duration::from_secs(50), "{}", bench.ring.describe());
    }
}

#[test]
fn a_sleep_lasts_until_its_time_and_costs_no_cpu() {
    for mut bench in [uring(4), Some(threads())].into_iter().flatten() {
        let (start, cpu) = (Instant::now(), thread_cpu());
        let until = bench.runtime.now().after(Duration::from_millis(300));
        while bench.runtime.now() < until {
            bench.ring.turn(Wait::Until(Some(until)), &mut Vec::new());
        }
        assert!(start.elapsed() < Duration::from_secs(5));
        let used = thread_cpu() - cpu;
        assert!(used < Duration::from_millis(30), "{used:?} in {}", bench.ring.describe());
    }
}

#[test]
fn a_ring_dropped_with_operations_in_flight_returns_every_buffer() {
    for mut bench in all() {
        let pool = BufferPool::new(64 << 20);
        for block in 0..64 {
            let (offset, len) = (block * 8 * BLOCK as u64, 8 * BLOCK);
            let buf = pool.try_get(len).unwrap();
            bench.ring.push(Token(block), IoOp::Read { tier: TIER, offset, len, buf });
        }
        bench.ring.turn(Wait::No, &mut Vec::new());
        let bell = bench.ring.doorbell();
        let name = bench.ring.describe();
        drop(bench.ring);
        assert_eq!(pool.in_use(), 0, "{name}");
        // A bell may outlive its ring.
        bell.ring();
    }
}

#[test]
fn a_ring_says_what_it_is() {
    let names: Vec<_> = all().iter().map(|bench| bench.ring.describe()).collect();
    eprintln!("{names:?}");
    assert!(names.iter().any(|name| name.starts_with("threads")));
    assert!(names.iter().any(|name| name == "sim"));
}

/// CPU time of the calling thread.
fn thread_cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a local value that outlives the call.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[test]
fn a_simulated_run_repeats_from_its_seed_and_differs_from_others() {
    let run = |seed| {
        let world = SimWorld::new(seed);
        let runtime = Runtime::Sim(world.clone());
        let device = SimDevice::new(world.clone(), 0, BLOCKS * BLOCK as u64);
        let devices: Devices = Arc::new([device as Arc<dyn Device>]);
        let handle = execs::copy_blocks(&runtime, devices);
        assert!(handle.join());
        (world.trace_hash(), world.trace_len(), world.now())
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn simulated_callers_interleave_and_all_end() {
    let world = SimWorld::new(5);
    let (sender, receiver) = crate::io::wait::oneshot();
    let got = Cell::new(0);
    let yielding = async {
        let mut sender = Some(sender);
        for _ in 0..10 {
            let mut first = true;
            std::future::poll_fn(|cx| {
                cx.waker().wake_by_ref();
                match std::mem::replace(&mut first, false) {
                    true => std::task::Poll::Pending,
                    false => std::task::Poll::Ready(()),
                }
            })
            .await;
        }
        if let Some(sender) = sender.take() {
            sender.send(3);
        }
    };
    world.run(vec![Box::pin(async { got.set(receiver.await.unwrap()) }), Box::pin(yielding)]);
    assert_eq!(got.get(), 3);
}

#[test]
#[should_panic(expected = "simulated world is deadlocked, seed 5")]
fn a_simulated_caller_that_nobody_answers_is_reported() {
    let runtime = Runtime::Sim(SimWorld::new(5));
    runtime.block_on(std::future::pending())
}
