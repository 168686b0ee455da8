//! The index: key -> blob, extent maps, ordered keys, the buffer table. No I/O.
//!
//! * [`entry`]: one key. [`state`]: one version of a blob, [`attributes`]: those of it. [`extents`]: maps as values.
//! * [`budget`]: the memory that all of it takes.
//! * [`pages`]: lists of page references, likewise. [`table`] and `row`: buffers by id. [`ordered`]: keys in
//!   order.
//!
//! Keys live in [`STRIPES`] stripes by hash, each with a lock that also guards the stripe's part
//! of the DRAM directory. No stripe lock is held across a copy, a wait, I/O or a hook. Locks nest
//! downwards only: stripe, ordered map, table shard, free list.

pub mod attributes;
pub mod budget;
pub mod entry;
pub mod extents;
pub mod ordered;
pub mod pages;
mod row;
pub mod state;
pub mod table;

use std::sync::Arc;

use hashbrown::HashTable;
use parking_lot::{Mutex, MutexGuard};

pub use crate::index::budget::MemoryBudget;
use crate::index::entry::Entry;
use crate::io::wait::WaitList;
use crate::limits::{PARTITIONS, STRIPES};
use crate::tier::dram::{DirStripe, Dram};
use crate::types::BucketId;

/// A part of the index under one lock.
pub struct Stripe {
    inner: Mutex<StripeInner>,
    /// Woken when a claim of a key in this stripe is released.
    pub released: WaitList,
}

/// What a stripe's lock guards.
pub struct StripeInner {
    entries: HashTable<Entry>,
    /// Proof, for the DRAM directory, that the lock is held.
    pub dir: DirStripe,
}

impl StripeInner {
    /// The entry of a key.
    pub fn get(&mut self, hash: u64, bucket: BucketId, key: &[u8]) -> Option<&mut Entry> {
        self.entries.find_mut(hash, |entry| is(entry, hash, bucket, key))
    }

    /// The entry and the directory, both changeable.
    pub fn get_with_dir(
        &mut self,
        hash: u64,
        bucket: BucketId,
        key: &[u8],
    ) -> (Option<&mut Entry>, &mut DirStripe) {
        (self.entries.find_mut(hash, |entry| is(entry, hash, bucket, key)), &mut self.dir)
    }

    /// Every entry with this hash: almost always one.
    pub fn with_hash(&mut self, hash: u64) -> impl Iterator<Item = &mut Entry> {
        self.entries.iter_hash_mut(hash).filter(move |entry| entry.hash == hash)
    }

    /// All entries of the stripe.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// All entries of the stripe and the directory, changeable.
    pub fn iter_with_dir(&mut self) -> (impl Iterator<Item = &mut Entry>, &mut DirStripe) {
        (self.entries.iter_mut(), &mut self.dir)
    }

    /// Every entry with this hash, and the directory.
    pub fn with_hash_and_dir(
        &mut self,
        hash: u64,
    ) -> (impl Iterator<Item = &mut Entry>, &mut DirStripe) {
        let entries = self.entries.iter_hash_mut(hash);
        (entries.filter(move |entry| entry.hash == hash), &mut self.dir)
    }

    /// All entries of the stripe, changeable.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.entries.iter_mut()
    }
}

fn is(entry: &Entry, hash: u64, bucket: BucketId, key: &[u8]) -> bool {
    entry.hash == hash && entry.bucket == bucket && *entry.key == *key
}

/// Several stripes, locked.
pub struct LockedStripes<'a> {
    /// Ascending by number.
    stripes: Vec<(usize, MutexGuard<'a, StripeInner>)>,
}

impl LockedStripes<'_> {
    /// The stripe of one of the hashes that were locked.
    pub fn stripe(&mut self, hash: u64) -> &mut StripeInner {
        let number = hash as usize % STRIPES;
        match self.stripes.binary_search_by_key(&number, |(number, _)| *number) {
            Ok(at) => &mut self.stripes[at].1,
            Err(_) => unreachable!("stripe {number} is not among those locked"),
        }
    }
}

/// All stripes.
pub struct Index {
    stripes: Box<[Stripe]>,
    seed: u64,
    budget: Arc<MemoryBudget>,
}

impl Index {
    /// An empty index. `seed` keys the hash, so that nobody can choose colliding keys.
    pub fn new(seed: u64, dram: &Dram, budget: Arc<MemoryBudget>) -> Index {
        let stripe = |number| Stripe {
            inner: Mutex::new(StripeInner {
                entries: HashTable::new(),
                dir: dram.dir_stripe(number),
            }),
            released: WaitList::default(),
        };
        Index { stripes: (0..STRIPES).map(stripe).collect(), seed, budget }
    }

    /// Hash of a bucket's key, stable across reopens.
    #[inline]
    pub fn hash(&self, bucket: BucketId, key: &[u8]) -> u64 {
        Index::hash_with(self.seed, bucket, key)
    }

    /// [`hash`](Self::hash) with the seed of a store.
    #[inline]
    pub fn hash_with(seed: u64, bucket: BucketId, key: &[u8]) -> u64 {
        // The bucket goes into the seed by a multiplication that keeps buckets apart.
        let seed = seed ^ u64::from(bucket.0).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        xxhash_rust::xxh3::xxh3_64_with_seed(key, seed)
    }

