//! Each tier by itself, interleaved with fio (or memcpy) doing the same.

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use isotherm::Store;
use isotherm::config::{Config, Tier};
use isotherm::types::TierKind;
use isotherm_cli::failure::{Failure, Outcome};
use isotherm_cli::output::{human_size, table};
use isotherm_cli::parallel;

use crate::data;
use crate::fio::Fio;

/// Values of the streaming measurements.
const LARGE: u64 = 64 << 20;
/// Values of the random reads.
const SMALL: u64 = 4096;
const SMALL_COUNT: u64 = 30_000;
const RANDOM_SECONDS: u64 = 3;
const BUCKET: &str = "bench";
const MIB: u64 = 1 << 20;

/// Measured per second: what, with isotherm, and with the reference.
struct Row {
    tier: &'static str,
    what: &'static str,
    isotherm: f64,
    reference: f64,
    is_bytes: bool,
}

/// A table of all measurements. `bytes` are streamed per device tier.
pub fn measure(work: &Path, bytes: u64) -> Outcome<String> {
    let mut rows = measure_dram(work)?;
    for kind in [TierKind::Nvme, TierKind::Hdd] {
        rows.extend(measure_device(work, kind, bytes)?);
    }
    let header = ["tier", "what", "isotherm", "reference", "ratio"];
    let mut cells = vec![header.map(str::to_string).to_vec()];
    for row in rows {
        let rate = |value: f64| match row.is_bytes {
            true => format!("{}/s", human_size(value as u64)),
            false => format!("{value:.0}/s"),
        };
        cells.push(vec![
            row.tier.to_string(),
            row.what.to_string(),
            rate(row.isotherm),
            rate(row.reference),
            format!("{:.2}", row.isotherm / row.reference),
        ]);
    }
    Ok(format!(
        "{}The reference is memcpy for DRAM and fio for devices (O_DIRECT, same file system).\n\
         One run each, on whatever else this machine does: an impression, not a benchmark.\n",
        table(&cells)
    ))
}

/// Runs per second, doing `work` for about half a second.
fn repeat(mut work: impl FnMut(u64) -> Outcome) -> Outcome<f64> {
    let (started, mut runs) = (Instant::now(), 0);
    while started.elapsed() < Duration::from_millis(500) {
        work(runs)?;
        runs += 1;
    }
    Ok(runs as f64 / started.elapsed().as_secs_f64())
}

fn measure_dram(work: &Path) -> Outcome<Vec<Row>> {
    const BLOBS: u64 = 64;
    let config = Config::builder().tier(Tier::dram("128MiB")).build()?;
    let directory = work.join("bench-dram");
    let store = Store::open(&directory, config)?;
    let bucket = store.bucket(BUCKET)?;
    let (value, mut copy) = (data::generate(1, MIB), vec![0; MIB as usize]);
    let key = |run: u64| data::part_key(run % BLOBS);
    // Memory that is touched for the first time is slow for everyone; it is not what is measured.
    for run in 0..BLOBS {
        bucket.put(key(run).as_bytes(), &value)?;
    }
    let put = repeat(|run| {
        bucket.put(key(run).as_bytes(), &value)?;
        Ok(())
    })?;
    let get = repeat(|run| {
        bucket.get_into(key(run).as_bytes(), &mut copy)?;
        Ok(())
    })?;
    let sources: Vec<_> = (0..BLOBS).map(|number| data::generate(number, MIB)).collect();
    let memcpy = repeat(|run| {
        copy.copy_from_slice(&sources[(run % BLOBS) as usize]);
        black_box(&mut copy);
        Ok(())
    })?;
    store.close()?;
    remove(&directory)?;
    let row = |what, runs: f64| Row {
        tier: "dram",
        what,
        isotherm: runs * MIB as f64,
        reference: memcpy * MIB as f64,
        is_bytes: true,
    };
    Ok(vec![row("put 1 MiB at Memory", put), row("get 1 MiB", get)])
}

