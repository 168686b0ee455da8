//! Changes at Memory level: on the caller's thread, without a hop.
//!
//! Device space and all slots are set aside first; what cannot have them runs as Written. So
//! write-behind never meets a full device, and two large puts cannot deadlock on the arena.
//! Reserve, copy, publish: no lock is held during the copy.

use std::ops::Range;
use std::sync::Arc;

use crate::api::admission::index_room;
use crate::api::change::{allows_memory_edit, not_found};
use crate::api::crowded::crowded_spans;
use crate::api::edit::{Changed, Condition, Edit, pieces};
use crate::api::merge::Surroundings;
use crate::api::quota;
use crate::api::room;
use crate::buckets::BucketState;
use crate::core::Core;
use crate::error::Result;
use crate::index::entry::Entry;
use crate::index::extents::{self, Extent};
use crate::index::state::{BlobState, Buffer, Checks, Map, Value, checksums};
use crate::io::wait::Ticket;
use crate::tier::dram::{DirRange, DirStripe, Dram, Fresh, PublishHead};
use crate::tier::space::footprint;
use crate::types::{BufferId, Location, SlotId, Version};

/// A Memory put takes at most this part of the arena; larger ones run as Written.
const ARENA_PART_MAX: u64 = 4;

/// How a Memory change ended.
pub enum Outcome {
    /// Done.
    Done(Changed),
    /// There was no room, or the log must know: it runs as Written.
    RunAsWritten,
}

/// Runs an edit at Memory level if it can be.
pub async fn change(
    core: &Arc<Core>,
    bucket: &BucketState,
    key: &[u8],
    edit: Edit<'_>,
    condition: Condition,
) -> Result<Outcome> {
    let hash = core.index.hash(bucket.id, key);
    core.dram.expect_entry(hash);
    // Nobody has claimed the key, most likely: a place in the list only if somebody has.
    let mut released: Option<Ticket<'_>> = None;
    loop {
        core.check_poison()?;
        match attempt(core, bucket, hash, key, edit, condition)? {
            Attempt::Done(changed) => return Ok(Outcome::Done(changed)),
            Attempt::RunAsWritten => return Ok(Outcome::RunAsWritten),
            Attempt::Claimed => match released.take() {
                // It was claimed after the place was taken: its release ends the wait.
                Some(place) => place.await,
                None => released = Some(core.index.stripe(hash).released.ticket()),
            },
            Attempt::Changed => {}
        }
    }
}

enum Attempt {
    Done(Changed),
    RunAsWritten,
    /// An operation above Memory level has the key.
    Claimed,
    /// The blob changed between preparing and publishing: again.
    Changed,
}

/// Slots and device space of a change, given back unless it is published.
struct Staged<'a> {
    core: &'a Core,
    reserved_bytes: u64,
    head: Option<SlotId>,
    /// Ranges that the head has room for.
    head_ranges: usize,
    /// Filled slots: value offset, length, buffer, slot.
    slots: Vec<(u64, u32, BufferId, SlotId)>,
    /// Checksums of the slots, if the store wants them at entry.
    checks: Vec<Checks>,
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        if self.reserved_bytes > 0 {
            self.core.space.unreserve(self.reserved_bytes);
        }
        self.head.into_iter().for_each(|head| self.core.dram.discard(head));
        self.slots.iter().for_each(|(.., slot)| self.core.dram.discard(*slot));
    }
}

