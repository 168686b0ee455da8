//! What a logged record does to the index, the buffer table and the DRAM directory.
//!
//! Two steps. *Apply*, once the batch is on the device: the logged state changes. *Acknowledge*,
//! at the level asked for: the visible state changes and the caller is told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::buckets::Whole;
use crate::core::{
    Change, Commit, Core, DramImage, Member, MoveRequest, NewBuffer, Origin, PageCommit,
    ReleaseRequest, Share, Source,
};
use crate::error::{Error, Result};
use crate::index::StripeInner;
use crate::index::state::{BlobState, Buffer, Map, PagedMap, Value, is_lone};
use crate::index::table::RowHold;
use crate::io::wait::{Sender, Wakes};
use crate::log::record::{MoveSubject, Record};
use crate::plant::{Plant, planted};
use crate::shard::log_owner::Effect;
use crate::tier::dram::PublishHead;
use crate::types::{BucketId, BufferId, Location, SlotId, Version};
use crate::usage::{Growth, Hold};

/// A claimed key whose logged state is to become visible.
pub struct Publish {
    hash: u64,
    bucket: BucketId,
    key: Arc<[u8]>,
    /// The DRAM copy to publish with it.
    dram: Option<DramImage>,
    /// The DRAM copy there is, is one of the new state too.
    value_stays: bool,
    /// The growth of the bucket that was set aside.
    hold: Option<Hold>,
}

/// An acknowledgement that may have to wait for the watermark.
pub enum Ack {
    /// A key changes visibly, and the caller is told.
    Publish(Publish, Sender<Result<()>>),
    /// Keys change visibly, together.
    PublishAll(Vec<Publish>, Sender<Result<()>>),
    /// The caller is told.
    Reply(Sender<Result<()>>),
    /// Nobody waits.
    None,
}

impl Ack {
    /// Whether a caller waits for a change.
    pub fn is_change(&self) -> bool {
        matches!(self, Ack::Publish(..) | Ack::PublishAll(..))
    }

    /// Acknowledges. The caller's wake-up is left to the list.
    pub fn send(self, core: &Core, wakes: &Arc<Wakes>) {
        match self {
            Ack::Publish(publish, reply) => {
                publish_one(core, publish);
                reply.send_with(Ok(()), wakes);
            }
            Ack::PublishAll(all, reply) => {
                publish_all(core, all);
                reply.send_with(Ok(()), wakes);
            }
            Ack::Reply(reply) => reply.send_with(Ok(()), wakes),
            Ack::None => {}
        }
    }

    /// Tells the caller that the level was not reached.
    pub fn fail(self, core: &Core, error: &Error) {
        let release = |publish: Publish| {
            release_claim(core, publish.hash, publish.bucket, &publish.key);
        };
        let reply = match self {
            Ack::Publish(publish, reply) => {
                release(publish);
                reply
            }
            Ack::PublishAll(all, reply) => {
                all.into_iter().for_each(release);
                reply
            }
            Ack::Reply(reply) => reply,
            Ack::None => return,
        };
        reply.send(Err(error.clone()));
    }
}

/// Applies a record that is on the device.
pub fn apply(core: &Core, effect: Effect) -> Ack {
    match effect {
        Effect::Blob(commit, reply) => match apply_commit(core, *commit) {
            Some(publish) => Ack::Publish(publish, reply),
            None => Ack::Reply(reply),
        },
        Effect::Group(members, _keep, reply) => {
            let publishes = members.into_iter().filter_map(|member| match member {
                Member::Blob(commit) => apply_commit(core, commit),
                Member::Share(share) => {
                    apply_share(core, &share);
                    None
                }
            });
            Ack::PublishAll(publishes.collect(), reply)
        }
        Effect::Page(commit) => apply_page(core, *commit),
        Effect::Release(request) => apply_release(core, request),
        Effect::Share(share) => {
            apply_share(core, &share);
            Ack::None
        }
        Effect::Move(request) => {
            apply_move(core, request);
            Ack::None
        }
        Effect::Bucket(record, whole, reply) => {
            apply_bucket(core, &record, whole);
            Ack::Reply(reply)
        }
        Effect::Flush(reply) => Ack::Reply(reply),
        Effect::Quiet => Ack::None,
    }
}

