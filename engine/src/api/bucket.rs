//! A bucket and the operations on its blobs.

use std::future::Future;
use std::ops::Bound;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use crate::api::change;
use crate::api::copy;
use crate::api::edit::{Changed, Condition, Edit};
use crate::api::held;
use crate::api::memory::{self, Outcome};
use crate::api::ranges;
use crate::api::read::{self, Got, Reader};
use crate::api::reader::BlobReader;
use crate::api::scan::{Cursor, ScanItem, ScanRange};
use crate::api::stream::BlobWriter;
use crate::buckets::BucketState;
use crate::core::Core;
use crate::error::{Error, ErrorKind, Result, fail};
use crate::io::runtime::Nanos;
use crate::limits::{KEY_LEN_MAX, VALUE_LEN_MAX};
use crate::store::BucketOptions;
use crate::tier::dram::DramGet;
use crate::types::{BucketId, BufferId, Durability, Place, TierId, TierKind, Version};

/// One in this many operations that DRAM answers is timed, and counts for all: reading the clock
/// twice costs as much as the operation.
const SAMPLE: u64 = 256;

/// A bucket of an open store. Cheap to clone; all methods may be called from any thread.
#[derive(Clone)]
pub struct Bucket {
    core: Arc<Core>,
    state: Arc<BucketState>,
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
        self.wait(ranges::put(self, key, ranges, options, Reader::Caller))
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

    // ---- gets -----------------------------------------------------------------------------

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Result<Vec<u8>> {
        let mut value = Vec::new();
        if self.hit_whole(key, &mut value)?.is_none() {
            self.wait(self.read_with(key, 0, Target::Grow(&mut value), Reader::Caller))?;
        }
        Ok(value)
    }

    /// [`get`](Self::get), asynchronous.
    #[doc(hidden)]
    pub async fn get_async(&self, key: &[u8]) -> Result<Vec<u8>> {
        let mut value = Vec::new();
        self.read_with(key, 0, Target::Grow(&mut value), Reader::Caller).await?;
        Ok(value)
    }

    /// The whole value, if DRAM has it.
    pub(super) fn hit_whole(&self, key: &[u8], value: &mut Vec<u8>) -> Result<Option<Got>> {
        self.check(key)?;
        let start = self.sample();
        let hash = self.core.index.hash(self.state.id, key);
        let Some((_, len)) = self.core.dram.head_info(hash, self.state.id, key) else {
            return Ok(None);
        };
        resize(&self.core, value, len)?;
        match self.core.dram.get(hash, self.state.id, key, 0, value) {
            DramGet::Hit { copied, value_len }
                if copied as u64 == value_len && value_len == len =>
            {
                self.count_hit(copied, start);
                Ok(Some(Got { copied, value_len }))
            }
            _ => Ok(None),
        }
    }

    /// Copies the value into `dst` and returns its length.
    ///
    /// # Errors
    /// `BufferTooSmall` if the value is longer than `dst`; [`Error::needed`] has its length.
    pub fn get_into(&self, key: &[u8], dst: &mut [u8]) -> Result<usize> {
        let got = self.read(key, 0, dst, true)?;
        Ok(got.copied)
    }

    /// Copies bytes from `offset` on into `dst`. Returns how many there were: fewer than asked
    /// for at the end of the value, none beyond it.
    pub fn get_at(&self, key: &[u8], offset: u64, dst: &mut [u8]) -> Result<usize> {
        Ok(self.read(key, offset, dst, false)?.copied)
    }

    /// Copies bytes from several offsets on, all of one version. Of each range, how many there were.
    pub fn get_ranges(&self, key: &[u8], ranges: &mut [(u64, &mut [u8])]) -> Result<Vec<usize>> {
        self.wait(ranges::get(self, key, ranges, Reader::Caller)).map(|(counts, _)| counts)
    }

    /// Reads a value piece by piece, in bounded memory, all of the version that is visible now.
    pub fn reader(&self, key: &[u8]) -> Result<BlobReader> {
        BlobReader::new(self, key)
    }

    /// [`get_at`](Self::get_at), asynchronous, with the value's length.
    #[doc(hidden)]
    pub async fn read_async(
        &self,
        key: &[u8],
        offset: u64,
        dst: &mut [u8],
        whole: bool,
    ) -> Result<Got> {
        let target = if whole { Target::Whole(dst) } else { Target::Part(dst) };
        self.read_with(key, offset, target, Reader::Caller).await
    }

