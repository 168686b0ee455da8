//! Gets: from DRAM without a lock where everything is resident; else by version, piece by piece,
//! from pinned slots and from devices, every device byte verified.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::api::admit::{ADMIT_BUFFERS_MAX, admit};
use crate::api::held::{Cold, Held};
use crate::buckets::BucketState;
use crate::core::{BufferName, Core, ReadRequest, Request};
use crate::error::{Error, ErrorKind, Result, fail};
use crate::index::state::Buffer;
use crate::io::buffer::AlignedBuf;
use crate::io::gate::Permit;
use crate::io::wait::{Receiver, oneshot};
use crate::limits::{BLOCK, CHECK_BLOCK};
use crate::paging::load::View;
use crate::plant::{Plant, planted};
use crate::shard::io::{ShardIo, all};
use crate::tier::space::SegmentPin;
use crate::types::{Place, TierId};

/// Bytes of device reads asked of a shard in one request, and requests in flight of one get.
const WINDOW_BYTES: usize = 4 << 20;
const WINDOWS_MAX: usize = 2;
/// How often a caller's own read is tried again.
const READ_RETRIES: usize = 2;
/// What a get found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Got {
    /// Bytes copied to the caller.
    pub copied: usize,
    /// Length of the value.
    pub value_len: u64,
}

/// Reads a slice of a buffer that was written a moment ago and is not in the index yet.
pub async fn read_buffer(
    core: &Core,
    bucket: &BucketState,
    held: &Held,
    buffer: &Buffer,
    from: u32,
    dst: &mut [u8],
    reader: Reader<'_>,
) -> Result<()> {
    let range = device_range(buffer, from, dst.len() as u32)?;
    let bytes = read_blocks(core, range.tier, range.offset, range.len, reader).await?;
    verify_and_copy(buffer, &range, &bytes.as_slice()[..range.len], from, dst)
        .map_err(|block| corrupt(core, bucket, held, buffer, block))
}

/// Reads whole blocks of a device into memory of their own.
pub async fn read_blocks(
    core: &Core,
    tier: TierId,
    offset: u64,
    len: usize,
    reader: Reader<'_>,
) -> Result<AlignedBuf> {
    if let Reader::Ring(io) = reader {
        return io.read(tier, offset, len, io.memory(len)).await;
    }
    core.space.tier(tier).check_there()?;
    let mut memory = AlignedBuf::alloc(len);
    let read = core.devices[tier.index()].read_at(offset, &mut memory.as_mut_slice()[..len]);
    core.space.tier(tier).counters.count_read(len);
    let what = || format!("read of {len} bytes at {offset} of tier {}", tier.0);
    read.map(|()| memory).map_err(|error| Error::from_io(what(), &error))
}

/// The device bytes of whole check blocks that cover a slice of a buffer.
pub(super) struct DeviceRange {
    pub(super) tier: TierId,
    /// Aligned to the block.
    pub(super) offset: u64,
    pub(super) len: usize,
    /// The first check block, and where it begins in the range.
    first_check: usize,
    skip: usize,
}

fn device_range(buffer: &Buffer, from: u32, len: u32) -> Result<DeviceRange> {
    let Place::Device { tier, offset } = buffer.location.place() else {
        fail!(Internal, "dirty buffer {} is not resident", buffer.id.0);
    };
    let first_check = from as usize / CHECK_BLOCK;
    let end = ((from + len) as usize).next_multiple_of(CHECK_BLOCK).min(buffer.stored_len as usize);
    let start = offset + (first_check * CHECK_BLOCK) as u64;
    let aligned = start - start % BLOCK as u64;
    let stop = (offset + end as u64).next_multiple_of(BLOCK as u64);
    Ok(DeviceRange {
        tier,
        offset: aligned,
        len: (stop - aligned) as usize,
        first_check,
        skip: (start - aligned) as usize,
    })
}

