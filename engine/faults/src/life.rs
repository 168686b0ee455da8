//! One life: a file system is made, a store on it is used while the disk records, and then the power
//! fails at many of the recorded moments.

use std::io::{Seek, SeekFrom, Write};
use std::path::PathBuf;

use isotherm::{CheckOptions, Durability, ErrorKind, PutOptions, ScanRange};
use isotherm_sim::rng::Rng;

use crate::disk::{Event, PHYSICAL_BLOCK, SECTOR};
use crate::history::{Clock, Digest, History, Judged, digest};
use crate::mounts::{Bench, FileSystem, Outcome};
use crate::watchdog::Watchdog;
use crate::workload::{self, Behind};

/// Room for both tiers; XFS wants 300 MiB.
const DISK_LEN: u64 = 320 << 20;
/// Images of losses that are kept as files.
const KEPT_MAX: usize = 3;
/// One image in so many is also checked buffer by buffer.
const CHECKED_ONE_IN: u64 = 8;

/// What a life is to be.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Of callers, boundaries and what is lost.
    pub seed: u64,
    /// Under the store.
    pub file_system: FileSystem,
    /// How many crash images to look at.
    pub images: usize,
    /// The disk takes back all but every eighth flush: then the store must be caught.
    pub is_lying: bool,
}

/// What came of a life.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Crash images looked at.
    pub images: u64,
    /// What was compared on them.
    pub judged: Judged,
    /// Writes and flushes that the disk recorded.
    pub events: u64,
    /// Of these, flushes.
    pub flushes: u64,
    /// Images that the file system itself refused.
    pub refused: u64,
    /// Writes torn on the images.
    pub torn: u64,
    /// Changes that were acknowledged while it recorded.
    pub changes: u64,
    /// What went on behind them.
    pub behind: Behind,
    /// What is wrong, and on which image.
    pub losses: Vec<String>,
}

impl Report {
    /// Adds another life.
    pub fn add(&mut self, other: &Report) {
        self.images += other.images;
        self.judged.add(other.judged);
        self.events += other.events;
        self.flushes += other.flushes;
        self.refused += other.refused;
        self.torn += other.torn;
        self.changes += other.changes;
        self.behind.demotions += other.behind.demotions;
        self.behind.cleanings += other.behind.cleanings;
        self.losses.extend(other.losses.iter().cloned());
    }
}

/// Lives it.
///
/// # Errors
/// What keeps it from being lived, such as a file system that cannot be mounted. What is wrong with the
/// store stands in the report.
pub fn live(plan: Plan, watchdog: &Watchdog) -> Outcome<Report> {
    watchdog.feed("the making of a file system");
    let bench = Bench::make(plan.file_system, DISK_LEN)?;
    bench.disk.record();
    let mounted = bench.mount()?;
    let start = bench.disk.position();
    watchdog.feed("the use of the store");
    let (history, behind) = workload::run(bench.files(), plan.seed, &Clock::new(&bench.disk))?;
    mounted.unmount()?;
    let events = bench.disk.rewind();
    let flushes = events.iter().filter(|event| matches!(event, Event::Flush)).count() as u64;
    let mut report = Report {
        events: events.len() as u64,
        flushes,
        changes: history.len() as u64,
        behind,
        ..Report::default()
    };
    let mut durable = 0;
    for boundary in boundaries(&plan, start, &events, &history) {
        let flushed = flushed_before(&plan, &events[..boundary]);
        bench.disk.advance(&events[durable..flushed.max(durable)]);
        durable = flushed.max(durable);
        watchdog.feed(&format!("the image at {boundary}, {plan:?}"));
        let pending = &events[durable..boundary];
        if let Err(wrong) = image(&bench, &plan, &history, boundary, pending, &mut report)? {
            report.losses.push(format!(
                "{plan:?}, at event {boundary} of {}, {} of them since the last flush: {wrong}",
                events.len(),
                pending.len()
            ));
        }
    }
    Ok(report)
}

