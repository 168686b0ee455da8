//! Behaviour of the tier as its users see it, one thread.

use std::sync::Arc;

use super::*;
use crate::types::{BucketId, Version};

pub(super) const BUCKET: BucketId = BucketId(3);

pub(super) fn hash(key: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(key)
}

/// A tier with its stripes, as the engine would hold them.
pub(super) struct Rig {
    pub(super) dram: Arc<Dram>,
    pub(super) stripes: Vec<DirStripe>,
}

impl Rig {
    pub(super) fn new(capacity: u64, stripes: usize) -> Rig {
        let dram = Arc::new(Dram::new(capacity, stripes).unwrap());
        let stripes = (0..stripes).map(|index| dram.dir_stripe(index)).collect();
        Rig { dram, stripes }
    }

    fn stripe(&mut self, key: &[u8]) -> &mut DirStripe {
        let index = hash(key) as usize % self.stripes.len();
        &mut self.stripes[index]
    }

    /// Puts a value as buffers of `piece` bytes; `false` without room.
    pub(super) fn put(
        &mut self,
        key: &[u8],
        version: u64,
        value: &[u8],
        piece: usize,
        dirty: bool,
    ) -> bool {
        let dram = Arc::clone(&self.dram);
        let mut ranges = Vec::new();
        let count = value.len().div_ceil(piece);
        let head_len = match count {
            1 => Dram::whole_head_len(key.len(), value.len()),
            _ => Dram::head_len(key.len(), count),
        };
        let Some(head) = dram.alloc(head_len) else { return false };
        for (index, part) in value.chunks(piece).enumerate() {
            let Some(slot) = dram.alloc(part.len()) else {
                ranges.iter().for_each(|range: &DirRange| dram.discard(range.slot));
                dram.discard(head);
                return false;
            };
            dram.fill(slot, 0, part);
            ranges.push(fresh(
                index * piece,
                part.len(),
                slot,
                version * 1000 + index as u64,
                dirty,
            ));
        }
        let new = new_head(head, key, version, value.len(), &ranges);
        dram.publish(self.stripe(key), &new);
        true
    }

    /// Brings in a value of one buffer, as a read does.
    pub(super) fn admit(&mut self, key: &[u8], version: u64, value: &[u8]) -> bool {
        let dram = Arc::clone(&self.dram);
        // With room for the ranges that an old head may have.
        let Some(head) = dram.alloc(Dram::head_len(key.len(), 8)) else { return false };
        let Some(slot) = dram.alloc(value.len()) else {
            dram.discard(head);
            return false;
        };
        dram.fill(slot, 0, value);
        let ranges = [fresh(0, value.len(), slot, version * 1000, false)];
        let new = new_head(head, key, version, value.len(), &ranges);
        dram.admit(self.stripe(key), &new)
    }

    pub(super) fn remove(&mut self, key: &[u8]) -> bool {
        Arc::clone(&self.dram).remove(self.stripe(key), hash(key), BUCKET, key)
    }

    pub(super) fn get(
        &self,
        key: &[u8],
        offset: u64,
        len: usize,
    ) -> std::result::Result<Vec<u8>, DramGet> {
        let mut dst = vec![0xAA; len];
        match self.dram.get(hash(key), BUCKET, key, offset, &mut dst) {
            DramGet::Hit { copied, .. } => {
                dst.truncate(copied);
                Ok(dst)
            }
            other => Err(other),
        }
    }

    /// Sweeps and evicts until `enough` slots are gone or nothing goes.
    pub(super) fn make_room(&mut self, len: usize, enough: usize) -> usize {
        let mut gone = 0;
        let mut victims = VictimList::new();
        for _ in 0..20_000 {
            victims.clear();
            self.dram.sweep(len, 256, &mut victims);
            for victim in victims.as_slice() {
                let stripe = &mut self.stripes[usize::from(victim.stripe)];
                gone += usize::from(self.dram.evict(stripe, victim));
            }
            if gone >= enough && self.dram.free_estimate(len) > 0 {
                break;
            }
        }
        gone
    }
}