impl<'a> Staged<'a> {
    /// Sets space and slots aside and copies the data in. `None` if there is no room.
    fn prepare(
        core: &'a Core,
        key: &[u8],
        offset: u64,
        data: &[u8],
        buffer_size: u32,
        old_ranges: usize,
    ) -> Option<Staged<'a>> {
        let reserved_bytes: u64 = pieces(offset, data.len(), buffer_size)
            .map(|(_, piece)| footprint(piece.len() as u32))
            .sum();
        if !core.reserve_dirty(reserved_bytes) {
            return None;
        }
        // One piece, the usual case, stays off the heap: a Vec of capacity 1 is the price of
        // serving the others with the same code, and is reused by the allocator.
        let count = pieces(offset, data.len(), buffer_size).count();
        let mut staged = Staged {
            core,
            reserved_bytes,
            head: None,
            head_ranges: count + old_ranges,
            slots: Vec::with_capacity(count),
            checks: Vec::new(),
        };
        for (value_offset, piece) in pieces(offset, data.len(), buffer_size) {
            let bytes = &data[piece];
            let slot = room::allocate(core, bytes.len())?;
            core.dram.fill(slot, 0, bytes);
            if core.settings.checksum_at_entry {
                staged.checks.push(Checks::from_slice(&checksums(bytes).0));
            }
            staged.slots.push((value_offset, bytes.len() as u32, core.next_buffer(), slot));
        }
        let head_len = match count + old_ranges {
            0 => return Some(staged),
            // Nothing old: a replacement, whose one piece is the value.
            1 => Dram::whole_head_len(key.len(), data.len()),
            ranges => Dram::head_len(key.len(), ranges),
        };
        staged.head = Some(room::allocate(core, head_len)?);
        Some(staged)
    }

    /// The new buffers, dirty, and their extents.
    fn buffers(&self) -> impl Iterator<Item = (Buffer, Extent)> + '_ {
        self.slots.iter().enumerate().map(|(at, (value_offset, len, id, slot))| {
            let mut buffer = Buffer::dirty(*id, Location::dram(*slot), *len);
            if let Some(checks) = self.checks.get(at) {
                buffer.checks = checks.clone();
            }
            let extent =
                Extent { value_offset: *value_offset, len: *len, buffer: *id, buffer_offset: 0 };
            (buffer, extent)
        })
    }

    fn ranges(&self) -> impl Iterator<Item = DirRange> + '_ {
        self.slots.iter().map(|(value_offset, len, id, slot)| DirRange {
            value_offset: *value_offset,
            len: *len,
            slot: *slot,
            slot_offset: 0,
            fresh: Some(Fresh { buffer: *id, dirty: true, len: *len }),
        })
    }

    /// The slots and the reservation belong to the index from now on.
    fn give(mut self) {
        self.slots.clear();
        self.head = None;
        self.reserved_bytes = 0;
    }
}

/// What the change starts from, if it depends on the present state.
struct Base {
    version: Version,
    len: u64,
    ranges: usize,
    /// Old bytes that the change takes along.
    surroundings: Option<Surroundings>,
}

fn attempt(
    core: &Arc<Core>,
    bucket: &BucketState,
    hash: u64,
    key: &[u8],
    edit: Edit<'_>,
    condition: Condition,
) -> Result<Attempt> {
    let buffer_size = bucket.buffer_size(core);
    let data = edit.data();
    if core.is_persistent() && data.len() as u64 > core.dram.capacity() / ARENA_PART_MAX {
        return Ok(Attempt::RunAsWritten);
    }
    let _index_room = index_room(core, key, edit, buffer_size)?;
    core.dram.expect_head(hash);
    let base = match edit {
        Edit::Replace(_) => None,
        _ => match look(core, bucket, hash, key, edit, buffer_size)? {
            Looked::Base(base) => Some(base),
            Looked::Attempt(attempt) => return Ok(attempt),
        },
    };
    let (len_before, old_ranges) = base.as_ref().map_or((0, 0), |base| (base.len, base.ranges + 2));
    let (cut, len) = edit.effect(len_before)?;
    let offset = if matches!(edit, Edit::Replace(_)) { 0 } else { cut.start };
    let old_ranges = if matches!(edit, Edit::Delete) { 0 } else { old_ranges };
    let prepare =
        |from, data: &[u8]| Staged::prepare(core, key, from, data, buffer_size, old_ranges);
    // Where there is no room to merge, there may be some for one slice more.
    let surroundings = base.as_ref().and_then(|base| base.surroundings.as_ref());
    let merged = surroundings.and_then(|old| old.merge(&cut, data)).and_then(|(whole, bytes)| {
        let staged = prepare(whole.start, &bytes)?;
        Some((whole, staged))
    });
    let Some((cut, staged)) = merged.or_else(|| Some((cut, prepare(offset, data)?))) else {
        return Ok(Attempt::RunAsWritten);
    };
    core.dram.expect_slot(hash, key.len());
    publish(
        core,
        bucket,
        hash,
        key,
        Publication { edit, condition, base, cut, len, offset, staged, buffer_size },
    )
}

