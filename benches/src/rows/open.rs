//! How long a store takes to open that was closed with nothing in it.

use std::time::{Duration, Instant};

use isotherm::Store;
use isotherm::config::{Config, Tier};

use crate::Outcome;
use crate::arguments::Arguments;
use crate::rounds::median;
use crate::table::{Fact, Section};

/// Opens per round: each is short.
const OPENS: usize = 10;
const GOAL: Duration = Duration::from_millis(50);

/// Runs it.
pub fn run(arguments: &Arguments) -> Outcome<Section> {
    let note = "A store of 256 MiB of DRAM and a device tier of 2 GiB, made and closed, then \
                opened and closed again and again; the opens are timed. Warm page cache.";
    let mut section = Section::new("Opening", note);
    if !arguments.wants("open-empty") {
        return Ok(section);
    }
    eprintln!("open-empty");
    let mut took = measure(arguments)?;
    took.sort_by(f64::total_cmp);
    let (least, most) = (took[0], took[took.len() - 1]);
    let middle = median(took);
    section.facts.push(Fact {
        what: "open of an empty store".into(),
        value: format!("{middle:.1} ms ({least:.1}-{most:.1})"),
        goal: format!("< {} ms", GOAL.as_millis()),
        met: middle < GOAL.as_secs_f64() * 1e3,
    });
    Ok(section)
}

/// Milliseconds of each open.
fn measure(arguments: &Arguments) -> Outcome<Vec<f64>> {
    let place = tempfile::tempdir_in(&arguments.directory)?;
    let open = || -> Outcome<Store> {
        let tiers = Config::builder().tier(Tier::dram("256MiB")).tier(Tier::nvme("2GiB"));
        Ok(Store::open(place.path().join("store"), tiers.build()?)?)
    };
    open()?.close()?;
    let mut took = Vec::new();
    for _ in 0..arguments.rounds * OPENS {
        let start = Instant::now();
        let store = open()?;
        took.push(start.elapsed().as_secs_f64() * 1e3);
        store.close()?;
    }
    Ok(took)
}
