//! Changes above Memory level: claim the key, write the data, log, publish, acknowledge.
//!
//! The data of a change is cut at the buffer boundaries of the value. Small pieces ride in the
//! log batch; larger ones are copied and checksummed here, on the caller's thread, so that cores
//! add up, and appended to segments by the shards.

use std::mem::take;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::api::admission::{Reservation, device_bytes, index_room};
use crate::api::attributes;
use crate::api::crowded::rewrite_crowded;
use crate::api::edit::{Changed, Condition, Edit, pieces};
use crate::api::held::{self, Held};
use crate::api::paged;
use crate::api::predecessor;
use crate::api::read::Reader;
use crate::buckets::BucketState;
use crate::core::{
    BufferName, Change, Commit, Core, DramImage, NewBuffer, Origin, Payload, Request, Source,
    Splice, WriteRequest,
};
use crate::engine::flush_everything;
use crate::error::{Error, ErrorKind, Result, fail};
use crate::index::attributes::SharedAttributes;
use crate::index::extents::{self, Extent};
use crate::index::state::{BlobState, Buffer, Checks, Value, checksums, copy_with_checksums};
use crate::io::wait::{Receiver, oneshot};
use crate::limits::{BLOCK, INLINE_MAX, INLINE_RECORD_MAX};
use crate::paging::write::Material;
use crate::shard::apply::release_claim;
use crate::tier::dram::{DirRange, Dram, Fresh};
use crate::tier::room::Room;
use crate::types::{BufferId, Durability, Location, TierId, Version};
use crate::usage::Hold;

/// Values up to this size get a DRAM copy when they are written.
const WRITTEN_COPY_MAX: usize = 64 << 10;
/// Extents below which a whole map is logged rather than a difference.
const SPLICE_EXTENTS_MIN: usize = 16;
/// Pieces of one value on their way to the devices at a time, and their bytes. More than 4 MiB only
/// queue up: on a virtio disk fio's own writes of 1 MiB were a seventh slower at depth 8 than at 4.
const PIECES_IN_FLIGHT: usize = 16;
const BYTES_IN_FLIGHT: usize = 4 << 20;

/// A key that this operation alone may change.
pub(super) struct Claim<'a> {
    pub(super) core: &'a Core,
    pub(super) hash: u64,
    pub(super) bucket: &'a BucketState,
    pub(super) key: Arc<[u8]>,
    pub(super) version: Version,
    /// The state before. Its map keeps its buffers; nothing is pinned, for this operation may have
    /// to wait for room. Until the change is logged only the places of its buffers change: the
    /// organizer moves them, a write-behind under way ends.
    pub(super) before: BlobState,
    /// The attributes of the state after, if there is a blob then.
    pub(super) attributes: Option<Arc<SharedAttributes>>,
    /// Whether a write-behind of the key is under way.
    pub(super) writing_behind: bool,
    /// Who reads the predecessor's bytes from devices.
    pub(super) reader: Reader<'a>,
    /// Bytes that may still ride in the batch: it must fit a log segment.
    pub(super) inline_left: usize,
    /// Others are logged with it, whose bytes may have to wait for room.
    pub(super) is_one_of_many: bool,
    /// The growth of the bucket that the change has set aside.
    pub(super) hold: Option<Hold>,
    /// Device space for what is written beside the caller's bytes.
    reserved: Vec<Reservation<'a>>,
    armed: bool,
}

impl<'a> Claim<'a> {
    /// Sets device space aside until the change is over.
    pub(super) async fn reserve(&mut self, bytes: u64) -> Result<()> {
        // Nothing always fits, also beside data that is live and still set aside.
        if bytes == 0 {
            return Ok(());
        }
        self.reserved.push(Reservation::take(self.core, bytes).await?);
        Ok(())
    }

    /// Pins a range of the predecessor, to be read without waiting for room.
    pub(super) fn hold(&self, range: Range<u64>) -> Result<Held> {
        let core = self.core;
        let mut stripe = core.index.lock(self.hash);
        let (entry, dir) = stripe.get_with_dir(self.hash, self.bucket.id, &self.key);
        let Some(entry) = entry else { fail!(Internal, "a claimed entry is gone") };
        let (key, state) = (entry.key.clone(), entry.visible.clone());
        Ok(held::hold_state(core, dir, self.bucket, self.hash, key, state, range))
    }