enum Looked {
    Base(Base),
    Attempt(Attempt),
}

/// The present state, as far as preparing needs it.
fn look(
    core: &Arc<Core>,
    bucket: &BucketState,
    hash: u64,
    key: &[u8],
    edit: Edit<'_>,
    buffer_size: u32,
) -> Result<Looked> {
    let mut stripe = core.index.lock(hash);
    let (entry, dir) = stripe.get_with_dir(hash, bucket.id, key);
    let Some(entry) = entry.filter(|entry| entry.visible.exists() || entry.claimed) else {
        if edit.wants_blob() {
            return Err(not_found(bucket, key));
        }
        let (version, surroundings) = (Version(0), None);
        return Ok(Looked::Base(Base { version, len: 0, ranges: 0, surroundings }));
    };
    if entry.claimed {
        return Ok(Looked::Attempt(Attempt::Claimed));
    }
    if !matches!(edit, Edit::Delete) && !allows_memory_edit(&entry.visible) {
        return Ok(Looked::Attempt(Attempt::RunAsWritten));
    }
    let ranges = core.dram.lookup(dir, hash, bucket.id, key).map_or(0, |head| head.range_count());
    let BlobState { version, len, .. } = entry.visible;
    let surroundings = match edit.data().is_empty() || core.is_persistent() {
        true => None,
        false => Surroundings::of(core, dir, bucket, entry, &edit.effect(len)?.0, buffer_size),
    };
    Ok(Looked::Base(Base { version, len, ranges, surroundings }))
}

struct Publication<'a, 'e> {
    edit: Edit<'e>,
    condition: Condition,
    base: Option<Base>,
    cut: Range<u64>,
    len: u64,
    offset: u64,
    staged: Staged<'a>,
    buffer_size: u32,
}

fn publish(
    core: &Arc<Core>,
    bucket: &BucketState,
    hash: u64,
    key: &[u8],
    publication: Publication<'_, '_>,
) -> Result<Attempt> {
    let Publication { edit, condition, base, cut, len, offset, staged, buffer_size } = publication;
    let old;
    let version;
    let mut queued = None;
    let now = core.runtime.recent();
    {
        let mut stripe = core.index.lock(hash);
        let (entry, dir) = core.index.get_or_insert_with_dir(&mut stripe, hash, bucket.id, key);
        if entry.claimed {
            return Ok(Attempt::Claimed);
        }
        if condition != Condition::None
            && let Err(refused) = condition.check(bucket, key, entry.visible.present())
        {
            core.index.remove_if_vacant(&mut stripe, hash, bucket.id, key);
            return Err(refused);
        }
        if let Some(base) = &base {
            let seen = if entry.visible.exists() { entry.visible.version } else { Version(0) };
            if seen != base.version {
                core.index.remove_if_vacant(&mut stripe, hash, bucket.id, key);
                return Ok(Attempt::Changed);
            }
        }
        let hold = match quota::set_aside_locked(bucket, entry, edit, len) {
            Ok(hold) => hold,
            Err(refused) => {
                core.index.remove_if_vacant(&mut stripe, hash, bucket.id, key);
                return Err(refused);
            }
        };
        let edits = !matches!(edit, Edit::Replace(_) | Edit::Delete);
        if edits && !allows_memory_edit(&entry.visible) {
            // Written behind since it was looked at: the version is the same, the buffer clean.
            return Ok(Attempt::RunAsWritten);
        }
        let ranges = match edit {
            Edit::Replace(_) => staged.ranges().collect(),
            Edit::Delete => Vec::new(),
            _ => merged_ranges(core, dir, entry, &cut, len, &staged),
        };
        if staged.head.is_some() && ranges.len() > staged.head_ranges {
            // A read has admitted more since the head was sized.
            return Ok(Attempt::Changed);
        }
        let value = match edit {
            Edit::Delete => Value::Absent,
            Edit::Replace(_) => replaced(core, &staged),
            _ => match edited(core, entry, &cut, len, &staged, buffer_size) {
                Some(value) => value,
                None => return Ok(Attempt::RunAsWritten),
            },
        };
        version = core.next_version();
        let attributes = match edit {
            Edit::Delete => None,
            _ => entry.visible.attributes.clone(),
        };
        let state = BlobState { version, len, value, attributes };
        old = entry.set_visible(state, &core.table);
        let growth = bucket.note_change(&entry.key, &old, &entry.visible);
        bucket.usage.count(growth, hold);
        entry.heat = entry.heat.touched(now);
        match (staged.head, ranges.is_empty()) {
            (Some(head), false) => core.dram.publish(
                dir,
                &PublishHead { head, hash, bucket: bucket.id, key, version, len, ranges: &ranges },
            ),
            (head, _) => {
                core.dram.remove(dir, hash, bucket.id, key);
                head.into_iter().for_each(|head| core.dram.discard(head));
            }
        }
        if core.is_persistent() && !entry.queued_dirty {
            entry.queued_dirty = true;
            queued = Some(core.dirty[core.shard_of(hash)].push(hash, now));
        }
        staged.give();
        if !entry.visible.exists() {
            core.index.remove_if_vacant(&mut stripe, hash, bucket.id, key);
        }
    }
    drop(old);
    if let Some(queued) = queued {
        queued.tell();
    }
    Ok(Attempt::Done(Changed { version, offset }))
}

