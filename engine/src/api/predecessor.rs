//! The buffers of a claimed key's state before the change, as far as the log does not know them.

use std::collections::HashSet;
use std::sync::Arc;

use crate::api::change::{Claim, Draft, Way, start_piece};
use crate::core::{Core, NewBuffer, Source};
use crate::error::{Result, fail};
use crate::index::extents::Extent;
use crate::index::state::{Buffer, Checks, checksums};
use crate::tier::dram::OwnedPin;
use crate::tier::space::footprint;
use crate::types::{BufferId, Place};

/// What the log knows of a predecessor's buffer.
pub(super) enum Predecessor {
    /// Nothing: its bytes are in a slot alone.
    Dirty(Buffer, OwnedPin),
    /// It is the whole value, and stands in no table.
    Lone(Buffer),
    /// All.
    Known,
}

impl Claim<'_> {
    /// Whether the log has the predecessor, so that it can be named by its version.
    pub(super) fn is_logged(&self) -> bool {
        let mut stripe = self.core.index.lock(self.hash);
        let entry = stripe.get(self.hash, self.bucket.id, &self.key);
        entry.is_some_and(|entry| entry.visible.exists() && !entry.is_dirty())
    }

    /// A buffer of the predecessor, as it is now.
    pub(super) fn predecessor(&self, id: BufferId) -> Result<Predecessor> {
        let core = self.core;
        let mut stripe = core.index.lock(self.hash);
        let entry = stripe.get(self.hash, self.bucket.id, &self.key);
        let lone = entry.and_then(|entry| entry.visible.lone().filter(|lone| lone.id == id));
        let is_lone = lone.is_some();
        let Some(buffer) = lone.cloned().or_else(|| core.table.get(id)) else {
            fail!(Internal, "buffer {} of a claimed blob is gone", id.0)
        };
        match buffer.location.place() {
            Place::Device { .. } if is_lone => Ok(Predecessor::Lone(buffer)),
            Place::Device { .. } => Ok(Predecessor::Known),
            Place::Dram(slot) => match core.dram.pin_owned(slot) {
                Some(pin) => Ok(Predecessor::Dirty(buffer, pin)),
                None => fail!(Internal, "dirty buffer {} is not resident", id.0),
            },
        }
    }

    /// Refuses dirty bytes of these extents that have changed since they were put: they are about
    /// to be copied, and get new checksums.
    pub(super) fn check_entered(&self, extents: impl Iterator<Item = Extent>) -> Result<()> {
        if !self.core.settings.checksum_at_entry {
            return Ok(());
        }
        for id in ids_of(extents) {
            if let Predecessor::Dirty(buffer, pin) = self.predecessor(id)? {
                buffer.check_entered(&Checks::from_slice(&checksums(&pin).0))?;
            }
        }
        Ok(())
    }
}

/// The distinct buffers of some extents.
fn ids_of(extents: impl Iterator<Item = Extent>) -> Vec<BufferId> {
    let mut ids: Vec<BufferId> = extents.map(|extent| extent.buffer).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// The draft's buffers that are not new.
pub(super) fn ids_before(draft: &Draft) -> Vec<BufferId> {
    let new: HashSet<BufferId> = draft.buffers.iter().map(|new| new.buffer.id).collect();
    let mut ids = ids_of(draft.extents.iter().copied());
    ids.retain(|id| !new.contains(id));
    ids
}

/// Defines what the log does not know of the predecessor's buffers that stay. Returns whether
/// there were any: the record is no difference against the logged state then.
pub(super) async fn add(
    core: &Arc<Core>,
    claim: &mut Claim<'_>,
    draft: &mut Draft,
) -> Result<bool> {
    let mut foreign = false;
    for id in ids_before(draft) {
        let (entered, pin) = match claim.predecessor(id)? {
            Predecessor::Known => continue,
            Predecessor::Lone(buffer) => {
                foreign = true;
                draft.buffers.push(NewBuffer { buffer, source: Source::Inherited });
                continue;
            }
            Predecessor::Dirty(buffer, pin) => (buffer, pin),
        };
        foreign = true;
        // A copy: nothing is pinned while this waits for room.
        let bytes = pin.to_vec();
        drop(pin);
        if claim.writing_behind {
            // What is set aside for the dirty buffer goes to its write-behind.
            claim.reserve(footprint(bytes.len() as u32)).await?;
        }
        let offset = first_offset(&draft.extents, id);
        let way = Way::Known.inline_or(claim.may_ride_inline(bytes.len()));
        let written = start_piece(core, claim, id, offset, &bytes, way).await;
        entered.check_entered(&written.buffer.checks)?;
        draft.buffers.push(written.finish().await?);
    }
    Ok(foreign)
}

/// The byte of the value at which a buffer's first extent begins.
pub(super) fn first_offset(extents: &[Extent], id: BufferId) -> u64 {
    let first = extents.iter().find(|extent| extent.buffer == id);
    first.map_or(0, |extent| extent.value_offset)
}
