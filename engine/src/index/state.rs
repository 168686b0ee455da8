//! The state of one blob: its version, length and where its bytes are.

use std::sync::Arc;

use crate::error::{Result, fail};
use crate::index::attributes::SharedAttributes;
use crate::index::budget::{heap_bytes, shared_bytes};
use crate::index::extents::Extent;
use crate::index::table::BufferTable;
use crate::limits::CHECK_BLOCK;
use crate::log::record::PageRef;
use crate::types::{BufferId, Location, Place, Version};

/// The checksums of a buffer's stored bytes, one per check block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checks {
    /// Not written to a device yet.
    Unwritten,
    /// The buffer is one check block or less.
    One(u32),
    /// One per check block.
    Many(Arc<[u32]>),
    /// They stand in the extent pages that name the buffer.
    InPages,
}

impl Checks {
    /// From the list in a record.
    pub fn from_slice(checks: &[u32]) -> Checks {
        match checks {
            [] => Checks::Unwritten,
            [one] => Checks::One(*one),
            many => Checks::Many(many.into()),
        }
    }

    /// Memory of a list of its own.
    pub fn memory_bytes(&self) -> i64 {
        match self {
            Checks::Many(many) => shared_bytes(size_of_val(&**many)),
            Checks::Unwritten | Checks::One(_) | Checks::InPages => 0,
        }
    }

    /// As a list, for a record.
    pub fn as_slice(&self) -> &[u32] {
        match self {
            Checks::Unwritten | Checks::InPages => &[],
            Checks::One(one) => std::slice::from_ref(one),
            Checks::Many(many) => many,
        }
    }
}

/// One buffer: an immutable piece of a value, where it is and how to verify it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Its identity.
    pub id: BufferId,
    /// The DRAM slot of a dirty buffer, the device position of any other.
    pub location: Location,
    /// Bytes of the value it holds.
    pub raw_len: u32,
    /// Bytes on the device.
    pub stored_len: u32,
    /// How stored bytes become raw bytes; 0 = they are the same.
    pub encoding: u8,
    /// CRC-32 of the raw bytes.
    pub logical_crc: u32,
    /// CRC-32 of each check block of the stored bytes.
    pub checks: Checks,
}

impl Buffer {
    /// A buffer that so far lives in a DRAM slot alone.
    pub fn dirty(id: BufferId, location: Location, raw_len: u32) -> Buffer {
        Buffer {
            id,
            location,
            raw_len,
            stored_len: raw_len,
            encoding: 0,
            logical_crc: 0,
            checks: Checks::Unwritten,
        }
    }

    /// Whether it is another copy of the same bytes, as far as their checksums tell.
    pub fn is_copy_of(&self, other: &Buffer) -> bool {
        let facts = |buffer: &Buffer| {
            (buffer.raw_len, buffer.stored_len, buffer.encoding, buffer.logical_crc)
        };
        let unknown = self.checks == Checks::InPages || other.checks == Checks::InPages;
        facts(self) == facts(other) && (unknown || self.checks == other.checks)
    }

    /// Whether no device holds it.
    pub fn is_dirty(&self) -> bool {
        matches!(self.location.place(), Place::Dram(_))
    }

    /// The buffer with the checksums of the bytes that are written, unless they have changed.
    pub fn written(self, (checks, logical_crc): (Vec<u32>, u32)) -> Result<Buffer> {
        let checks = Checks::from_slice(&checks);
        self.check_entered(&checks)?;
        Ok(Buffer { checks, logical_crc, ..self })
    }

    /// Refuses bytes with other checksums than those that were taken when the buffer was put, if
    /// any were.
    pub fn check_entered(&self, checks: &Checks) -> Result<()> {
        if self.checks != Checks::Unwritten && self.checks != *checks {
            fail!(
                Corrupt,
                "buffer {} has changed in memory since it was put; put the blob again",
                self.id.0
            );
        }
        Ok(())
    }
}

/// CRC-32 of each check block of `bytes`, and of all of them.
pub fn checksums(bytes: &[u8]) -> (Vec<u32>, u32) {
    let blocks = bytes.chunks(CHECK_BLOCK).map(crc32fast::hash).collect();
    with_whole(blocks, bytes)
}