/// The value of a replacement.
fn replaced(core: &Core, staged: &Staged<'_>) -> Value {
    let mut buffers = staged.buffers();
    match (buffers.next(), staged.slots.len()) {
        (None, _) => Value::Zeros,
        (Some((only, _)), 1) => Value::Lone(only),
        (Some(_), _) => {
            let extents = staged.buffers().map(|(buffer, extent)| {
                core.table.define(buffer);
                extent
            });
            let extents = extents.collect();
            Value::Mapped(Arc::new(Map::new(extents, &core.table)))
        }
    }
}

/// The value after an edit of the present one; `None` if a span has too many slices, which is
/// rewritten above Memory level.
fn edited(
    core: &Core,
    entry: &mut Entry,
    cut: &Range<u64>,
    len: u64,
    staged: &Staged<'_>,
    buffer_size: u32,
) -> Option<Value> {
    let inserted: Vec<Extent> = staged.buffers().map(|(_, extent)| extent).collect();
    let extents = extents::splice(&entry.visible.extents_in_memory(), cut.clone(), &inserted, len);
    // Without devices there is no other level to run at: see `merge`.
    if core.is_persistent()
        && !crowded_spans(&extents, std::slice::from_ref(cut), buffer_size).is_empty()
    {
        return None;
    }
    if extents.is_empty() {
        return Some(Value::Zeros);
    }
    if let Some(lone) = entry.visible.lone() {
        let id = lone.id;
        entry.hand_over_lone(id, &core.table);
    }
    staged.buffers().for_each(|(buffer, _)| core.table.define(buffer));
    Some(Value::Mapped(Arc::new(Map::new(extents, &core.table))))
}

/// The directory's ranges after an edit: the old ones outside the cut, and the new ones.
fn merged_ranges(
    core: &Core,
    dir: &DirStripe,
    entry: &Entry,
    cut: &Range<u64>,
    len: u64,
    staged: &Staged<'_>,
) -> Vec<DirRange> {
    let mut ranges: Vec<DirRange> = Vec::new();
    if let Some(head) = core.dram.lookup(dir, entry.hash, entry.bucket, &entry.key) {
        for old in head.ranges() {
            let end = old.value_offset + u64::from(old.len);
            for part in [old.value_offset..end.min(cut.start), old.value_offset.max(cut.end)..end] {
                let part = part.start..part.end.min(len);
                if part.start < part.end {
                    ranges.push(DirRange {
                        value_offset: part.start,
                        len: (part.end - part.start) as u32,
                        slot: old.slot,
                        slot_offset: old.slot_offset + (part.start - old.value_offset) as u32,
                        fresh: None,
                    });
                }
            }
        }
    }
    ranges.extend(staged.ranges());
    ranges.sort_by_key(|range| range.value_offset);
    ranges
}