/// Tells everybody behind a record that it will not be logged.
pub fn fail(core: &Core, effect: Effect, error: &Error) {
    match effect {
        Effect::Blob(commit, reply) => {
            drop_commit(core, *commit);
            reply.send(Err(error.clone()));
        }
        Effect::Group(members, _, reply) => {
            for member in members {
                if let Member::Blob(commit) = member {
                    drop_commit(core, commit);
                }
            }
            reply.send(Err(error.clone()));
        }
        Effect::Page(commit) => {
            // What was written for it is dead before anybody is told.
            drop(commit.buffers);
            commit.reply.send(Err(error.clone()));
        }
        Effect::Release(request) => request.reply.send(Err(error.clone())),
        Effect::Move(request) => {
            core.space.bytes_dead(request.to, request.stored_len);
            request.reply.send(Err(error.clone()));
        }
        Effect::Bucket(_, whole, reply) => {
            drop(whole);
            reply.send(Err(error.clone()));
        }
        Effect::Flush(reply) => reply.send(Err(error.clone())),
        Effect::Share(_) | Effect::Quiet => {}
    }
}

/// The logged state changes. Returns what is to be published, where a claim waits for that.
fn apply_commit(core: &Core, commit: Commit) -> Option<Publish> {
    let Commit { hash, bucket, key, version, change, attributes, keep, hold, origin } = commit;
    let value_stays = matches!(change, Change::Attributes { .. });
    let mut dram = None;
    // New pages: held until the blob's map counts on them.
    let mut _holds = Vec::new();
    let old;
    {
        let mut stripe = core.index.lock(hash);
        // Else its bucket was destroyed by a record before this one; recovery drops it as well.
        let entry = stripe.get(hash, bucket, &key)?;
        let state = match change {
            Change::Delete => BlobState::absent(version),
            Change::Put { len, extents, buffers, dram: image, .. } => {
                dram = image;
                for new in buffers.iter().filter(|new| matches!(new.source, Source::Inherited)) {
                    entry.hand_over_lone(new.buffer.id, &core.table);
                }
                let value = value_of(core, len, extents, buffers);
                BlobState { version, len, value, attributes }
            }
            Change::Paged { len, pages, holds, .. } => {
                _holds = holds;
                let map = PagedMap::new(pages, &core.table);
                let value = Value::Paged(Arc::new(map));
                BlobState { version, len, value, attributes }
            }
            Change::Attributes { .. } => {
                let BlobState { len, value, .. } = entry.logged_state()?.clone();
                BlobState { version, len, value, attributes }
            }
        };
        old = entry.set_logged(state, &core.table);
    }
    drop((old, keep));
    match origin {
        Origin::Claimed => Some(Publish { hash, bucket, key, dram, value_stays, hold }),
        Origin::Behind(slots) => {
            finish_behind(core, hash, bucket, &key, version, &slots);
            None
        }
    }
}

/// An extent page stands in the table from now on, and counts on the buffers that it names.
fn apply_page(core: &Core, commit: PageCommit) -> Ack {
    let PageCommit { page, names, buffers, slots, hold, reply, keep, .. } = commit;
    // Until the page counts on them.
    let mut row_holds = Vec::new();
    for new in buffers {
        let (buffer, row_hold) = take_charge(core, new);
        row_holds.push(row_hold);
        match buffer.id == page {
            true => core.table.define_page(buffer),
            false => core.table.define_by_page(buffer),
        }
    }
    core.table.name_by_page(&names);
    drop(row_holds);
    hold.set_defined();
    // Whoever still sees these buffers, in whatever version, finds them on a device now.
    for (slot, buffer) in slots {
        core.dram.mark_clean(slot, buffer);
    }
    drop(keep);
    Ack::Reply(reply)
}