/// The same of what is copied, block by block, so that memory is read once: of the copy, for whoever
/// brought the bytes may be writing to them.
pub fn copy_with_checksums(bytes: &[u8], into: &mut [u8]) -> (Vec<u32>, u32) {
    let copy = |(block, into): (&[u8], &mut [u8])| {
        into.copy_from_slice(block);
        crc32fast::hash(into)
    };
    let blocks = bytes.chunks(CHECK_BLOCK).zip(into.chunks_mut(CHECK_BLOCK)).map(copy).collect();
    with_whole(blocks, bytes)
}

/// Adds the checksum of all blocks.
fn with_whole(blocks: Vec<u32>, bytes: &[u8]) -> (Vec<u32>, u32) {
    let mut whole = crc32fast::Hasher::new();
    for (check, block) in blocks.iter().zip(bytes.chunks(CHECK_BLOCK)) {
        // Combining costs a few hundred nanoseconds a block, a second pass over the bytes more.
        whole.combine(&crc32fast::Hasher::new_with_initial_len(*check, block.len() as u64));
    }
    (blocks, whole.finalize())
}

/// An extent map whose buffers stand in the buffer table. Holding it keeps them: each map counts
/// once on each of its buffers, from its making until the last holder, a get included, drops it.
#[derive(Debug)]
pub struct Map {
    extents: Box<[Extent]>,
    table: Arc<BufferTable>,
}

impl Map {
    /// A map over buffers that are in the table. Takes a count on each.
    pub fn new(extents: Vec<Extent>, table: &Arc<BufferTable>) -> Map {
        let map = Map { extents: extents.into(), table: table.clone() };
        table.count_memory(map.memory_bytes());
        map.buffers().for_each(|id| map.table.add_count(id));
        map
    }

    /// The extents, sorted by offset.
    pub fn extents(&self) -> &[Extent] {
        &self.extents
    }

    fn memory_bytes(&self) -> i64 {
        heap_bytes(size_of_val(&*self.extents)) + shared_bytes(size_of::<Map>())
    }

    /// The distinct buffers, in no particular order.
    pub fn buffers(&self) -> impl Iterator<Item = BufferId> + use<> {
        let mut ids: Vec<BufferId> = self.extents.iter().map(|extent| extent.buffer).collect();
        ids.sort_unstable();
        ids.dedup();
        ids.into_iter()
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        self.buffers().for_each(|id| self.table.drop_count(id));
        self.table.count_memory(-self.memory_bytes());
    }
}

/// A large map: its parts stand in extent pages. Holding it keeps the pages, and they keep their
/// buffers: each map counts once on each of its pages.
#[derive(Debug)]
pub struct PagedMap {
    pages: Box<[PageRef]>,
    table: Arc<BufferTable>,
}

impl PagedMap {
    /// A map of pages that are in the table. Takes a count on each.
    pub fn new(pages: Vec<PageRef>, table: &Arc<BufferTable>) -> PagedMap {
        let map = PagedMap { pages: pages.into(), table: table.clone() };
        table.count_memory(map.memory_bytes());
        map.pages.iter().filter_map(|part| part.page).for_each(|page| table.add_count(page));
        map
    }

    /// The parts, in order; the first begins at 0.
    pub fn pages(&self) -> &[PageRef] {
        &self.pages
    }

    /// Extents of all pages: of one that a truncation has cut, too many.
    pub fn extent_count(&self) -> u64 {
        self.pages.iter().map(|part| u64::from(part.extents)).sum()
    }

    fn memory_bytes(&self) -> i64 {
        heap_bytes(size_of_val(&*self.pages)) + shared_bytes(size_of::<PagedMap>())
    }
}

impl Drop for PagedMap {
    fn drop(&mut self) {
        self.pages.iter().filter_map(|part| part.page).for_each(|page| self.table.drop_count(page));
        self.table.count_memory(-self.memory_bytes());
    }
}

/// What a blob's value is.
#[derive(Clone, Debug)]
pub enum Value {
    /// There is no blob: never was, or deleted.
    Absent,
    /// No bytes, or zeros alone.
    Zeros,
    /// One buffer that is the whole value; it stands here, not in the table.
    Lone(Buffer),
    /// Slices of buffers that stand in the table.
    Mapped(Arc<Map>),
    /// The same, for a map that is too large for memory.
    Paged(Arc<PagedMap>),
}

