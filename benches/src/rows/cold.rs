//! Cold gets beside fio: blocking callers, each with one read under way.

use isotherm::config::{Config, Tier};
use isotherm::{Durability, Store};

use crate::Outcome;
use crate::arguments::Arguments;
use crate::fio::{Fio, Kind};
use crate::picks::{is_stamped, key};
use crate::rounds::{Contender, interleave};
use crate::rows::load;
use crate::table::{Goal, Row, Section, Unit};
use crate::writers::run_callers;

const VALUE_LEN: usize = 4096;
const CALLERS: [usize; 3] = [1, 32, 128];

/// Runs them.
pub fn run(arguments: &Arguments) -> Outcome<Section> {
    let blobs = if arguments.quick { 60_000 } else { 300_000 };
    let note = format!(
        "{blobs} blobs of 4 KiB, 8 MiB of DRAM, keys uniformly random, every value checked. fio: 4 KiB \
         random reads with O_DIRECT of a written file of the same size in the same directory, by as \
         many blocking threads (psync), and by one thread at that depth (io_uring)."
    );
    let mut section = Section::new("Cold get", note);
    if !CALLERS.iter().any(|callers| arguments.wants(&format!("cold-get-{callers}"))) {
        return Ok(section);
    }
    let place = tempfile::tempdir_in(&arguments.directory)?;
    eprintln!("cold-get: loading");
    let fio = Fio::create(&place.path().join("fio"), (blobs * VALUE_LEN) as u64)?;
    let capacity = ((blobs * VALUE_LEN * 3) as u64).max(1 << 30);
    let config = Config::builder()
        .tier(Tier::dram("8MiB"))
        .tier(Tier::nvme(capacity))
        .memory_budget("512MiB")
        .durability(Durability::Written)
        .build()?;
    let store = Store::open(place.path().join("store"), config)?;
    let bucket = store.bucket("cold")?;
    load(&store, &bucket, blobs, VALUE_LEN)?;
    for callers in CALLERS {
        if !arguments.wants(&format!("cold-get-{callers}")) {
            continue;
        }
        eprintln!("cold-get-{callers}");
        let before = store.stats();
        let get = |_: usize, random: &mut crate::picks::Random, value: &mut [u8]| -> Outcome {
            let number = random.below(blobs);
            let len = bucket.get_into(&key(number), value)?;
            match len == VALUE_LEN && is_stamped(value, number as u32) {
                true => Ok(()),
                false => Err(format!("the value of key {number} is not its own").into()),
            }
        };
        let (jobs, depth) = (format!("--numjobs={callers}"), format!("--iodepth={callers}"));
        let read = ["--rw=randread", "--bs=4k"];
        let psync = [read[0], read[1], "--ioengine=psync", &jobs];
        let uring = [read[0], read[1], "--ioengine=io_uring", &depth];
        let figures = interleave(
            arguments.rounds,
            vec![
                Contender::new("isotherm", || {
                    run_callers(callers, VALUE_LEN, arguments.time, &get)
                }),
                Contender::new("fio psync", || fio.timed(Kind::Read, arguments.time, &psync)),
                Contender::new("fio io_uring", || fio.timed(Kind::Read, arguments.time, &uring)),
            ],
        )?;
        let after = store.stats();
        let (hits, misses) =
            (after.dram_hits - before.dram_hits, after.dram_misses - before.dram_misses);
        let hit_percent = hits as f64 / (hits + misses).max(1) as f64 * 100.0;
        section.rows.push(Row {
            what: format!("4 KiB, {callers} thr ({hit_percent:.1} % in DRAM)"),
            unit: Unit::Operations,
            figures,
            goal: (callers == 1).then(|| Goal { against: "fio psync".into(), at_least: 0.9 }),
        });
    }
    store.close()?;
    Ok(section)
}
