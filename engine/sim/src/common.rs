//! What the callers of a store share: the oracle, the names of all keys, the buckets.

use std::cell::{Cell, RefCell};

use isotherm::{Bucket, BucketOptions, ErrorKind, Result, Store};

use crate::options::Options;
use crate::oracle::{KeyId, Oracle};

/// Buckets that all callers use. Behind them each has one of its own.
pub const SHARED: usize = 2;

/// What the callers of a store share.
pub struct Common {
    /// What must be there.
    pub oracle: RefCell<Oracle>,
    /// The names of the keys, by number.
    pub names: Vec<Vec<u8>>,
    /// Operations that were answered.
    pub operations: Cell<u64>,
    /// The devices are gone: nothing means anything any more.
    pub is_over: Cell<bool>,
    callers: usize,
    keys: usize,
}

impl Common {
    /// For the keys of all callers, in order.
    pub fn new(options: &Options) -> Common {
        let mut oracle = Oracle::default();
        let mut names = Vec::new();
        for number in 0..options.callers {
            for key in 0..options.keys {
                let name = format!("caller {number} key {key}");
                names.push(name.clone().into_bytes());
                oracle.add_key(name);
            }
        }
        let (operations, is_over) = (Cell::new(0), Cell::new(false));
        let (callers, keys) = (options.callers, options.keys);
        Common { oracle: RefCell::new(oracle), names, operations, is_over, callers, keys }
    }

    /// The buckets of a store, made where they are not there.
    pub async fn buckets(&self, store: &Store) -> Result<Vec<Bucket>> {
        let mut buckets = Vec::new();
        for name in self.bucket_names() {
            match store.create_bucket_async(&name, BucketOptions::default()).await {
                Err(error) if error.kind() == ErrorKind::BucketExists => {
                    buckets.push(store.open_bucket(&name)?);
                }
                made => buckets.push(made?),
            }
        }
        Ok(buckets)
    }

    /// The names of all buckets, by number.
    pub fn bucket_names(&self) -> impl Iterator<Item = String> {
        (0..SHARED + self.callers).map(bucket_name)
    }

    /// The number of the bucket that a key is in.
    pub fn bucket_of(&self, key: KeyId) -> usize {
        match key % (SHARED + 1) {
            SHARED => SHARED + key / self.keys,
            shared => shared,
        }
    }

    /// The bucket of a key.
    pub fn bucket<'a>(&self, buckets: &'a [Bucket], key: KeyId) -> &'a Bucket {
        &buckets[self.bucket_of(key)]
    }

    /// The keys in a bucket.
    pub fn keys_of(&self, bucket: usize) -> impl Iterator<Item = KeyId> {
        (0..self.names.len()).filter(move |key| self.bucket_of(*key) == bucket)
    }
}

/// The name of a bucket, by number.
pub fn bucket_name(number: usize) -> String {
    format!("bucket {number}")
}
