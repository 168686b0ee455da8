//! The buffer table: buffers that are not the whole value of one blob, by id.
//!
//! A row counts the extent maps that hold it. When the last goes, the row goes, and its bytes in
//! the segment are dead. A move swaps the location in the one row, for all maps at once.

use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;
use xxhash_rust::xxh3::Xxh3DefaultBuilder;

use crate::index::MemoryBudget;
use crate::index::state::{Buffer, Checks};
use crate::tier::space::{SegmentPin, Space};
use crate::types::{BufferId, Location};

#[derive(Debug)]
struct Row {
    buffer: Buffer,
    count: u32,
}

type Rows = HashMap<BufferId, Row, Xxh3DefaultBuilder>;

/// Rows in as many shards as there are checkpoint partitions; a buffer's shard is its partition.
pub struct BufferTable {
    shards: Box<[Mutex<Rows>]>,
    space: Arc<Space>,
    budget: Arc<MemoryBudget>,
}

impl std::fmt::Debug for BufferTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BufferTable({} rows)", self.len())
    }
}

/// Approximate bytes of memory of one row, its checksums apart.
pub const ROW_BYTES: u64 = (size_of::<(BufferId, Row)>() as u64 + 1) * 8 / 7;

impl BufferTable {
    /// An empty table whose dead buffers are reported to `space`.
    pub fn new(shards: usize, space: Arc<Space>, budget: Arc<MemoryBudget>) -> BufferTable {
        assert!(shards.is_power_of_two());
        BufferTable { shards: (0..shards).map(|_| Mutex::default()).collect(), space, budget }
    }

    /// The shard, and the checkpoint partition, of a buffer.
    pub fn shard_of(&self, id: BufferId) -> usize {
        // Ids are consecutive: their low bits spread evenly.
        id.0 as usize & (self.shards.len() - 1)
    }

    fn rows(&self, id: BufferId) -> parking_lot::MutexGuard<'_, Rows> {
        self.shards[self.shard_of(id)].lock()
    }

    /// Counts memory that maps over the table's buffers take.
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

    /// Adds a row nobody counts on yet, or gives an existing one its new place and checksums:
    /// a dirty buffer that has been written, or one that two records wrote.
    pub fn define(&self, buffer: Buffer) {
        let old = {
            let mut rows = self.rows(buffer.id);
            match rows.get_mut(&buffer.id) {
                Some(row) if row.buffer.location == buffer.location => return,
                Some(row) => {
                    self.budget.add(row_bytes(&buffer) - row_bytes(&row.buffer));
                    Some(std::mem::replace(&mut row.buffer, buffer))
                }
                None => {
                    self.budget.add(row_bytes(&buffer));
                    rows.insert(buffer.id, Row { buffer, count: 0 });
                    None
                }
            }
        };
        if let Some(old) = old {
            self.space.buffer_died(&old);
        }
    }

    /// Recovery: adds a row nobody counts on yet, or replaces it. Nothing is live or dead yet.
    pub fn load(&self, buffer: Buffer) {
        let mut rows = self.rows(buffer.id);
        let bytes = row_bytes(&buffer);
        let old = rows.insert(buffer.id, Row { buffer, count: 0 });
        self.budget.add(bytes - old.map_or(0, |row| row_bytes(&row.buffer)));
    }

    /// Recovery: works on the row of a buffer.
    pub fn with_row<T>(&self, id: BufferId, work: impl FnOnce(&mut Buffer) -> T) -> Option<T> {
        self.rows(id).get_mut(&id).map(|row| work(&mut row.buffer))
    }

    /// Recovery: forgets all rows; nobody counts on them yet.
    pub fn clear(&self) {
        self.forget_uncounted();
        assert!(self.is_empty(), "rows of the buffer table are in use");
    }

    /// One more map holds the buffer, which must be in the table.
    pub fn add_count(&self, id: BufferId) {
        let mut rows = self.rows(id);
        let row = rows.get_mut(&id);
        assert!(row.is_some(), "an extent map names buffer {id:?}, which is not in the table");
        if let Some(row) = row {
            row.count += 1;
        }
    }

    /// One map less holds the buffer; with the last the row goes and its bytes are dead.
    pub fn drop_count(&self, id: BufferId) {
        let dead = {
            let mut rows = self.rows(id);
            let Some(row) = rows.get_mut(&id) else {
                unreachable!("a count was dropped on {id:?}, which is not in the table");
            };
            row.count -= 1;
            if row.count > 0 {
                return;
            }
            rows.remove(&id)
        };
        if let Some(row) = dead {
            self.budget.add(-row_bytes(&row.buffer));
            self.space.buffer_died(&row.buffer);
        }
    }

    /// A copy of the row.
    pub fn get(&self, id: BufferId) -> Option<Buffer> {
        self.rows(id).get(&id).map(|row| row.buffer.clone())
    }

    /// A copy of the row and, if a device holds the buffer, a pin on its segment: the bytes at
    /// the location stay until the pin goes.
    pub fn pin(&self, id: BufferId) -> Option<(Buffer, Option<SegmentPin>)> {
        let rows = self.rows(id);
        let row = rows.get(&id)?;
        Some((row.buffer.clone(), self.space.pin(row.buffer.location)))
    }

    /// Moves the buffer if it still is at `from`. The old place's bytes are dead then.
    pub fn relocate(&self, id: BufferId, from: Location, to: Location) -> bool {
        let old = {
            let mut rows = self.rows(id);
            match rows.get_mut(&id) {
                Some(row) if row.buffer.location == from => {
                    let old = row.buffer.clone();
                    row.buffer.location = to;
                    old
                }
                _ => return false,
            }
        };
        self.space.buffer_died(&old);
        true
    }

    /// Calls `visit` for every row of one shard, under its lock.
    pub fn for_each_in(&self, shard: usize, mut visit: impl FnMut(&Buffer)) {
        self.shards[shard].lock().values().for_each(|row| visit(&row.buffer));
    }

    /// Drops rows that no map holds, without calling their bytes dead: recovery, which has not
    /// counted live bytes yet, loads rows before maps.
    pub fn forget_uncounted(&self) {
        for shard in &self.shards {
            let mut rows = shard.lock();
            let forgotten = rows.extract_if(|_, row| row.count == 0);
            let bytes: i64 = forgotten.map(|(_, row)| row_bytes(&row.buffer)).sum();
            self.budget.add(-bytes);
        }
    }
}

/// Memory of one row: a list of checksums stands apart.
fn row_bytes(buffer: &Buffer) -> i64 {
    let list = match &buffer.checks {
        Checks::Many(checks) => size_of_val(&**checks) + 16,
        Checks::Unwritten | Checks::One(_) => 0,
    };
    ROW_BYTES as i64 + list as i64
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
        checks: Checks::from_slice(&def.checks),
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