pub(super) fn fresh(at: usize, len: usize, slot: SlotId, buffer: u64, dirty: bool) -> DirRange {
    DirRange {
        value_offset: at as u64,
        len: len as u32,
        slot,
        slot_offset: 0,
        fresh: Some(Fresh { buffer: BufferId(buffer), dirty, len: len as u32 }),
    }
}

pub(super) fn new_head<'a>(
    head: SlotId,
    key: &'a [u8],
    version: u64,
    len: usize,
    ranges: &'a [DirRange],
) -> PublishHead<'a> {
    PublishHead {
        head,
        hash: hash(key),
        bucket: BUCKET,
        key,
        version: Version(version),
        len: len as u64,
        ranges,
    }
}

pub(super) fn bytes(seed: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| (((i + seed) * 0x9E37_79B9) >> 13) as u8).collect()
}

#[test]
fn a_published_value_is_read_back_whole_and_in_part() {
    let mut rig = Rig::new(16 << 20, 16);
    for (len, piece) in [
        (0, 1),
        (1, 1),
        (64, 64),
        (1000, 1000),
        (5000, 5000),
        (3 << 20, 1 << 20),
        (9 << 19, 1 << 18),
    ] {
        let key = format!("key-{len}").into_bytes();
        let value = bytes(len as u64, len);
        assert!(rig.put(&key, 5, &value, piece, false));
        assert_eq!(rig.get(&key, 0, len + 10).unwrap(), value);
        assert_eq!(
            rig.get(&key, (len / 3) as u64, len / 2).unwrap(),
            value[len / 3..len / 3 + len / 2]
        );
        assert_eq!(rig.get(&key, len as u64 + 1, 10).unwrap(), b"");
        let info = rig.dram.head_info(hash(&key), BUCKET, &key);
        assert_eq!(info, Some((Version(5), len as u64)));
    }
    assert_eq!(rig.get(b"absent", 0, 1), Err(DramGet::Miss));
    assert_eq!(rig.dram.resident_keys(), 7);
}

#[test]
fn the_key_and_the_bucket_decide_not_the_hash() {
    let mut rig = Rig::new(4 << 20, 1);
    assert!(rig.put(b"one", 1, b"first", 5, false));
    let mut dst = [0; 5];
    assert_eq!(rig.dram.get(hash(b"one"), BucketId(4), b"one", 0, &mut dst), DramGet::Miss);
    assert_eq!(rig.dram.get(hash(b"one"), BUCKET, b"two", 0, &mut dst), DramGet::Miss);
    assert_eq!(rig.dram.get(hash(b"one"), BUCKET, b"one1", 0, &mut dst), DramGet::Miss);
}

#[test]
#[cfg_attr(miri, ignore = "takes too many steps for Miri")]
fn replacing_and_removing_give_all_memory_back() {
    let mut rig = Rig::new(16 << 20, 4);
    for round in 1..100u64 {
        assert!(rig.put(b"key", round, &bytes(round, 700_000), 1 << 18, true));
        assert_eq!(rig.get(b"key", 0, 700_000).unwrap(), bytes(round, 700_000));
    }
    assert!(rig.remove(b"key") && !rig.remove(b"key"));
    assert_eq!((rig.dram.used_bytes(), rig.dram.dirty_bytes()), (0, 0));
    assert_eq!(rig.dram.resident_keys(), 0);
    assert_eq!(rig.get(b"key", 0, 1), Err(DramGet::Miss));
}