    /// Whether so many bytes ride in the batch beside what rides there already.
    pub(super) fn may_ride_inline(&mut self, len: usize) -> bool {
        let fits = len <= INLINE_MAX && len <= self.inline_left;
        if fits {
            self.inline_left -= len;
        }
        fits
    }

    /// The change, for the log's owner.
    pub(super) fn commit(&mut self, change: Change) -> Commit {
        let attributes = match change {
            Change::Delete => None,
            _ => self.attributes.clone(),
        };
        Commit {
            hash: self.hash,
            bucket: self.bucket.id,
            key: self.key.clone(),
            version: self.version,
            change,
            attributes,
            keep: None,
            hold: self.hold.take(),
            origin: Origin::Claimed,
        }
    }

    /// The log's owner ends the claim from here on, whatever becomes of this operation.
    pub(super) fn hand_over(mut self) {
        self.armed = false;
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if self.armed {
            release_claim(self.core, self.hash, self.bucket.id, &self.key);
        }
    }
}

/// Waits until nobody else has the key, and takes it.
pub(super) async fn claim<'a>(
    core: &'a Core,
    bucket: &'a BucketState,
    key: &[u8],
    reader: Reader<'a>,
) -> Result<Claim<'a>> {
    let hash = core.index.hash(bucket.id, key);
    loop {
        let released = core.index.stripe(hash).released.ticket();
        core.check_poison()?;
        {
            let mut stripe = core.index.lock(hash);
            let entry = core.index.get_or_insert(&mut stripe, hash, bucket.id, key);
            if !entry.claimed {
                entry.claimed = true;
                let version = core.next_version();
                return Ok(Claim {
                    core,
                    hash,
                    bucket,
                    key: entry.key.clone(),
                    version,
                    before: entry.visible.clone(),
                    attributes: entry.visible.attributes.clone(),
                    writing_behind: entry.writing_behind,
                    reader,
                    inline_left: INLINE_RECORD_MAX,
                    is_one_of_many: false,
                    hold: None,
                    reserved: Vec::new(),
                    armed: true,
                });
            }
        }
        released.await;
    }
}

/// A new map in the making.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) buffers: Vec<NewBuffer>,
    pub(super) extents: Vec<Extent>,
}

impl Draft {
    /// The change to this map.
    pub(super) fn into_put(
        self,
        len: u64,
        splice: Option<Splice>,
        dram: Option<DramImage>,
    ) -> Change {
        Change::Put { len, extents: self.extents, buffers: self.buffers, splice, dram }
    }
}

