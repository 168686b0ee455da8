//! The buffer table: buffers that are not the whole value of one blob, by id.
//!
//! A row counts the extent maps in memory that hold it, and the extent pages that name it. When
//! the last goes, the row goes, and its bytes in the segment are dead. A move swaps the location
//! in the one row, for all maps at once. The checksums of a buffer that only pages name stand
//! there, not here.
//!
//! Extent pages are buffers themselves, counted by the paged maps that hold them. A page that
//! nobody holds any more is *condemned*: it stays, with its counts on others, until somebody has
//! read it and has logged its release.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hashbrown::HashMap;
use parking_lot::Mutex;
use xxhash_rust::xxh3::Xxh3DefaultBuilder;

use crate::error::{Result, fail};
use crate::index::MemoryBudget;
use crate::index::extents::Extent;
pub use crate::index::row::{ROW_BYTES, RowView};
use crate::index::row::{Row, RowChecks};
use crate::index::state::{Buffer, Checks};
use crate::io::wait::WaitList;
use crate::log::page::{PageBuffer, PageImage};
use crate::plant::{Plant, planted};
use crate::tier::space::{SegmentPin, Space};
use crate::types::{BufferId, Location, Place};

type Rows = HashMap<BufferId, Row, Xxh3DefaultBuilder>;

/// Rows in as many shards as there are checkpoint partitions; a buffer's shard is its partition.
pub struct BufferTable {
    shards: Box<[Mutex<Rows>]>,
    space: Arc<Space>,
    budget: Arc<MemoryBudget>,
    /// The store does not open: what the maps made so far let go of was never counted as live.
    is_abandoned: AtomicBool,
    condemned: Mutex<Vec<BufferId>>,
    /// Pages condemned so far, and those of them whose wait is over.
    condemned_total: AtomicU64,
    done_total: AtomicU64,
    /// Pages have been condemned, or the wait for a release has ended.
    pub pages_changed: WaitList,
}

/// Keeps a row that no map and no page counts on yet.
pub struct RowHold {
    table: Arc<BufferTable>,
    buffer: BufferId,
    is_taken: bool,
}

impl RowHold {
    /// The buffer as it is now, and a pin that keeps it there.
    pub fn pin(&self) -> Result<(Buffer, Option<SegmentPin>)> {
        match self.table.pin(self.buffer) {
            Some(found) => Ok(found),
            None => fail!(Internal, "buffer {} is held and not in the table", self.buffer.0),
        }
    }

    /// Takes the row out of the table: the buffer stands with its blob from now on.
    pub fn take_out(mut self) -> Buffer {
        self.is_taken = true;
        let id = self.buffer;
        let row = self.table.rows(id).remove(&id);
        let Some(row) = row else { unreachable!("buffer {id:?} is held and not in the table") };
        assert!(row.count == 1 && row.named == 0, "buffer {id:?} is taken from others");
        self.table.budget.add(-row.memory_bytes());
        row.buffer(id)
    }
}

impl Drop for RowHold {
    fn drop(&mut self) {
        if !self.is_taken {
            self.table.drop_count(self.buffer);
        }
    }
}

impl std::fmt::Debug for BufferTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BufferTable({} rows)", self.len())
    }
}

impl BufferTable {
    /// An empty table whose dead buffers are reported to `space`.
    pub fn new(shards: usize, space: Arc<Space>, budget: Arc<MemoryBudget>) -> BufferTable {
        assert!(shards.is_power_of_two());
        BufferTable {
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            space,
            budget,
            is_abandoned: AtomicBool::new(false),
            condemned: Mutex::default(),
            condemned_total: AtomicU64::new(0),
            done_total: AtomicU64::new(0),
            pages_changed: WaitList::default(),
        }
    }

    /// The shard, and the checkpoint partition, of a buffer.
    pub fn shard_of(&self, id: BufferId) -> usize {
        // Ids are consecutive: their low bits spread evenly.
        id.0 as usize & (self.shards.len() - 1)
    }

