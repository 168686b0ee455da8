//! One seed: a store that is opened, used and lost several times, attacked at each moment that the
//! seed draws.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use isotherm::io::exec::LocalFuture;
use isotherm::io::sim_disk::Disk;

use crate::caller::Caller;
use crate::common::Common;
use crate::copies::{self, Counts};
use crate::life::{Life, after};
use crate::liveness;
use crate::moments::Moments;
use crate::options::{Options, Weather};
use crate::oracle::End;
use crate::rng::{Rng, mix};

/// What a seed has come to.
#[derive(Clone, Default, Debug)]
pub struct Outcome {
    /// Operations answered.
    pub operations: u64,
    /// Acknowledgements that promised something.
    pub promises: u64,
    /// Times that the store itself was opened.
    pub opens: u64,
    /// What was done to copies.
    pub counts: Counts,
    /// Hash of every event of the store's own lives: equal for equal courses.
    pub trace: u64,
    /// What was wrong, if anything.
    pub violation: Option<String>,
}

/// Runs a seed.
pub fn run(options: &Options) -> Outcome {
    let outcome = RefCell::new(Outcome::default());
    let result = catch_unwind(AssertUnwindSafe(|| attack(options, &outcome)));
    let mut outcome = outcome.into_inner();
    outcome.violation = match result {
        Ok(Ok(())) => None,
        Ok(Err(violation)) => Some(violation),
        Err(panic) => Some(format!("panic: {}", message_of(&panic))),
    };
    outcome
}

/// What a panic said.
pub fn message_of(panic: &Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message").to_owned()
}

fn attack(options: &Options, outcome: &RefCell<Outcome>) -> Result<(), String> {
    let mut rng = Rng::new(options.seed ^ 0x5EED);
    let options = Rc::new(options.clone());
    let common = Rc::new(Common::new(&options));
    let mut callers: Vec<Caller> = (0..options.callers)
        .map(|number| Caller::new(&common, &options, number, rng.fork()))
        .collect();
    let mut disks = vec![Disk::default(); options.tiers];
    let mut earlier = disks.clone();
    let mut end = None;
    for life in 0..options.lives {
        let opened = Life::open(&options, &mut rng, disks.clone(), life == 0);
        let opened = opened.map_err(|error| format!("opening {life}: {error}"))?;
        outcome.borrow_mut().opens += 1;
        if let Some(end) = end {
            let found =
                opened.found(&common).map_err(|error| format!("opening {life}: {error}"))?;
            let mut oracle = common.oracle.borrow_mut();
            oracle.check(&found, end).map_err(|what| format!("opening {life}: {what}"))?;
            oracle.settle(&found);
        }
        earlier = opened.disks();
        opened.set_faults(options.faults());
        let crash = live(&options, &common, &opened, &mut callers, &mut rng, outcome)?;
        if options.weather == Weather::Fair {
            refuse_complaints(&opened)?;
        }
        let trace = &mut outcome.borrow_mut().trace;
        *trace = mix(*trace ^ opened.world.trace_hash());
        let last = life + 1 == options.lives;
        (disks, end) = finish(&options, &common, opened, crash, last, &mut rng)?;
    }
    {
        let mut outcome = outcome.borrow_mut();
        outcome.operations = common.operations.get();
        outcome.promises = common.oracle.borrow().promises;
    }
    if end.is_none() {
        for _ in 0..options.damages {
            let counts = &mut outcome.borrow_mut().counts;
            copies::check_damage(&options, &common, (&disks, &earlier), &mut rng, counts)?;
        }
    }
    Ok(())
}

