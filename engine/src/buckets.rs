//! The buckets of a store, by id and by name.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::RwLock;
use std::collections::{HashMap, HashSet};

use crate::core::Core;
use crate::error::{Error, ErrorKind, Result};
use crate::gate::{Gate, Pass};
use crate::index::ordered::OrderedKeys;
use crate::index::state::BlobState;
use crate::io::wait::WaitList;
use crate::limits::STRIPES;
use crate::log::record::BucketRecord;
use crate::log::root::BucketEntry;
use crate::types::BucketId;

/// One bucket.
pub struct BucketState {
    /// Its number, never used again.
    pub id: BucketId,
    /// Its name.
    pub name: Box<[u8]>,
    /// Its defaults.
    pub options: BucketRecord,
    /// Its keys in order.
    pub keys: OrderedKeys,
    bytes: AtomicU64,
    blobs: AtomicU64,
    /// Changes under way: the bucket is not destroyed before they end. Closed when it is dying.
    changes: Gate,
}

/// A bucket that is being destroyed. It lives on if this is dropped before the log has it.
pub struct Destroying<'a> {
    bucket: &'a BucketState,
    decided: bool,
}

impl Destroying<'_> {
    /// The record is on its way: it decides, whether anybody waits for it or not.
    pub fn decided(&mut self) {
        self.decided = true;
    }

    /// It was not logged.
    pub fn refused(&mut self) {
        self.decided = false;
    }
}

impl Drop for Destroying<'_> {
    fn drop(&mut self) {
        if !self.decided {
            self.bucket.changes.reopen();
        }
    }
}

impl BucketState {
    fn new(id: BucketId, name: &[u8], options: BucketRecord) -> BucketState {
        BucketState {
            id,
            name: name.into(),
            options,
            keys: OrderedKeys::default(),
            bytes: AtomicU64::new(0),
            blobs: AtomicU64::new(0),
            changes: Gate::default(),
        }
    }

    /// Blobs in the bucket.
    pub fn blob_count(&self) -> u64 {
        self.blobs.load(Ordering::Relaxed)
    }

    /// Bytes of their values.
    pub fn byte_count(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Refuses calls once the bucket is destroyed.
    #[inline]
    pub fn check_alive(&self) -> Result<()> {
        if self.changes.is_closed() {
            return Err(self.destroyed());
        }
        Ok(())
    }

    #[cold]
    fn destroyed(&self) -> Error {
        let name = String::from_utf8_lossy(&self.name);
        Error::new(ErrorKind::BucketNotFound, format!("bucket {name:?} was destroyed"))
    }

    /// The largest buffer of its blobs.
    pub fn buffer_size(&self, core: &Core) -> u32 {
        match self.options.buffer_size {
            0 => core.settings.buffer_size,
            size => size,
        }
    }

    /// Begins a change.
    pub fn begin_change(&self) -> Result<Pass<'_>> {
        self.changes.enter().ok_or_else(|| self.destroyed())
    }

    /// Claims the whole bucket: refuses new changes and waits for those under way. `None` if
    /// somebody else destroys it already.
    pub async fn begin_destroy(&self) -> Option<Destroying<'_>> {
        if !self.changes.close() {
            return None;
        }
        let destroying = Destroying { bucket: self, decided: false };
        self.changes.wait_until_empty().await;
        Some(destroying)
    }

    /// Keeps keys and counts in step with a visible change, inside the key's stripe lock.
    pub fn note_change(&self, key: &Arc<[u8]>, old: &BlobState, new: &BlobState) {
        if new.exists() && !old.exists() {
            self.keys.insert(key.clone());
            self.blobs.fetch_add(1, Ordering::Relaxed);
        } else if old.exists() && !new.exists() {
            self.keys.remove(key);
            self.blobs.fetch_sub(1, Ordering::Relaxed);
        }
        if new.len != old.len {
            self.bytes.fetch_add(new.len.wrapping_sub(old.len), Ordering::Relaxed);
        }
    }
}

/// All buckets.
#[derive(Default)]
pub struct Buckets {
    by_id: RwLock<HashMap<BucketId, Arc<BucketState>>>,
    by_name: RwLock<HashMap<Box<[u8]>, Arc<BucketState>>>,
    next: AtomicU32,
    /// Names of buckets that are being made.
    creating: parking_lot::Mutex<HashSet<Box<[u8]>>>,
    /// Some of them have been, or not.
    created: WaitList,
}