    fn rows(&self, id: BufferId) -> parking_lot::MutexGuard<'_, Rows> {
        self.shards[self.shard_of(id)].lock()
    }

    /// Where the buffers' bytes are.
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// Counts memory that maps over the table's buffers, and the states of blobs, take.
    pub fn count_memory(&self, bytes: i64) {
        self.budget.add(bytes);
    }

    /// Rows in the table.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a row for a buffer whose change is in the making. Its bytes are live already.
    pub fn hold(self: &Arc<Self>, buffer: &Buffer) -> RowHold {
        let mut row = Row::new(buffer);
        row.count = 1;
        let mut rows = self.rows(buffer.id);
        assert!(!rows.contains_key(&buffer.id), "buffer {:?} is new and in the table", buffer.id);
        self.insert(&mut rows, buffer.id, row);
        RowHold { table: self.clone(), buffer: buffer.id, is_taken: false }
    }

    /// Adds a row nobody counts on yet, or gives an existing one its new place and checksums:
    /// a dirty buffer that has been written, or one that two records wrote.
    pub fn define(&self, buffer: Buffer) {
        let old = {
            let mut rows = self.rows(buffer.id);
            match rows.get_mut(&buffer.id) {
                Some(row) if row.location == buffer.location => {
                    row.logged_by_page = false;
                    if row.checks == RowChecks::InPages {
                        self.change(row, |row| row.set_checks(&buffer.checks));
                    }
                    return;
                }
                Some(row) => {
                    let old = row.buffer(buffer.id);
                    self.change(row, |row| row.set_buffer(&buffer));
                    Some(old)
                }
                None => {
                    self.insert(&mut rows, buffer.id, Row::new(&buffer));
                    None
                }
            }
        };
        if let Some(old) = old {
            self.space.buffer_died(&old);
        }
    }

    /// [`define`](Self::define) by the record of an extent page, which has the checksums.
    pub fn define_by_page(&self, buffer: Buffer) {
        let id = buffer.id;
        self.define(buffer);
        if let Some(row) = self.rows(id).get_mut(&id) {
            row.logged_by_page = true;
        }
    }

    /// The buffer, if the log has its checksums in extent pages alone.
    pub fn logged_by_page(&self, id: BufferId) -> Option<Buffer> {
        self.rows(id).get(&id).filter(|row| row.logged_by_page).map(|row| row.buffer(id))
    }

    /// Recovery: adds a row nobody counts on yet, or gives it its new place. Nothing is live or
    /// dead yet. A second copy of the same bytes, by a record that leaves the checksums to a page,
    /// leaves those of the first in place: a map in memory may need them. False if the table has
    /// other bytes under this id, which whoever names them would read from then on.
    #[must_use]
    pub fn load(&self, mut buffer: Buffer) -> bool {
        let mut rows = self.rows(buffer.id);
        let Some(row) = rows.get_mut(&buffer.id) else {
            self.insert(&mut rows, buffer.id, Row::new(&buffer));
            return true;
        };
        let known = row.buffer(buffer.id);
        if buffer.checks == Checks::InPages {
            buffer.checks = known.checks.clone();
        }
        let same = known.is_copy_of(&buffer);
        if same {
            self.change(row, |row| row.set_buffer(&buffer));
        }
        same
    }

    /// Recovery: adds a row as a checkpoint has it. False if there is one.
    #[must_use]
    pub fn load_row(&self, row: RowView<'_>) -> bool {
        let RowView { buffer, named, is_page } = row;
        let mut row = Row::new(buffer);
        (row.named, row.is_page) = (named, is_page);
        let mut rows = self.rows(buffer.id);
        let is_new = !rows.contains_key(&buffer.id);
        self.insert(&mut rows, buffer.id, row);
        is_new
    }

    /// Recovery: a row is that of an extent page. False if that cannot be.
    #[must_use]
    pub fn load_page(&self, id: BufferId) -> bool {
        let mut rows = self.rows(id);
        let is_free = |row: &&mut Row| row.named == 0 && !row.is_page;
        let Some(row) = rows.get_mut(&id).filter(is_free) else { return false };
        row.is_page = true;
        true
    }

    /// Recovery: a page that names a buffer appears, or is gone. False if that cannot be.
    #[must_use]
    pub fn count_name(&self, id: BufferId, appears: bool) -> bool {
        let mut rows = self.rows(id);
        let Some(row) = rows.get_mut(&id).filter(|row| !row.is_page) else { return false };
        let named = if appears { row.named.checked_add(1) } else { row.named.checked_sub(1) };
        named.map(|named| row.named = named).is_some()
    }

    /// Recovery: a page is gone. False if there is none.
    #[must_use]
    pub fn unload(&self, id: BufferId) -> bool {
        let mut rows = self.rows(id);
        if !rows.get(&id).is_some_and(|row| row.is_page) {
            return false;
        }
        if let Some(row) = rows.remove(&id) {
            self.budget.add(-row.memory_bytes());
        }
        true
    }

    /// Refuses extents read from a device that the table has no bytes for. Those of a page are counted
    /// by it, and it has their checksums; those of a map in memory are not counted yet.
    pub fn check_extents(&self, extents: &[Extent], of_page: bool) -> Result<()> {
        for extent in extents {
            let id = extent.buffer;
            let end = u64::from(extent.buffer_offset) + u64::from(extent.len);
            let rows = self.rows(id);
            let fault = match rows.get(&id) {
                None => "no record defines".to_owned(),
                Some(row) if row.is_page => "is an extent page".to_owned(),
                Some(row) if end > u64::from(row.raw_len) => {
                    format!("has {} bytes, up to byte {end}", row.raw_len)
                }
                Some(row) if of_page && row.named == 0 => "no page counts on".to_owned(),
                Some(row) if !of_page && row.checks == RowChecks::InPages => {
                    "no page has the checksums of".to_owned()
                }
                Some(_) => continue,
            };
            fail!(Corrupt, "an extent names buffer {}: {fault}", id.0);
        }
        Ok(())
    }

    /// Refuses a page that says of its buffers what the table does not know them as.
    pub fn check_page(&self, page: &PageImage) -> Result<()> {
        for PageBuffer { id, stored_len, .. } in &page.buffers {
            if self.rows(*id).get(id).is_some_and(|row| row.stored_len != *stored_len) {
                let page = page.id.0;
                fail!(
                    Corrupt,
                    "extent page {page} has other bytes of buffer {} than there are",
                    id.0
                );
            }
        }
        self.check_extents(&page.extents, true)
    }

    /// How many extent pages name a buffer.
    pub fn named(&self, id: BufferId) -> u32 {
        self.rows(id).get(&id).map_or(0, |row| row.named)
    }

    /// Recovery: works on the row of a buffer.
    pub fn with_row<T>(&self, id: BufferId, work: impl FnOnce(&mut Buffer) -> T) -> Option<T> {
        let mut rows = self.rows(id);
        let row = rows.get_mut(&id)?;
        let mut buffer = row.buffer(id);
        let result = work(&mut buffer);
        self.change(row, |row| row.set_buffer(&buffer));
        Some(result)
    }

    /// Recovery: forgets all rows; nobody counts on them yet.
    pub fn clear(&self) {
        for shard in &self.shards {
            let rows = std::mem::take(&mut *shard.lock());
            assert!(rows.values().all(|row| row.count == 0), "a row of the table is in use");
            let own: i64 = rows.values().map(Row::memory_bytes).sum();
            self.budget.add(-own - rows.allocation_size() as i64);
        }
    }

    /// One more map holds the buffer, which must be in the table.
    pub fn add_count(&self, id: BufferId) {
        let mut rows = self.rows(id);
        let row = rows.get_mut(&id);
        assert!(row.is_some(), "an extent map names buffer {id:?}, which is not in the table");
        if let Some(row) = row {
            // Nobody would know them any more once the page is gone.
            assert!(row.checks != RowChecks::InPages, "an extent map lacks the checks of {id:?}");
            row.count += 1;
        }
    }

    /// One map less holds the buffer. With the last map and page the row goes and its bytes are
    /// dead; without maps its checksums go, which the pages have.
    pub fn drop_count(&self, id: BufferId) {
        let mut rows = self.rows(id);
        let Some(row) = rows.get_mut(&id) else {
            unreachable!("a count was dropped on {id:?}, which is not in the table");
        };
        row.count -= 1;
        if row.count > 0 {
            return;
        }
        if row.is_page {
            drop(rows);
            return self.condemn(id);
        }
        if row.named > 0 && !planted(Plant::NamedBufferDies) {
            return self.slim(row);
        }
        let dead = rows.remove(&id);
        drop(rows);
        self.bury(id, dead);
    }

    fn bury(&self, id: BufferId, row: Option<Row>) {
        if let Some(row) = row {
            self.budget.add(-row.memory_bytes());
            if !self.is_abandoned.load(Ordering::Relaxed) {
                self.space.buffer_died(&row.buffer(id));
            }
        }
    }

    /// Recovery has failed: maps and rows go as they come, and nothing is counted any more.
    pub fn abandon(&self) {
        self.is_abandoned.store(true, Ordering::Relaxed);
    }

    /// Changes a row, and counts the memory it takes then.
    fn change(&self, row: &mut Row, work: impl FnOnce(&mut Row)) {
        let before = row.memory_bytes();
        work(row);
        self.budget.add(row.memory_bytes() - before);
    }

    fn insert(&self, rows: &mut Rows, id: BufferId, row: Row) {
        let bytes = row.memory_bytes();
        if rows.len() == rows.capacity() {
            let before = rows.allocation_size() as i64;
            rows.reserve(1);
            self.budget.add(rows.allocation_size() as i64 - before);
        }
        let old = rows.insert(id, row);
        self.budget.add(bytes - old.map_or(0, |row| row.memory_bytes()));
    }

    /// Lets go of checksums that stand in pages. The row must be named by one.
    fn slim(&self, row: &mut Row) {
        self.change(row, |row| row.set_checks(&Checks::InPages));
    }

    /// Adds an extent page that its writer holds: a count to be dropped.
    pub fn define_page(&self, page: Buffer) {
        let mut row = Row::new(&page);
        (row.count, row.is_page) = (1, true);
        let mut rows = self.rows(page.id);
        assert!(!rows.contains_key(&page.id), "extent page {:?} was defined twice", page.id);
        self.insert(&mut rows, page.id, row);
    }

    /// A page names these buffers, which must be in the table.
    pub fn name_by_page(&self, names: &[BufferId]) {
        for id in names {
            let mut rows = self.rows(*id);
            let row = rows.get_mut(id);
            assert!(row.is_some(), "an extent page names buffer {id:?}, which is not in the table");
            let Some(row) = row else { continue };
            let is_dirty = matches!(row.location.place(), Place::Dram(_));
            assert!(!is_dirty, "an extent page names dirty buffer {id:?}");
            row.named += 1;
            if row.count == 0 {
                self.slim(row);
            }
        }
    }

    /// A condemned page goes, and its counts on these buffers. False if there is no such page.
    pub fn release_page(&self, page: BufferId, names: &[BufferId]) -> bool {
        let Some(row) = self.rows(page).remove(&page) else { return false };
        assert!(row.is_page && row.count == 0, "page {page:?} was released and is in use");
        self.bury(page, Some(row));
        for id in names {
            let mut rows = self.rows(*id);
            let Some(row) = rows.get_mut(id) else {
                unreachable!("page {page:?} named {id:?}, which is not in the table");
            };
            assert!(row.named > 0, "page {page:?} named {id:?}, which no page counts on");
            row.named -= 1;
            if row.named == 0 && row.count == 0 {
                let dead = rows.remove(id);
                drop(rows);
                self.bury(*id, dead);
            }
        }
        true
    }

    fn condemn(&self, page: BufferId) {
        self.condemned_total.fetch_add(1, Ordering::AcqRel);
        self.condemned.lock().push(page);
        self.pages_changed.wake_all();
    }

    /// Pages that are to be released, since the last call.
    pub fn take_condemned(&self) -> Vec<BufferId> {
        std::mem::take(&mut *self.condemned.lock())
    }

    /// This many condemned pages have been released, or never will be before the next open.
    pub fn condemned_done(&self, pages: u64) {
        self.done_total.fetch_add(pages, Ordering::AcqRel);
        self.pages_changed.wake_all();
    }

    /// Pages condemned so far: what is held by them is free once as many are
    /// [done](Self::pages_done).
    pub fn pages_condemned(&self) -> u64 {
        self.condemned_total.load(Ordering::Acquire)
    }

    /// See [`pages_condemned`](Self::pages_condemned).
    pub fn pages_done(&self) -> u64 {
        self.done_total.load(Ordering::Acquire)
    }

    /// A copy of the row.
    pub fn get(&self, id: BufferId) -> Option<Buffer> {
        self.rows(id).get(&id).map(|row| row.buffer(id))
    }

    /// Where the buffer is, if there is such a row.
    pub fn get_location(&self, id: BufferId) -> Option<Location> {
        self.rows(id).get(&id).map(|row| row.location)
    }

    /// Whether there is such a row, and it is that of an extent page.
    pub fn is_page(&self, id: BufferId) -> bool {
        self.rows(id).get(&id).is_some_and(|row| row.is_page)
    }

    /// A copy of the row and, if a device holds the buffer, a pin on its segment: the bytes at
    /// the location stay until the pin goes.
    pub fn pin(&self, id: BufferId) -> Option<(Buffer, Option<SegmentPin>)> {
        let rows = self.rows(id);
        let row = rows.get(&id)?;
        Some((row.buffer(id), self.space.pin(row.location)))
    }

    /// Moves the buffer if it still is at `from`. The old place's bytes are dead then.
    pub fn relocate(&self, id: BufferId, from: Location, to: Location) -> bool {
        let old = {
            let mut rows = self.rows(id);
            match rows.get_mut(&id) {
                Some(row) if row.location == from => {
                    let old = row.buffer(id);
                    row.location = to;
                    old
                }
                _ => return false,
            }
        };
        self.space.buffer_died(&old);
        true
    }

    /// Calls `visit` for every row of one shard, under its lock.
    pub fn for_each_in(&self, shard: usize, mut visit: impl FnMut(RowView<'_>)) {
        for (id, row) in self.shards[shard].lock().iter() {
            let buffer = row.buffer(*id);
            visit(RowView { buffer: &buffer, named: row.named, is_page: row.is_page });
        }
    }

    /// Recovery, after all maps: drops rows that nothing holds, without calling their bytes dead,
    /// for live bytes are not counted yet; condemns pages that no map holds.
    pub fn forget_uncounted(&self) {
        let mut condemned = Vec::new();
        for shard in &self.shards {
            let mut rows = shard.lock();
            let forgotten =
                rows.extract_if(|_, row| row.count == 0 && row.named == 0 && !row.is_page);
            let bytes: i64 = forgotten.map(|(_, row)| row.memory_bytes()).sum();
            self.budget.add(-bytes);
            for (id, row) in rows.iter_mut().filter(|(_, row)| row.count == 0) {
                match row.is_page {
                    true => condemned.push(*id),
                    false => self.slim(row),
                }
            }
        }
        // The order of a hash map differs from run to run; the simulator must not.
        condemned.sort_unstable();
        condemned.into_iter().for_each(|page| self.condemn(page));
    }
}

/// A buffer with a device place, from a record.
pub fn from_record(def: &crate::log::record::BufferDef) -> Buffer {
    Buffer {
        id: def.id,
        location: def.location,
        raw_len: def.raw_len,
        stored_len: def.stored_len,
        encoding: def.encoding,
        logical_crc: def.logical_crc,
        checks: match def.checks.is_empty() {
            true => Checks::InPages,
            false => Checks::from_slice(&def.checks),
        },
    }
}

/// The record of a buffer that a device holds.
pub fn to_record(buffer: &Buffer) -> crate::log::record::BufferDef {
    assert!(!buffer.is_dirty(), "buffer {:?} is logged before it is written", buffer.id);
    crate::log::record::BufferDef {
        id: buffer.id,
        raw_len: buffer.raw_len,
        stored_len: buffer.stored_len,
        location: buffer.location,
        encoding: buffer.encoding,
        logical_crc: buffer.logical_crc,
        checks: buffer.checks.as_slice().to_vec(),
    }
}
