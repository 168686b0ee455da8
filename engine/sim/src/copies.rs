//! What a store shows that is opened on a copy of the devices: after a crash, and after damage.

use std::panic::{AssertUnwindSafe, catch_unwind};

use isotherm::io::sim_disk::{Disk, SECTOR};
use isotherm::{CheckOptions, Error};

use crate::common::Common;
use crate::life::{Life, after};
use crate::options::Options;
use crate::oracle::{End, Found, Oracle};
use crate::rng::Rng;

/// One in so many recovered stores is crashed again, right after its opening.
const AGAIN_ONE_IN: u64 = 4;
/// One in so many is checked from end to end.
const CHECK_ONE_IN: u64 = 8;

/// What was done to copies.
#[derive(Clone, Copy, Default, Debug)]
pub struct Counts {
    /// Stores opened after a crash.
    pub crash_states: u64,
    /// Stores opened on damaged devices.
    pub damaged_states: u64,
    /// Of them, those that refused to open.
    pub damaged_refused: u64,
    /// Blobs that were reported as unreadable in the others.
    pub damaged_blobs: u64,
}

/// Opens the store on a copy and compares all it shows with the oracle. What it shows.
pub fn check_crash(
    options: &Options,
    (common, oracle): (&Common, &Oracle),
    disks: &[Disk],
    end: End,
    rng: &mut Rng,
    counts: &mut Counts,
) -> Result<(), String> {
    counts.crash_states += 1;
    let copy = after(disks, end, rng);
    let refused = |error: Error| format!("after {end:?} the store refuses to open: {error}");
    let life = Life::open(options, rng, copy, false).map_err(refused)?;
    let found = life.found(common).map_err(|error| format!("after {end:?}: {error}"))?;
    oracle.check(&found, end)?;
    if rng.one_in(CHECK_ONE_IN) {
        require_sound(&life)?;
    }
    let again = rng.one_in(AGAIN_ONE_IN).then(|| life.disks());
    life.lose();
    if let Some(disks) = again {
        let oracle = oracle.settled(&found);
        let again = check_crash(options, (common, &oracle), &disks, End::PowerCut, rng, counts);
        return again.map_err(|what| format!("after a second crash: {what}"));
    }
    Ok(())
}

/// Nothing is wrong with a store that nothing was done to.
pub fn require_sound(life: &Life) -> Result<(), String> {
    let options = CheckOptions { bytes_per_second_max: u64::MAX };
    let report = life.store.check(&options, |_| std::ops::ControlFlow::Continue(()));
    match report {
        Ok(report) if report.is_clean() => Ok(()),
        report => Err(format!("a check says {report:?}")),
    }
}

/// What is done to the devices of a closed store.
#[derive(Clone, Copy, Debug)]
enum Damage {
    /// One bit is another.
    Flip,
    /// A sector is zeros.
    Zero,
    /// A sector stands where another should, and its own place has the other.
    Swap,
    /// A block is as it was at an earlier time: a write was lost.
    Stale,
}

/// Damages a copy of the devices. Whatever the store shows is right, or it says that it cannot tell.
pub fn check_damage(
    options: &Options,
    common: &Common,
    (disks, earlier): (&[Disk], &[Disk]),
    rng: &mut Rng,
    counts: &mut Counts,
) -> Result<(), String> {
    counts.damaged_states += 1;
    let mut copy = disks.to_vec();
    let told = damage(&mut copy, earlier, rng);
    // What a panic leaves behind is thrown away.
    let opened = catch_unwind(AssertUnwindSafe(|| -> Result<(), String> {
        let Ok(life) = Life::open(options, rng, copy, false) else {
            counts.damaged_refused += 1;
            return Ok(());
        };
        let found = life.found(common).map_err(|error| format!("{error}"))?;
        counts.damaged_blobs +=
            found.iter().filter(|found| matches!(found, Found::Error(_))).count() as u64;
        common.oracle.borrow().check_damaged(&found)?;
        life.lose();
        Ok(())
    }));
    match opened {
        Ok(result) => result.map_err(|what| format!("after {told}: {what}")),
        Err(panic) => Err(format!("after {told}: {}", crate::run::message_of(&panic))),
    }
}

/// Damages something that is not all zeros. Tells what.
fn damage(disks: &mut [Disk], earlier: &[Disk], rng: &mut Rng) -> String {
    let kind = rng.pick(&[Damage::Flip, Damage::Flip, Damage::Zero, Damage::Swap, Damage::Stale]);
    let number = rng.below(disks.len() as u64) as usize;
    let disk = &mut disks[number];
    let at = somewhere(disk, rng);
    let mut sector = [0; SECTOR];
    disk.read(at, &mut sector);
    match kind {
        Damage::Flip => {
            let bit = rng.below(SECTOR as u64 * 8);
            sector[bit as usize / 8] ^= 1 << (bit % 8);
            disk.damage(at, &sector);
        }
        Damage::Zero => disk.damage(at, &[0; SECTOR]),
        Damage::Swap => {
            let other_at = somewhere(disk, rng);
            let mut other = [0; SECTOR];
            disk.read(other_at, &mut other);
            disk.damage(at, &other);
            disk.damage(other_at, &sector);
        }
        Damage::Stale => {
            let mut block = [0; 8 * SECTOR];
            let at = at / block.len() as u64 * block.len() as u64;
            earlier[number].read(at, &mut block);
            disk.damage(at, &block);
        }
    }
    format!("{kind:?} on device {number} at {at}")
}

/// A sector that something was written to, about as likely in small parts of the device as in large.
fn somewhere(disk: &Disk, rng: &mut Rng) -> u64 {
    let written = disk.written();
    let range = &written[rng.below(written.len() as u64) as usize];
    let sectors = (range.end - range.start) / SECTOR as u64;
    for _ in 0..64 {
        let at = range.start + rng.below(sectors) * SECTOR as u64;
        let mut sector = [0; SECTOR];
        disk.read(at, &mut sector);
        if sector.iter().any(|byte| *byte != 0) {
            return at;
        }
    }
    range.start
}
