//! Streaming puts of large blobs beside fio's sequential write.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Instant;

use isotherm::config::{Config, Tier};
use isotherm::{Bucket, Durability, Scope, Store};

use crate::Outcome;
use crate::arguments::Arguments;
use crate::fio::{Fio, Kind};
use crate::picks::{fill, key};
use crate::rounds::{Contender, Sample, interleave};
use crate::table::{Goal, Row, Section, Unit};
use crate::usage::cpu_time;

const MIB: u64 = 1 << 20;
/// Most passes over the tier that write its segments for the first time.
const WARM_PASSES: usize = 6;

/// Runs them.
pub fn run(arguments: &Arguments) -> Outcome<Section> {
    if !arguments.wants("stream-put") {
        return Ok(Section::default());
    }
    let total = if arguments.quick { 256 * MIB } else { 2048 * MIB };
    let sizes = if arguments.quick { [16, 64] } else { [64, 1024] };
    let place = tempfile::tempdir_in(&arguments.directory)?;
    let path = place.path().join("store");
    let config = Config::builder()
        .tier(Tier::dram("64MiB"))
        .tier(Tier::nvme(total * 5 / 2))
        .durability(Durability::Written)
        .build()?;
    let store = Store::open(&path, config)?;
    let bucket = store.bucket("stream")?;
    let mut value = vec![0; (sizes[1] * MIB) as usize];
    fill(&mut value, 1);
    eprintln!("stream-put: warming");
    let tier = path.join("nvme0.tier");
    for _ in 0..WARM_PASSES {
        pass(&store, &bucket, &value[..(sizes[0] * MIB) as usize], total)?;
        if written_part(&tier)? > 0.95 {
            break;
        }
    }
    let fio = Fio::create(&place.path().join("fio"), total)?;
    let note = format!(
        "{} MiB per measurement, Written (no flush asked for; the engine flushes every 256 MiB). Both \
         files were written before: {:.0} % of the tier's, all of fio's. fio: 1 MiB sequential writes \
         with O_DIRECT at depth 1 and 4; `flushing`: with an fdatasync every 256 MiB. CPU and p50 per \
         MiB; p50 of fio alone.",
        total / MIB,
        written_part(&tier)? * 100.0
    );
    let mut section = Section::new("Streaming put", note);
    for size in sizes {
        eprintln!("stream-put, {size} MiB");
        let value = &value[..(size * MIB) as usize];
        let job = |extra: &'static [&'static str]| {
            let fio = &fio;
            move || {
                let mut job = vec!["--rw=write", "--bs=1M", "--ioengine=io_uring"];
                job.extend(extra);
                fio.once(Kind::Write, &job)
            }
        };
        let figures = interleave(
            arguments.rounds,
            vec![
                Contender::new("isotherm", || pass(&store, &bucket, value, total)),
                Contender::new("fio depth 1", job(&["--iodepth=1"])),
                Contender::new("fio depth 4", job(&["--iodepth=4"])),
                Contender::new("fio depth 4, flushing", job(&["--iodepth=4", "--fdatasync=256"])),
            ],
        )?;
        section.rows.push(Row {
            what: format!("blobs of {size} MiB"),
            unit: Unit::Bytes(MIB),
            figures,
            goal: Some(Goal { against: "fio depth 4".into(), at_least: 0.8 }),
        });
    }
    store.close()?;
    Ok(section)
}

/// Puts `total` bytes in blobs of the value's size and, when that is timed, deletes them again.
/// In operations of 1 MiB.
fn pass(store: &Store, bucket: &Bucket, value: &[u8], total: u64) -> Outcome<Sample> {
    let blobs = (total as usize / value.len()).max(1);
    let (start, cpu) = (Instant::now(), cpu_time());
    for number in 0..blobs {
        bucket.put(&key(number), value)?;
    }
    let (took, cpu) = (start.elapsed(), cpu_time().saturating_sub(cpu));
    for number in 0..blobs {
        bucket.delete(&key(number))?;
    }
    store.flush(Scope::Store)?;
    Ok(Sample::of((blobs * value.len()) as u64 / MIB, took, Some(cpu)))
}

/// The part of a file that has been written: what is only allocated counts as a hole.
fn written_part(path: &Path) -> Outcome<f64> {
    let file = File::open(path)?;
    let len = file.metadata()?.len() as i64;
    // SAFETY: a plain system call on a descriptor that `file` keeps open.
    let seek = |at: i64, whence: i32| unsafe { libc::lseek(file.as_raw_fd(), at, whence) };
    let (mut at, mut written) = (0, 0);
    while at < len {
        let data = seek(at, libc::SEEK_DATA);
        if data < 0 {
            break;
        }
        let hole = seek(data, libc::SEEK_HOLE).clamp(data, len);
        written += hole - data;
        at = hole;
    }
    Ok(written as f64 / len.max(1) as f64)
}
