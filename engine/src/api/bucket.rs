//! A bucket and the changes of its blobs; `get` has the gets, `facts` what else is known of them.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use crate::api::change;
use crate::api::copy;
use crate::api::edit::{Changed, Condition, Edit};
use crate::api::memory::{self, Outcome};
use crate::api::ranges;
use crate::api::read::Reader;
use crate::api::stream::BlobWriter;
use crate::buckets::BucketState;
use crate::core::Core;
use crate::error::{Result, fail};
use crate::limits::{KEY_LEN_MAX, VALUE_LEN_MAX};
use crate::types::{BucketId, Durability, Version};

/// One in this many operations that DRAM answers is timed, and counts for all: reading the clock
/// twice costs as much as the operation.
pub(super) const SAMPLE: u64 = 256;

/// A bucket of an open store. Cheap to clone; all methods may be called from any thread.
#[derive(Clone)]
pub struct Bucket {
    pub(super) core: Arc<Core>,
    pub(super) state: Arc<BucketState>,
}

/// Options of a put.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PutOptions {
    /// The level at which the put returns; the bucket's default, else the store's, if `None`.
    pub durability: Option<Durability>,
    /// What must hold of the blob; the change is refused, and nothing done, where it does not.
    pub condition: Condition,
}

impl From<Durability> for PutOptions {
    fn from(durability: Durability) -> PutOptions {
        PutOptions { durability: Some(durability), ..PutOptions::default() }
    }
}

impl From<Condition> for PutOptions {
    fn from(condition: Condition) -> PutOptions {
        PutOptions { condition, ..PutOptions::default() }
    }
}

#[inline]
fn check_key(key: &[u8]) -> Result<()> {
    if key.is_empty() || key.len() > KEY_LEN_MAX {
        return refuse_key(key);
    }
    Ok(())
}

#[cold]
fn refuse_key(key: &[u8]) -> Result<()> {
    fail!(InvalidArgument, "a key has 1 to {KEY_LEN_MAX} bytes, this one has {}", key.len())
}

impl Bucket {
    pub(crate) fn new(core: Arc<Core>, state: Arc<BucketState>) -> Bucket {
        Bucket { core, state }
    }

    /// The bucket's name.
    pub fn name(&self) -> Arc<[u8]> {
        self.state.name()
    }

    #[inline]
    pub(super) fn check(&self, key: &[u8]) -> Result<()> {
        check_key(key)?;
        self.core.check_open()?;
        self.state.check_alive()
    }

    pub(super) fn wait<T>(&self, operation: impl Future<Output = Result<T>>) -> Result<T> {
        self.core.runtime.block_on(operation)
    }

    // ---- changes --------------------------------------------------------------------------

    /// Stores a value under a key, replacing any there is, at the default level.
    pub fn put(&self, key: &[u8], value: &[u8]) -> Result<Version> {
        self.put_with(key, value, PutOptions::default())
    }

    /// Stores a value under a key, replacing any there is.
    ///
    /// # Errors
    /// `InvalidArgument` for a key or value out of bounds, `NoSpace` if the tiers are full,
    /// `NoMemory` if the index may not grow, `Unsupported` above Memory level without devices,
    /// `DeviceFailed` once a device has failed. Nothing has changed then; after an I/O error of
    /// the log the value may turn out stored at the next open.
    pub fn put_with(&self, key: &[u8], value: &[u8], options: PutOptions) -> Result<Version> {
        self.wait(self.edit(key, Edit::Replace(value), options)).map(|changed| changed.version)
    }

    /// Writes bytes at an offset of the value, making or extending the blob as needed; bytes
    /// never written read as zeros. Atomic, whatever its size.
    pub fn put_at(&self, key: &[u8], offset: u64, bytes: &[u8]) -> Result<Version> {
        self.put_at_with(key, offset, bytes, PutOptions::default())
    }

    /// [`put_at`](Self::put_at) with options.
    pub fn put_at_with(
        &self,
        key: &[u8],
        offset: u64,
        bytes: &[u8],
        options: PutOptions,
    ) -> Result<Version> {
        self.wait(self.edit(key, Edit::PutAt(offset, bytes), options))
            .map(|changed| changed.version)
    }

    /// Adds bytes at the end of the value, making the blob if there is none. Returns the offset
    /// at which they begin.
    pub fn append(&self, key: &[u8], bytes: &[u8]) -> Result<u64> {
        self.append_with(key, bytes, PutOptions::default())
    }

    /// [`append`](Self::append) with options.
    pub fn append_with(&self, key: &[u8], bytes: &[u8], options: PutOptions) -> Result<u64> {
        self.wait(self.edit(key, Edit::Append(bytes), options)).map(|changed| changed.offset)
    }