/// Buffers that others than their blob, or than pages, will name.
fn apply_share(core: &Core, share: &Share) {
    let mut stripe = core.index.lock(share.hash);
    let mut entry = stripe.get(share.hash, share.bucket, &share.key);
    for buffer in &share.buffers {
        match &mut entry {
            Some(entry) if entry.find_lone(buffer.id).is_some() && !planted(Plant::SharedTwice) => {
                entry.hand_over_lone(buffer.id, &core.table);
            }
            _ => core.table.define(buffer.clone()),
        }
    }
}

/// A condemned page is gone.
fn apply_release(core: &Core, request: ReleaseRequest) -> Ack {
    if core.table.release_page(request.page, &request.names) {
        core.pages.forget(request.page);
    }
    Ack::Reply(request.reply)
}

/// The value of these extents. Its new buffers go to the table, unless one is the whole value.
pub fn value_of(
    core: &Core,
    len: u64,
    extents: Vec<crate::index::extents::Extent>,
    mut buffers: Vec<NewBuffer>,
) -> Value {
    if extents.is_empty() {
        return Value::Zeros;
    }
    // As recovery sees it. What only this record has defined is in no other map.
    if let [only] = &buffers[..]
        && matches!(only.source, Source::Written(_) | Source::Held(_))
        && is_lone(&extents, &only.buffer, len)
        && let Some(only) = buffers.pop()
    {
        let (buffer, row_hold) = take_charge(core, only);
        return Value::Lone(row_hold.map_or(buffer, RowHold::take_out));
    }
    // Until the map counts on them.
    let mut row_holds = Vec::new();
    for new in buffers {
        let (buffer, row_hold) = take_charge(core, new);
        row_holds.push(row_hold);
        core.table.define(buffer);
    }
    let value = Value::Mapped(Arc::new(Map::new(extents, &core.table)));
    drop(row_holds);
    value
}

/// The index takes charge of a buffer.
fn take_charge(core: &Core, new: NewBuffer) -> (Buffer, Option<RowHold>) {
    let (buffer, row_hold) = new.keep();
    // Else a move was logged before this record, and what the log says is not so.
    assert!(
        row_hold.is_none()
            || planted(Plant::PlaceBeforeMove)
            || core.table.get_location(buffer.id) == Some(buffer.location),
        "buffer {:?} is logged at {:?} and is elsewhere",
        buffer.id,
        buffer.location
    );
    (buffer, row_hold)
}

/// A Memory change has reached the log.
fn finish_behind(
    core: &Core,
    hash: u64,
    bucket: BucketId,
    key: &[u8],
    version: Version,
    slots: &[(SlotId, BufferId)],
) {
    let queued;
    {
        let mut stripe = core.index.lock(hash);
        let Some(entry) = stripe.get(hash, bucket, key) else { return };
        entry.writing_behind = false;
        if entry.visible.version == version {
            // Dropped here, inside the lock, so that the table shows below what is still needed.
            drop(entry.publish(&core.table));
        }
        for (slot, buffer) in slots {
            // A newer visible version may still have the buffer in this slot alone.
            if !is_dirty_in(core, &entry.visible, *slot, *buffer)
                || planted(Plant::CleanWhileNeeded)
            {
                core.dram.mark_clean(*slot, *buffer);
            }
        }
        queued = core.queue_if_dirty(entry);
        core.index.remove_if_vacant(&mut stripe, hash, bucket, key);
    }
    if let Some(queued) = queued {
        queued.tell();
    }
    core.counters.written_behind.fetch_add(1, Ordering::Relaxed);
    core.index.stripe(hash).released.wake_all();
}

/// Whether a state has a buffer in this slot and nowhere else.
fn is_dirty_in(core: &Core, state: &BlobState, slot: SlotId, buffer: BufferId) -> bool {
    let here = Location::dram(slot);
    match &state.value {
        // What pages name is on a device.
        Value::Absent | Value::Zeros | Value::Paged(_) => false,
        Value::Lone(lone) => lone.location == here,
        Value::Mapped(map) => {
            map.extents().iter().any(|extent| extent.buffer == buffer)
                && core.table.get(buffer).is_some_and(|row| row.location == here)
        }
    }
}

