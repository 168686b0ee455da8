//! What is known of buckets and blobs without reading a value.

use std::ops::Bound;
use std::sync::Arc;

use crate::api::bucket::Bucket;
use crate::api::change;
use crate::api::held;
use crate::api::scan::{Cursor, ScanItem, ScanRange};
use crate::error::{ErrorKind, Result};
use crate::store::BucketOptions;
use crate::types::{BufferId, Place, TierId, TierKind, Version};

/// What is known of a blob.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BlobStat {
    /// Bytes of the value.
    pub len: u64,
    /// Its version; larger after every change.
    pub version: Version,
    /// Buffers that the value is made of.
    pub buffers: u64,
    /// The score that its user has given it.
    pub score: Option<f32>,
    /// How many attributes it has.
    pub attributes: u64,
}

/// What is known of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketStat {
    /// Blobs in it.
    pub blobs: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// Its defaults and quotas.
    pub options: BucketOptions,
}

/// Where a slice of a value lies.
#[derive(Clone, Debug, PartialEq)]
pub struct BufferPlace {
    /// First byte of the value.
    pub value_offset: u64,
    /// Bytes.
    pub len: u64,
    /// The buffer that holds them.
    pub buffer: BufferId,
    /// The device tier; `None` if only DRAM has them.
    pub tier: Option<TierId>,
    /// The kind of the slowest copy: that of the device, or DRAM.
    pub tier_kind: TierKind,
    /// Byte offset on the device.
    pub device_offset: Option<u64>,
    /// Whether all of them are in DRAM too.
    pub in_dram: bool,
    /// Whether no device has them yet.
    pub dirty: bool,
    /// The blob's heat: decayed accesses.
    pub heat: f32,
}

impl Bucket {
    /// Length, version and buffers of a blob.
    pub fn stat(&self, key: &[u8]) -> Result<BlobStat> {
        self.check(key)?;
        let hash = self.core.index.hash(self.state.id, key);
        let mut stripe = self.core.index.lock(hash);
        match stripe.get(hash, self.state.id, key).filter(|entry| entry.visible.exists()) {
            Some(entry) => Ok(BlobStat {
                len: entry.visible.len,
                version: entry.visible.version,
                buffers: entry.visible.extent_count(),
                score: entry.visible.attributes.as_ref().and_then(|shared| shared.score()),
                attributes: entry
                    .visible
                    .attributes
                    .as_ref()
                    .map_or(0, |shared| shared.count() as u64),
            }),
            None => Err(change::not_found(&self.state, key)),
        }
    }

    /// Whether there is a blob.
    pub fn exists(&self, key: &[u8]) -> Result<bool> {
        match self.stat(key) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Blobs and bytes of the bucket.
    pub fn bucket_stat(&self) -> Result<BucketStat> {
        self.core.check_open()?;
        self.state.check_alive()?;
        let (blobs, bytes) = (self.state.usage.blobs(), self.state.usage.bytes());
        Ok(BucketStat { blobs, bytes, options: self.state.options().into() })
    }

    /// Lists blobs in the order of their keys.
    pub fn scan(&self, range: ScanRange) -> Cursor {
        Cursor::new(self.clone(), range)
    }

    /// Where every slice of a value lies, in order. Holes lie nowhere.
    pub fn locate(&self, key: &[u8]) -> Result<Vec<BufferPlace>> {
        self.check(key)?;
        let Some(held) = held::hold(&self.core, &self.state, key, 0..u64::MAX) else {
            return Err(change::not_found(&self.state, key));
        };
        let now = self.core.runtime.now();
        let hash = self.core.index.hash(self.state.id, key);
        let heat = {
            let mut stripe = self.core.index.lock(hash);
            let (entry, dir) = stripe.get_with_dir(hash, self.state.id, key);
            entry.map_or(0.0, |entry| entry.score(&self.core.dram, dir, now))
        };
        self.wait(held.places(&self.core)).map(|places| {
            places
                .into_iter()
                .map(|(extent, buffer, in_dram)| {
                    let (tier, device_offset) = match buffer.location.place() {
                        Place::Device { tier, offset } => {
                            (Some(tier), Some(offset + u64::from(extent.buffer_offset)))
                        }
                        Place::Dram(_) => (None, None),
                    };
                    BufferPlace {
                        value_offset: extent.value_offset,
                        len: u64::from(extent.len),
                        buffer: buffer.id,
                        tier,
                        tier_kind: tier
                            .map_or(TierKind::Dram, |tier| self.core.space.tier(tier).kind),
                        device_offset,
                        in_dram,
                        dirty: buffer.is_dirty(),
                        heat,
                    }
                })
                .collect()
        })
    }

    pub(crate) fn keys(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Arc<[u8]>>> {
        self.core.check_open()?;
        self.state.check_alive()?;
        Ok(self.state.keys.page(from, to, limit))
    }

    pub(crate) fn item(&self, key: &[u8]) -> Option<ScanItem> {
        let hash = self.core.index.hash(self.state.id, key);
        let mut stripe = self.core.index.lock(hash);
        let entry = stripe.get(hash, self.state.id, key).filter(|entry| entry.visible.exists())?;
        Some(ScanItem { key: key.into(), len: entry.visible.len, version: entry.visible.version })
    }
}