/// Checks the blocks of a device range and copies the slice out of them.
fn verify_and_copy(
    buffer: &Buffer,
    range: &DeviceRange,
    bytes: &[u8],
    from: u32,
    dst: &mut [u8],
) -> std::result::Result<(), usize> {
    let stored_end = buffer.stored_len as usize - range.first_check * CHECK_BLOCK;
    let stored = &bytes[range.skip..];
    let stored = &stored[..stored.len().min(stored_end)];
    let wanted = from as usize - range.first_check * CHECK_BLOCK;
    let last = (wanted + dst.len()).div_ceil(CHECK_BLOCK);
    for (at, block) in stored.chunks(CHECK_BLOCK).take(last).enumerate() {
        let check = buffer.checks.as_slice().get(range.first_check + at);
        if check != Some(&crc32fast::hash(block)) && !planted(Plant::ValueChecksumIgnored) {
            return Err(range.first_check + at);
        }
    }
    dst.copy_from_slice(&stored[wanted..wanted + dst.len()]);
    Ok(())
}

/// Who reads the devices for a get.
#[derive(Clone, Copy)]
pub enum Reader<'a> {
    /// The calling thread reads one piece itself and asks a shard for several.
    Caller,
    /// The get runs on a shard: its ring reads.
    Ring(&'a ShardIo),
}

/// Reads `range` of a held version into `dst`.
pub async fn read_held(
    core: &Arc<Core>,
    bucket: &BucketState,
    held: &Held,
    range: Range<u64>,
    dst: &mut [u8],
    reader: Reader<'_>,
) -> Result<()> {
    let view = &held.view(core, &range, reader).await?;
    let cold = read_view(core, bucket, held, view, range, dst, reader).await?;
    if !cold.is_empty() && cold.len() <= ADMIT_BUFFERS_MAX {
        admit(core, bucket, held, view, &cold, dst);
    }
    Ok(())
}

/// The same for who reads a long value from end to end: nothing of it enters DRAM.
pub async fn read_past(
    core: &Arc<Core>,
    bucket: &BucketState,
    held: &Held,
    range: Range<u64>,
    dst: &mut [u8],
    reader: Reader<'_>,
) -> Result<()> {
    let view = &held.view(core, &range, reader).await?;
    read_view(core, bucket, held, view, range, dst, reader).await.map(drop)
}

/// Reads a range whose map is in memory. Returns what was not in DRAM.
async fn read_view(
    core: &Arc<Core>,
    bucket: &BucketState,
    held: &Held,
    view: &View<'_>,
    range: Range<u64>,
    dst: &mut [u8],
    reader: Reader<'_>,
) -> Result<Vec<Cold>> {
    let cold = held.copy_resident(view, range, dst);
    match (&cold[..], reader) {
        ([], _) => {}
        (many, Reader::Ring(io)) => read_on_ring(io, core, bucket, held, view, many, dst).await?,
        ([one], Reader::Caller) => read_here(core, bucket, held, view, one, dst)?,
        (many, Reader::Caller) => read_by_shard(core, bucket, held, view, many, dst).await?,
    }
    Ok(cold)
}

thread_local! {
    /// A caller's memory for its own cold reads.
    static SCRATCH: RefCell<Option<AlignedBuf>> = const { RefCell::new(None) };
}

/// One cold piece: a plain read on the caller's thread, no hop.
fn read_here(
    core: &Core,
    bucket: &BucketState,
    held: &Held,
    view: &View<'_>,
    cold: &Cold,
    dst: &mut [u8],
) -> Result<()> {
    let (buffer, _pin) = held.locate(core, view, &cold.extent)?;
    let from = cold.extent.buffer_offset;
    let range = device_range(&buffer, from, cold.extent.len)?;
    core.space.tier(range.tier).check_there()?;
    note_cold(core, held, range.tier);
    SCRATCH.with(|scratch| {
        let mut scratch = scratch.borrow_mut();
        let enough = scratch.as_ref().is_some_and(|buf| buf.capacity() >= range.len);
        let buf = match &mut *scratch {
            Some(buf) if enough => buf,
            other => other.insert(AlignedBuf::alloc(range.len)),
        };
        let target = &mut buf.as_mut_slice()[..range.len];
        let mut tries = 0;
        loop {
            let read = core.devices[range.tier.index()].read_at(range.offset, target);
            core.space.tier(range.tier).counters.count_read(range.len);
            let failure = match read {
                Ok(()) => match verify_and_copy(
                    &buffer,
                    &range,
                    target,
                    from,
                    &mut dst[cold.target.clone()],
                ) {
                    Ok(()) => return Ok(()),
                    Err(block) => corrupt(core, bucket, held, &buffer, block),
                },
                Err(error) => {
                    let what = format!(
                        "read of {} bytes at {} of tier {}",
                        range.len, range.offset, range.tier.0
                    );
                    Error::from_io(what, &error)
                }
            };
            if tries == READ_RETRIES {
                note_damage(core, bucket, held, &buffer, &failure);
                return Err(failure);
            }
            tries += 1;
        }
    })
}