/// One version of a blob.
#[derive(Clone, Debug)]
pub struct BlobState {
    /// Orders the changes of this key.
    pub version: Version,
    /// Bytes of the value.
    pub len: u64,
    /// Where they are.
    pub value: Value,
    /// What its user has said of it.
    pub attributes: Option<Arc<SharedAttributes>>,
}

impl BlobState {
    /// No blob, as of this version.
    pub fn absent(version: Version) -> BlobState {
        BlobState { version, len: 0, value: Value::Absent, attributes: None }
    }

    /// Its map, if that is in memory.
    pub fn map(&self) -> Option<&Arc<Map>> {
        match &self.value {
            Value::Mapped(map) => Some(map),
            Value::Absent | Value::Zeros | Value::Lone(_) | Value::Paged(_) => None,
        }
    }

    /// Memory of the checksums that stand here, not in the table.
    pub fn checks_bytes(&self) -> i64 {
        self.lone().map_or(0, |lone| lone.checks.memory_bytes())
    }

    /// Whether there is a blob.
    pub fn exists(&self) -> bool {
        !matches!(self.value, Value::Absent)
    }

    /// The version of the blob, if there is one.
    pub fn present(&self) -> Option<Version> {
        self.exists().then_some(self.version)
    }

    /// The value's extents as far as they stand in memory, which those of a paged map do not; a
    /// lone buffer's is made up.
    pub fn extents_in_memory(&self) -> Vec<Extent> {
        match &self.value {
            Value::Absent | Value::Zeros | Value::Paged(_) => Vec::new(),
            Value::Lone(buffer) => vec![whole(buffer)],
            Value::Mapped(map) => map.extents().to_vec(),
        }
    }

    /// How many extents the value has, see [`PagedMap::extent_count`].
    pub fn extent_count(&self) -> u64 {
        match &self.value {
            Value::Absent | Value::Zeros => 0,
            Value::Lone(_) => 1,
            Value::Mapped(map) => map.extents().len() as u64,
            Value::Paged(map) => map.extent_count(),
        }
    }

    /// The paged map, if the value is one.
    pub fn paged(&self) -> Option<&Arc<PagedMap>> {
        match &self.value {
            Value::Paged(map) => Some(map),
            _ => None,
        }
    }

    /// The lone buffer, if the value is one.
    pub fn lone(&self) -> Option<&Buffer> {
        match &self.value {
            Value::Lone(buffer) => Some(buffer),
            _ => None,
        }
    }
}

/// The extent of a buffer that is a whole value.
pub fn whole(buffer: &Buffer) -> Extent {
    Extent { value_offset: 0, len: buffer.raw_len, buffer: buffer.id, buffer_offset: 0 }
}

/// Whether these extents are one whole buffer that makes up a value of `len` bytes.
pub fn is_lone(extents: &[Extent], buffer: &Buffer, len: u64) -> bool {
    matches!(extents, [only] if *only == whole(buffer) && len == u64::from(buffer.raw_len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_the_checksums_of_what_was_copied() {
        for len in [0, 1, CHECK_BLOCK - 1, CHECK_BLOCK, 3 * CHECK_BLOCK + 5] {
            let bytes: Vec<u8> = (0..len as u32).map(|n| (n * 7 / 3) as u8).collect();
            let mut copy = vec![0; len];
            assert_eq!(copy_with_checksums(&bytes, &mut copy), checksums(&bytes), "{len} bytes");
            assert_eq!(copy, bytes);
        }
    }

    #[test]
    fn the_combined_checksum_is_that_of_all_bytes() {
        let bytes: Vec<u8> = (0..100_000u32).map(|i| (i * 7 % 251) as u8).collect();
        let (blocks, whole) = checksums(&bytes);
        assert_eq!(blocks.len(), 7);
        assert_eq!(whole, crc32fast::hash(&bytes));
        assert_eq!(checksums(&[]), (vec![], crc32fast::hash(&[])));
    }
}
