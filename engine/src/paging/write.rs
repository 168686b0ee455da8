//! Writes a map's extents as pages, ahead of the record that commits them.
//!
//! Each page is written to a segment; then a Page record defines it, with the new buffers it
//! names, and counts it on all of them. The log's owner keeps the order, so that the record of the
//! blob may follow at once. What a crash or an error leaves without a blob is condemned, and
//! released like a page that was replaced.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::core::{BufferName, Core, NewBuffer, PageCommit, Request, WriteRequest};
use crate::error::{Result, fail};
use crate::index::extents::Extent;
use crate::index::pages::{PageRef, cut_into_pages};
use crate::index::state::{BlobState, Buffer, Checks, checksums};
use crate::index::table::BufferTable;
use crate::io::wait::{Receiver, oneshot};
use crate::limits::BLOCK;
use crate::log::page::{PageBuffer, PageImage};
use crate::paging::cache::Page;
use crate::types::{BucketId, BufferId, Location, SlotId, TierId, Version};

/// Pages of one change on their way, to the device and to the log each.
const PAGES_IN_FLIGHT: usize = 8;

/// Keeps a page that no blob refers to yet.
pub struct PageHold {
    table: Arc<BufferTable>,
    page: BufferId,
    defined: AtomicBool,
}

impl PageHold {
    /// The log's owner has put the page into the table, with a count for this hold.
    pub fn set_defined(&self) {
        self.defined.store(true, Ordering::Release);
    }
}

impl Drop for PageHold {
    fn drop(&mut self) {
        if self.defined.load(Ordering::Acquire) {
            self.table.drop_count(self.page);
        }
    }
}

/// The blob that pages are written for.
pub struct Author<'a> {
    /// Hash of bucket and key.
    pub hash: u64,
    /// The bucket.
    pub bucket: BucketId,
    /// The key.
    pub key: &'a Arc<[u8]>,
    /// The version that the change makes.
    pub version: Version,
    /// The state before, which keeps the buffers that stay.
    pub keep: &'a BlobState,
}

/// What goes into pages.
#[derive(Default)]
pub struct Material {
    /// Buffers that the log does not know yet.
    pub new: HashMap<BufferId, NewBuffer>,
    /// Length and checksums of those that it does.
    pub old: HashMap<BufferId, (u32, Checks)>,
    /// Dirty slots whose bytes are in new buffers: clean once these are logged.
    pub slots: HashMap<BufferId, SlotId>,
}

/// The pages of some extents.
#[derive(Default)]
pub struct Written {
    /// References to them, in order.
    pub pages: Vec<PageRef>,
    /// Keep them until the blob does.
    pub holds: Vec<Arc<PageHold>>,
}

struct InFlight {
    commit: Box<PageCommit>,
    written: Receiver<Result<NewBuffer>>,
    /// Of the commit.
    answer: Receiver<Result<()>>,
    page: Arc<Page>,
}

/// Cuts extents into pages and writes these.
pub async fn write_pages(
    core: &Core,
    author: &Author<'_>,
    extents: &[Extent],
    at_end: bool,
    mut material: Material,
) -> Result<Written> {
    let mut writer = Writer { core, author, flights: VecDeque::new(), replies: VecDeque::new() };
    writer.write_all(extents, at_end, &mut material).await
}

struct Writer<'a> {
    core: &'a Core,
    author: &'a Author<'a>,
    flights: VecDeque<InFlight>,
    replies: VecDeque<Receiver<Result<()>>>,
}

