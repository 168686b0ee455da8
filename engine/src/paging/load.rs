//! Reads extent pages: from the cache, or from their device, verified and checked to be the page
//! that was asked for.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::api::read::{Reader, read_blocks};
use crate::core::Core;
use crate::error::{Error, ErrorKind, Result, fail};
use crate::index::extents::{Extent, clip};
use crate::index::pages::{part, touched};
use crate::index::state::{Buffer, Checks, PagedMap};
use crate::index::table::to_record;
use crate::limits::BLOCK;
use crate::log::page::PageImage;
use crate::paging::cache::Page;
use crate::types::{BufferId, Place, TierId};

/// How often a read is tried again before a page is called corrupt.
const READ_RETRIES: usize = 2;

/// A part of a map: extents, and where their checksums are.
pub struct View<'a> {
    /// The extents, ascending.
    pub extents: Cow<'a, [Extent]>,
    /// Pages by the first byte of their part. None if the table has the checksums.
    pages: Vec<(u64, Arc<Page>)>,
}

impl<'a> View<'a> {
    /// Of a map that stands in memory, whose buffers have their checksums in the table.
    pub fn of_memory(extents: Cow<'a, [Extent]>) -> View<'a> {
        View { extents, pages: Vec::new() }
    }

    /// The checksums of an extent's buffer, if a page has them.
    pub fn checks_of(&self, extent: &Extent) -> Option<&Checks> {
        let at = self.pages.partition_point(|(start, _)| *start <= extent.value_offset);
        let (_, page) = self.pages.get(at.checked_sub(1)?)?;
        page.checks_of(extent.buffer)
    }
}

/// The part of a paged map that a range of the value needs.
pub async fn view(
    core: &Core,
    map: &PagedMap,
    range: &Range<u64>,
    reader: Reader<'_>,
) -> Result<View<'static>> {
    let parts = touched(map.pages(), range);
    let mut pages = Vec::with_capacity(parts.len());
    let mut extents = Vec::new();
    for at in parts {
        let Some(id) = map.pages()[at].page else { continue };
        let page = load(core, id, reader).await?;
        // Of a page that a truncation has cut, only a part counts.
        let own = part(map.pages(), at);
        extents.extend(clip(&page.extents, own.clone()));
        pages.push((own.start, page));
    }
    Ok(View { extents: extents.into(), pages })
}

/// A page that a map of the caller holds.
async fn load(core: &Core, id: BufferId, reader: Reader<'_>) -> Result<Arc<Page>> {
    if let Some(page) = core.pages.get(id) {
        return Ok(page);
    }
    let Some((buffer, _pin)) = core.table.pin(id) else {
        fail!(Internal, "extent page {} of a held version is gone", id.0)
    };
    let (tier, blocks) = blocks_of(&buffer)?;
    let len = (blocks.end - blocks.start) as usize;
    let mut tries = 0;
    loop {
        // A caller reads on its own thread: a page is short, and a hop to a shard costs as much.
        let read = read_blocks(core, tier, blocks.start, len, reader).await;
        let page = read.and_then(|bytes| admit(core, &buffer, blocks.start, bytes.as_slice()));
        match page {
            Err(_) if tries < READ_RETRIES => tries += 1,
            result => return result,
        }
    }
}

/// The tier and the whole blocks that a page lies in.
pub fn blocks_of(buffer: &Buffer) -> Result<(TierId, Range<u64>)> {
    let Place::Device { tier, offset } = buffer.location.place() else {
        fail!(Internal, "extent page {} is not on a device", buffer.id.0);
    };
    let block = BLOCK as u64;
    let end = (offset + u64::from(buffer.stored_len)).next_multiple_of(block);
    Ok((tier, offset / block * block..end))
}

/// Verifies a page in memory that was read from `start` on, and keeps it in the cache.
pub fn admit(core: &Core, buffer: &Buffer, start: u64, memory: &[u8]) -> Result<Arc<Page>> {
    let Place::Device { offset, .. } = buffer.location.place() else {
        fail!(Internal, "extent page {} is not on a device", buffer.id.0);
    };
    let at = (offset - start) as usize;
    let stored = &memory[at..at + buffer.stored_len as usize];
    if !to_record(buffer).matches(stored) {
        core.counters.corruptions.fetch_add(1, Ordering::Relaxed);
        let message = format!(
            "extent page {} at {:?} does not match its checksums",
            buffer.id.0, buffer.location
        );
        return Err(Error::new(ErrorKind::Corrupt, message));
    }
    let image = PageImage::decode(stored, core.settings.store, buffer.id)?;
    core.table.check_page(&image)?;
    let page = Arc::new(Page::new(image));
    core.pages.insert(buffer.id, page.clone());
    Ok(page)
}