#[test]
fn a_new_head_keeps_the_slots_it_names_again_and_frees_the_others() {
    let mut rig = Rig::new(16 << 20, 4);
    let value = bytes(1, 300);
    assert!(rig.put(b"key", 1, &value, 100, true));
    let stripe = &rig.stripes[hash(b"key") as usize % 4];
    let view = rig.dram.lookup(stripe, hash(b"key"), BUCKET, b"key").unwrap();
    let old: Vec<ViewRange> = view.ranges().collect();
    assert_eq!((view.version(), view.len(), old.len()), (Version(1), 300, 3));
    assert_eq!(view.range_at(150), Some(old[1]));
    // Keep the first, cut the second in two halves around a hole of zeros, drop the third.
    let kept = |at: usize, len: usize, slot: SlotId, slot_offset: u32| DirRange {
        value_offset: at as u64,
        len: len as u32,
        slot,
        slot_offset,
        fresh: None,
    };
    let ranges = [
        kept(0, 100, old[0].slot, 0),
        kept(100, 40, old[1].slot, 0),
        kept(140, 20, ZERO_SLOT, 0),
        kept(160, 40, old[1].slot, 60),
    ];
    let head = rig.dram.alloc(Dram::head_len(3, 4)).unwrap();
    let dram = Arc::clone(&rig.dram);
    dram.publish(rig.stripe(b"key"), &new_head(head, b"key", 2, 250, &ranges));
    assert_eq!(rig.dram.dirty_bytes(), 2 * 128);
    let mut expected = value[..200].to_vec();
    expected[140..160].fill(0);
    assert_eq!(rig.get(b"key", 0, 200).unwrap(), expected);
    assert_eq!(rig.get(b"key", 170, 9).unwrap(), expected[170..179]);
    assert_eq!(rig.get(b"key", 0, 250), Err(DramGet::Partial), "the end is a hole");
    assert!(rig.remove(b"key"));
    assert_eq!((rig.dram.used_bytes(), rig.dram.dirty_bytes()), (0, 0));
}

#[test]
fn a_pinned_slot_outlives_its_key_and_is_freed_by_the_last_unpin() {
    let mut rig = Rig::new(8 << 20, 1);
    assert!(rig.put(b"key", 1, &bytes(1, 5000), 5000, false));
    let slot = {
        let view = rig.dram.lookup(&rig.stripes[0], hash(b"key"), BUCKET, b"key").unwrap();
        view.ranges().next().unwrap().slot
    };
    let first = rig.dram.pin_owned(slot).unwrap();
    let dram = Arc::clone(&rig.dram);
    let second = dram.pin(slot).unwrap();
    assert_eq!(rig.make_room(5000, 1), 0, "pinned slots are no victims");
    assert!(rig.remove(b"key"));
    assert!(dram.pin(slot).is_none(), "a retired slot takes no new pins");
    assert!(dram.used_bytes() >= 5000);
    drop(second);
    let there = std::thread::spawn(move || first.to_vec()).join().unwrap();
    assert_eq!(there, bytes(1, 5000));
    assert_eq!(dram.used_bytes(), 0);
}

#[test]
fn a_dirty_slot_is_cleaned_only_for_the_buffer_it_holds() {
    let mut rig = Rig::new(8 << 20, 1);
    assert!(rig.put(b"key", 7, b"dirty", 5, true));
    let view = rig.dram.lookup(&rig.stripes[0], hash(b"key"), BUCKET, b"key").unwrap();
    let slot = view.ranges().next().unwrap().slot;
    assert_eq!(rig.dram.dirty_bytes(), 64);
    assert!(!rig.dram.mark_clean(slot, BufferId(7001)));
    assert!(rig.dram.mark_clean(slot, BufferId(7000)));
    assert!(!rig.dram.mark_clean(slot, BufferId(7000)));
    assert_eq!(rig.dram.dirty_bytes(), 0);
}

#[test]
#[cfg_attr(miri, ignore = "takes too many steps for Miri")]
fn an_arena_full_of_dirty_slots_has_no_room_and_no_victims() {
    let mut rig = Rig::new(2 << 20, 4);
    let mut keys = 0u32;
    while rig.put(&keys.to_le_bytes(), 1, &bytes(1, 4096), 4096, true) {
        keys += 1;
    }
    assert!(keys > 100);
    assert!(rig.dram.alloc(4096).is_none() || rig.dram.alloc(128).is_none());
    assert_eq!(rig.make_room(4096, 1), 0);
    for key in 0..keys {
        assert_eq!(rig.get(&key.to_le_bytes(), 0, 4096).unwrap(), bytes(1, 4096));
    }
}

