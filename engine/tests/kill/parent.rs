//! The process that kills.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use isotherm::config::IoChoice;
use isotherm::{ErrorKind, ScanRange};

use crate::groups;
use crate::journal::{self, Event};
use crate::oracle::Oracle;
use crate::support::backend;
use crate::support::rng::Rng;
use crate::writer::{self, Order};

/// One in this many writers is left to close the store by itself.
const CLOSE_ONE_IN: u64 = 12;
/// This process compares everything after this many writers.
const COMPARE_EVERY: u64 = 10;
/// Kills below which not everything need have happened.
const KILLS_FOR_EVERYTHING: u64 = 50;
/// A writer that is to close takes at most this long.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(60);

#[derive(Default, Debug)]
struct Tally {
    kills: u64,
    kills_while_opening: u64,
    kills_before_all_was_reported: u64,
    clean_closes: u64,
    acknowledged: u64,
    found_after_a_kill: u64,
    compared_whole: u64,
    cleanings: u64,
    demotions: u64,
    batches: u64,
}

pub fn run(name: &str, io: IoChoice, kills: u64) {
    let seed = crate::setting("ISOTHERM_SEED", 1);
    if io == IoChoice::Auto {
        backend::announce("the kill test");
    }
    let directory = tempfile::tempdir().unwrap();
    let mut rng = Rng::new(seed);
    let mut oracle = Oracle::default();
    let mut tally = Tally::default();
    let start = Instant::now();
    let mut number = 0;
    while tally.kills < kills {
        number += 1;
        let close = rng.one_in(CLOSE_ONE_IN);
        let order = Order {
            seed,
            io,
            shards: 1 + rng.below(3) as u16,
            close_after_ms: if close { 50 + rng.below(200) } else { 0 },
            number,
            report: oracle.uncertain().into_iter().collect(),
            directory: directory.path().to_owned(),
        };
        // Half of them die young: while they open, recover, report.
        let delay = if rng.one_in(2) { 5 + rng.below(40) } else { 40 + rng.below(260) };
        let events = live_and_die(&order, close, Duration::from_millis(delay));
        count(&mut tally, &events, close);
        let followed = oracle.follow(&events);
        let context = || format!("backend {name}, writer {number}, seed {seed}, {tally:?}");
        if let Err(wrong) = followed {
            panic!("{wrong}\n{}\nthe store is kept in {}", context(), directory.keep().display());
        }
        fs::remove_file(order.journal()).unwrap_or_default();
        if number.is_multiple_of(COMPARE_EVERY) || tally.kills == kills {
            if let Err(wrong) = compare(directory.path(), io, &mut oracle) {
                panic!(
                    "{wrong}\n{}\nthe store is kept in {}",
                    context(),
                    directory.keep().display()
                );
            }
            tally.compared_whole += 1;
        }
    }
    tally.acknowledged = oracle.promises;
    println!("killed on {name}: seed {seed}, {} s\n{tally:#?}", start.elapsed().as_secs());
    if kills >= KILLS_FOR_EVERYTHING {
        let all = [tally.kills_while_opening, tally.clean_closes, tally.cleanings, tally.demotions];
        assert!(all.iter().all(|count| *count > 0), "something never happened: {tally:?}");
    }
}

/// Runs one writer to its end and returns what it noted.
fn live_and_die(order: &Order, close: bool, delay: Duration) -> Vec<Event> {
    let mut writer = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writer", "--nocapture", "--test-threads", "1"])
        .env(writer::ORDER, order.encode())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    if close {
        wait_for_close(&mut writer, order);
    } else {
        std::thread::sleep(delay);
        if let Some(status) = writer.try_wait().unwrap() {
            panic!("writer {} of seed {} ended by itself: {status}", order.number, order.seed);
        }
        writer.kill().unwrap();
        writer.wait().unwrap();
    }
    journal::read(&order.journal())
}

