//! The buckets of a store, by id and by name. [`state`]: one of them.

mod state;

pub use state::{BucketState, Whole};

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::RwLock;
use std::collections::{HashMap, HashSet};

use crate::core::Core;
use crate::error::{Result, fail};
use crate::index::entry::Entry;
use crate::index::state::BlobState;
use crate::io::wait::WaitList;
use crate::limits::{BUCKET_NUMBER_MAX, STRIPES};
use crate::log::record::BucketRecord;
use crate::log::root::BucketEntry;
use crate::types::{BucketId, Version};
use crate::usage::{Growth, Hold};

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

    /// A number for a new bucket, unless all have been used.
    pub fn take_id(&self) -> Result<BucketId> {
        let next = |used: u32| (used < BUCKET_NUMBER_MAX).then(|| used + 1);
        match self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) {
            Ok(used) => Ok(BucketId(used + 1)),
            Err(used) => {
                fail!(LimitExceeded, "the store has had {used} buckets, and no number more")
            }
        }
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
        self.by_id.read().values().map(|bucket| bucket.usage.blobs()).sum()
    }

    /// All buckets, by name.
    pub fn list(&self) -> Vec<Arc<BucketState>> {
        let mut all: Vec<_> = self.by_id.read().values().cloned().collect();
        all.sort_by_cached_key(|bucket| bucket.name());
        all
    }

    /// See [`BucketState::note_change`].
    #[must_use = "the bucket must count it"]
    pub fn note_change(
        &self,
        bucket: BucketId,
        key: &Arc<[u8]>,
        old: &BlobState,
        new: &BlobState,
    ) -> Growth {
        let buckets = self.by_id.read();
        buckets.get(&bucket).map_or(Growth::default(), |state| state.note_change(key, old, new))
    }

    /// See [`Usage::count`](crate::usage::Usage::count).
    pub fn count(&self, bucket: BucketId, growth: Growth, hold: Option<Hold>) {
        if let Some(state) = self.by_id.read().get(&bucket) {
            state.usage.count(growth, hold);
        }
    }

    /// A bucket has another name, or other options.
    pub fn change(&self, id: BucketId, name: &[u8], options: BucketRecord) {
        let Some(bucket) = self.by_id(id) else { return };
        bucket.set_options(options);
        let mut by_name = self.by_name.write();
        let old = std::mem::replace(&mut *bucket.name.write(), name.into());
        if *old != *name {
            by_name.remove(&*old);
            by_name.insert(name.into(), bucket);
        }
    }

    /// Recovery: what a bucket holds.
    pub fn restore(&self, bucket: BucketId, keys: Vec<Arc<[u8]>>, bytes: u64) {
        if let Some(state) = self.by_id(bucket) {
            state.usage.set(bytes, keys.len() as u64);
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
                name: (*bucket.name()).into(),
                options: bucket.options(),
            })
            .collect();
        entries.sort_by_key(|entry| entry.bucket);
        (self.next.load(Ordering::Relaxed) + 1, entries)
    }

    /// Removes everything in a bucket, which is as of `version` from now on. Nobody changes it, but a
    /// change that was given up may still be on its way, and write-behind of older states: they find
    /// the key newer than they are.
    pub fn clear(&self, core: &Core, id: BucketId, version: Version) {
        let Some(bucket) = self.by_id(id) else { return };
        for number in 0..STRIPES {
            let (mut removed, mut cleared) = (Vec::new(), Vec::new());
            {
                let mut stripe = core.index.lock_number(number);
                let idle = |entry: &Entry| entry.bucket == id && entry.is_idle();
                removed.extend(core.index.remove_where(&mut stripe, idle));
                let mut gone: Vec<(u64, Arc<[u8]>)> =
                    removed.iter().map(|entry| (entry.hash, entry.key.clone())).collect();
                for entry in stripe.iter_mut().filter(|entry| entry.bucket == id) {
                    gone.push((entry.hash, entry.key.clone()));
                    cleared.push(entry.clear(version, &core.table));
                }
                for (hash, key) in gone {
                    core.dram.remove(&mut stripe.dir, hash, id, &key);
                }
            }
            removed.iter().for_each(|entry| entry.bury(&core.space));
        }
        bucket.keys.load(Vec::new());
        bucket.usage.set(0, 0);
    }

    /// Removes a destroyed bucket with everything in it. Walks the whole index: tombstones and
    /// keys that only the log holds stand in no ordered map.
    pub fn remove(&self, core: &Core, id: BucketId) {
        let Some(bucket) = self.by_id.write().remove(&id) else { return };
        self.by_name.write().remove(&*bucket.name());
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
