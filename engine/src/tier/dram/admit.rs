//! Admission: bytes read from a device join the directory.

use super::Dram;
use super::directory::{DirRange, DirStripe, HEAT_OF_READ, PublishHead};
use super::record::{RawRange, Record, ZERO_SLOT};

impl Dram {
    /// Adds clean, fresh ranges to the head of their key, or makes a head.
    ///
    /// With a head present its version and length must be equal; its resident ranges stay, and
    /// new ones that overlap them are dropped. `new.head` must have room for
    /// [`range_count`](super::HeadView::range_count) of the present head and the new ranges
    /// together. Returns `false` where nothing was admitted (another version, too small a head);
    /// every slot that was not taken is free again, `new.head` included.
    pub fn admit(&self, stripe: &mut DirStripe, new: &PublishHead<'_>) -> bool {
        let (_, old) = self.arena.find(stripe, &new.key_ref());
        let Some(old) = old else {
            for range in new.ranges {
                assert!(range.slot == ZERO_SLOT || range.fresh.is_some(), "admit wants fresh");
            }
            self.publish_with(stripe, new, HEAT_OF_READ);
            return true;
        };
        let same = old.version == new.version && old.len == new.len;
        let admitted = same && (self.refill(stripe, new, &old) || self.merge(stripe, new, &old));
        if !admitted {
            self.discard_all(new);
        }
        admitted
    }

    fn discard_all(&self, new: &PublishHead<'_>) {
        self.arena.discard(new.head);
        new.ranges.iter().for_each(|range| self.discard_range(range));
    }

    fn discard_range(&self, range: &DirRange) {
        if range.fresh.is_some() {
            self.arena.discard(range.slot);
        }
    }

    /// The common case: what was evicted comes back. The head stays, its ranges get slots again.
    fn refill(&self, stripe: &mut DirStripe, new: &PublishHead<'_>, old: &Record) -> bool {
        let arena = &self.arena;
        let place = |range: &DirRange| arena.absent_at(old, range.value_offset, range.len);
        let fits = |range: &DirRange| !old.whole || range.slot_offset == 0;
        if !new.ranges.iter().all(|range| place(range).is_some() && fits(range)) {
            return false;
        }
        for range in new.ranges {
            let Some(index) = place(range) else { continue };
            let raw = arena.take_range(stripe.index, Some(old), old.slot, range, HEAT_OF_READ);
            arena.change(stripe, || arena.set_range(old, index, &raw));
        }
        arena.discard(new.head);
        true
    }

    /// A new head with the resident ranges of the old one and the new ones between them.
    fn merge(&self, stripe: &mut DirStripe, new: &PublishHead<'_>, old: &Record) -> bool {
        let count = self.merged(new, old, |_| {});
        let room = self.arena.place(new.head).class.bytes();
        if count == 0 || Self::head_len(new.key.len(), count) > room {
            return false;
        }
        let arena = &self.arena;
        let key = new.key_ref();
        let (link, _) = arena.find(stripe, &key);
        let record = arena.write_record(new.head, &key, new.version, new.len, count, false);
        let mut index = 0;
        self.merged(new, old, |part| {
            let range = match part {
                Part::Old(range) if !range.has_slot() => range,
                Part::Old(range) => {
                    RawRange { generation: arena.keep(Some(old), new.head, range.slot), ..range }
                }
                Part::New(range) => {
                    arena.take_range(stripe.index, Some(old), new.head, range, HEAT_OF_READ)
                }
                Part::Dropped(range) => return self.discard_range(range),
            };
            arena.set_range(&record, index, &range);
            index += 1;
        });
        arena.replace(stripe, &link, Some(old), &record);
        true
    }

    /// Visits the resident ranges of the old head and the new ranges in the order of the value.
    /// Returns how many the merged head has.
    fn merged(
        &self,
        new: &PublishHead<'_>,
        old: &Record,
        mut visit: impl FnMut(Part<'_>),
    ) -> usize {
        let mut olds = (0..old.ranges)
            .map(|index| self.arena.range(old, index))
            .filter(RawRange::is_resident)
            .peekable();
        let mut count = 0;
        let mut end = 0;
        for range in new.ranges {
            while let Some(before) = olds.next_if(|old| old.end() <= range.value_offset) {
                end = before.end();
                count += 1;
                visit(Part::Old(before));
            }
            let range_end = range.value_offset + u64::from(range.len);
            let clear = olds.peek().is_none_or(|after| after.value_offset >= range_end);
            if clear && end <= range.value_offset {
                end = range_end;
                count += 1;
                visit(Part::New(range));
            } else {
                visit(Part::Dropped(range));
            }
        }
        for rest in olds {
            count += 1;
            visit(Part::Old(rest));
        }
        count
    }
}

enum Part<'a> {
    Old(RawRange),
    New(&'a DirRange),
    Dropped(&'a DirRange),
}
