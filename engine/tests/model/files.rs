//! The model test on real files: several threads of callers, reopened now and then.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use isotherm::Store;
use isotherm::config::{Config, IoChoice, Tier};
use isotherm::io::runtime::Runtime;

use crate::TellSeed;
use crate::caller::{Caller, Plan};
use crate::kinds::Kinds;
use crate::session::{Mode, Session};
use crate::support::backend;
use crate::support::rng::Rng;
use crate::support::seccomp::DENIED;
use crate::tally::Tally;

const CALLERS: u8 = 4;
const DRAM: u64 = 16 << 20;
const NVME: u64 = 128 << 20;
const HDD: u64 = 1 << 30;
/// Opens of a store in one run.
const OPENS: u64 = 12;
/// Below this many operations not everything need happen.
const OPS_FOR_EVERYTHING: u64 = 20_000;

fn config(io: IoChoice, shards: u16) -> Config {
    let tiers = [Tier::dram(DRAM), Tier::nvme(NVME), Tier::hdd(HDD)];
    let builder = tiers.into_iter().fold(Config::builder(), |builder, tier| builder.tier(tier));
    builder.shards(shards).io(io).page_extents(4).build().unwrap()
}

/// Twice the NVMe tier, and far more than four times DRAM, over all callers.
fn plan() -> Plan {
    Plan { value_max: 32 << 20, live: 2 * NVME / u64::from(CALLERS), keys: 600 }
}

pub fn run(name: &'static str, io: IoChoice, operations: u64) {
    let seed = crate::seed();
    let _tell = TellSeed(name, seed);
    let mut rng = Rng::new(seed);
    let mut callers: Vec<Caller> =
        (1..=CALLERS).map(|id| Caller::new(id, seed, &mut rng, plan())).collect();
    let parent = tempfile::tempdir().unwrap();
    let mut directory = parent.path().join("store-0");
    let mut tally = Tally::default();
    let mut backends = (String::new(), String::new());
    let start = Instant::now();
    if io == IoChoice::Auto {
        backend::announce(name);
    }
    for open in 0..OPENS {
        if open > 0 {
            tally.reopens += 1;
            if open % 4 == 2 {
                directory = move_to(&directory, parent.path().join(format!("store-{open}")));
                tally.moves += 1;
            }
        }
        let shards = 1 + rng.below(3) as u16;
        let store = Store::open(&directory, config(io, shards)).unwrap();
        let session = Session { store, mode: Mode::Blocking };
        let part = operations / OPENS / u64::from(CALLERS);
        tally.operations += part * u64::from(CALLERS);
        callers = run_beside_each_other(callers, &session, part, open + 1 == OPENS);
        if open + 1 == OPENS {
            session.require_sound();
        }
        let info = session.store.info();
        backend::require(io, &info);
        backends = (info.io_backend, info.organizer_backend);
        tally.add(&session.store.stats());
        session.store.close().unwrap();
    }
    println!(
        "{name}: io {}, organizer {}, seed {seed}, {} s\n{tally:#?}",
        backends.0,
        backends.1,
        start.elapsed().as_secs()
    );
    if std::env::var_os(DENIED).is_some() {
        assert_eq!((&*backends.0, &*backends.1), ("threads", "threads"), "io_uring is denied");
    }
    let mut kinds = Kinds::default();
    callers.iter().for_each(|caller| kinds.add(&caller.kinds));
    println!("{kinds:?}");
    if operations >= OPS_FOR_EVERYTHING {
        tally.require_everything();
        kinds.require_all();
        assert!(tally.dram_hits > 0, "DRAM answered no get: {tally:?}");
        // Where the shards got their rings, glommio gets its own.
        if cfg!(feature = "glommio") && backends.0 == "uring" {
            assert!(tally.glommio_bytes > 0, "glommio moved no byte: {tally:?}");
        }
    }
}

fn run_beside_each_other(
    callers: Vec<Caller>,
    session: &Session,
    part: u64,
    last: bool,
) -> Vec<Caller> {
    std::thread::scope(|scope| {
        let run = |mut caller: Caller| {
            scope.spawn(move || {
                Runtime::os().block_on(async {
                    caller.enter(session).await;
                    caller.run(session, part).await;
                    if last {
                        caller.compare_all(session).await;
                    }
                    caller.leave();
                });
                caller
            })
        };
        let threads: Vec<_> = callers.into_iter().map(run).collect();
        // Beside them, and beside the organizer.
        session.require_sound();
        // A caller that panics has said why; the others end by themselves.
        threads.into_iter().map(|thread| thread.join().expect("a caller failed")).collect()
    })
}

fn move_to(from: &Path, to: PathBuf) -> PathBuf {
    fs::rename(from, &to).unwrap();
    to
}