/// Runs an edit at Written or Durable level. What it needs of the predecessor, `reader` reads.
pub async fn change(
    core: &Arc<Core>,
    bucket: &BucketState,
    key: &[u8],
    (edit, condition): (Edit<'_>, Condition),
    level: Durability,
    reader: Reader<'_>,
) -> Result<Changed> {
    let _index_room = index_room(core, key, edit, bucket.buffer_size(core))?;
    let bytes = device_bytes_of(core, bucket, key, edit);
    let _reservation = match bytes {
        0 => None,
        bytes => Some(Reservation::take(core, bytes).await?),
    };
    let mut claim = claim(core, bucket, key, reader).await?;
    condition.check(bucket, key, claim.before.present())?;
    claim.set_aside(edit)?;
    let Some((change, offset)) = prepare(core, &mut claim, edit).await? else {
        // Nothing to log, but what is there may be of Memory level, or not flushed: the level is
        // promised all the same.
        let (version, offset) = (claim.before.version, edit.effect(claim.before.len)?.0.start);
        drop(claim);
        flush_everything(core).await?;
        return Ok(Changed { version, offset });
    };
    let version = log(core, claim, change, level).await?;
    Ok(Changed { version, offset })
}

/// Has a change of a claimed key logged, and waits for its level. The version it makes.
pub(super) async fn log(
    core: &Core,
    mut claim: Claim<'_>,
    change: Change,
    level: Durability,
) -> Result<Version> {
    let version = claim.version;
    let (reply, answer) = oneshot();
    let mut commit = Box::new(claim.commit(change));
    commit.keep = claim.before.map().cloned();
    core.shards[0].push_patiently(Request::Commit(commit, level, reply)).await;
    claim.hand_over();
    answered(answer).await?;
    core.counters.logged_changes.fetch_add(1, Ordering::Relaxed);
    Ok(version)
}

/// What the log's owner answers.
pub(super) async fn answered(answer: Receiver<Result<()>>) -> Result<()> {
    match answer.await {
        Ok(result) => result,
        Err(_) => fail!(Closed, "the store closed before the change was logged"),
    }
}

/// Device bytes that an edit's data will take.
pub(super) fn device_bytes_of(
    core: &Core,
    bucket: &BucketState,
    key: &[u8],
    edit: Edit<'_>,
) -> u64 {
    let (len, buffer_size) = (edit.data().len(), bucket.buffer_size(core));
    match len {
        0 => 0,
        len => {
            let pages = paged::pages_of_data(core, key.len(), len, buffer_size);
            let data = match edit {
                Edit::PutAt(offset, _) => device_bytes(offset, len, buffer_size),
                // The offset is not known yet; one more block on each side covers any split.
                Edit::Append(_) => device_bytes(0, len, buffer_size) + 2 * BLOCK as u64,
                _ => device_bytes(0, len, buffer_size),
            };
            data + pages
        }
    }
}

/// Writes what an edit of a claimed key needs written. Returns what the blob becomes, and where the
/// edit's bytes begin in it; `None` if it stays as it is.
pub(super) async fn prepare(
    core: &Arc<Core>,
    claim: &mut Claim<'_>,
    edit: Edit<'_>,
) -> Result<Option<(Change, u64)>> {
    let (bucket, before) = (claim.bucket, &claim.before);
    if edit.wants_blob() && !before.exists() {
        return Err(not_found(bucket, &claim.key));
    }
    if let Edit::Attributes(changes) = edit {
        return Ok(attributes::prepare(core, claim, changes).await?.map(|change| (change, 0)));
    }
    let (cut, len) = edit.effect(before.len)?;
    let offset = if matches!(edit, Edit::Replace(_)) { 0 } else { cut.start };
    let unchanged = before.exists() && before.len == len && edit.data().is_empty();
    // What is of Memory level only must reach the log all the same: a batch shows all of itself after
    // a crash, or nothing.
    if unchanged && claim.is_logged() && !matches!(edit, Edit::Delete | Edit::Replace(_)) {
        return Ok(None);
    }
    let buffer_size = bucket.buffer_size(core);
    let change = match edit {
        Edit::Delete => Change::Delete,
        _ => draft(core, bucket, claim, edit, cut, len, buffer_size).await?,
    };
    Ok(Some((change, offset)))
}

/// The error of a missing blob.
pub fn not_found(bucket: &BucketState, key: &[u8]) -> Error {
    let key = String::from_utf8_lossy(key);
    let bucket = bucket.name();
    let bucket = String::from_utf8_lossy(&bucket);
    Error::new(ErrorKind::NotFound, format!("there is no blob {key:?} in bucket {bucket:?}"))
}

/// Writes an edit's data, and says what the blob becomes.
async fn draft(
    core: &Arc<Core>,
    bucket: &BucketState,
    claim: &mut Claim<'_>,
    edit: Edit<'_>,
    cut: Range<u64>,
    len: u64,
    buffer_size: u32,
) -> Result<Change> {
    let data = edit.data();
    let mut draft = Draft::default();
    let replaces_all = matches!(edit, Edit::Replace(_));
    let offset = if replaces_all { 0 } else { cut.start };
    write_pieces(core, claim, &mut draft, offset, data, buffer_size, !replaces_all).await?;
    if !replaces_all {
        return complete(core, bucket, claim, draft, &[cut], len, buffer_size).await;
    }
    if draft.extents.len() > core.settings.inline_extents_max() {
        return paged::whole(core, claim, draft, len, Material::default()).await;
    }
    let dram = dram_copy(core, claim, data, &draft);
    Ok(draft.into_put(len, None, dram))
}

/// Adds what the edit leaves of the predecessor outside its cuts: its clean buffers by name, its
/// dirty ones written, spans of too many slices rewritten.
pub(super) async fn complete(
    core: &Arc<Core>,
    bucket: &BucketState,
    claim: &mut Claim<'_>,
    mut draft: Draft,
    cuts: &[Range<u64>],
    len: u64,
    buffer_size: u32,
) -> Result<Change> {
    if let Some(map) = claim.before.paged().cloned() {
        return paged::edit(core, bucket, claim, &map, draft, (cuts, len), buffer_size).await;
    }
    let inserted = take(&mut draft.extents);
    draft.extents = extents::overlay(&claim.before.extents_in_memory(), &inserted, len);
    let whole_cut =
        rewrite_crowded(core, bucket, claim, &mut draft, cuts, len, buffer_size).await?;
    if draft.extents.len() > core.settings.inline_extents_max() {
        return paged::from_memory(core, bucket, claim, draft, len).await;
    }
    let foreign = predecessor::add(core, claim, &mut draft).await?;
    // A blob that was absent is no base: recovery knows nothing of it.
    let before = &claim.before;
    let has_base = before.exists() && !foreign && !claim.writing_behind;
    let worthwhile = has_base && draft.extents.len() >= SPLICE_EXTENTS_MIN;
    let splice = worthwhile.then(|| Splice {
        base: before.version,
        extents: extents::clip(&draft.extents, whole_cut.clone()).collect(),
        cut: whole_cut,
    });
    Ok(draft.into_put(len, splice, None))
}

/// Whether a buffer of `len` bytes rides in the batch beside what its record carries already: a
/// record with its payloads must fit a log segment.
pub fn may_ride_inline(carried: &mut usize, len: usize) -> bool {
    let fits = len <= INLINE_MAX && *carried + len <= INLINE_RECORD_MAX;
    if fits {
        *carried += len;
    }
    fits
}

/// A piece on its way to a device.
pub(super) struct Started {
    pub(super) buffer: Buffer,
    state: StartedState,
}

enum StartedState {
    Inline(Payload),
    Writing(Receiver<Result<NewBuffer>>),
}

impl Started {
    pub(super) async fn finish(self) -> Result<NewBuffer> {
        match self.state {
            StartedState::Inline(payload) => {
                Ok(NewBuffer { buffer: self.buffer, source: Source::Inline(payload) })
            }
            StartedState::Writing(answer) => match answer.await {
                Ok(written) => written,
                Err(_) => fail!(Closed, "the store closed during a write"),
            },
        }
    }
}

/// How a piece gets to a device, and where its buffer stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// In the batch of its record.
    Inline,
    /// Apart; it may be the whole value.
    Lone,
    /// Apart; it is a new one of a map, and in the table before that is logged, so that it can be
    /// moved while its change waits for room.
    Held,
    /// Apart; the table has it already, with its bytes in a slot.
    Known,
}

