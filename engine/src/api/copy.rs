//! A blob under another name: copies and renames. The two share their buffers, which nobody ever
//! changes: a later change of either leaves the other as it is. Attributes go along.
//!
//! A lone buffer moves to the buffer table first (a Share record). What no device has yet is written
//! for the target alone.

use std::sync::Arc;

use crate::api::admission::index_room;
use crate::api::batch::send;
use crate::api::bucket::{Bucket, PutOptions};
use crate::api::change::{Claim, Draft, Way, claim, not_found, start_piece};
use crate::api::edit::Edit;
use crate::api::predecessor::{Predecessor, first_offset, ids_before};
use crate::api::read::Reader;
use crate::buckets::BucketState;
use crate::core::{Change, Core, Member, Share};
use crate::error::{Result, fail};
use crate::index::state::{Buffer, Value};
use crate::tier::dram::OwnedPin;
use crate::tier::space::footprint;
use crate::types::{Durability, Version};

/// What becomes of the source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Source {
    /// It stays: a copy.
    Stays,
    /// It goes: a rename.
    Goes,
}

/// A blob by name.
pub(super) type Name<'a> = (&'a Bucket, &'a [u8]);

/// Gives the value of one blob to another, replacing any there is. The target's version.
pub(super) async fn copy(
    from: Name<'_>,
    to: Name<'_>,
    source: Source,
    options: PutOptions,
    reader: Reader<'_>,
) -> Result<Version> {
    let core = from.0.core();
    let level = check(from, to, options)?;
    let _operation = core.begin_operation()?;
    let _changes = BucketState::begin_changes([from.0.state(), to.0.state()].into_iter()).await?;
    let _room = index_room(core, to.1, Edit::Replace(&[]), to.0.state().buffer_size(core))?;
    let (mut from_claim, mut to_claim) = claim_both(core, from, to, reader).await?;
    if !from_claim.before.exists() {
        return Err(not_found(from.0.state(), from.1));
    }
    options.condition.check(to.0.state(), to.1, to_claim.before.present())?;
    let version = to_claim.version;
    to_claim.attributes = from_claim.before.attributes.clone();
    let (shared, change) = share(core, &from_claim, &mut to_claim).await?;
    let mut members: Vec<Member> = shared.into_iter().map(Member::Share).collect();
    members.push(Member::Blob(to_claim.commit(change)));
    match source {
        Source::Stays => send(core, members, vec![to_claim], vec![from_claim], level).await?,
        Source::Goes => {
            members.push(Member::Blob(from_claim.commit(Change::Delete)));
            send(core, members, vec![to_claim, from_claim], Vec::new(), level).await?;
        }
    }
    Ok(version)
}

fn check(from: Name<'_>, to: Name<'_>, options: PutOptions) -> Result<Durability> {
    let core = from.0.core();
    from.0.check(from.1)?;
    to.0.check(to.1)?;
    core.check_writable()?;
    if !Arc::ptr_eq(core, to.0.core()) {
        fail!(InvalidArgument, "the two buckets are of different stores");
    }
    if from.0.id() == to.0.id() && from.1 == to.1 {
        let key = String::from_utf8_lossy(from.1);
        fail!(InvalidArgument, "blob {key:?} cannot be given its own name");
    }
    if !core.is_persistent() {
        fail!(
            Unsupported,
            "a store with DRAM alone has no copies and renames; put the value again, or add a tier"
        );
    }
    Ok(to.0.level(options)?.max(Durability::Written))
}

/// Claims in the order in which batches claim.
async fn claim_both<'a>(
    core: &'a Core,
    from: Name<'a>,
    to: Name<'a>,
    reader: Reader<'a>,
) -> Result<(Claim<'a>, Claim<'a>)> {
    let take = |name: Name<'a>| claim(core, name.0.state(), name.1, reader);
    if (from.0.id(), from.1) < (to.0.id(), to.1) {
        let from = take(from).await?;
        return Ok((from, take(to).await?));
    }
    let to = take(to).await?;
    Ok((take(from).await?, to))
}

/// The target's new state, and what must stand in the table for it.
async fn share(
    core: &Arc<Core>,
    from: &Claim<'_>,
    to: &mut Claim<'_>,
) -> Result<(Option<Share>, Change)> {
    let state = &from.before;
    let mut draft = match &state.value {
        Value::Paged(map) => {
            let (pages, holds) = (map.pages().to_vec(), Vec::new());
            return Ok((None, Change::Paged { len: state.len, pages, splice: None, holds }));
        }
        _ => Draft { extents: state.extents_in_memory(), buffers: Vec::new() },
    };
    let mut shared = None;
    for id in ids_before(&draft) {
        match from.predecessor(id)? {
            Predecessor::Known => {}
            Predecessor::Lone(buffer) => {
                let (hash, bucket, key) = (from.hash, from.bucket.id, from.key.clone());
                shared = Some(Share { hash, bucket, key, buffers: vec![buffer] });
            }
            Predecessor::Dirty(buffer, pin) => {
                write_anew(core, to, &mut draft, buffer, pin).await?
            }
        }
    }
    Ok((shared, draft.into_put(state.len, None, None)))
}

/// Writes a buffer that no device has, for the target, under an id of its own.
async fn write_anew(
    core: &Arc<Core>,
    to: &mut Claim<'_>,
    draft: &mut Draft,
    dirty: Buffer,
    pin: OwnedPin,
) -> Result<()> {
    // A copy: nothing is pinned while this waits for room.
    let bytes = pin.to_vec();
    drop(pin);
    to.reserve(footprint(bytes.len() as u32)).await?;
    let (id, offset) = (core.next_buffer(), first_offset(&draft.extents, dirty.id));
    let is_whole = draft.extents.len() == 1;
    let apart = if is_whole { Way::Lone } else { Way::Held };
    let way = apart.inline_or(to.may_ride_inline(bytes.len()));
    let written = start_piece(core, to, id, offset, &bytes, way).await;
    dirty.check_entered(&written.buffer.checks)?;
    draft.buffers.push(written.finish().await?);
    let renamed = draft.extents.iter_mut().filter(|extent| extent.buffer == dirty.id);
    renamed.for_each(|extent| extent.buffer = id);
    Ok(())
}