    /// Sets the length of the value; new bytes read as zeros. `NotFound` if there is no blob.
    pub fn truncate(&self, key: &[u8], len: u64) -> Result<Version> {
        self.truncate_with(key, len, PutOptions::default())
    }

    /// [`truncate`](Self::truncate) with options.
    pub fn truncate_with(&self, key: &[u8], len: u64, options: PutOptions) -> Result<Version> {
        self.wait(self.edit(key, Edit::Truncate(len), options)).map(|changed| changed.version)
    }

    /// Removes the blob. `NotFound` if there is none.
    pub fn delete(&self, key: &[u8]) -> Result<()> {
        self.delete_with(key, PutOptions::default())
    }

    /// [`delete`](Self::delete) with options.
    pub fn delete_with(&self, key: &[u8], options: PutOptions) -> Result<()> {
        self.wait(self.edit(key, Edit::Delete, options)).map(drop)
    }

    /// Gives a blob another name, in this bucket or another of the store, replacing any blob of that
    /// name: atomic, at Written level at least, whatever the value's size. The condition is the
    /// target's. `NotFound` if there is no blob to rename.
    pub fn rename(
        &self,
        key: &[u8],
        to: &Bucket,
        to_key: &[u8],
        options: PutOptions,
    ) -> Result<Version> {
        self.wait(self.rename_async(key, to, to_key, options))
    }

    /// [`rename`](Self::rename), asynchronous. It may be dropped: it then takes place or not.
    #[doc(hidden)]
    pub async fn rename_async(
        &self,
        key: &[u8],
        to: &Bucket,
        to_key: &[u8],
        options: PutOptions,
    ) -> Result<Version> {
        let (from, to, goes) = ((self, key), (to, to_key), copy::Source::Goes);
        copy::copy(from, to, goes, options, Reader::Caller).await
    }

    /// Makes another blob of the same value, in this bucket or another of the store, replacing any of
    /// that name. The two share their buffers: nothing is copied but what no device has yet. A later
    /// change of either leaves the other as it is. The condition is the target's.
    pub fn copy(
        &self,
        key: &[u8],
        to: &Bucket,
        to_key: &[u8],
        options: PutOptions,
    ) -> Result<Version> {
        self.wait(self.copy_async(key, to, to_key, options))
    }

    /// [`copy`](Self::copy), asynchronous. It may be dropped: it then takes place or not.
    #[doc(hidden)]
    pub async fn copy_async(
        &self,
        key: &[u8],
        to: &Bucket,
        to_key: &[u8],
        options: PutOptions,
    ) -> Result<Version> {
        let (from, to, stays) = ((self, key), (to, to_key), copy::Source::Stays);
        copy::copy(from, to, stays, options, Reader::Caller).await
    }

    /// Writes bytes at several offsets of the value, in one version; where they overlap the later ones
    /// win. Makes or extends the blob as [`put_at`](Self::put_at) does. At Written level at least.
    pub fn put_ranges(
        &self,
        key: &[u8],
        ranges: &[(u64, &[u8])],
        options: PutOptions,
    ) -> Result<Version> {
        self.wait(self.put_ranges_async(key, ranges, options))
    }

    /// [`put_ranges`](Self::put_ranges), asynchronous. It may be dropped: it then takes place or not.
    #[doc(hidden)]
    pub async fn put_ranges_async(
        &self,
        key: &[u8],
        ranges: &[(u64, &[u8])],
        options: PutOptions,
    ) -> Result<Version> {
        ranges::put(self, key, ranges, options, Reader::Caller).await
    }

    /// Writes a value piece by piece, of whatever length, in bounded memory. Nothing of it is
    /// visible before [`commit`](BlobWriter::commit).
    ///
    /// # Errors
    /// `InvalidArgument` for a key out of bounds, `Unsupported` above Memory level without devices.
    pub fn writer(&self, key: &[u8], options: PutOptions) -> Result<BlobWriter> {
        BlobWriter::new(self, key, options)
    }

    /// The asynchronous form of every change. It may be dropped: the change then takes place
    /// wholly or not at all.
    #[doc(hidden)]
    pub async fn edit(&self, key: &[u8], edit: Edit<'_>, options: PutOptions) -> Result<Changed> {
        self.edit_by(key, edit, options, Reader::Caller).await
    }