#[test]
#[cfg_attr(miri, ignore = "takes too many steps for Miri")]
fn memory_moves_from_small_classes_to_large_ones_and_back() {
    let mut rig = Rig::new(12 << 20, 16);
    let mut keys = 0u32;
    while rig.put(&keys.to_le_bytes(), 1, &[1; 64], 64, false) {
        keys += 1;
    }
    assert!(keys > 40_000, "{keys}");
    for large in 0..100u32 {
        let key = [b'L', large as u8];
        while !rig.put(&key, 1, &bytes(9, 1 << 20), 1 << 20, false) {
            assert!(rig.make_room(1 << 20, 1) > 0 || rig.make_room(128, 1) > 0);
        }
        assert_eq!(rig.get(&key, 0, 1 << 20).unwrap(), bytes(9, 1 << 20));
    }
    let large_resident =
        |rig: &Rig| (0..100).filter(|&n| rig.get(&[b'L', n], 0, 1).is_ok()).count();
    assert!(large_resident(&rig) >= 2, "{}", large_resident(&rig));
    for key in 0..60_000u32 {
        let key = [key.to_le_bytes(), *b"back"].concat();
        while !rig.put(&key, 2, &[2; 64], 64, false) {
            assert!(rig.make_room(64, 1) + rig.make_room(128, 1) > 0);
        }
    }
    assert!(rig.dram.resident_keys() > 20_000, "{}", rig.dram.resident_keys());
}

#[test]
fn a_partly_evicted_value_is_partial_until_its_bytes_are_admitted_again() {
    let mut rig = Rig::new(8 << 20, 1);
    let value = bytes(3, 2048);
    assert!(rig.put(b"key", 1, &value, 1024, false));
    assert_eq!(rig.make_room(1024, 1), 2, "both pieces are clean and cold");
    assert_eq!((rig.get(b"key", 0, 1), rig.dram.resident_keys()), (Err(DramGet::Miss), 0));
    assert_eq!(rig.dram.used_bytes(), 0);

    let admit = |rig: &mut Rig, version: u64, pieces: &[usize], head_ranges: usize| {
        let dram = Arc::clone(&rig.dram);
        let ranges: Vec<DirRange> = pieces
            .iter()
            .map(|&piece| {
                let slot = dram.alloc(1024).unwrap();
                dram.fill(slot, 0, &value[piece * 1024..][..1024]);
                fresh(piece * 1024, 1024, slot, 1, false)
            })
            .collect();
        let head = dram.alloc(Dram::head_len(3, head_ranges)).unwrap();
        dram.admit(&mut rig.stripes[0], &new_head(head, b"key", version, 2048, &ranges))
    };
    assert!(admit(&mut rig, 1, &[1], 1));
    assert_eq!(rig.get(b"key", 0, 2048), Err(DramGet::Partial));
    assert_eq!(rig.get(b"key", 1024, 9).unwrap(), value[1024..1033]);
    assert!(!admit(&mut rig, 2, &[0], 2), "another version");
    assert!(admit(&mut rig, 1, &[0, 1], 2), "merged; the piece that is there already stays");
    assert_eq!(rig.get(b"key", 0, 2048).unwrap(), value);
    assert_eq!(rig.dram.used_bytes(), 2 * 1024 + 128);

    // Evict one piece of the two: it comes back into its place in the same head.
    let mut victims = VictimList::new();
    while victims.as_slice().is_empty() {
        rig.dram.sweep(1024, 64, &mut victims);
    }
    let victim = victims.as_slice()[0];
    assert!(rig.dram.evict(&mut rig.stripes[0], &victim));
    assert!(!rig.dram.evict(&mut rig.stripes[0], &victim), "a victim is good once");
    assert_eq!(rig.get(b"key", 0, 2048), Err(DramGet::Partial));
    for piece in 0..2 {
        assert!(admit(&mut rig, 1, &[piece], 2) || piece == 1);
    }
    assert_eq!(rig.get(b"key", 0, 2048).unwrap(), value);
    assert!(rig.remove(b"key"));
    assert_eq!(rig.dram.used_bytes(), 0);
}

