//! Which buffers lie on the devices, in the order of their places, some at a time: so that reading
//! all of them is reading each device forwards, in memory that does not grow with the store.
//!
//! Index and table are walked once for each batch, and of all that they know the lowest by place are
//! kept. So nothing that a segment says of itself is needed, and nothing is left out.

use std::collections::BinaryHeap;
use std::ops::Range;

use crate::core::{BufferName, Core};
use crate::index::entry::Entry;
use crate::io::exec::Exec;
use crate::limits::{PARTITIONS, STRIPES};
use crate::organizer::occupants::{Occupant, lone_at, nobody};
use crate::tier::space::SegmentPin;
use crate::types::{BufferId, Location, Place};

/// Buffers of a batch: at least, and as a part of all there are, which bounds the walks of a pass.
const BATCH_MIN: u64 = 64 << 10;
const BATCH_PART: u64 = 64;
/// Stripes, or shards of the table, between two yields.
const PER_TURN: usize = 16;

/// How a buffer is found again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Who {
    /// The lone buffer of a blob with this hash.
    Lone {
        /// Of bucket and key.
        hash: u64,
    },
    /// A row of the table.
    Row {
        /// Its id.
        buffer: BufferId,
    },
}

/// A buffer, by its place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Dweller {
    /// Where it begins.
    pub location: Location,
    /// Who it is.
    pub who: Who,
}

/// The next buffers by place.
pub struct Batch {
    /// Ascending.
    pub dwellers: Vec<Dweller>,
    /// Where to go on; `None`: these are the last.
    pub rest: Option<Location>,
}

/// The lowest of those that it is offered.
struct Lowest {
    range: Range<Location>,
    most: usize,
    heap: BinaryHeap<Dweller>,
    is_cut: bool,
}

impl Lowest {
    fn new(range: Range<Location>, most: usize) -> Lowest {
        Lowest { range, most, heap: BinaryHeap::new(), is_cut: false }
    }

    fn offer(&mut self, dweller: Dweller) {
        if !self.range.contains(&dweller.location) {
            return;
        }
        self.heap.push(dweller);
        if self.heap.len() > self.most {
            self.heap.pop();
            self.is_cut = true;
        }
    }

    fn offer_entry(&mut self, entry: &Entry) {
        let who = Who::Lone { hash: entry.hash };
        let states = [Some(&entry.visible), entry.logged_state()];
        for lone in states.into_iter().flatten().filter_map(|state| state.lone()) {
            self.offer(Dweller { location: lone.location, who });
        }
    }

    fn batch(self) -> Batch {
        let mut dwellers = self.heap.into_sorted_vec();
        // What is both visible and logged was offered twice.
        dwellers.dedup();
        let last = dwellers.last().map(|dweller| dweller.location.to_bits());
        let rest = last.filter(|_| self.is_cut).map(|last| Location::from_bits(last + 1));
        Batch { dwellers, rest }
    }
}

/// The first buffers in a range of places.
pub async fn next(core: &Core, exec: &dyn Exec, range: Range<Location>) -> Batch {
    let all = core.buckets.blob_count() + core.table.len() as u64;
    let most = usize::try_from((all / BATCH_PART).max(BATCH_MIN)).unwrap_or(usize::MAX);
    let mut lowest = Lowest::new(range, most);
    for number in 0..STRIPES {
        core.index.lock_number(number).iter().for_each(|entry| lowest.offer_entry(entry));
        if number % PER_TURN == 0 {
            exec.yield_now().await;
        }
    }
    for shard in 0..PARTITIONS {
        core.table.for_each_in(shard, |row| {
            let (location, buffer) = (row.buffer.location, row.buffer.id);
            lowest.offer(Dweller { location, who: Who::Row { buffer } });
        });
        if shard % PER_TURN == 0 {
            exec.yield_now().await;
        }
    }
    lowest.batch()
}

/// The buffer, if it is still there, and a pin that keeps it there. Whose a row of the table is, is not
/// known.
pub fn find(core: &Core, dweller: &Dweller) -> Option<(Occupant, SegmentPin)> {
    let location = dweller.location;
    if !matches!(location.place(), Place::Device { .. }) {
        return None;
    }
    match dweller.who {
        Who::Row { buffer } => {
            let (buffer, pin) = core.table.pin(buffer)?;
            let is_there = buffer.location == location;
            is_there.then_some(())?;
            Some((Occupant { name: nobody(), buffer, score: 0.0, is_rescued: false }, pin?))
        }
        Who::Lone { hash } => {
            let mut stripe = core.index.lock(hash);
            let is_it = |entry: &mut Entry| {
                let (version, buffer) = lone_at(entry, |lone| lone.location == location)?;
                let (bucket, key) = (entry.bucket, entry.key.clone());
                let name = BufferName { bucket, key, version, value_offset: 0, table: false };
                Some(Occupant { name, buffer, score: 0.0, is_rescued: false })
            };
            let found = stripe.with_hash(hash).find_map(is_it)?;
            Some((found, core.space.pin(location)?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::TierId;

    fn at(tier: u8, offset: u64) -> Location {
        Location::device(TierId(tier), offset)
    }

    fn row(location: Location) -> Dweller {
        Dweller { location, who: Who::Row { buffer: BufferId(location.to_bits()) } }
    }

    #[test]
    fn batch_after_batch_everything_comes_once_in_the_order_of_places() {
        let places: Vec<Location> =
            (0..200u64).map(|n| at((n % 3) as u8, n * 7919 % 4001 * 8)).collect();
        let mut sorted = places.clone();
        sorted.sort_unstable();
        for most in [1, 7, 200, 1000] {
            let (mut found, mut from) = (Vec::new(), Some(at(0, 0)));
            while let Some(start) = from {
                let mut lowest = Lowest::new(start..at(9, 0), most);
                places.iter().for_each(|place| lowest.offer(row(*place)));
                let batch = lowest.batch();
                assert!(batch.dwellers.len() <= most);
                found.extend(batch.dwellers.iter().map(|dweller| dweller.location));
                from = batch.rest;
            }
            assert_eq!(found, sorted, "{most} at a time");
        }
    }

    #[test]
    fn what_lies_outside_the_range_or_in_dram_is_left_out() {
        let mut lowest = Lowest::new(at(0, 100)..at(1, 0), 10);
        let inside = row(at(0, 100));
        let dram = Location::dram(crate::types::SlotId(5));
        [row(at(0, 99)), inside, inside, row(at(1, 0)), row(dram)]
            .into_iter()
            .for_each(|dweller| lowest.offer(dweller));
        let batch = lowest.batch();
        assert_eq!((batch.dwellers, batch.rest), (vec![inside], None));
    }
}
