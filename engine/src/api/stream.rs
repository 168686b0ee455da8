//! Values of unknown length, written as they come: each full buffer goes to a device at once, and
//! the map to extent pages where it grows large, so that memory stays bounded for any length.
//!
//! Nothing is visible before the commit, and nothing names the blob in the log: what a writer that
//! is dropped, or a crash, leaves behind is dead bytes, and pages that nobody holds, which are
//! released. The key is claimed at the commit alone: two writers of one key never wait for each
//! other, and the later commit wins.

use std::collections::VecDeque;
use std::io;
use std::mem::take;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::api::admission::{Reservation, room_for};
use crate::api::bucket::{Bucket, PutOptions};
use crate::api::change::{Draft, Started, claim, is_enough, log, send_off};
use crate::api::edit::Edit;
use crate::api::paged::pages_footprint;
use crate::api::read::Reader;
use crate::core::{BufferName, Change, Core};
use crate::error::{Error, ErrorKind, Result, fail};
use crate::index::extents::Extent;
use crate::index::state::BlobState;
use crate::limits::VALUE_LEN_MAX;
use crate::paging::write::{Author, Material, Written, write_pages};
use crate::tier::room::Room;
use crate::tier::space::footprint;
use crate::types::{Durability, Version};

/// Writes one value from its beginning to its end. Dropping it without a commit leaves the store
/// as it was.
///
/// Between two calls a writer keeps neither the store nor the bucket from being closed or
/// destroyed; its commit is refused then.
pub struct BlobWriter {
    bucket: Bucket,
    key: Arc<[u8]>,
    options: PutOptions,
    /// Of no blob: in the summaries of segments and in pages it tells this writer from others.
    version: Version,
    buffer_size: usize,
    /// The buffer in the making. In a store of DRAM alone all that has come.
    pending: Vec<u8>,
    /// Bytes that have come.
    len: u64,
    sent: Sent,
    failed: Option<Error>,
}

/// What has left for the devices.
#[derive(Default)]
struct Sent {
    /// Bytes of the value.
    len: u64,
    in_flight: VecDeque<Started>,
    /// Extents that no page has, and those of their buffers that a device has.
    draft: Draft,
    written: Written,
}

/// Sets space aside for bytes until they are live.
async fn take_room(core: &Core, bytes: u64) -> Result<Room> {
    let bytes = Reservation::take(core, bytes).await?.leave();
    Ok(Room::new(&core.space, bytes))
}

impl BlobWriter {
    pub(super) fn new(bucket: &Bucket, key: &[u8], options: PutOptions) -> Result<BlobWriter> {
        bucket.check_bounds(key, Edit::Replace(&[]))?;
        let core = bucket.core();
        core.check_writable()?;
        bucket.level(options)?;
        Ok(BlobWriter {
            key: key.into(),
            options,
            version: core.next_version(),
            buffer_size: bucket.state().buffer_size(core) as usize,
            pending: Vec::new(),
            len: 0,
            sent: Sent::default(),
            failed: None,
            bucket: bucket.clone(),
        })
    }