fn measure_device(work: &Path, kind: TierKind, bytes: u64) -> Outcome<Vec<Row>> {
    let directory = work.join(format!("bench-{kind}"));
    // DRAM far smaller than the data, so that reads come from the device.
    let capacity = bytes * 3 / 2 + 512 * MIB;
    let tier = Tier::of_kind(kind).capacity(capacity / MIB * MIB);
    let config = Config::builder().tier(Tier::dram("16MiB")).tier(tier).build()?;
    let fio = Fio::new(work, bytes);
    let blobs = (bytes / LARGE).max(1);

    let open = || -> Outcome<Store> { Ok(Store::open(&directory, config.clone())?) };
    let write = stream_write(&open()?, blobs)?;
    let fio_write = fio.write()?;
    let read = stream_read(&open()?, blobs)?;
    let fio_read = fio.read()?;
    fill_small(&open()?)?;
    let random = random_read(&open()?)?;
    let fio_random = fio.random_read(RANDOM_SECONDS)?;
    remove(&directory)?;

    let row = |what, isotherm, reference, is_bytes| Row {
        tier: kind.name(),
        what,
        isotherm,
        reference,
        is_bytes,
    };
    Ok(vec![
        row("write, large values", write, fio_write, true),
        row("read, large values", read, fio_read, true),
        row("random 4 KiB gets, one at a time", random, fio_random, false),
    ])
}

/// Bytes per second; the value is made before the clock starts. Closes the store.
fn stream_write(store: &Store, blobs: u64) -> Outcome<f64> {
    let value = data::generate(7, LARGE);
    let bucket = store.bucket(BUCKET)?;
    let started = Instant::now();
    for number in 0..blobs {
        bucket.put(data::part_key(number).as_bytes(), &value)?;
    }
    let seconds = started.elapsed().as_secs_f64();
    store.close()?;
    Ok((blobs * LARGE) as f64 / seconds)
}

/// Bytes per second of fresh reads in pieces of 8 MiB. Closes the store.
fn stream_read(store: &Store, blobs: u64) -> Outcome<f64> {
    let bucket = store.bucket(BUCKET)?;
    let mut piece = vec![0; 8 << 20];
    let started = Instant::now();
    for number in 0..blobs {
        let key = data::part_key(number);
        for offset in (0..LARGE).step_by(piece.len()) {
            bucket.get_at(key.as_bytes(), offset, &mut piece)?;
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    store.close()?;
    Ok((blobs * LARGE) as f64 / seconds)
}

fn small_key(number: u64) -> String {
    format!("small-{number}")
}

fn fill_small(store: &Store) -> Outcome {
    let bucket = store.bucket(BUCKET)?;
    parallel::for_each((0..SMALL_COUNT).map(Ok), |number| {
        bucket.put(small_key(number).as_bytes(), &data::generate(number, SMALL))?;
        Ok(())
    })?;
    Ok(store.close()?)
}

/// Gets per second on one thread. Closes the store.
fn random_read(store: &Store) -> Outcome<f64> {
    let bucket = store.bucket(BUCKET)?;
    let mut value = vec![0; SMALL as usize];
    let (started, mut gets, mut state) = (Instant::now(), 0u64, 1u64);
    while started.elapsed() < Duration::from_secs(RANDOM_SECONDS) {
        // Knuth's constants: good enough to defeat read-ahead.
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bucket.get_into(small_key((state >> 33) % SMALL_COUNT).as_bytes(), &mut value)?;
        gets += 1;
    }
    let rate = gets as f64 / started.elapsed().as_secs_f64();
    store.close()?;
    Ok(rate)
}

fn remove(directory: &Path) -> Outcome {
    // A store of DRAM alone may leave no directory.
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::of_file("removal of", directory, &error))
        }
        _ => Ok(()),
    }
}