/// Lets the callers work, and attacks copies of the devices meanwhile. What the devices had when the
/// store itself was lost, if it was.
fn live(
    options: &Rc<Options>,
    common: &Rc<Common>,
    life: &Life,
    callers: &mut [Caller],
    rng: &mut Rng,
    outcome: &RefCell<Outcome>,
) -> Result<Option<Vec<Disk>>, String> {
    common.is_over.set(false);
    let operations = options.operations / options.lives / options.callers as u64;
    let working = Cell::new(callers.len());
    let lost = RefCell::new(None);
    let mut steps: Vec<LocalFuture<'_, ()>> = Vec::new();
    for caller in callers {
        let (store, working) = (&*life.store, &working);
        steps.push(Box::pin(async move {
            caller.run(store, operations).await;
            working.set(working.get() - 1);
        }));
    }
    let attacker = async {
        let mut moments = Moments::of(options, common);
        let mut cuts = options.cuts;
        // The store itself is lost at one of the cuts, or after its callers have ended.
        let fatal = rng.below(options.cuts + 2);
        while moments.next((life, common), &working, rng).await
            && common.oracle.borrow().violation.is_none()
        {
            let disks = life.disks();
            if let Err(what) = cut(options, common, &disks, rng, outcome) {
                return common.oracle.borrow_mut().blame(what);
            }
            cuts -= 1;
            if cuts == fatal {
                common.is_over.set(true);
                life.devices.iter().for_each(|device| device.switch_off());
                *lost.borrow_mut() = Some(disks);
                return;
            }
        }
    };
    steps.push(Box::pin(attacker));
    life.world.run(steps);
    match common.oracle.borrow_mut().violation.take() {
        Some(violation) => Err(violation),
        None => Ok(lost.into_inner()),
    }
}

/// Devices that keep what they are given leave nothing to complain about, aloud or in a note.
fn refuse_complaints(life: &Life) -> Result<(), String> {
    let stats = life.store.stats();
    match stats.notes.iter().find(|note| note.contains("Corrupt")) {
        Some(note) => Err(format!("good devices, and the store notes: {note}")),
        None if stats.corruptions > 0 => Err("good devices, and the store found corruption".into()),
        None if stats.organizer.scrub.bad_structures > 0 => {
            Err("good devices, and the scrub found something bad".into())
        }
        None => Ok(()),
    }
}

/// Crashes copies of the devices.
fn cut(
    options: &Options,
    common: &Common,
    disks: &[Disk],
    rng: &mut Rng,
    outcome: &RefCell<Outcome>,
) -> Result<(), String> {
    let oracle = common.oracle.borrow();
    for _ in 0..options.copies {
        let end = draw_end(options, rng);
        let counts = &mut outcome.borrow_mut().counts;
        copies::check_crash(options, (common, &oracle), disks, end, rng, counts)?;
    }
    Ok(())
}

fn draw_end(options: &Options, rng: &mut Rng) -> End {
    // What a failed flush has lost is lost for a process that is killed, too.
    match options.weather {
        Weather::FlushErrors => End::PowerCut,
        _ if rng.one_in(3) => End::Kill,
        _ => End::PowerCut,
    }
}

/// Ends a life: the disks that the next one finds, and how it ended, unless it closed.
fn finish(
    options: &Options,
    common: &Common,
    life: Life,
    lost: Option<Vec<Disk>>,
    last: bool,
    rng: &mut Rng,
) -> Result<(Vec<Disk>, Option<End>), String> {
    if let Some(disks) = lost {
        let end = draw_end(options, rng);
        life.lose();
        return Ok((after(&disks, end, rng), Some(end)));
    }
    if !last && rng.one_in(2) {
        let (disks, end) = (life.disks(), draw_end(options, rng));
        life.lose();
        return Ok((after(&disks, end, rng), Some(end)));
    }
    life.set_faults(Default::default());
    if options.weather != Weather::Fair {
        liveness::check(common, &life, rng)?;
    }
    let flush = common.oracle.borrow().begin_flush();
    let disks = life.disks();
    match life.close() {
        Ok(disks) => {
            common.oracle.borrow_mut().acknowledge_flush(&flush);
            // What was not flushed is lost as well: a closed store has flushed.
            let end = if last { None } else { Some(End::PowerCut) };
            Ok((after(&disks, End::PowerCut, rng), end))
        }
        Err(error) if options.weather == Weather::Fair => Err(format!("close: {error}")),
        Err(_) => Ok((after(&disks, End::PowerCut, rng), Some(End::PowerCut))),
    }
}
