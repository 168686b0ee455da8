//! Live bytes of segments, counted anew from what refers to them. That takes a store in which
//! nothing changes meanwhile; in one that is written to, only recovery can.

use std::ops::ControlFlow;

use crate::check::{Miscount, Recount};
use crate::core::Core;
use crate::error::Result;
use crate::index::entry::{Entry, Logged};
use crate::index::state::Buffer;
use crate::limits::{PARTITIONS, STRIPES};
use crate::tier::space::footprint;
use crate::types::{Place, SegmentId};

/// A difference counts if it is found this often, with pauses: bytes that a slow device is about to
/// take are live, and nothing refers to them yet.
const ROUNDS: usize = 20;

/// Bytes that something refers to, by tier and segment.
type Sums = Vec<Vec<u64>>;

/// What changes with everything that could change a count.
#[derive(PartialEq, Eq)]
struct Moment {
    version: u64,
    writes: u64,
    released_pages: u64,
}

/// Counts, if the store keeps still. `None` if `pause` said to stop.
pub(super) fn recount(
    core: &Core,
    pause: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Option<Recount>> {
    let mut miscounts = Vec::new();
    for round in 0..ROUNDS {
        if round > 0 && pause().is_break() {
            return Ok(None);
        }
        let _operation = core.begin_operation()?;
        let Some(found) = count_once(core) else { return Ok(Some(Recount::NotMade)) };
        if round > 0 {
            miscounts.retain(|miscount| found.contains(miscount));
        } else {
            miscounts = found;
        }
        if miscounts.is_empty() {
            break;
        }
    }
    Ok(Some(Recount::Made(miscounts)))
}

/// The segments that differ. `None` if the store has changed meanwhile.
fn count_once(core: &Core) -> Option<Vec<Miscount>> {
    let before = Moment::now(core)?;
    let sums = count(core);
    let miscounts = compare(core, &sums);
    (Moment::now(core)? == before).then_some(miscounts)
}

impl Moment {
    /// `None` if something is on its way to a device.
    fn now(core: &Core) -> Option<Moment> {
        if core.space.reserved_bytes() > 0 || core.dram.dirty_bytes() > 0 {
            return None;
        }
        let load = |counter: &std::sync::atomic::AtomicU64| {
            counter.load(std::sync::atomic::Ordering::Acquire)
        };
        Some(Moment {
            version: core.peek_version().0,
            writes: core.space.tiers().iter().map(|tier| load(&tier.counters.writes)).sum(),
            released_pages: load(&core.organizer.counters.released_pages),
        })
    }
}

fn count(core: &Core) -> Sums {
    let tiers = core.space.tiers().iter();
    let mut sums: Sums = tiers.map(|tier| vec![0; tier.segments().len()]).collect();
    for number in 0..STRIPES {
        core.index.lock_number(number).iter().for_each(|entry| add_entry(core, &mut sums, entry));
    }
    for shard in 0..PARTITIONS {
        core.table.for_each_in(shard, |row| add(core, &mut sums, row.buffer));
    }
    sums
}

fn add_entry(core: &Core, sums: &mut Sums, entry: &Entry) {
    let seen = entry.visible.lone();
    seen.into_iter().for_each(|lone| add(core, sums, lone));
    let Logged::Other(logged) = &entry.logged else { return };
    let Some(lone) = logged.lone() else { return };
    if seen.is_none_or(|seen| seen.id != lone.id || seen.location != lone.location) {
        add(core, sums, lone);
    }
}

fn add(core: &Core, sums: &mut Sums, buffer: &Buffer) {
    let Place::Device { tier, offset } = buffer.location.place() else { return };
    let segment = core.space.tier(tier).segment_at(offset);
    sums[tier.index()][segment.0 as usize] += footprint(buffer.stored_len);
}

fn compare(core: &Core, sums: &Sums) -> Vec<Miscount> {
    let mut miscounts = Vec::new();
    for (tier, sums) in core.space.tiers().iter().zip(sums) {
        for (number, (segment, found)) in tier.segments().iter().zip(sums).enumerate() {
            let (counted, found) = (segment.live_bytes(), *found);
            if counted != found {
                let segment = SegmentId(number as u32);
                miscounts.push(Miscount { tier: tier.id, segment, counted, found });
            }
        }
    }
    miscounts
}