    /// The stripe of a hash.
    pub fn stripe(&self, hash: u64) -> &Stripe {
        &self.stripes[hash as usize % STRIPES]
    }

    /// A stripe by number.
    pub fn stripe_by_number(&self, number: usize) -> &Stripe {
        &self.stripes[number]
    }

    /// Locks the stripe of a hash.
    pub fn lock(&self, hash: u64) -> MutexGuard<'_, StripeInner> {
        self.stripe(hash).inner.lock()
    }

    /// Locks a stripe by number.
    pub fn lock_number(&self, number: usize) -> MutexGuard<'_, StripeInner> {
        self.stripes[number].inner.lock()
    }

    /// Locks the stripes of these hashes, ascending. Nobody who holds a stripe's lock may call it.
    pub fn lock_all(&self, hashes: &[u64]) -> LockedStripes<'_> {
        let mut numbers: Vec<usize> = hashes.iter().map(|hash| *hash as usize % STRIPES).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let lock = |number| (number, self.lock_number(number));
        LockedStripes { stripes: numbers.into_iter().map(lock).collect() }
    }

    /// The checkpoint partition of a hash.
    pub fn partition(hash: u64) -> usize {
        hash as usize % STRIPES % PARTITIONS
    }

    /// The stripes of a partition.
    pub fn stripes_of(partition: usize) -> impl Iterator<Item = usize> {
        (partition..STRIPES).step_by(PARTITIONS)
    }

    /// Wakes everybody who waits for a claim, to look at the store's state.
    pub fn wake_all_waiting(&self) {
        self.stripes.iter().for_each(|stripe| stripe.released.wake_all());
    }

    /// Memory of index and table.
    pub fn budget(&self) -> &Arc<MemoryBudget> {
        &self.budget
    }

    /// Recovery: makes room for so many keys of a partition.
    pub fn reserve(&self, partition: usize, keys: usize) {
        // Keys spread evenly; a little more spares most stripes a second growth.
        let each = keys.div_ceil(STRIPES / PARTITIONS) / 16 * 17;
        for number in Index::stripes_of(partition) {
            self.make_room(&mut self.lock_number(number).entries, each);
        }
    }

    /// Recovery: forgets everything.
    pub fn clear(&self) {
        for number in 0..STRIPES {
            self.remove_where(&mut self.lock_number(number), |_| true);
        }
    }

    /// The key's entry, made if there is none. The caller has checked the memory budget.
    pub fn get_or_insert<'a>(
        &self,
        stripe: &'a mut StripeInner,
        hash: u64,
        bucket: BucketId,
        key: &[u8],
    ) -> &'a mut Entry {
        self.get_or_insert_in(&mut stripe.entries, hash, bucket, key)
    }

    fn get_or_insert_in<'a>(
        &self,
        entries: &'a mut HashTable<Entry>,
        hash: u64,
        bucket: BucketId,
        key: &[u8],
    ) -> &'a mut Entry {
        self.make_room(entries, 1);
        let entry = entries.entry(hash, |entry| is(entry, hash, bucket, key), |entry| entry.hash);
        match entry {
            hashbrown::hash_table::Entry::Occupied(occupied) => occupied.into_mut(),
            hashbrown::hash_table::Entry::Vacant(vacant) => {
                let entry = Entry::new(hash, bucket, key.into());
                self.budget.add(entry.memory_bytes());
                vacant.insert(entry).into_mut()
            }
        }
    }

    /// Room in a table for so many entries more, counted where it grows.
    fn make_room(&self, entries: &mut HashTable<Entry>, more: usize) {
        if entries.capacity() - entries.len() >= more {
            return;
        }
        let before = entries.allocation_size() as i64;
        entries.reserve(more, |entry| entry.hash);
        self.budget.add(entries.allocation_size() as i64 - before);
    }

    /// [`get_or_insert`](Self::get_or_insert), and the directory's stripe.
    pub fn get_or_insert_with_dir<'a>(
        &self,
        stripe: &'a mut StripeInner,
        hash: u64,
        bucket: BucketId,
        key: &[u8],
    ) -> (&'a mut Entry, &'a mut DirStripe) {
        let StripeInner { entries, dir } = stripe;
        (self.get_or_insert_in(entries, hash, bucket, key), dir)
    }

    /// Removes the key's entry if nothing is known or going on there any more.
    pub fn remove_if_vacant(
        &self,
        stripe: &mut StripeInner,
        hash: u64,
        bucket: BucketId,
        key: &[u8],
    ) {
        if let Ok(occupied) = stripe.entries.find_entry(hash, |entry| is(entry, hash, bucket, key))
            && occupied.get().is_vacant()
        {
            let (entry, _) = occupied.remove();
            self.budget.add(-entry.memory_bytes());
        }
    }

    /// Removes entries for which `doomed` says so, whatever their state. For a destroyed bucket.
    pub fn remove_where(
        &self,
        stripe: &mut StripeInner,
        mut doomed: impl FnMut(&Entry) -> bool,
    ) -> Vec<Entry> {
        let removed: Vec<Entry> = stripe.entries.extract_if(|entry| doomed(entry)).collect();
        self.budget.add(-removed.iter().map(Entry::memory_bytes).sum::<i64>());
        removed
    }
}