#[test]
#[cfg_attr(miri, ignore = "takes too many steps for Miri")]
fn what_was_read_twice_outlives_what_was_read_once() {
    let mut rig = Rig::new(4 << 20, 1);
    assert!(rig.put(b"hot", 1, &bytes(1, 4096), 4096, false));
    for _ in 0..3 {
        assert!(rig.get(b"hot", 0, 64).is_ok());
    }
    for key in 0..2000u32 {
        while !rig.put(&key.to_le_bytes(), 1, &bytes(1, 4096), 4096, false) {
            assert!(rig.make_room(4096, 1) > 0);
        }
        assert!(rig.get(b"hot", 0, 64).is_ok(), "evicted at {key}");
    }
}

/// The first word of the one slot of a key.
fn slot_word<'a>(rig: &'a Rig, key: &[u8]) -> &'a AtomicU64 {
    let stripe = &rig.stripes[hash(key) as usize % rig.stripes.len()];
    let view = rig.dram.lookup(stripe, hash(key), BUCKET, key).unwrap();
    let slot = view.ranges().next().unwrap().slot;
    rig.dram.arena.map.word(rig.dram.arena.data_at(slot))
}

#[test]
#[cfg_attr(miri, ignore = "takes too many steps for Miri")]
fn short_values_are_read_from_their_heads_in_whole_and_in_part() {
    let mut rig = Rig::new(8 << 20, 4);
    for len in 1..=record::COPY_MAX + 1 {
        for key in [&b"k"[..], b"eight by", b"a key of nineteen b"] {
            let value = bytes(len as u64, len);
            assert!(rig.put(key, len as u64, &value, len, len % 2 == 0));
            // No user can do this; it shows where the bytes come from.
            let slot = slot_word(&rig, key);
            let before = slot.swap(u64::MAX, Ordering::Relaxed);
            let copied = rig.get(key, 0, len).unwrap() == value;
            assert_eq!(copied, len <= record::COPY_MAX, "{len} bytes");
            slot.store(before, Ordering::Relaxed);
            for from in 0..=len {
                for want in 0..=len + 1 - from {
                    let end = len.min(from + want);
                    assert_eq!(rig.get(key, from as u64, want).unwrap(), value[from..end]);
                }
            }
            assert_eq!(rig.get(key, len as u64 + 9, 4).unwrap(), b"");
        }
    }
}

#[test]
fn a_copy_in_a_head_goes_with_its_value() {
    let mut rig = Rig::new(8 << 20, 1);
    let value = bytes(1, 60);
    assert!(rig.put(b"key", 1, &value, 60, false));
    // Cut: the new head names the old slot, and copies as much as is left.
    let slot = {
        let view = rig.dram.lookup(&rig.stripes[0], hash(b"key"), BUCKET, b"key").unwrap();
        view.ranges().next().unwrap().slot
    };
    let kept = DirRange { value_offset: 0, len: 21, slot, slot_offset: 0, fresh: None };
    let head = rig.dram.alloc(Dram::whole_head_len(3, 21)).unwrap();
    let dram = Arc::clone(&rig.dram);
    dram.publish(&mut rig.stripes[0], &new_head(head, b"key", 2, 21, &[kept]));
    assert_eq!(rig.get(b"key", 0, 60).unwrap(), value[..21]);
    // Replaced by one in the same place, by one that is too long for a copy, and back.
    for (version, len) in [(3, 60), (4, 65), (5, 64), (6, 1)] {
        assert!(rig.put(b"key", version, &bytes(version, len), len, false));
        assert_eq!(rig.get(b"key", 0, 99).unwrap(), bytes(version, len));
    }
    assert_eq!(rig.make_room(1, 1), 1);
    assert_eq!(rig.get(b"key", 0, 1), Err(DramGet::Miss));
    assert!(rig.admit(b"key", 6, &bytes(6, 1)) && !rig.admit(b"key", 7, &bytes(7, 1)));
    assert_eq!(rig.get(b"key", 0, 9).unwrap(), bytes(6, 1));
    assert!(rig.remove(b"key"));
    assert_eq!((rig.get(b"key", 0, 1), rig.dram.used_bytes()), (Err(DramGet::Miss), 0));
}

