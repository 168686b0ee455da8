//! The case `bitflip`: a small store of every engine, damaged at rest.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

use crate::Outcome;
use crate::arguments::Arguments;
use crate::damage::{Kind, Plan, draw};
use crate::engines::{Engine, OURS, PLANTED};
use crate::image::Image;
use crate::pairs::{PAIRS, pairs};
use crate::reading::watch_reading;
use crate::verdict::{Verdict, judge, refused};

/// What came of all damages to one engine's store.
pub struct Row {
    /// The engine's word on the command line.
    pub name: &'static str,
    /// What the table calls it.
    pub title: &'static str,
    /// Its version.
    pub version: String,
    /// Settings.
    pub note: &'static str,
    /// Files of the store.
    pub files: usize,
    /// Bytes of the sectors that are not all zeros.
    pub bytes_used: usize,
    /// Stores, by damage and verdict.
    pub counts: BTreeMap<(Kind, Verdict), u64>,
    /// Most keys that one damage of a kind took without refusing the opening.
    pub refused_max: BTreeMap<Kind, usize>,
}

impl Row {
    /// Stores of these kinds of damage with this verdict.
    pub fn count(&self, kinds: &[Kind], verdict: Verdict) -> u64 {
        kinds.iter().filter_map(|kind| self.counts.get(&(*kind, verdict))).sum()
    }

    /// See [`Row::refused_max`].
    pub fn refused_max(&self, kinds: &[Kind]) -> usize {
        kinds.iter().filter_map(|kind| self.refused_max.get(kind)).copied().max().unwrap_or(0)
    }
}

/// Runs it for every engine that is asked for, and the planted one.
pub fn run(arguments: &Arguments) -> Outcome<Vec<Row>> {
    let mut rows = Vec::new();
    for engine in arguments.engines()? {
        let start = Instant::now();
        eprint!("{}: ", engine.name());
        let row = run_one(&*engine, arguments.plan, &arguments.directory)
            .map_err(|error| format!("{}: {error}", engine.name()))?;
        let stores: u64 = row.counts.values().sum();
        eprintln!("{stores} stores in {:.0} s", start.elapsed().as_secs_f64());
        rows.push(row);
    }
    Ok(rows)
}

fn run_one(engine: &dyn Engine, plan: Plan, directory: &Path) -> Outcome<Row> {
    let place = tempfile::tempdir_in(directory)?;
    let (whole, copy) = (place.path().join("whole"), place.path().join("copy"));
    fs::create_dir(&whole)?;
    engine.build(&whole, &pairs())?;
    let image = Image::of(&whole)?;

    fs::create_dir(&copy)?;
    image.write(&copy, &[])?;
    let (steps, ended) = watch_reading(engine, &copy)?;
    let verdict = judge(&steps, ended, PAIRS);
    if verdict != Verdict::Right {
        return Err(format!("a copy without damage is {verdict:?} ({ended:?})").into());
    }

    let mut counts = BTreeMap::new();
    let mut refused_max = BTreeMap::new();
    for damage in draw(&image, plan)? {
        fs::remove_dir_all(&copy)?;
        fs::create_dir(&copy)?;
        image.write(&copy, &damage.changes)?;
        let (steps, ended) = watch_reading(engine, &copy)?;
        let verdict = judge(&steps, ended, PAIRS);
        if engine.name() == OURS && verdict.is_bad() {
            for change in &damage.changes {
                eprintln!("{verdict:?} ({ended:?}) of {}", image.describe(change));
            }
        }
        *counts.entry((damage.kind, verdict)).or_default() += 1;
        let most: &mut usize = refused_max.entry(damage.kind).or_default();
        *most = (*most).max(refused(&steps));
    }
    Ok(Row {
        name: engine.name(),
        title: engine.title(),
        version: engine.version(&whole)?,
        note: engine.note(),
        files: image.files.len(),
        bytes_used: image.sectors().iter().map(|sector| sector.len).sum(),
        counts,
        refused_max,
    })
}

/// Errors: the harness has not seen the planted engine lie, or our own has not kept its promise.
pub fn assess(rows: &[Row]) -> Outcome {
    for Row { name, counts, .. } in rows {
        let wrong = counts.keys().any(|(_, verdict)| *verdict == Verdict::Wrong);
        if *name == PLANTED && !wrong {
            return Err("the planted engine was not seen to lie: the table proves nothing".into());
        }
        if *name == OURS && counts.keys().any(|(_, verdict)| verdict.is_bad()) {
            return Err("isotherm has answered wrongly, or not at all".into());
        }
    }
    Ok(())
}