    /// [`edit`](Self::edit), where `reader` reads what the change needs of the value before.
    pub(super) async fn edit_by(
        &self,
        key: &[u8],
        edit: Edit<'_>,
        options: PutOptions,
        reader: Reader<'_>,
    ) -> Result<Changed> {
        let level = self.check_edit(key, edit, options)?;
        let _operation = self.core.begin_operation()?;
        let _change = self.state.begin_change().await?;
        let (counters, runtime) = (&self.core.counters, &self.core.runtime);
        if level == Durability::Memory {
            let start = counters.memory_puts.is_sampled(SAMPLE).then(|| runtime.now());
            if let Some(changed) = self.edit_in_dram(key, edit, options.condition).await? {
                if let Some(start) = start {
                    counters.put.record_for(SAMPLE, runtime.now().since(start));
                }
                return Ok(changed);
            }
            self.refuse_without_devices(edit)?;
            counters.memory_fallbacks.fetch_add(1, Ordering::Relaxed);
        }
        let (start, level) = (runtime.now(), level.max(Durability::Written));
        let changed =
            change::change(&self.core, &self.state, key, (edit, options.condition), level, reader)
                .await?;
        counters.logged_put_bytes.fetch_add(edit.data().len() as u64, Ordering::Relaxed);
        counters.put.record(runtime.now().since(start));
        Ok(changed)
    }

    /// A change at Memory level. `None` if DRAM has no room for it: it must run as Written.
    async fn edit_in_dram(
        &self,
        key: &[u8],
        edit: Edit<'_>,
        condition: Condition,
    ) -> Result<Option<Changed>> {
        match memory::change(&self.core, &self.state, key, edit, condition).await? {
            Outcome::RunAsWritten => Ok(None),
            Outcome::Done(changed) => {
                self.core.counters.memory_puts.count(edit.data().len() as u64);
                Ok(Some(changed))
            }
        }
    }

    fn refuse_without_devices(&self, edit: Edit<'_>) -> Result<()> {
        if !self.core.is_persistent() {
            fail!(
                NoSpace,
                "the DRAM tier has no room for {} bytes, and there is no other tier",
                edit.data().len()
            );
        }
        Ok(())
    }

    /// A change at Memory level, if DRAM has room for it and nobody has claimed its key. `None`: it
    /// has not taken place, and may have to wait.
    pub(super) fn edit_at_once(
        &self,
        key: &[u8],
        edit: Edit<'_>,
        options: PutOptions,
    ) -> Option<Result<Changed>> {
        let at_once = async {
            if self.check_edit(key, edit, options)? > Durability::Memory {
                return Ok(None);
            }
            let _operation = self.core.begin_operation()?;
            let _change = self.state.begin_change().await?;
            self.edit_in_dram(key, edit, options.condition).await
        };
        match pin!(at_once).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => done.transpose(),
            // It waits for a claim to end, and has done nothing yet.
            Poll::Pending => None,
        }
    }

    /// The level of a change, if its arguments are in bounds and the store takes changes.
    fn check_edit(&self, key: &[u8], edit: Edit<'_>, options: PutOptions) -> Result<Durability> {
        self.check_bounds(key, edit)?;
        self.core.check_writable()?;
        let level = self.level(options)?;
        match edit {
            Edit::Attributes(_) => self.logged_level(level),
            _ => Ok(level),
        }
    }

    /// The level of a change that the log must know.
    fn logged_level(&self, level: Durability) -> Result<Durability> {
        if !self.core.is_persistent() {
            fail!(Unsupported, "a store with DRAM alone keeps no attributes; add a tier");
        }
        Ok(level.max(Durability::Written))
    }

    /// Refuses a change whose arguments are out of bounds.
    pub(super) fn check_bounds(&self, key: &[u8], edit: Edit<'_>) -> Result<()> {
        self.check(key)?;
        let len = edit.data().len();
        if len as u64 > VALUE_LEN_MAX {
            fail!(InvalidArgument, "a value has at most {VALUE_LEN_MAX} bytes, this one has {len}");
        }
        if let Edit::Attributes(changes) = edit {
            return changes.check();
        }
        // What is too far out is so whatever the present length.
        edit.effect(0).map(drop)
    }

    pub(super) fn state(&self) -> &BucketState {
        &self.state
    }

    pub(super) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    pub(super) fn id(&self) -> BucketId {
        self.state.id
    }

    /// The level of changes that name none.
    pub(super) fn default_level(&self) -> Durability {
        self.state.durability().unwrap_or(self.core.settings.durability)
    }

    pub(super) fn level(&self, options: PutOptions) -> Result<Durability> {
        let level = options.durability.unwrap_or_else(|| self.default_level());
        if level > Durability::Memory && !self.core.is_persistent() {
            fail!(
                Unsupported,
                "a store with DRAM alone has no {level:?} puts; use Memory, or add a tier"
            );
        }
        Ok(level)
    }
}