fn wait_for_close(writer: &mut Child, order: &Order) {
    let start = Instant::now();
    loop {
        match writer.try_wait().unwrap() {
            Some(status) if status.success() => return,
            Some(status) => {
                panic!("writer {} of seed {} ended: {status}", order.number, order.seed)
            }
            None if start.elapsed() > CLOSE_TIME_MAX => {
                let threads = threads_of(writer.id());
                writer.kill().unwrap();
                let events = journal::read(&order.journal());
                let last = &events[events.len().saturating_sub(20)..];
                panic!(
                    "writer {} of seed {} does not close\nits threads:\n{threads}\nits last words: {last:#?}",
                    order.number, order.seed
                );
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Name, place in the kernel and system call of every thread: what a process waits for.
fn threads_of(process: u32) -> String {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let told = tasks.map(|task| {
        let task = task.unwrap().path();
        let fact = |name| fs::read_to_string(task.join(name)).unwrap_or_default();
        format!("{} {} {}", fact("comm").trim(), fact("wchan"), fact("syscall").trim())
    });
    told.collect::<Vec<String>>().join("\n")
}

fn count(tally: &mut Tally, events: &[Event], close: bool) {
    let has = |wanted: Event| events.contains(&wanted);
    if close {
        assert!(has(Event::Closed), "a writer ended well without a close");
        tally.clean_closes += 1;
    } else {
        tally.kills += 1;
        tally.kills_while_opening += u64::from(!has(Event::Opened));
        tally.kills_before_all_was_reported += u64::from(!has(Event::Reported));
    }
    let found = events.iter().filter(|event| matches!(event, Event::Found { .. }));
    tally.found_after_a_kill += found.count() as u64;
    let last = events.iter().rev().find_map(|event| match event {
        Event::Stats { cleanings, demotions, batches } => Some((*cleanings, *demotions, *batches)),
        _ => None,
    });
    let (cleanings, demotions, batches) = last.unwrap_or_default();
    tally.cleanings += cleanings;
    tally.demotions += demotions;
    tally.batches += batches;
}

/// Opens the store here and compares every key, byte for byte.
fn compare(directory: &Path, io: IoChoice, oracle: &mut Oracle) -> Result<(), String> {
    let store = writer::open(directory, io, 2);
    let bucket = writer::bucket(&store);
    let uncertain = oracle.uncertain();
    let mut expected = Vec::new();
    for key in oracle.keys().collect::<Vec<_>>() {
        let name = writer::key_name(key);
        let value = match bucket.get(&name) {
            Ok(value) => Some(value),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(format!("key {key} cannot be read: {error}")),
        };
        if uncertain.contains(&key) {
            let digest =
                value.as_ref().map(|value| (value.len() as u64, xxhash_rust::xxh3::xxh3_64(value)));
            oracle.settle(key, digest)?;
        }
        let state = oracle.certain(key);
        match (&state, &value) {
            (None, None) => {}
            (Some(content), Some(value)) if content.len() == value.len() as u64 => {
                content.check(0, value).map_err(|wrong| format!("key {key}: {wrong}"))?;
                expected.push(name);
            }
            _ => {
                let lengths = (state.map(|content| content.len()), value.map(|value| value.len()));
                return Err(format!("key {key}: expected and found lengths {lengths:?}"));
            }
        }
    }
    for group in 0..groups::GROUPS {
        let found = (groups::found_stamp(&store, group), groups::found_name(&store, group));
        oracle.settle_group(group, found.0, found.1)?;
        oracle.settle_stream(groups::stream_of(group), groups::found_stream(&store, group))?;
    }
    expected.sort();
    let listed: Vec<Vec<u8>> =
        bucket.scan(ScanRange::all()).map(|item| item.unwrap().key.into_vec()).collect();
    if listed != expected {
        return Err(format!("a scan lists {} keys, {} are there", listed.len(), expected.len()));
    }
    let corruptions = store.stats().corruptions;
    if corruptions > 0 {
        return Err(format!("{corruptions} checksum mismatches"));
    }
    drop(bucket);
    store.close().map_err(|error| format!("close: {error}"))
}