impl Way {
    /// In the batch, or else like this.
    pub(super) fn inline_or(self, inline: bool) -> Way {
        if inline { Way::Inline } else { self }
    }
}

/// Copies, checksums and sends off one buffer's bytes.
pub(super) async fn start_piece(
    core: &Arc<Core>,
    claim: &Claim<'_>,
    id: BufferId,
    value_offset: u64,
    bytes: &[u8],
    way: Way,
) -> Started {
    if way == Way::Inline {
        // The bytes must outlive the caller's borrow: the batch is written later.
        let payload = Payload::Owned(bytes.into());
        let buffer = buffer_of(id, bytes.len(), checksums(bytes));
        return Started { buffer, state: StartedState::Inline(payload) };
    }
    let name = BufferName {
        bucket: claim.bucket.id,
        key: claim.key.clone(),
        version: claim.version,
        value_offset,
        table: way != Way::Lone,
    };
    send_off(core, claim.hash, id, name, bytes, way == Way::Held, None).await
}

/// A buffer of so many bytes with these checksums. Its place is still to come.
fn buffer_of(id: BufferId, len: usize, (checks, logical_crc): (Vec<u32>, u32)) -> Buffer {
    Buffer {
        id,
        location: Location::device(TierId(0), 0),
        raw_len: len as u32,
        stored_len: len as u32,
        encoding: 0,
        logical_crc,
        checks: Checks::from_slice(&checks),
    }
}