/// The right to make a bucket of a name: one maker at a time. Ends when dropped.
pub struct Making<'a> {
    buckets: &'a Buckets,
    name: &'a [u8],
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        self.buckets.creating.lock().remove(self.name);
        self.buckets.created.wake_all();
    }
}

impl Buckets {
    /// Waits until nobody else makes a bucket of this name. Who then finds it there can open it.
    pub async fn begin_making<'a>(&'a self, name: &'a [u8]) -> Making<'a> {
        loop {
            let changed = self.created.ticket();
            if self.creating.lock().insert(name.into()) {
                return Making { buckets: self, name };
            }
            changed.await;
        }
    }

    /// A number for a new bucket.
    pub fn take_id(&self) -> BucketId {
        BucketId(self.next.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Recovery: numbers up to this one have been used.
    pub fn raise_ids(&self, used: BucketId) {
        self.next.fetch_max(used.0, Ordering::Relaxed);
    }

    /// Adds a bucket that the log knows.
    pub fn insert(&self, id: BucketId, name: &[u8], options: BucketRecord) {
        let state = Arc::new(BucketState::new(id, name, options));
        self.raise_ids(id);
        self.by_id.write().insert(id, state.clone());
        self.by_name.write().insert(name.into(), state);
    }

    /// The bucket of a name.
    pub fn by_name(&self, name: &[u8]) -> Option<Arc<BucketState>> {
        self.by_name.read().get(name).cloned()
    }

    /// The bucket of a number.
    pub fn by_id(&self, id: BucketId) -> Option<Arc<BucketState>> {
        self.by_id.read().get(&id).cloned()
    }

    /// Buckets there are.
    pub fn len(&self) -> usize {
        self.by_id.read().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Blobs in all buckets.
    pub fn blob_count(&self) -> u64 {
        self.by_id.read().values().map(|bucket| bucket.blob_count()).sum()
    }

    /// All buckets, by name.
    pub fn list(&self) -> Vec<Arc<BucketState>> {
        let mut all: Vec<_> = self.by_id.read().values().cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// See [`BucketState::note_change`].
    pub fn note_change(&self, bucket: BucketId, key: &Arc<[u8]>, old: &BlobState, new: &BlobState) {
        if let Some(state) = self.by_id.read().get(&bucket) {
            state.note_change(key, old, new);
        }
    }

    /// Recovery: what a bucket holds.
    pub fn restore(&self, bucket: BucketId, keys: Vec<Arc<[u8]>>, bytes: u64) {
        if let Some(state) = self.by_id(bucket) {
            state.blobs.store(keys.len() as u64, Ordering::Relaxed);
            state.bytes.store(bytes, Ordering::Relaxed);
            state.keys.load(keys);
        }
    }

    /// The highest number used plus one, and the buckets for a checkpoint's root.
    pub fn for_root(&self) -> (u32, Vec<BucketEntry>) {
        let mut entries: Vec<_> = self
            .by_id
            .read()
            .values()
            .map(|bucket| BucketEntry {
                bucket: bucket.id,
                name: bucket.name.clone(),
                options: bucket.options,
            })
            .collect();
        entries.sort_by_key(|entry| entry.bucket);
        (self.next.load(Ordering::Relaxed) + 1, entries)
    }

    /// Removes a destroyed bucket with everything in it. Walks the whole index: tombstones and
    /// keys that only the log holds stand in no ordered map.
    pub fn remove(&self, core: &Core, id: BucketId) {
        let Some(bucket) = self.by_id.write().remove(&id) else { return };
        self.by_name.write().remove(&bucket.name);
        for number in 0..STRIPES {
            let removed = {
                let mut stripe = core.index.lock_number(number);
                let removed = core.index.remove_where(&mut stripe, |entry| entry.bucket == id);
                for entry in &removed {
                    core.dram.remove(&mut stripe.dir, entry.hash, id, &entry.key);
                }
                removed
            };
            removed.iter().for_each(|entry| entry.bury(&core.space));
            core.index.stripe_by_number(number).released.wake_all();
        }
    }
}