impl Writer<'_> {
    async fn write_all(
        &mut self,
        extents: &[Extent],
        at_end: bool,
        material: &mut Material,
    ) -> Result<Written> {
        let most = self.core.settings.page_extents as usize;
        let mut written = Written::default();
        // Buffers of pages before: a buffer may be named by two.
        let mut done: HashMap<BufferId, (u32, Checks)> = HashMap::new();
        for part in cut_into_pages(extents, most, at_end) {
            if self.flights.len() == PAGES_IN_FLIGHT {
                self.land_one().await?;
            }
            let (id, hold) = self.launch(part, material, &mut done).await?;
            let extents = part.len() as u32;
            written.pages.push(PageRef { start: part[0].value_offset, page: Some(id), extents });
            written.holds.push(hold);
        }
        while !self.flights.is_empty() {
            self.land_one().await?;
        }
        Ok(written)
    }

    /// Sends one page to a device.
    async fn launch(
        &mut self,
        extents: &[Extent],
        material: &mut Material,
        done: &mut HashMap<BufferId, (u32, Checks)>,
    ) -> Result<(BufferId, Arc<PageHold>)> {
        let (core, author) = (self.core, self.author);
        let id = core.next_buffer();
        let mut names: Vec<BufferId> = extents.iter().map(|extent| extent.buffer).collect();
        names.sort_unstable();
        names.dedup();
        let mut buffers = Vec::with_capacity(names.len());
        for name in &names {
            let known = match material.new.get(name) {
                Some(new) => Some((new.buffer.stored_len, new.buffer.checks.clone())),
                None => material.old.get(name).or_else(|| done.get(name)).cloned(),
            };
            let Some((stored_len, checks)) = known else {
                fail!(Internal, "nothing is known of buffer {} of an extent page", name.0)
            };
            buffers.push(PageBuffer { id: *name, stored_len, checks: checks.as_slice().to_vec() });
        }
        let image = PageImage {
            store: core.settings.store,
            id,
            bucket: author.bucket,
            key: (**author.key).into(),
            version: author.version,
            extents: extents.to_vec(),
            buffers,
        };
        let bytes = image.encode()?;
        let (checks, logical_crc) = checksums(&bytes);
        let buffer = Buffer {
            id,
            location: Location::device(TierId(0), 0),
            raw_len: bytes.len() as u32,
            stored_len: bytes.len() as u32,
            encoding: 0,
            logical_crc,
            checks: Checks::from_slice(&checks),
        };
        let mut buf = core.pool.get(bytes.len().next_multiple_of(BLOCK)).await;
        buf.as_mut_slice()[..bytes.len()].copy_from_slice(&bytes);
        let name = BufferName {
            bucket: author.bucket,
            key: author.key.clone(),
            version: author.version,
            value_offset: extents[0].value_offset,
            table: true,
        };
        let (reply, written) = oneshot();
        let (in_table, room, waiting_since) = (false, None, None);
        let request = WriteRequest { buf, buffer, name, in_table, room, waiting_since, reply };
        core.shards[core.shard_of(author.hash)].push(Request::Write(request)).await;
        let mut new = Vec::new();
        for name in &names {
            if let Some(buffer) = material.new.remove(name) {
                done.insert(*name, (buffer.buffer.stored_len, buffer.buffer.checks.clone()));
                new.push(buffer);
            }
        }
        let slots = new.iter().filter_map(|new| {
            material.slots.get(&new.buffer.id).map(|slot| (*slot, new.buffer.id))
        });
        let table = core.table.clone();
        let hold = Arc::new(PageHold { table, page: id, defined: AtomicBool::new(false) });
        let (sender, answer) = oneshot();
        let commit = Box::new(PageCommit {
            bucket: author.bucket,
            key: author.key.clone(),
            version: author.version,
            page: id,
            slots: slots.collect(),
            names,
            buffers: new,
            keep: author.keep.clone(),
            hold: hold.clone(),
            reply: sender,
        });
        let page = Arc::new(Page::new(image));
        self.flights.push_back(InFlight { commit, written, answer, page });
        Ok((id, hold))
    }

    /// Has the oldest page logged once its device has it.
    async fn land_one(&mut self) -> Result<()> {
        if self.replies.len() == PAGES_IN_FLIGHT
            && let Some(reply) = self.replies.pop_front()
        {
            match reply.await {
                Ok(logged) => logged?,
                Err(_) => fail!(Closed, "the store closed before an extent page was logged"),
            }
        }
        let Some(oldest) = self.flights.pop_front() else { return Ok(()) };
        let InFlight { mut commit, written, answer, page } = oldest;
        match written.await {
            Ok(written) => commit.buffers.push(written?),
            Err(_) => fail!(Closed, "the store closed while an extent page was written"),
        }
        // What was written is likely to be read, or changed, soon.
        self.core.pages.insert(commit.page, page);
        self.replies.push_back(answer);
        self.core.shards[0].push(Request::Page(commit)).await;
        Ok(())
    }
}
