//! Durable 4 KiB puts beside a raw coalesced log and fio.

use std::cell::RefCell;

use isotherm::config::{Config, Tier};
use isotherm::{Durability, Store};

use crate::Outcome;
use crate::arguments::Arguments;
use crate::fio::{Fio, Kind};
use crate::picks::{key, stamp};
use crate::raw_log::RawLog;
use crate::rounds::{Contender, interleave};
use crate::shared_log;
use crate::table::{Goal, Row, Section, Unit};
use crate::writers::run_callers;

const VALUE_LEN: usize = 4096;
const WRITERS: [usize; 3] = [1, 32, 128];
/// Keys that each writer replaces in turn.
const KEYS_EACH: usize = 256;

/// Runs them.
pub fn run(arguments: &Arguments) -> Outcome<Section> {
    let note = "4 KiB values, each writer on 256 keys of its own. Raw log: one thread writes N blocks \
                and a header at once (O_DIRECT, RWF_DSYNC, zero-written file); no mailbox, wake-up, \
                index or checksum, its p50 is that of a batch. Raw log, N callers: the same log, \
                written by one thread for N that wait for it. fio: N threads, a 4 KiB write and an \
                fdatasync each time.";
    let mut section = Section::new("Durable put", note);
    if !WRITERS.iter().any(|writers| arguments.wants(&format!("durable-put-{writers}"))) {
        return Ok(section);
    }
    let place = tempfile::tempdir_in(&arguments.directory)?;
    eprintln!("durable-put: preparing");
    let len: u64 = if arguments.quick { 256 << 20 } else { 1 << 30 };
    let log = RefCell::new(RawLog::create(&place.path().join("log"), len)?);
    let fio = Fio::create(&place.path().join("fio"), len)?;
    let config = Config::builder()
        .tier(Tier::dram("64MiB"))
        .tier(Tier::nvme(4 * len))
        .durability(Durability::Durable)
        .build()?;
    let store = Store::open(place.path().join("store"), config)?;
    let bucket = store.bucket("durable")?;
    for writers in WRITERS {
        if !arguments.wants(&format!("durable-put-{writers}")) {
            continue;
        }
        eprintln!("durable-put-{writers}");
        let put = |writer: usize, random: &mut crate::picks::Random, value: &mut [u8]| -> Outcome {
            let number = writer * KEYS_EACH + random.below(KEYS_EACH);
            stamp(value, number as u32);
            bucket.put(&key(number), value)?;
            Ok(())
        };
        let jobs = format!("--numjobs={writers}");
        let write = ["--rw=randwrite", "--bs=4k", "--ioengine=psync", "--fdatasync=1", &jobs];
        let figures = interleave(
            arguments.rounds,
            vec![
                Contender::new("isotherm", || {
                    run_callers(writers, VALUE_LEN, arguments.time, &put)
                }),
                Contender::new("raw log", || log.borrow_mut().run(writers, arguments.time)),
                Contender::new("raw log, N callers", || {
                    shared_log::run(&mut log.borrow_mut(), writers, arguments.time)
                }),
                Contender::new("fio fdatasync", || fio.timed(Kind::Write, arguments.time, &write)),
            ],
        )?;
        section.rows.push(Row {
            what: format!("4 KiB, {writers} writers"),
            unit: Unit::Operations,
            figures,
            goal: (writers == 128).then(|| Goal { against: "raw log".into(), at_least: 0.5 }),
        });
    }
    store.close()?;
    Ok(section)
}