    /// Bytes written so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing was written so far.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds bytes to the value. Waits while too many are on their way to the devices.
    ///
    /// # Errors
    /// `NoSpace` if the tiers are full, `NoMemory` if the index may not grow, `InvalidArgument`
    /// beyond the largest value, `Closed` with the store. The value is given up then, its space free
    /// again, and every later call answers the same.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let runtime = self.bucket.core().runtime.clone();
        runtime.block_on(self.append_async(bytes))
    }

    /// [`append`](Self::append), asynchronous. Given up before its end, the writer must be dropped:
    /// nobody knows then what of the bytes it has.
    #[doc(hidden)]
    pub async fn append_async(&mut self, bytes: &[u8]) -> Result<()> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let taken = self.take_in(bytes).await;
        if let Err(error) = &taken {
            (self.sent, self.pending) = (Sent::default(), Vec::new());
            self.failed = Some(error.clone());
        }
        taken
    }

    /// Makes what was written the blob's value, at the level of the options, in one moment. A value
    /// that fits one buffer is an ordinary put; a longer one is at Written level at least.
    ///
    /// # Errors
    /// Those of [`append`](Self::append), and of the options' condition, which is checked now.
    pub fn commit(mut self) -> Result<Version> {
        let runtime = self.bucket.core().runtime.clone();
        runtime.block_on(self.commit_async())
    }

    /// Gives the value up. Dropping the writer does the same.
    pub fn abort(self) {}

    async fn take_in(&mut self, mut bytes: &[u8]) -> Result<()> {
        let core = self.bucket.core().clone();
        core.check_writable()?;
        let _operation = core.begin_operation()?;
        let bucket = self.bucket.clone();
        let _change = bucket.state().begin_change().await?;
        let len = self.len.saturating_add(bytes.len() as u64);
        if len > VALUE_LEN_MAX {
            fail!(InvalidArgument, "a value has at most {VALUE_LEN_MAX} bytes, not {len}");
        }
        if !core.is_persistent() {
            return self.gather(&core, bytes, len);
        }
        while !bytes.is_empty() {
            if self.pending.len() == self.buffer_size {
                let full = take(&mut self.pending);
                self.send(&core, &full).await?;
                // Its memory is of use to the next.
                self.pending = full;
                self.pending.clear();
            }
            // The last buffer stays here, however full: it may turn out the only one.
            if self.pending.is_empty() && bytes.len() > self.buffer_size {
                let (full, rest) = bytes.split_at(self.buffer_size);
                self.send(&core, full).await?;
                self.len += full.len() as u64;
                bytes = rest;
                continue;
            }
            let room = self.buffer_size - self.pending.len();
            let (now, rest) = bytes.split_at(room.min(bytes.len()));
            self.pending.extend_from_slice(now);
            self.len += now.len() as u64;
            bytes = rest;
        }
        Ok(())
    }

    /// Without devices there is nowhere else to put it.
    fn gather(&mut self, core: &Core, bytes: &[u8], len: u64) -> Result<()> {
        let capacity = core.dram.capacity();
        if len > capacity || self.pending.try_reserve(bytes.len()).is_err() {
            fail!(
                NoSpace,
                "a value of {len} bytes exceeds the DRAM tier, {capacity} bytes, and there is no other tier"
            );
        }
        self.pending.extend_from_slice(bytes);
        self.len = len;
        Ok(())
    }

    /// Sends the next buffer off.
    async fn send(&mut self, core: &Arc<Core>, bytes: &[u8]) -> Result<()> {
        let _index_room = room_for(core, &self.key, bytes.len(), self.buffer_size as u32)?;
        if is_enough(self.sent.in_flight.iter()) {
            self.land_one(core).await?;
        }
        let room = self.room_for(core, footprint(bytes.len() as u32)).await?;
        let (state, value_offset) = (self.bucket.state(), self.sent.len);
        let name = BufferName {
            bucket: state.id,
            key: self.key.clone(),
            version: self.version,
            value_offset,
            table: true,
        };
        let hash = core.index.hash(state.id, &self.key);
        let (buffer, len) = (core.next_buffer(), bytes.len() as u32);
        let started = send_off(core, hash, buffer, name, bytes, true, Some(room)).await;
        self.sent.draft.extents.push(Extent { value_offset, len, buffer, buffer_offset: 0 });
        self.sent.len += bytes.len() as u64;
        self.sent.in_flight.push_back(started);
        Ok(())
    }

    /// Sets space aside. What is on its way counts twice, as live and as set aside: it lands first
    /// where that is too much.
    async fn room_for(&mut self, core: &Arc<Core>, bytes: u64) -> Result<Room> {
        match take_room(core, bytes).await {
            Err(error) if error.kind() == ErrorKind::NoSpace => {}
            taken => return taken,
        }
        while !self.sent.in_flight.is_empty() {
            self.land_one(core).await?;
        }
        take_room(core, bytes).await
    }

    /// Waits for the oldest buffer on its way. As soon as they fill a page it is written.
    async fn land_one(&mut self, core: &Arc<Core>) -> Result<()> {
        let Some(started) = self.sent.in_flight.pop_front() else { return Ok(()) };
        self.sent.draft.buffers.push(started.finish().await?);
        let most = core.settings.page_extents as usize;
        if self.sent.draft.buffers.len() == most {
            self.write_page(core, most).await?;
        }
        Ok(())
    }

    /// Moves the first extents to pages, whose records are logged ahead of the blob's.
    async fn write_page(&mut self, core: &Arc<Core>, count: usize) -> Result<()> {
        let draft = &mut self.sent.draft;
        let extents: Vec<Extent> = draft.extents.drain(..count).collect();
        let buffers = draft.buffers.drain(..count);
        let new = buffers.map(|new| (new.buffer.id, new)).collect();
        let material = Material { new, ..Material::default() };
        let lens = extents.iter().map(|extent| extent.len);
        let _room = take_room(core, pages_footprint(core, self.key.len(), count, lens)).await?;
        let bucket = self.bucket.state().id;
        let author = Author {
            hash: core.index.hash(bucket, &self.key),
            bucket,
            key: &self.key,
            version: self.version,
            keep: &BlobState::absent(self.version),
        };
        let Written { pages, holds } = write_pages(core, &author, &extents, true, material).await?;
        self.sent.written.pages.extend(pages);
        self.sent.written.holds.extend(holds);
        Ok(())
    }

    /// [`commit`](Self::commit), asynchronous.
    #[doc(hidden)]
    pub async fn commit_async(&mut self) -> Result<Version> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if self.sent.len == 0 {
            let edit = Edit::Replace(&self.pending);
            let changed = self.bucket.edit(&self.key, edit, self.options).await?;
            return Ok(changed.version);
        }
        let core = self.bucket.core().clone();
        core.check_writable()?;
        let level = self.bucket.level(self.options)?.max(Durability::Written);
        let _operation = core.begin_operation()?;
        let bucket = self.bucket.clone();
        let _change = bucket.state().begin_change().await?;
        let change = self.finish(&core).await?;
        let mut claim = claim(&core, bucket.state(), &self.key, Reader::Caller).await?;
        self.options.condition.check(bucket.state(), &self.key, claim.before.present())?;
        claim.set_aside_len(Some(self.len))?;
        let version = log(&core, claim, change, level).await?;
        core.counters.logged_put_bytes.fetch_add(self.len, Ordering::Relaxed);
        Ok(version)
    }

    /// The last buffer and the last page.
    async fn finish(&mut self, core: &Arc<Core>) -> Result<Change> {
        let last = take(&mut self.pending);
        self.send(core, &last).await?;
        while !self.sent.in_flight.is_empty() {
            self.land_one(core).await?;
        }
        let (len, left) = (self.len, self.sent.draft.extents.len());
        let is_large = left > core.settings.inline_extents_max();
        if !is_large && self.sent.written.pages.is_empty() {
            return Ok(take(&mut self.sent.draft).into_put(len, None, None));
        }
        if left > 0 {
            self.write_page(core, left).await?;
        }
        let Written { pages, holds } = take(&mut self.sent.written);
        Ok(Change::Paged { len, pages, splice: None, holds })
    }
}

impl io::Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.append(bytes)?;
        Ok(bytes.len())
    }

    /// Nothing to do: it is the commit that makes the value last.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