/// Makes a claimed key's logged state visible and ends the claim.
fn publish_one(core: &Core, mut publish: Publish) {
    let (hash, bucket) = (publish.hash, publish.bucket);
    let hold = publish.hold.take();
    let old = {
        let mut stripe = core.index.lock(hash);
        let (old, growth) = publish_in(core, &mut stripe, &mut publish);
        core.buckets.count(bucket, growth, hold);
        old
    };
    // Outside the lock: it may be the last to hold a map.
    drop(old);
    core.index.stripe(hash).released.wake_all();
}

/// The same of several keys, under all their stripe locks: whoever locks these sees all or none.
fn publish_all(core: &Core, mut all: Vec<Publish>) {
    let hashes: Vec<u64> = all.iter().map(|publish| publish.hash).collect();
    let mut locked = core.index.lock_all(&hashes);
    let mut grown: BTreeMap<BucketId, (Growth, Option<Hold>)> = BTreeMap::new();
    let mut publish = |publish: &mut Publish| {
        let (bucket, hold) = (publish.bucket, publish.hold.take());
        let (old, growth) = publish_in(core, locked.stripe(publish.hash), publish);
        let (sum, first_hold) = grown.entry(bucket).or_default();
        *sum += growth;
        *first_hold = first_hold.take().or(hold);
        old
    };
    let old: Vec<Option<BlobState>> = all.iter_mut().map(&mut publish).collect();
    // In sum: no bucket holds more meanwhile than before or after.
    for (bucket, (growth, hold)) in grown {
        core.buckets.count(bucket, growth, hold);
    }
    drop(locked);
    drop(old);
    hashes.iter().for_each(|hash| core.index.stripe(*hash).released.wake_all());
}

/// Returns the state that nobody sees any more, and by how much the bucket has grown.
fn publish_in(
    core: &Core,
    stripe: &mut StripeInner,
    publish: &mut Publish,
) -> (Option<BlobState>, Growth) {
    let Publish { hash, bucket, key, dram, value_stays, .. } = publish;
    let (hash, bucket, key) = (*hash, *bucket, &*key);
    let (Some(entry), dir) = stripe.get_with_dir(hash, bucket, key) else {
        return (None, Growth::default());
    };
    let old = entry.publish(&core.table);
    entry.claimed = false;
    entry.heat = entry.heat.touched(core.runtime.recent());
    let new = &entry.visible;
    let growth = core.buckets.note_change(bucket, key, &old, new);
    let resident = dram.take().filter(|_| new.exists()).and_then(DramImage::take);
    match resident {
        Some((head, ranges)) => {
            let (version, len, key, ranges) = (new.version, new.len, &**key, &*ranges);
            let head = PublishHead { head, hash, bucket, key, version, len, ranges };
            core.dram.publish(dir, &head);
        }
        None if *value_stays => core.dram.renew(dir, hash, bucket, key, new.version),
        None => drop(core.dram.remove(dir, hash, bucket, key)),
    }
    core.index.remove_if_vacant(stripe, hash, bucket, key);
    (Some(old), growth)
}

/// Ends a claim without a change.
pub fn release_claim(core: &Core, hash: u64, bucket: BucketId, key: &[u8]) {
    let mut queued = None;
    {
        let mut stripe = core.index.lock(hash);
        if let Some(entry) = stripe.get(hash, bucket, key) {
            entry.claimed = false;
            // The end of a write-behind under way queues the key itself.
            if !entry.writing_behind {
                queued = core.queue_if_dirty(entry);
            }
        }
        core.index.remove_if_vacant(&mut stripe, hash, bucket, key);
    }
    if let Some(queued) = queued {
        queued.tell();
    }
    core.index.stripe(hash).released.wake_all();
}

/// Whether a written-behind change is no longer newer than what the log holds.
pub fn is_superseded(core: &Core, commit: &Commit, in_flight: Option<Version>) -> bool {
    if matches!(commit.origin, Origin::Claimed) || planted(Plant::BehindOverNewer) {
        return false;
    }
    // Without an entry the key's bucket is gone.
    let logged = logged_version(core, commit).max(in_flight);
    logged.is_none_or(|logged| logged >= commit.version)
}