/// One image: made, mounted and looked at. What is wrong with the store on it is the inner error.
///
/// ext4 takes it for granted that its superblock of 1024 bytes is written whole. An image on which it is
/// not, and that the file system refuses, is made again as of a disk with larger physical blocks.
fn image(
    bench: &Bench,
    plan: &Plan,
    history: &History,
    boundary: usize,
    pending: &[Event],
    report: &mut Report,
) -> Outcome<Result<(), String>> {
    let seed = plan.seed ^ (boundary as u64) << 20;
    for unit in [SECTOR, PHYSICAL_BLOCK] {
        let torn = bench.disk.crash(pending, unit, seed);
        let mounted = match bench.mount() {
            Ok(mounted) => mounted,
            Err(_) if unit == SECTOR || plan.is_lying => {
                report.refused += 1;
                continue;
            }
            Err(error) => return Err(format!("at event {boundary}: {error}").into()),
        };
        report.images += 1;
        report.torn += torn;
        let judged = look(bench, plan, history, boundary);
        mounted.unmount()?;
        let wrong = match judged {
            Ok(judged) => {
                report.judged.add(judged);
                return Ok(Ok(()));
            }
            Err(error) => error,
        };
        if plan.is_lying || report.losses.len() >= KEPT_MAX {
            return Ok(Err(wrong.to_string()));
        }
        bench.disk.crash(pending, unit, seed);
        let copy = keep(bench, plan, boundary)?;
        return Ok(Err(format!("{wrong}; the image: {}", copy.display())));
    }
    Ok(Ok(()))
}

/// When the power fails, in order: half of the moments anywhere, a quarter at flushes, a quarter where
/// something was acknowledged as durable and nothing has followed.
fn boundaries(plan: &Plan, start: usize, events: &[Event], history: &History) -> Vec<usize> {
    let mut rng = Rng::new(plan.seed.wrapping_mul(31) ^ 0xB0);
    let flushes: Vec<usize> =
        (start..events.len()).filter(|&at| matches!(events[at], Event::Flush)).collect();
    let promises = history.promises();
    let mut chosen: Vec<usize> = (0..plan.images)
        .map(|_| match rng.below(4) {
            // Before a flush, and after it.
            0 if !flushes.is_empty() => rng.pick(&flushes) + rng.below(2) as usize,
            1 if !promises.is_empty() => rng.pick(&promises),
            _ => start + rng.below((events.len() - start + 1) as u64) as usize,
        })
        .collect();
    chosen.sort_unstable();
    chosen
}

/// How many events the last flush covers.
fn flushed_before(plan: &Plan, events: &[Event]) -> usize {
    let flushes = events.iter().enumerate().filter(|(_, event)| matches!(event, Event::Flush));
    let honest = flushes.enumerate().filter(|(number, _)| !plan.is_lying || number % 8 == 7);
    honest.last().map_or(0, |(_, (at, _))| at + 1)
}

/// Opens the store on the image as any process would after a crash, and compares it with what was asked
/// of it.
fn look(bench: &Bench, plan: &Plan, history: &History, boundary: usize) -> Outcome<Judged> {
    let (store, bucket) = workload::open(bench.files(), plan.seed)
        .map_err(|error| format!("it does not open: {error}"))?;
    let mut found: Vec<Digest> = Vec::with_capacity(history.blobs.len());
    let mut expected = Vec::new();
    for blob in &history.blobs {
        match bucket.get(&blob.key) {
            Ok(value) => {
                expected.push(blob.key.clone());
                found.push(digest(Some(&value)));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => found.push(None),
            Err(error) => {
                let key = String::from_utf8_lossy(&blob.key);
                return Err(format!("{key} cannot be read: {error}").into());
            }
        }
    }
    let judged = history.judge(boundary, &found)?;
    expected.sort();
    let listed = bucket.scan(ScanRange::all()).map(|item| item.map(|item| item.key.into_vec()));
    if listed.collect::<Result<Vec<_>, _>>()? != expected {
        return Err("a scan lists other keys than can be read".into());
    }
    if (boundary as u64).is_multiple_of(CHECKED_ONE_IN) {
        let report =
            store.check(&CheckOptions::default(), |_| std::ops::ControlFlow::Continue(()))?;
        if !report.is_clean() {
            return Err(format!("the check finds {report:?}").into());
        }
    }
    bucket.put_with(b"after", b"after", PutOptions::from(Durability::Durable))?;
    if store.stats().corruptions > 0 {
        return Err(format!("{} checksum mismatches", store.stats().corruptions).into());
    }
    drop(bucket);
    store.close()?;
    Ok(judged)
}

/// Writes the image into a sparse file, for whoever wants to mount it.
fn keep(bench: &Bench, plan: &Plan, boundary: usize) -> Outcome<PathBuf> {
    const PIECE: usize = 1 << 16;
    let name = format!("isotherm-loss-{}-{}-{boundary}.img", plan.file_system.name(), plan.seed);
    let path = std::env::temp_dir().join(name);
    let mut file = std::fs::File::create(&path)?;
    file.set_len(DISK_LEN)?;
    let mut piece = vec![0; PIECE];
    for at in (0..DISK_LEN).step_by(PIECE) {
        bench.disk.read(at, &mut piece);
        if piece.iter().any(|&byte| byte != 0) {
            file.seek(SeekFrom::Start(at))?;
            file.write_all(&piece)?;
        }
    }
    Ok(path)
}