/// Cold pieces of a get that runs on a shard: its ring keeps them in flight.
async fn read_on_ring(
    io: &ShardIo,
    core: &Arc<Core>,
    bucket: &BucketState,
    held: &Held,
    view: &View<'_>,
    cold: &[Cold],
    dst: &mut [u8],
) -> Result<()> {
    let mut rest = cold;
    while let [first, ..] = rest {
        let mut bytes = 0;
        let within = |piece: &&Cold| {
            bytes += piece.extent.len as usize + 2 * CHECK_BLOCK;
            bytes <= WINDOW_BYTES
        };
        let count = rest.iter().take_while(within).count().max(1);
        let (window, after) = rest.split_at(count);
        rest = after;
        let _permit = core.reads.take(bytes.min(WINDOW_BYTES)).await;
        if count == 1 {
            // The common case, a small blob: no list of futures.
            let piece = RingRead::of(core, held, view, first)?;
            piece.run(io, core, bucket, held, &mut dst[first.target.clone()]).await?;
            continue;
        }
        let pieces = window.iter().map(|piece| RingRead::of(core, held, view, piece));
        let pieces = pieces.collect::<Result<Vec<_>>>()?;
        let mut reads = Vec::with_capacity(count);
        let mut left = &mut *dst;
        let mut at = 0;
        for (piece, cold) in pieces.iter().zip(window) {
            // Targets ascend and do not overlap: each read gets its own part.
            let (_, from) = left.split_at_mut(cold.target.start - at);
            let (target, after) = from.split_at_mut(cold.target.len());
            (left, at) = (after, cold.target.end);
            reads.push(piece.run(io, core, bucket, held, target));
        }
        all(reads).await.into_iter().collect::<Result<()>>()?;
    }
    Ok(())
}

/// One cold piece on its way through a ring.
pub(super) struct RingRead {
    buffer: Buffer,
    pub(super) range: DeviceRange,
    from: u32,
    _pin: Option<SegmentPin>,
}

impl RingRead {
    pub(super) fn of(core: &Core, held: &Held, view: &View<'_>, piece: &Cold) -> Result<RingRead> {
        let (buffer, pin) = held.locate(core, view, &piece.extent)?;
        let from = piece.extent.buffer_offset;
        let range = device_range(&buffer, from, piece.extent.len)?;
        note_cold(core, held, range.tier);
        Ok(RingRead { buffer, range, from, _pin: pin })
    }

    async fn run(
        &self,
        io: &ShardIo,
        core: &Core,
        bucket: &BucketState,
        held: &Held,
        dst: &mut [u8],
    ) -> Result<()> {
        let DeviceRange { tier, offset, len, .. } = self.range;
        let mut tries = 0;
        loop {
            let failure = match io.read(tier, offset, len, io.memory(len)).await {
                Ok(bytes) => match self.copy_out(&bytes, dst) {
                    Ok(()) => return Ok(()),
                    Err(block) => corrupt(core, bucket, held, &self.buffer, block),
                },
                Err(error) => error,
            };
            if tries == READ_RETRIES {
                note_damage(core, bucket, held, &self.buffer, &failure);
                return Err(failure);
            }
            tries += 1;
        }
    }
}

impl RingRead {
    /// Checks what was read, and copies the piece out of it. Else the check block that does not match.
    pub(super) fn copy_out(
        &self,
        bytes: &AlignedBuf,
        dst: &mut [u8],
    ) -> std::result::Result<(), usize> {
        let bytes = &bytes.as_slice()[..self.range.len];
        verify_and_copy(&self.buffer, &self.range, bytes, self.from, dst)
    }
}

struct Window {
    _permit: Permit,
    pieces: Vec<(usize, Buffer, DeviceRange, Option<SegmentPin>)>,
    answer: Receiver<Result<Vec<AlignedBuf>>>,
}