/// Ends a commit that is not logged; for its keeper's answer, see who sent it.
pub fn drop_commit(core: &Core, commit: Commit) {
    // What was written for it is dead before anybody is told.
    drop(commit.change);
    if let Origin::Claimed = commit.origin {
        release_claim(core, commit.hash, commit.bucket, &commit.key);
    }
}

/// A written-behind state that the log has a newer one of.
pub fn drop_superseded(core: &Core, commit: Commit) {
    let (hash, bucket, key) = (commit.hash, commit.bucket, commit.key.clone());
    drop_commit(core, commit);
    finish_behind(core, hash, bucket, &key, Version(u64::MAX), &[]);
}

/// The version of the key that the log holds; `None` if the index does not know the key.
pub fn logged_version(core: &Core, commit: &Commit) -> Option<Version> {
    let mut stripe = core.index.lock(commit.hash);
    stripe.get(commit.hash, commit.bucket, &commit.key).map(|entry| entry.logged_version())
}

/// Where a buffer that a commit inherits is now.
pub fn inherited_location(
    core: &Core,
    hash: u64,
    bucket: BucketId,
    key: &[u8],
    id: BufferId,
) -> Option<Location> {
    let mut stripe = core.index.lock(hash);
    stripe.get(hash, bucket, key).and_then(|entry| entry.find_lone(id)).map(|lone| lone.location)
}

/// The buffer a move is about.
pub fn subject_id(subject: &MoveSubject) -> BufferId {
    match subject {
        MoveSubject::Lone { buffer, .. } | MoveSubject::Table { buffer } => *buffer,
    }
}

/// Whether the buffer is where the organizer copied it from.
pub fn is_at(core: &Core, subject: &MoveSubject, from: Location) -> bool {
    match subject {
        MoveSubject::Table { buffer } => core.table.get_location(*buffer) == Some(from),
        MoveSubject::Lone { bucket, key, buffer } => {
            let hash = core.index.hash(*bucket, key);
            let mut stripe = core.index.lock(hash);
            stripe
                .get(hash, *bucket, key)
                .and_then(|entry| entry.find_lone(*buffer))
                .is_some_and(|lone| lone.location == from)
                || planted(Plant::MoveNotCompared)
        }
    }
}

/// A move lost its race: the copy is dead.
pub fn refuse_move(core: &Core, request: MoveRequest) {
    core.space.bytes_dead(request.to, request.stored_len);
    request.reply.send(Ok(false));
}

fn apply_move(core: &Core, request: MoveRequest) {
    let moved = match &request.subject {
        MoveSubject::Table { buffer } => core.table.relocate(*buffer, request.from, request.to),
        MoveSubject::Lone { bucket, key, buffer } => {
            let hash = core.index.hash(*bucket, key);
            let mut stripe = core.index.lock(hash);
            relocate(core, &mut stripe, hash, *bucket, key, *buffer, &request)
        }
    };
    if moved {
        request.reply.send(Ok(true));
    } else {
        refuse_move(core, request);
    }
}

fn relocate(
    core: &Core,
    stripe: &mut StripeInner,
    hash: u64,
    bucket: BucketId,
    key: &[u8],
    buffer: BufferId,
    request: &MoveRequest,
) -> bool {
    stripe
        .get(hash, bucket, key)
        .is_some_and(|entry| entry.relocate_lone(buffer, request.from, request.to, &core.space))
}

/// Changes the list of buckets. Those who wait for a whole one go on when this returns.
pub fn apply_bucket(core: &Core, record: &Record, whole: Option<Whole>) {
    match record {
        Record::BucketCreate { bucket, name, options } => {
            core.buckets.insert(*bucket, name, *options);
        }
        Record::BucketChange { bucket, name, options } => {
            core.buckets.change(*bucket, name, *options);
        }
        Record::BucketClear { bucket, version } => core.buckets.clear(core, *bucket, *version),
        Record::BucketDestroy { bucket } => {
            core.buckets.remove(core, *bucket);
            if let Some(mut whole) = whole {
                whole.destroyed();
            }
        }
        _ => unreachable!("not a bucket record"),
    }
}