#[test]
fn sweeps_spare_what_is_read_from_a_copy_and_only_while_it_is() {
    // Head and slot are of different classes: a round of either.
    for swept in [24, Dram::whole_head_len(3, 24)] {
        let mut rig = Rig::new(4 << 20, 1);
        for key in [b"hot", b"not"] {
            assert!(rig.put(key, 1, &bytes(1, 24), 24, false));
        }
        let sweep = |rig: &mut Rig| {
            let mut victims = VictimList::new();
            rig.dram.sweep(swept, 1 << 20, &mut victims);
            for victim in victims.as_slice() {
                Arc::clone(&rig.dram).evict(&mut rig.stripes[0], victim);
            }
        };
        for _ in 0..20 {
            // A sweep may go through the classes of both: one read is not enough.
            for _ in 0..3 {
                assert!(rig.get(b"hot", 0, 24).is_ok());
            }
            sweep(&mut rig);
        }
        assert_eq!(rig.get(b"not", 0, 24), Err(DramGet::Miss));
        // A get of no bytes warms nothing.
        for _ in 0..4 {
            sweep(&mut rig);
        }
        assert_eq!(rig.get(b"hot", 0, 0), Err(DramGet::Miss));
    }
}

#[test]
fn chunks_are_faulted_ahead_up_to_a_target_and_never_beyond_the_arena() {
    let rig = Rig::new(9 << 20, 1);
    assert!(rig.dram.wants_faulting() && rig.dram.faulted_bytes() == 0);
    assert_eq!((0..20).filter(|_| rig.dram.fault_ahead()).count(), 8);
    assert_eq!(rig.dram.faulted_bytes(), 8 << 20);
    let slots: Vec<SlotId> = std::iter::from_fn(|| rig.dram.alloc(1 << 20)).collect();
    assert_eq!(slots.len(), 9, "the last chunk is faulted by the one who needs it");
    assert!(!rig.dram.fault_ahead());
    slots.iter().for_each(|&slot| rig.dram.discard(slot));
    assert_eq!((rig.dram.used_bytes(), rig.dram.free_bytes()), (0, 9 << 20));
    assert_eq!(rig.dram.free_estimate(64), 9 * 16384);
}

#[test]
fn lengths_and_capacities_out_of_range_are_refused() {
    let rig = Rig::new(1 << 20, 1);
    assert!(rig.dram.alloc(0).is_none() && rig.dram.alloc((1 << 20) + 1).is_none());
    for (capacity, stripes) in [(0, 1), (1 << 62, 1), (1 << 20, 3), (1 << 20, 2048)] {
        assert!(Dram::new(capacity, stripes).is_err());
    }
}

#[test]
#[should_panic(expected = "filled a slot that is")]
fn a_published_slot_cannot_be_filled() {
    let mut rig = Rig::new(4 << 20, 1);
    assert!(rig.put(b"key", 1, b"value", 5, false));
    let view = rig.dram.lookup(&rig.stripes[0], hash(b"key"), BUCKET, b"key").unwrap();
    rig.dram.fill(view.ranges().next().unwrap().slot, 0, b"other");
}
