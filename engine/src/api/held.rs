//! A version of a blob, held: it stays what and where it is while it is read, whatever overwrites
//! it.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use crate::api::read::Reader;
use crate::buckets::BucketState;
use crate::core::Core;
use crate::error::{Result, fail};
use crate::index::StripeInner;
use crate::index::extents::{Extent, Stretch, clip, stretches};
use crate::index::state::{BlobState, Buffer, Checks, Value, whole};
use crate::paging::load::{self, View};
use crate::tier::dram::{DirStripe, OwnedPin};
use crate::tier::space::SegmentPin;

/// A blob as of one version, kept in place until it is dropped.
pub struct Held {
    pub(super) hash: u64,
    pub(super) key: Arc<[u8]>,
    /// The version.
    pub state: BlobState,
    /// The blob's decayed access score, for a get that counts.
    pub(super) score: f32,
    pub(super) resident: Vec<Resident>,
    /// Keeps a lone buffer's segment from being reused.
    lone_pin: Option<SegmentPin>,
}

pub(super) struct Resident {
    value_offset: u64,
    len: u32,
    slot_offset: u32,
    pin: OwnedPin,
}

/// Takes the visible version of a key and keeps it: pins on its resident slots in `range`, its
/// map, its lone buffer's segment. `None` if there is no such blob.
pub fn hold(core: &Core, bucket: &BucketState, key: &[u8], range: Range<u64>) -> Option<Held> {
    let hash = core.index.hash(bucket.id, key);
    hold_in(core, &mut core.index.lock(hash), bucket, hash, key, range)
}

/// [`hold`] in a stripe that the caller has locked.
pub fn hold_in(
    core: &Core,
    stripe: &mut StripeInner,
    bucket: &BucketState,
    hash: u64,
    key: &[u8],
    range: Range<u64>,
) -> Option<Held> {
    // Heat decays over seconds, and the exact clock would wait for the loads of the lookup.
    let now = core.runtime.recent();
    let (key, state, score) = {
        let entry = stripe.get(hash, bucket.id, key).filter(|entry| entry.visible.exists())?;
        entry.heat = entry.heat.touched(now);
        (entry.key.clone(), entry.visible.clone(), entry.heat.score(now))
    };
    let held = hold_state(core, &stripe.dir, bucket, hash, key, state, range);
    Some(Held { score, ..held })
}

/// [`hold`] for a state that the caller has read under the stripe lock it still holds.
pub fn hold_state(
    core: &Core,
    dir: &DirStripe,
    bucket: &BucketState,
    hash: u64,
    key: Arc<[u8]>,
    state: BlobState,
    range: Range<u64>,
) -> Held {
    let mut resident = Vec::new();
    if let Some(head) = core.dram.lookup(dir, hash, bucket.id, &key) {
        for found in head.ranges() {
            let end = found.value_offset + u64::from(found.len);
            if end > range.start
                && found.value_offset < range.end
                && let Some(pin) = core.dram.pin_owned(found.slot)
            {
                resident.push(Resident {
                    value_offset: found.value_offset,
                    len: found.len,
                    slot_offset: found.slot_offset,
                    pin,
                });
            }
        }
    }
    let lone_pin = state.lone().and_then(|lone| core.space.pin(lone.location));
    Held { hash, key, state, score: 0.0, resident, lone_pin }
}

/// A piece of the caller's buffer that must come from a device.
pub(super) struct Cold {
    /// Where it goes.
    pub(super) target: Range<usize>,
    pub(super) extent: Extent,
}

impl Held {
    /// The key of the blob.
    pub fn key(&self) -> &Arc<[u8]> {
        &self.key
    }

