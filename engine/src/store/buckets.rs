//! Calls about whole buckets: made, listed, changed, cleared, destroyed.

use std::sync::Arc;

use crate::api::Bucket;
use crate::buckets::{BucketState, Whole};
use crate::config::validate::wrong_buffer_size;
use crate::core::Request;
use crate::error::{ErrorKind, Result, fail};
use crate::limits::{BUCKET_NAME_LEN_MAX, BUCKETS_MAX};
use crate::log::record::{BucketRecord, Record};
use crate::shard::apply::apply_bucket;
use crate::store::Store;
use crate::types::{BucketId, Durability};

/// Defaults and quotas of a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BucketOptions {
    /// Default level of its puts; the store's if `None`.
    pub durability: Option<Durability>,
    /// Largest buffer of its blobs in bytes, a multiple of 16 KiB from 64 KiB to 1 MiB; the store's
    /// if `None`.
    pub buffer_size: Option<u32>,
    /// Most bytes of values; any number if `None`. A change that would exceed it is refused with
    /// `QuotaExceeded`; where more is there already, those that add bytes are.
    pub quota_bytes: Option<u64>,
    /// Most blobs, likewise.
    pub quota_blobs: Option<u64>,
}

impl From<BucketRecord> for BucketOptions {
    fn from(record: BucketRecord) -> BucketOptions {
        let BucketRecord { durability, buffer_size, quota_bytes, quota_blobs } = record;
        BucketOptions {
            durability,
            buffer_size: (buffer_size != 0).then_some(buffer_size),
            quota_bytes: (quota_bytes != 0).then_some(quota_bytes),
            quota_blobs: (quota_blobs != 0).then_some(quota_blobs),
        }
    }
}

/// A bucket in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketInfo {
    /// Its name.
    pub name: String,
    /// Its number.
    pub id: BucketId,
    /// Blobs in it.
    pub blobs: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// Its defaults and quotas.
    pub options: BucketOptions,
}

impl Store {
    /// Makes a bucket. `BucketExists` if there is one of this name.
    pub fn create_bucket(&self, name: &str, options: BucketOptions) -> Result<Bucket> {
        self.core().runtime.block_on(self.create_bucket_async(name, options))
    }

    /// [`create_bucket`](Self::create_bucket), asynchronous.
    #[doc(hidden)]
    pub async fn create_bucket_async(&self, name: &str, options: BucketOptions) -> Result<Bucket> {
        let core = self.core();
        core.check_writable()?;
        check_name(name)?;
        let options = check_options(options)?;
        let _operation = core.begin_operation()?;
        if core.buckets.len() >= BUCKETS_MAX {
            fail!(LimitExceeded, "a store has at most {BUCKETS_MAX} buckets");
        }
        let making = core.buckets.begin_making(name.as_bytes()).await;
        self.refuse_taken(name)?;
        let bucket = core.buckets.take_id()?;
        let record = Record::BucketCreate { bucket, name: name.as_bytes().into(), options };
        self.log_bucket(record, None).await?;
        drop(making);
        self.find(name)
    }

    /// Has a change of the list of buckets logged and applied.
    async fn log_bucket(&self, record: Record, whole: Option<Whole>) -> Result<()> {
        let core = self.core();
        if !core.is_persistent() {
            apply_bucket(core, &record, whole);
            return Ok(());
        }
        core.ask(0, |reply| Request::Bucket(record, whole, reply)).await
    }

    /// Opens a bucket. `BucketNotFound` if there is none of this name.
    pub fn open_bucket(&self, name: &str) -> Result<Bucket> {
        self.core().check_open()?;
        check_name(name)?;
        self.find(name)
    }

    pub(super) fn find(&self, name: &str) -> Result<Bucket> {
        Ok(Bucket::new(self.core().clone(), self.find_state(name)?))
    }

    fn find_state(&self, name: &str) -> Result<Arc<BucketState>> {
        match self.core().buckets.by_name(name.as_bytes()) {
            Some(state) => Ok(state),
            None => fail!(BucketNotFound, "there is no bucket {name:?}"),
        }
    }

    fn refuse_taken(&self, name: &str) -> Result<()> {
        if self.core().buckets.by_name(name.as_bytes()).is_some() {
            fail!(BucketExists, "bucket {name:?} exists");
        }
        Ok(())
    }

    /// Opens a bucket, making it with default options if there is none.
    pub fn bucket(&self, name: &str) -> Result<Bucket> {
        match self.open_bucket(name) {
            Err(error) if error.kind() == ErrorKind::BucketNotFound => {}
            found => return found,
        }
        match self.create_bucket(name, BucketOptions::default()) {
            Err(error) if error.kind() == ErrorKind::BucketExists => self.open_bucket(name),
            made => made,
        }
    }

    /// All buckets, by name.
    pub fn list_buckets(&self) -> Result<Vec<BucketInfo>> {
        self.core().check_open()?;
        let info = |bucket: Arc<BucketState>| BucketInfo {
            name: String::from_utf8_lossy(&bucket.name()).into_owned(),
            id: bucket.id,
            blobs: bucket.usage.blobs(),
            bytes: bucket.usage.bytes(),
            options: bucket.options().into(),
        };
        Ok(self.core().buckets.list().into_iter().map(info).collect())
    }

