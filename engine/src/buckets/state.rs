//! One bucket: its name, options and keys, and who changes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

use parking_lot::RwLock;

use crate::core::Core;
use crate::error::{Error, ErrorKind, Result};
use crate::gate::{Gate, Pass};
use crate::index::ordered::OrderedKeys;
use crate::index::state::BlobState;
use crate::io::wait::WaitList;
use crate::log::record::BucketRecord;
use crate::types::{BucketId, Durability};
use crate::usage::{Growth, Hold, Usage};

/// One bucket.
pub struct BucketState {
    /// Its number, never used again.
    pub id: BucketId,
    /// Its name, which a rename changes.
    pub(super) name: RwLock<Arc<[u8]>>,
    /// Default level of its changes, as [`level_bits`] has it.
    durability: AtomicU8,
    /// 0: the store's.
    buffer_size: AtomicU32,
    /// Its keys in order.
    pub keys: OrderedKeys,
    /// What it holds and may hold.
    pub usage: Arc<Usage>,
    /// Changes under way. Closed while somebody has the whole bucket.
    changes: Gate,
    /// It is being destroyed, or was.
    dying: AtomicBool,
    /// Woken when nobody has the whole bucket any more.
    opened: WaitList,
}

/// The right to a whole bucket: no change of it is under way, and new ones wait. Ends when dropped,
/// unless the bucket has been destroyed.
pub struct Whole {
    bucket: Arc<BucketState>,
    destroyed: bool,
}

impl Whole {
    /// The bucket is gone.
    pub fn destroyed(&mut self) {
        self.destroyed = true;
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        if !self.destroyed {
            self.bucket.dying.store(false, Ordering::SeqCst);
            self.bucket.changes.reopen();
        }
        self.bucket.opened.wake_all();
    }
}

/// A level, or none, in a byte.
fn level_bits(level: Option<Durability>) -> u8 {
    level.map_or(0, |level| level as u8 + 1)
}

impl BucketState {
    pub(super) fn new(id: BucketId, name: &[u8], options: BucketRecord) -> BucketState {
        let bucket = BucketState {
            id,
            name: RwLock::new(name.into()),
            durability: AtomicU8::new(0),
            buffer_size: AtomicU32::new(0),
            keys: OrderedKeys::default(),
            usage: Arc::default(),
            changes: Gate::default(),
            dying: AtomicBool::new(false),
            opened: WaitList::default(),
        };
        bucket.set_options(options);
        bucket
    }

    /// Its name.
    pub fn name(&self) -> Arc<[u8]> {
        self.name.read().clone()
    }

    /// Its defaults and quotas.
    pub fn options(&self) -> BucketRecord {
        let (quota_bytes, quota_blobs) = self.usage.quotas();
        let buffer_size = self.buffer_size.load(Ordering::Relaxed);
        BucketRecord { durability: self.durability(), buffer_size, quota_bytes, quota_blobs }
    }

    pub(super) fn set_options(&self, options: BucketRecord) {
        self.durability.store(level_bits(options.durability), Ordering::Relaxed);
        self.buffer_size.store(options.buffer_size, Ordering::Relaxed);
        self.usage.set_quotas(options.quota_bytes, options.quota_blobs);
    }

    /// The level of changes that name none, if it is not the store's.
    #[inline]
    pub fn durability(&self) -> Option<Durability> {
        use Durability::{Durable, Memory, Written};
        let bits = self.durability.load(Ordering::Relaxed);
        [Memory, Written, Durable].into_iter().find(|level| level_bits(Some(*level)) == bits)
    }

    /// Refuses calls once the bucket is destroyed.
    #[inline]
    pub fn check_alive(&self) -> Result<()> {
        if self.dying.load(Ordering::SeqCst) {
            return Err(self.destroyed());
        }
        Ok(())
    }

    #[cold]
    fn destroyed(&self) -> Error {
        let name = self.name();
        let name = String::from_utf8_lossy(&name);
        Error::new(ErrorKind::BucketNotFound, format!("bucket {name:?} was destroyed"))
    }

    /// The largest buffer of its blobs.
    pub fn buffer_size(&self, core: &Core) -> u32 {
        match self.buffer_size.load(Ordering::Relaxed) {
            0 => core.settings.buffer_size,
            size => size,
        }
    }

    /// Begins a change, once nobody has the whole bucket.
    pub async fn begin_change(&self) -> Result<Pass<'_>> {
        loop {
            if let Some(pass) = self.changes.enter() {
                return Ok(pass);
            }
            self.wait_until_open().await?;
        }
    }

    /// Begins changes of several buckets. Those of one are kept by none while another is waited for:
    /// who has that one may be waiting for this one.
    pub async fn begin_changes<'a>(
        buckets: impl Iterator<Item = &'a BucketState> + Clone,
    ) -> Result<Vec<Pass<'a>>> {
        loop {
            let mut passes = Vec::new();
            let mut closed = None;
            for bucket in buckets.clone() {
                match bucket.changes.enter() {
                    Some(pass) => passes.push(pass),
                    None => {
                        closed = Some(bucket);
                        break;
                    }
                }
            }
            let Some(closed) = closed else { return Ok(passes) };
            drop(passes);
            closed.wait_until_open().await?;
        }
    }

    async fn wait_until_open(&self) -> Result<()> {
        let opened = self.opened.ticket();
        self.check_alive()?;
        if self.changes.is_closed() {
            opened.await;
        }
        Ok(())
    }

    /// Takes the whole bucket: makes new changes wait, and waits for those under way. Gets go on.
    pub async fn take_whole(self: &Arc<Self>) -> Result<Whole> {
        self.take(false).await
    }

    /// The same to destroy it: changes and gets are refused from now on.
    pub async fn take_to_destroy(self: &Arc<Self>) -> Result<Whole> {
        self.take(true).await
    }

    async fn take(self: &Arc<Self>, dying: bool) -> Result<Whole> {
        loop {
            let opened = self.opened.ticket();
            self.check_alive()?;
            if self.changes.close() {
                break;
            }
            opened.await;
        }
        let whole = Whole { bucket: self.clone(), destroyed: false };
        if dying {
            self.dying.store(true, Ordering::SeqCst);
            self.opened.wake_all();
        }
        self.changes.wait_until_empty().await;
        Ok(whole)
    }

    /// Sets the growth of a change aside, or refuses it for a quota.
    pub fn set_aside(&self, growth: Growth) -> Result<Option<Hold>> {
        self.usage.set_aside(growth, || self.name())
    }

    /// Keeps the keys in step with a visible change, inside the key's stripe lock. The bucket has
    /// grown by what is returned, and has yet to count it.
    #[must_use = "the bucket must count it"]
    pub fn note_change(&self, key: &Arc<[u8]>, old: &BlobState, new: &BlobState) -> Growth {
        if new.exists() && !old.exists() {
            self.keys.insert(key.clone());
        } else if old.exists() && !new.exists() {
            self.keys.remove(key);
        }
        Growth::of(old, new.exists().then_some(new.len))
    }
}