/// Many cold pieces: a shard's ring keeps them in flight; this thread verifies and copies one
/// window while the next is read.
async fn read_by_shard(
    core: &Arc<Core>,
    bucket: &BucketState,
    held: &Held,
    view: &View<'_>,
    cold: &[Cold],
    dst: &mut [u8],
) -> Result<()> {
    let mut windows: VecDeque<Window> = VecDeque::new();
    let mut next = 0;
    while next < cold.len() || !windows.is_empty() {
        while next < cold.len() && windows.len() < WINDOWS_MAX {
            let permit = match windows.is_empty() {
                true => core.reads.take(WINDOW_BYTES).await,
                false => match core.reads.try_take(WINDOW_BYTES) {
                    Some(permit) => permit,
                    None => break,
                },
            };
            let (window, after) = ask_window(core, held, view, cold, next, permit).await?;
            windows.push_back(window);
            next = after;
        }
        if let Some(window) = windows.pop_front() {
            finish_window(core, bucket, held, view, cold, window, dst).await?;
        }
    }
    Ok(())
}

async fn ask_window(
    core: &Arc<Core>,
    held: &Held,
    view: &View<'_>,
    cold: &[Cold],
    first: usize,
    permit: Permit,
) -> Result<(Window, usize)> {
    let mut pieces = Vec::new();
    let mut bytes = 0;
    let mut next = first;
    while next < cold.len() && (bytes < WINDOW_BYTES || next == first) {
        let extent = &cold[next].extent;
        let (buffer, pin) = held.locate(core, view, extent)?;
        let range = device_range(&buffer, extent.buffer_offset, extent.len)?;
        bytes += range.len;
        pieces.push((next, buffer, range, pin));
        next += 1;
    }
    let ranges =
        pieces.iter().map(|(_, _, range, _)| (range.tier, range.offset, range.len)).collect();
    let (reply, answer) = oneshot();
    let shard = core.shard_of(held.hash);
    core.shards[shard].push(Request::Read(ReadRequest { ranges, reply })).await;
    Ok((Window { _permit: permit, pieces, answer }, next))
}

async fn finish_window(
    core: &Arc<Core>,
    bucket: &BucketState,
    held: &Held,
    view: &View<'_>,
    cold: &[Cold],
    window: Window,
    dst: &mut [u8],
) -> Result<()> {
    let buffers = match window.answer.await {
        Ok(answer) => answer?,
        Err(_) => fail!(Closed, "the store closed during a read"),
    };
    for ((at, buffer, range, _pin), bytes) in window.pieces.iter().zip(&buffers) {
        let piece = &cold[*at];
        note_cold(core, held, range.tier);
        let target = &mut dst[piece.target.clone()];
        if verify_and_copy(buffer, range, bytes.as_slice(), piece.extent.buffer_offset, target)
            .is_err()
        {
            // Once more, from the device itself, before it is called corrupt.
            read_here(core, bucket, held, view, piece, dst)?;
        }
    }
    Ok(())
}

fn note_cold(core: &Core, held: &Held, tier: TierId) {
    if tier.index() > 0 {
        core.organizer.hint_promotion(held.hash);
    }
}

fn corrupt(core: &Core, bucket: &BucketState, held: &Held, buffer: &Buffer, block: usize) -> Error {
    core.counters.corruptions.fetch_add(1, Ordering::Relaxed);
    let message = format!(
        "check block {block} of buffer {} at {:?} does not match its checksum: blob {:?} of bucket {:?}, version {}",
        buffer.id.0,
        buffer.location,
        String::from_utf8_lossy(&held.key),
        String::from_utf8_lossy(&bucket.name()),
        held.state.version.0,
    );
    Error::new(ErrorKind::Corrupt, message)
}

/// So that the damaged buffer is left alone, and told of.
#[cold]
fn note_damage(core: &Core, bucket: &BucketState, held: &Held, buffer: &Buffer, failure: &Error) {
    if failure.kind() != ErrorKind::Corrupt {
        return;
    }
    let name = BufferName {
        bucket: bucket.id,
        key: held.key.clone(),
        version: held.state.version,
        value_offset: 0,
        table: held.state.lone().is_none(),
    };
    core.organizer.note_damage(core, &name, buffer, failure);
}