    /// The part of the version's map that a range needs. Of a large map it is read if it is not
    /// in memory.
    pub async fn view(
        &self,
        core: &Core,
        range: &Range<u64>,
        reader: Reader<'_>,
    ) -> Result<View<'_>> {
        Ok(View::of_memory(match &self.state.value {
            Value::Absent | Value::Zeros => Cow::Borrowed(&[]),
            Value::Lone(buffer) => Cow::Owned(vec![whole(buffer)]),
            Value::Mapped(map) => Cow::Borrowed(map.extents()),
            Value::Paged(map) => return load::view(core, map, range, reader).await,
        }))
    }

    /// The version's map, where it is one buffer.
    pub(super) fn view_of_lone(&self) -> Option<View<'_>> {
        self.state.lone().map(|buffer| View::of_memory(Cow::Owned(vec![whole(buffer)])))
    }

    /// Lets go of all its bytes, which have been read. Its length and version stay.
    pub(super) fn unpin(&mut self) {
        self.resident.clear();
        self.lone_pin = None;
    }

    /// Lets go of slots whose bytes a device has too, so that a version may be held for long. Those
    /// of a map may be moved meanwhile; a lone buffer may not.
    pub(super) fn unpin_clean(&mut self, core: &Core) {
        let extents = self.state.extents_in_memory();
        let is_dirty =
            |extent: Extent| core.table.get(extent.buffer).is_some_and(|buffer| buffer.is_dirty());
        self.resident.retain(|slice| {
            let end = slice.value_offset + u64::from(slice.len);
            clip(&extents, slice.value_offset..end).any(is_dirty)
        });
    }

    /// The resident bytes of an extent, if all of them are.
    fn resident_bytes(&self, extent: &Extent) -> Option<&[u8]> {
        let at = self.resident.partition_point(|range| {
            range.value_offset + u64::from(range.len) <= extent.value_offset
        });
        let range = self.resident.get(at)?;
        let skip = extent.value_offset.checked_sub(range.value_offset)?;
        let end = skip + u64::from(extent.len);
        if end > u64::from(range.len) {
            return None;
        }
        let base = u64::from(range.slot_offset);
        range.pin.get((base + skip) as usize..(base + end) as usize)
    }

    /// Copies what is in memory, and says what is not.
    pub(super) fn copy_resident(
        &self,
        view: &View<'_>,
        range: Range<u64>,
        dst: &mut [u8],
    ) -> Vec<Cold> {
        let mut cold = Vec::new();
        let mut at = 0usize;
        for stretch in stretches(&view.extents, range) {
            match stretch {
                Stretch::Hole { len } => {
                    dst[at..at + len as usize].fill(0);
                    at += len as usize;
                }
                Stretch::Data(extent) => {
                    let target = at..at + extent.len as usize;
                    at = target.end;
                    match self.resident_bytes(&extent) {
                        Some(bytes) => dst[target].copy_from_slice(bytes),
                        None => cold.push(Cold { target, extent }),
                    }
                }
            }
        }
        cold
    }

    /// The buffer of an extent, with a pin that keeps its bytes where it says they are.
    pub(super) fn locate(
        &self,
        core: &Core,
        view: &View<'_>,
        extent: &Extent,
    ) -> Result<(Buffer, Option<SegmentPin>)> {
        if let Some(lone) = self.state.lone() {
            return Ok((lone.clone(), None));
        }
        let Some((mut buffer, pin)) = core.table.pin(extent.buffer) else {
            fail!(Internal, "buffer {} of a held version is gone", extent.buffer.0)
        };
        if let Some(checks) = view.checks_of(extent) {
            buffer.checks = checks.clone();
        }
        if buffer.checks == Checks::InPages {
            fail!(Internal, "no page of a held version knows buffer {}", extent.buffer.0);
        }
        Ok((buffer, pin))
    }
}

impl Held {
    /// Every extent with its buffer, and whether all of its bytes are in DRAM.
    pub async fn places(&self, core: &Core) -> Result<Vec<(Extent, Buffer, bool)>> {
        let view = self.view(core, &(0..self.state.len), Reader::Caller).await?;
        let place = |extent: &Extent| {
            let (buffer, _) = self.locate(core, &view, extent)?;
            let in_dram = self.resident_bytes(extent).is_some();
            Ok((*extent, buffer, in_dram))
        };
        view.extents.iter().map(place).collect()
    }
}
