//! The phases of a run: open, lay out, load, check, close.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use crate::harness::c::CStore;
use crate::harness::engine::Engine;
use crate::harness::failure::{Failure, Outcome};
use crate::harness::figures::Figures;
use crate::harness::job::{self, Ended, Job};
use crate::harness::options::Interface;
use crate::harness::place::Place;
use crate::harness::plan::Plan;
use crate::harness::report::Report;
use crate::harness::rust::RustStore;
use crate::usage::CpuTimes;

/// Runs a plan.
pub fn run(plan: &Plan) -> Outcome<Report<'_>> {
    match plan.options.engine {
        Interface::Rust => run_on::<RustStore>(plan),
        Interface::C => run_on::<CStore>(plan),
    }
}

fn run_on<E: Engine>(plan: &Plan) -> Outcome<Report<'_>> {
    // Before the store, which is closed by then: what is declared first goes last.
    let mut place = Place::new(&plan.options.directory)?;
    let mut engine = E::open(&place.store(), plan)?;
    place.own_tiers(&engine.info()?);
    if plan.options.cold && !place.is_persistent() {
        let message = "--cold: a store with DRAM alone has nothing when it is reopened; add a tier";
        return Err(Failure::Usage(message.to_owned()));
    }
    if plan.reads() {
        of_each_job(plan, |number| job::lay_out(plan, number, &engine))?;
        if place.is_persistent() {
            engine.flush()?;
        }
    }
    if plan.options.cold {
        engine.close()?;
        engine = E::open(&place.store(), plan)?;
    }
    let mut report = load(plan, &engine)?;
    report.store = engine.info()?;
    engine.close()?;
    Ok(report)
}

/// The part that is measured, and the check of what it has written.
fn load<'a, E: Engine>(plan: &'a Plan, engine: &E) -> Outcome<Report<'a>> {
    let all_ready = Barrier::new(plan.options.numjobs + 1);
    let (jobs, cpu) = thread::scope(|scope| {
        let jobs: Vec<_> = (0..plan.options.numjobs)
            .map(|number| {
                let all_ready = &all_ready;
                scope.spawn(move || {
                    let job = Job::new(plan, number);
                    all_ready.wait();
                    job?.run(engine)
                })
            })
            .collect();
        all_ready.wait();
        let cpu = CpuTimes::now();
        let jobs = jobs.into_iter().map(joined).collect::<Outcome<Vec<Ended>>>()?;
        Outcome::Ok((jobs, CpuTimes::now().since(cpu)))
    })?;
    let mut figures = Figures::new()?;
    let (mut time, mut time_of_jobs) = (Duration::ZERO, Duration::ZERO);
    for ended in &jobs {
        time = time.max(ended.took);
        time_of_jobs += ended.took;
        figures.add(&ended.figures)?;
    }
    let check = |number: usize| job::check(plan, number, &jobs[number].written, engine);
    figures.mismatches += of_each_job(plan, check)?.into_iter().sum::<u64>();
    Ok(Report { plan, figures, time, time_of_jobs, cpu, store: serde_json::Value::Null })
}