    /// Gives a bucket another name, at Written level. Handles of it go on. `BucketNotFound` if there
    /// is none, `BucketExists` if the other name is taken.
    pub fn rename_bucket(&self, name: &str, to: &str) -> Result<()> {
        self.core().runtime.block_on(self.rename_bucket_async(name, to))
    }

    /// [`rename_bucket`](Self::rename_bucket), asynchronous.
    #[doc(hidden)]
    pub async fn rename_bucket_async(&self, name: &str, to: &str) -> Result<()> {
        let core = self.core();
        core.check_writable()?;
        check_name(name)?;
        check_name(to)?;
        if name == to {
            fail!(InvalidArgument, "bucket {name:?} has this name already");
        }
        let _operation = core.begin_operation()?;
        // In one order, so that two renames never wait for each other.
        let _first = core.buckets.begin_making(name.min(to).as_bytes()).await;
        let _second = core.buckets.begin_making(name.max(to).as_bytes()).await;
        let state = self.find_state(name)?;
        self.refuse_taken(to)?;
        let (bucket, options) = (state.id, state.options());
        let record = Record::BucketChange { bucket, name: to.as_bytes().into(), options };
        self.log_bucket(record, None).await
    }

    /// Sets all options of a bucket, at Written level. Waits for changes under way; those that come
    /// later go by the new options. What is there stays, even where it exceeds a quota.
    pub fn set_bucket_options(&self, name: &str, options: BucketOptions) -> Result<()> {
        self.core().runtime.block_on(self.set_bucket_options_async(name, options))
    }

    /// [`set_bucket_options`](Self::set_bucket_options), asynchronous.
    #[doc(hidden)]
    pub async fn set_bucket_options_async(&self, name: &str, options: BucketOptions) -> Result<()> {
        let core = self.core();
        core.check_writable()?;
        check_name(name)?;
        let options = check_options(options)?;
        let _operation = core.begin_operation()?;
        let _making = core.buckets.begin_making(name.as_bytes()).await;
        let state = self.find_state(name)?;
        let whole = state.take_whole().await?;
        let record =
            Record::BucketChange { bucket: state.id, name: name.as_bytes().into(), options };
        self.log_bucket(record, Some(whole)).await
    }

    /// Removes all blobs of a bucket, at Written level: all or none of them, also if the program ends
    /// meanwhile. Waits for changes under way, and lets those that come later wait. Gets go on; what
    /// they have begun to read they read to its end.
    pub fn clear_bucket(&self, name: &str) -> Result<()> {
        self.core().runtime.block_on(self.clear_bucket_async(name))
    }

    /// [`clear_bucket`](Self::clear_bucket), asynchronous.
    #[doc(hidden)]
    pub async fn clear_bucket_async(&self, name: &str) -> Result<()> {
        let core = self.core();
        core.check_writable()?;
        check_name(name)?;
        let _operation = core.begin_operation()?;
        let state = self.find_state(name)?;
        let whole = state.take_whole().await?;
        // Above those of all changes so far, below those of all that wait.
        let version = core.next_version();
        let record = Record::BucketClear { bucket: state.id, version };
        self.log_bucket(record, Some(whole)).await
    }

    /// Destroys a bucket with all its blobs, at Written level. Waits for changes under way.
    pub fn destroy_bucket(&self, name: &str) -> Result<()> {
        self.core().runtime.block_on(self.destroy_bucket_async(name))
    }

    /// [`destroy_bucket`](Self::destroy_bucket), asynchronous.
    #[doc(hidden)]
    pub async fn destroy_bucket_async(&self, name: &str) -> Result<()> {
        let core = self.core();
        core.check_writable()?;
        check_name(name)?;
        let _operation = core.begin_operation()?;
        let state = self.find_state(name)?;
        let whole = state.take_to_destroy().await?;
        self.log_bucket(Record::BucketDestroy { bucket: state.id }, Some(whole)).await
    }
}

fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name.len() > BUCKET_NAME_LEN_MAX {
        fail!(
            InvalidArgument,
            "a bucket's name has 1 to {BUCKET_NAME_LEN_MAX} bytes, this one has {}",
            name.len()
        );
    }
    Ok(())
}

fn check_options(options: BucketOptions) -> Result<BucketRecord> {
    let BucketOptions { durability, buffer_size, quota_bytes, quota_blobs } = options;
    if let Some(wrong) = buffer_size.and_then(|size| wrong_buffer_size(size.into())) {
        fail!(InvalidArgument, "{wrong}");
    }
    for (what, quota) in [("quota_bytes", quota_bytes), ("quota_blobs", quota_blobs)] {
        if quota == Some(0) {
            fail!(InvalidArgument, "{what} is 0; give 1 or more, or none for any number");
        }
    }
    Ok(BucketRecord {
        durability,
        buffer_size: buffer_size.unwrap_or(0),
        quota_bytes: quota_bytes.unwrap_or(0),
        quota_blobs: quota_blobs.unwrap_or(0),
    })
}