    /// Every get that DRAM has not answered.
    pub(super) async fn read_with(
        &self,
        key: &[u8],
        offset: u64,
        target: Target<'_>,
        reader: Reader<'_>,
    ) -> Result<Got> {
        self.check(key)?;
        let _operation = self.core.begin_operation()?;
        let start = self.core.runtime.now();
        let end = match &target {
            Target::Part(dst) | Target::Whole(dst) => offset.saturating_add(dst.len() as u64),
            Target::Grow(_) => u64::MAX,
        };
        let Some(held) = held::hold(&self.core, &self.state, key, offset..end) else {
            return Err(change::not_found(&self.state, key));
        };
        let value_len = held.state.len;
        let dst = match target {
            Target::Whole(dst) if value_len > dst.len() as u64 => {
                return Err(Error::buffer_too_small(dst.len() as u64, value_len));
            }
            Target::Part(dst) | Target::Whole(dst) => dst,
            Target::Grow(value) => {
                resize(&self.core, value, value_len)?;
                &mut value[..]
            }
        };
        let range = offset.min(value_len)..end.min(value_len);
        let copied = (range.end - range.start) as usize;
        read::read_held(&self.core, &self.state, &held, range, &mut dst[..copied], reader).await?;
        self.count_miss(copied, start);
        Ok(Got { copied, value_len })
    }

    #[inline]
    fn read(&self, key: &[u8], offset: u64, dst: &mut [u8], whole: bool) -> Result<Got> {
        match self.hit(key, offset, dst, whole)? {
            Some(got) => Ok(got),
            None => self.read_miss(key, offset, dst, whole),
        }
    }

    /// What DRAM answers, without a lock; `None` if it does not.
    #[inline]
    pub(super) fn hit(
        &self,
        key: &[u8],
        offset: u64,
        dst: &mut [u8],
        whole: bool,
    ) -> Result<Option<Got>> {
        self.check(key)?;
        let start = self.sample();
        let hash = self.core.index.hash(self.state.id, key);
        if let DramGet::Hit { copied, value_len } =
            self.core.dram.get(hash, self.state.id, key, offset, dst)
        {
            if whole && value_len > dst.len() as u64 {
                return Err(Error::buffer_too_small(dst.len() as u64, value_len));
            }
            self.count_hit(copied, start);
            return Ok(Some(Got { copied, value_len }));
        }
        Ok(None)
    }

    /// Apart from the hits, which would pay for its frame.
    #[inline(never)]
    fn read_miss(&self, key: &[u8], offset: u64, dst: &mut [u8], whole: bool) -> Result<Got> {
        self.wait(self.read_async(key, offset, dst, whole))
    }

    /// The time, if this thread's next hit stands for others.
    #[inline]
    fn sample(&self) -> Option<Nanos> {
        self.core.counters.dram_hits.is_sampled(SAMPLE).then(|| self.clock())
    }

    /// Apart from the hits, few of which read it.
    #[cold]
    fn clock(&self) -> Nanos {
        self.core.runtime.now()
    }

    #[inline]
    fn count_hit(&self, bytes: usize, start: Option<Nanos>) {
        self.core.counters.dram_hits.count(bytes as u64);
        if let Some(start) = start {
            self.time_hit(start);
        }
    }

    #[cold]
    fn time_hit(&self, start: Nanos) {
        self.core.counters.get.record_for(SAMPLE, self.core.runtime.now().since(start));
    }

    fn count_miss(&self, bytes: usize, start: Nanos) {
        let counters = &self.core.counters;
        if counters.dram_misses.is_sampled(SAMPLE) {
            // What was read has filled DRAM, perhaps above its watermark.
            self.core.organizer.kick();
        }
        counters.dram_misses.count(bytes as u64);
        counters.get.record(self.core.runtime.now().since(start));
    }

    // ---- facts ----------------------------------------------------------------------------

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

/// Makes `value` as long as a value to be read. A sparse one may be long beyond all memory, and the
/// system grants what it does not have: the budget says what is too much.
pub(super) fn resize(core: &Core, value: &mut Vec<u8>, len: u64) -> Result<()> {
    let size = usize::try_from(len).unwrap_or(usize::MAX);
    let more = size.saturating_sub(value.len());
    if len > core.settings.memory_budget || value.try_reserve_exact(more).is_err() {
        fail!(
            NoMemory,
            "no memory for a value of {len} bytes (memory_budget is {}); read it in pieces with get_at",
            core.settings.memory_budget
        );
    }
    value.resize(size, 0);
    Ok(())
}

/// Where the bytes of a get go.
pub(super) enum Target<'a> {
    /// As many as fit.
    Part(&'a mut [u8]),
    /// The whole value, which must fit.
    Whole(&'a mut [u8]),
    /// The whole value, whatever its length.
    Grow(&'a mut Vec<u8>),
}