/// Copies, checksums and sends off a buffer to a segment.
pub(super) async fn send_off(
    core: &Core,
    hash: u64,
    id: BufferId,
    name: BufferName,
    bytes: &[u8],
    in_table: bool,
    room: Option<Room>,
) -> Started {
    let mut buf = core.pool.get(bytes.len().next_multiple_of(BLOCK)).await;
    let checks = copy_with_checksums(bytes, &mut buf.as_mut_slice()[..bytes.len()]);
    let buffer = buffer_of(id, bytes.len(), checks);
    let (reply, answer) = oneshot();
    let shard = (core.shard_of(hash) + (name.value_offset >> 20) as usize) % core.shards.len();
    let (sent, waiting_since) = (buffer.clone(), None);
    let request = WriteRequest { buf, buffer: sent, name, in_table, room, waiting_since, reply };
    core.shards[shard].push(Request::Write(request)).await;
    Started { buffer, state: StartedState::Writing(answer) }
}

/// Writes data at an offset of the value, a bounded number of pieces at a time. Whatever was
/// written stands in the draft, also when it fails.
pub(super) async fn write_pieces(
    core: &Arc<Core>,
    claim: &mut Claim<'_>,
    draft: &mut Draft,
    offset: u64,
    data: &[u8],
    buffer_size: u32,
    table: bool,
) -> Result<()> {
    let mut started = std::collections::VecDeque::new();
    let mut result = Ok(());
    let is_of_map = table || claim.is_one_of_many || data.len() > buffer_size as usize;
    let apart = if is_of_map { Way::Held } else { Way::Lone };
    for (value_offset, piece) in pieces(offset, data.len(), buffer_size) {
        if is_enough(started.iter()) {
            result = finish_one(&mut started, draft).await;
            if result.is_err() {
                break;
            }
        }
        let bytes = &data[piece];
        let id = core.next_buffer();
        draft.extents.push(Extent {
            value_offset,
            len: bytes.len() as u32,
            buffer: id,
            buffer_offset: 0,
        });
        let way = apart.inline_or(claim.may_ride_inline(bytes.len()));
        started.push_back(start_piece(core, claim, id, value_offset, bytes, way).await);
    }
    while !started.is_empty() {
        result = result.and(finish_one(&mut started, draft).await);
    }
    result
}

/// Whether so many pieces are on their way that one must land before the next begins.
pub(super) fn is_enough<'a>(started: impl ExactSizeIterator<Item = &'a Started>) -> bool {
    started.len() >= PIECES_IN_FLIGHT
        || started.map(|piece| piece.buffer.stored_len as usize).sum::<usize>() >= BYTES_IN_FLIGHT
}

async fn finish_one(
    started: &mut std::collections::VecDeque<Started>,
    draft: &mut Draft,
) -> Result<()> {
    if let Some(piece) = started.pop_front() {
        draft.buffers.push(piece.finish().await?);
    }
    Ok(())
}

/// A DRAM copy of a small value, where there is room for it without a fight.
fn dram_copy(core: &Arc<Core>, claim: &Claim<'_>, data: &[u8], draft: &Draft) -> Option<DramImage> {
    let [only] = &draft.buffers[..] else { return None };
    if data.is_empty() || data.len() > WRITTEN_COPY_MAX {
        return None;
    }
    let slot = super::room::allocate(core, data.len())?;
    let Some(head) = super::room::allocate(core, Dram::whole_head_len(claim.key.len(), data.len()))
    else {
        core.dram.discard(slot);
        return None;
    };
    core.dram.fill(slot, 0, data);
    let fresh = Fresh { buffer: only.buffer.id, dirty: false, len: data.len() as u32 };
    let range = DirRange {
        value_offset: 0,
        len: data.len() as u32,
        slot,
        slot_offset: 0,
        fresh: Some(fresh),
    };
    Some(DramImage::new(core.dram.clone(), head, vec![range]))
}

/// Whether a state may be changed at Memory level: a clean lone buffer may not, because it would
/// have to move to the table, which the log must know; nor a paged map, whose pages are not in
/// memory.
pub fn allows_memory_edit(state: &BlobState) -> bool {
    match &state.value {
        Value::Absent | Value::Zeros | Value::Mapped(_) => true,
        Value::Lone(lone) => lone.is_dirty(),
        Value::Paged(_) => false,
    }
}