/// Does something for every job, each in a thread.
fn of_each_job<T: Send>(plan: &Plan, work: impl Fn(usize) -> Outcome<T> + Sync) -> Outcome<Vec<T>> {
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> =
            (0..plan.options.numjobs).map(|number| scope.spawn(move || work(number))).collect();
        threads.into_iter().map(joined).collect()
    })
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, Outcome<T>>) -> Outcome<T> {
    thread.join().map_err(|_| Failure::Run("a thread of the load panicked".to_owned()))?
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::path::Path;
    use std::sync::Mutex;

    use isotherm::Durability;
    use serde_json::Value;

    use super::*;
    use crate::fio::Kind;
    use crate::harness::engine::{Queue, Stretch};
    use crate::harness::plan::tests::plan;
    use crate::picks::key;

    /// Blobs in memory, one of which comes back with a byte changed.
    struct Spoiling {
        blobs: Mutex<HashMap<[u8; 16], Vec<u8>>>,
        spoilt: [u8; 16],
    }

    /// Operations that have ended, in slots of their own.
    struct AtOnce<'a> {
        engine: &'a Spoiling,
        memory: Vec<Vec<u8>>,
        ended: Vec<(usize, usize)>,
    }

    impl Spoiling {
        fn new(spoilt: usize) -> Spoiling {
            Spoiling { blobs: Mutex::default(), spoilt: key(spoilt) }
        }
    }

    impl Engine for Spoiling {
        type Queue<'a> = AtOnce<'a>;

        fn open(_: &Path, _: &Plan) -> Outcome<Spoiling> {
            Ok(Spoiling::new(0))
        }

        fn info(&self) -> Outcome<Value> {
            Ok(Value::Null)
        }

        fn write(&self, at: &Stretch, bytes: &[u8], _: Option<Durability>) -> Outcome {
            self.blobs.lock().unwrap().insert(at.key, bytes.to_vec());
            Ok(())
        }

        fn read(&self, at: &Stretch, into: &mut [u8]) -> Outcome<usize> {
            let blobs = self.blobs.lock().unwrap();
            let no_blob = || Failure::Run("there is no such blob".to_owned());
            into.copy_from_slice(blobs.get(&at.key).ok_or_else(no_blob)?);
            into[0] ^= u8::from(at.key == self.spoilt);
            Ok(into.len())
        }

        fn queue(&self, depth: usize, len: usize) -> Outcome<AtOnce<'_>> {
            Ok(AtOnce { engine: self, memory: vec![vec![0; len]; depth], ended: Vec::new() })
        }

        fn flush(&self) -> Outcome {
            Ok(())
        }

        fn close(self) -> Outcome {
            Ok(())
        }
    }

    impl Queue for AtOnce<'_> {
        fn memory(&mut self, slot: usize) -> &mut [u8] {
            &mut self.memory[slot]
        }

        fn submit(&mut self, slot: usize, kind: Kind, at: &Stretch) -> Outcome {
            let memory = &mut self.memory[slot];
            let bytes = match kind {
                Kind::Read => self.engine.read(at, memory)?,
                Kind::Write => {
                    self.engine.write(at, memory, None)?;
                    memory.len()
                }
            };
            self.ended.push((slot, bytes));
            Ok(())
        }

        fn wait(&mut self, ended: &mut Vec<(usize, usize)>) -> Outcome {
            ended.append(&mut self.ended);
            Ok(())
        }
    }

    #[test]
    fn a_spoilt_block_is_found_in_each_round_of_reads_and_once_by_the_check_of_writes() {
        for depth in [1, 8] {
            let common = format!("--bs=1k --size=32k --numjobs=2 --iodepth={depth} --verify");
            let engine = Spoiling::new(40);
            let writes = plan(&format!("--rw=randwrite {common}")).unwrap();
            assert_eq!(load(&writes, &engine).unwrap().figures.mismatches, 1);
            let reads = plan(&format!("--rw=randread {common}")).unwrap();
            let report = load(&reads, &engine).unwrap();
            assert_eq!((report.figures.operations(), report.figures.mismatches), (64, 1));
        }
    }

    #[test]
    fn without_a_check_a_spoilt_block_is_as_good_as_another() {
        let engine = Spoiling::new(0);
        for rw in ["write", "read"] {
            let plan = plan(&format!("--rw={rw} --bs=1k --size=32k")).unwrap();
            assert_eq!(load(&plan, &engine).unwrap().figures.mismatches, 0);
        }
    }

    #[test]
    fn an_error_of_one_job_is_that_of_the_run() {
        let plan = plan("--rw=randread --bs=1k --size=32k --numjobs=3").unwrap();
        let failed = load(&plan, &Spoiling::new(0)).err().unwrap();
        assert_eq!((failed.exit_code(), failed.to_string()), (1, "there is no such blob".into()));
    }
}
