//! Cold gets beside fio: blocking callers, each with one read under way, and one thread with a queue.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use isotherm::config::{Config, Tier};
use isotherm::{Bucket, Completion, Durability, OpMemory, Operation, Store};

use crate::Outcome;
use crate::arguments::Arguments;
use crate::fio::{Fio, Kind};
use crate::picks::{Random, is_stamped, key};
use crate::rounds::{Contender, Sample, interleave};
use crate::rows::load;
use crate::table::{Goal, Row, Section, Unit};
use crate::usage::cpu_time;
use crate::writers::{histogram, run_callers};

const VALUE_LEN: usize = 4096;
const PSYNC: &str = "fio psync";
const URING: &str = "fio io_uring";
const CALLERS: [usize; 3] = [1, 32, 128];
const DEPTHS: [usize; 2] = [32, 128];

/// Runs them.
pub fn run(arguments: &Arguments) -> Outcome<Section> {
    let blobs = if arguments.quick { 60_000 } else { 300_000 };
    let note = format!(
        "{blobs} blobs of 4 KiB, 8 MiB of DRAM, keys uniformly random, every value checked. fio: 4 KiB \
         random reads with O_DIRECT of a written file of the same size in the same directory, by as \
         many blocking threads (psync), and by one thread at that depth (io_uring)."
    );
    let mut section = Section::new("Cold get", note);
    let wanted = |what: &str, numbers: &[usize]| -> Vec<usize> {
        let wants = |number: &&usize| arguments.wants(&format!("{what}-{number}"));
        numbers.iter().filter(wants).copied().collect()
    };
    let (callers, depths) = (wanted("cold-get", &CALLERS), wanted("cold-queue", &DEPTHS));
    if callers.is_empty() && depths.is_empty() {
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
    let cold = Cold { arguments, store: &store, bucket: &bucket, blobs, fio: &fio };
    for callers in callers {
        section.rows.push(cold.by_callers(callers)?);
    }
    for depth in depths {
        section.rows.push(cold.by_queue(depth)?);
    }
    store.close()?;
    Ok(section)
}

/// What all rows share.
struct Cold<'a> {
    arguments: &'a Arguments,
    store: &'a Store,
    bucket: &'a Bucket,
    blobs: usize,
    fio: &'a Fio,
}

impl Cold<'_> {
    fn by_callers(&self, callers: usize) -> Outcome<Row> {
        eprintln!("cold-get-{callers}");
        let get = |_: usize, random: &mut Random, value: &mut [u8]| -> Outcome {
            let number = random.below(self.blobs);
            let len = self.bucket.get_into(&key(number), value)?;
            require(number, &value[..len])
        };
        let time = self.arguments.time;
        let isotherm = Contender::new("isotherm", || run_callers(callers, VALUE_LEN, time, &get));
        let goal = (callers == 1).then(|| Goal { against: PSYNC.into(), at_least: 0.9 });
        self.row(format!("4 KiB, {callers} thr"), callers, isotherm, goal)
    }

    fn by_queue(&self, depth: usize) -> Outcome<Row> {
        eprintln!("cold-queue-{depth}");
        let isotherm = Contender::new("isotherm", || self.run_queue(depth));
        let goal = Some(Goal { against: URING.into(), at_least: 0.9 });
        self.row(format!("4 KiB, a queue, depth {depth}"), depth, isotherm, goal)
    }

    fn row(
        &self,
        what: String,
        depth: usize,
        isotherm: Contender<'_>,
        goal: Option<Goal>,
    ) -> Outcome<Row> {
        let before = self.store.stats();
        let (jobs, iodepth) = (format!("--numjobs={depth}"), format!("--iodepth={depth}"));
        let read = ["--rw=randread", "--bs=4k"];
        let psync = [read[0], read[1], "--ioengine=psync", &jobs];
        let uring = [read[0], read[1], "--ioengine=io_uring", &iodepth];
        let time = self.arguments.time;
        let figures = interleave(
            self.arguments.rounds,
            vec![
                isotherm,
                Contender::new(PSYNC, || self.fio.timed(Kind::Read, time, &psync)),
                Contender::new(URING, || self.fio.timed(Kind::Read, time, &uring)),
            ],
        )?;
        let after = self.store.stats();
        let (hits, misses) =
            (after.dram_hits - before.dram_hits, after.dram_misses - before.dram_misses);
        let hit_percent = hits as f64 / (hits + misses).max(1) as f64 * 100.0;
        let what = format!("{what} ({hit_percent:.1} % in DRAM)");
        Ok(Row { what, unit: Unit::Operations, figures, goal })
    }

    /// One thread that keeps `depth` gets under way.
    fn run_queue(&self, depth: usize) -> Outcome<Sample> {
        static SEED: AtomicU64 = AtomicU64::new(1 << 32);
        let mut random = Random::new(SEED.fetch_add(1, Ordering::Relaxed));
        let queue = self.store.queue(depth)?;
        let mut ended = Vec::with_capacity(depth);
        let mut spare: Vec<Vec<u8>> = vec![vec![0; VALUE_LEN]; depth];
        let (start, cpu) = (Instant::now(), cpu_time());
        let (mut count, mut seen) = (0, histogram()?);
        let mut started = vec![start; self.blobs];
        while start.elapsed() < self.arguments.time || queue.outstanding() > 0 {
            while start.elapsed() < self.arguments.time
                && let Some(into) = spare.pop()
            {
                let number = random.below(self.blobs);
                started[number] = Instant::now();
                let get = Operation::get_at(self.bucket, &key(number), 0, into);
                queue.submit(get.tagged(number as u64)).map_err(|refused| refused.error)?;
            }
            queue.wait(1, depth, None, &mut ended);
            for Completion { user_data, result, memory, .. } in ended.drain(..) {
                let number = user_data as usize;
                seen.saturating_record(started[number].elapsed().as_nanos() as u64);
                let OpMemory::Owned(value) = memory else {
                    return Err("the memory is gone".into());
                };
                require(number, &value[..result?.bytes])?;
                spare.push(value);
                count += 1;
            }
        }
        let cpu = cpu_time().saturating_sub(cpu);
        let mut sample = Sample::of(count, start.elapsed(), Some(cpu));
        sample.p50_us = Some(seen.value_at_quantile(0.5) as f64 / 1e3);
        Ok(sample)
    }
}

fn require(number: usize, value: &[u8]) -> Outcome {
    match value.len() == VALUE_LEN && is_stamped(value, number as u32) {
        true => Ok(()),
        false => Err(format!("the value of key {number} is not its own").into()),
    }
}
