//! What the index says it takes of memory, against what the allocator hands out.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use isotherm::index::ordered::OrderedKeys;
use isotherm::index::state::{BlobState, Buffer, Checks, Map, Value, whole};
use isotherm::index::table::BufferTable;
use isotherm::index::{Index, MemoryBudget};
use isotherm::limits::{CHECK_BLOCK, PARTITIONS, STRIPES};
use isotherm::tier::dram::Dram;
use isotherm::tier::space::{Space, Tier};
use isotherm::types::{BucketId, BufferId, Location, TierId, TierKind, Version};

struct Counting;

static LIVE_BYTES: AtomicI64 = AtomicI64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// As the system's allocator does: a header, in steps of 16.
fn taken(size: usize) -> i64 {
    (size + 8).next_multiple_of(16).max(32) as i64
}

// SAFETY: the system's allocator, counted.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE_BYTES.fetch_add(taken(layout.size()), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(taken(layout.size()), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(start, layout) }
    }
}

const BUCKET: BucketId = BucketId(1);

/// An index, its buffer table and one bucket's keys.
struct Rig {
    budget: Arc<MemoryBudget>,
    table: Arc<BufferTable>,
    index: Index,
    keys: OrderedKeys,
}

impl Rig {
    fn new() -> Rig {
        let budget = Arc::new(MemoryBudget::new(1 << 40));
        let tier = Tier::new(TierId(0), TierKind::Nvme, 64 << 30, 64 << 20, (0.7, 0.85));
        let space = Arc::new(Space::new(vec![tier], Box::new(|_, _| Ok(()))));
        let table = Arc::new(BufferTable::new(PARTITIONS, space, budget.clone()));
        let dram = Dram::new(1 << 20, STRIPES).unwrap();
        let index = Index::new(7, &dram, budget.clone());
        Rig { budget, table, index, keys: OrderedKeys::default() }
    }

    /// A blob of one buffer of so many bytes, logged, and perhaps overwritten in memory.
    fn put(&self, number: u64, len: usize, is_overwritten: bool) {
        let key = format!("a key of some bytes {number:08}").into_bytes();
        let hash = self.index.hash(BUCKET, &key);
        let state = |version: u64| {
            let checks = vec![version as u32; len.div_ceil(CHECK_BLOCK)];
            let place = Location::device(TierId(0), (64 << 20) + version * 4096);
            let buffer = Buffer {
                checks: Checks::from_slice(&checks),
                ..Buffer::dirty(BufferId(version), place, len as u32)
            };
            let value = Value::Lone(buffer);
            BlobState { version: Version(version), len: len as u64, value, attributes: None }
        };
        let mut stripe = self.index.lock(hash);
        let entry = self.index.get_or_insert(&mut stripe, hash, BUCKET, &key);
        entry.load(state(2 * number + 1), &self.table);
        self.keys.insert(entry.key.clone());
        if is_overwritten {
            drop(entry.set_visible(state(2 * number + 2), &self.table));
        }
    }

    /// A blob of several buffers, which stand in the table.
    fn put_map(&self, number: u64) {
        let key = format!("a key of some bytes {number:08}").into_bytes();
        let hash = self.index.hash(BUCKET, &key);
        let extents = (0..4).map(|part| {
            let id = BufferId(number * 4 + part + 1);
            let place = Location::device(TierId(0), (64 << 20) + id.0 * 4096);
            let checks = Checks::from_slice(&[5; 64]);
            let buffer = Buffer { checks, ..Buffer::dirty(id, place, 1 << 20) };
            let extent =
                isotherm::log::record::Extent { value_offset: part << 20, ..whole(&buffer) };
            self.table.define(buffer);
            extent
        });
        let map = Arc::new(Map::new(extents.collect(), &self.table));
        let mut stripe = self.index.lock(hash);
        let entry = self.index.get_or_insert(&mut stripe, hash, BUCKET, &key);
        let state = BlobState {
            version: Version(1),
            len: 4 << 20,
            value: Value::Mapped(map),
            attributes: None,
        };
        entry.load(state, &self.table);
        self.keys.insert(entry.key.clone());
    }
}

/// Both figures grow alike, whatever the blobs are and however full the tables.
fn compare(what: &str, count: u64, put: impl Fn(&Rig, u64)) {
    // Never dropped: its buffers have no live bytes that could die.
    let rig = ManuallyDrop::new(Rig::new());
    let before = LIVE_BYTES.load(Ordering::Relaxed);
    for number in 0..count {
        put(&rig, number);
        if number % (count / 4) == count / 4 - 1 {
            let taken = LIVE_BYTES.load(Ordering::Relaxed) - before;
            let counted = rig.budget.used_bytes() as i64;
            assert!(
                (taken - counted).abs() <= taken / 10,
                "{} {what}: {counted} bytes counted, {taken} taken",
                number + 1
            );
        }
    }
}

#[test]
fn what_the_budget_counts_is_what_the_allocator_hands_out() {
    compare("small blobs", 200_000, |rig, number| rig.put(number, 100, false));
    compare("large blobs", 40_000, |rig, number| rig.put(number, 1 << 20, false));
    compare("overwritten blobs", 40_000, |rig, number| rig.put(number, 300_000, true));
    compare("blobs of several buffers", 40_000, Rig::put_map);
}
