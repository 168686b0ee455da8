//! The public handle: open, close, flush, buckets, info and statistics. `opening`: what a failed
//! open takes back. `lock`: who has it open. `files`: its tiers' files.

mod files;
mod lock;
mod opening;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use crate::api::read::Reader;
use crate::api::{self, Batch, Bucket, Queue};
use crate::config::validate::wrong_buffer_size;
use crate::config::{Config, ResolvedConfig};
use crate::core::{Core, Request};
use crate::engine::{Engine, Identity, IoBackend, flush_everything, format};
use crate::error::{Error, ErrorKind, Result, fail};
use crate::io::Devices;
use crate::io::runtime::Runtime;
use crate::limits::{BUCKET_NAME_LEN_MAX, BUCKETS_MAX};
use crate::log::record::{BucketRecord, Record};
use crate::manifest;
use crate::stats::{MemoryStats, Stats, TierStats};
use crate::store::lock::Access;
use crate::store::opening::{Opening, is_of_creation};
use crate::types::{BucketId, Durability, TierKind, Uuid, Version};

/// An open store. One process has it open at a time, or any number of them for reading only; all
/// methods may be called from any thread.
///
/// Dropping the last handle closes it; [`close`](Store::close) does so too and tells what failed.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    /// Paths and O_DIRECT of the device tiers.
    files: Vec<(PathBuf, bool)>,
    dram_capacity: Option<u64>,
    locks: Mutex<Vec<File>>,
}

/// What a [`Store::flush`] covers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Scope<'a> {
    /// Everything.
    #[default]
    Store,
    /// One bucket, by name. Others may be flushed along.
    Bucket(&'a str),
}

/// Options of a new bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BucketOptions {
    /// Default level of its puts; the store's if `None`.
    pub durability: Option<Durability>,
    /// Largest buffer of its blobs in bytes, a multiple of 16 KiB from 64 KiB to 1 MiB; the store's
    /// if `None`.
    pub buffer_size: Option<u32>,
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
}

/// A tier in an [`Info`].
#[derive(Clone, Debug, PartialEq)]
pub struct TierInfo {
    /// Number of a device tier; `None` for DRAM.
    pub index: Option<u8>,
    /// What it is.
    pub kind: TierKind,
    /// Its file.
    pub path: Option<PathBuf>,
    /// Bytes.
    pub capacity: u64,
    /// Bytes of segments (of slots, in DRAM) in use.
    pub used: u64,
    /// Bytes that something refers to.
    pub live: u64,
    /// Whether the page cache is bypassed.
    pub direct: bool,
    /// Why blobs on it cannot be read, if so: its file is missing or another's.
    pub lost: Option<String>,
}

/// What a store is and how it runs.
#[derive(Clone, Debug)]
pub struct Info {
    /// Its identity.
    pub store_uuid: Uuid,
    /// How often it has been opened.
    pub epoch: u32,
    /// What the shards' I/O runs on: `uring`, `threads` or `sim`, or `mixed` where they differ.
    pub io_backend: String,
    /// Why it is not `uring`, or what the kernel refused of it.
    pub io_reason: Option<String>,
    /// The same of each shard.
    pub shard_io: Vec<IoBackend>,
    /// `glommio`, `threads` or `sim`.
    pub organizer_backend: String,
    /// Why it is not `glommio`.
    pub organizer_reason: Option<String>,
    /// Shards running.
    pub shards: usize,
    /// Level of puts that name none.
    pub durability: Durability,
    /// Bytes of memory for everything together.
    pub memory_budget: u64,
    /// DRAM first, then devices from fast to slow.
    pub tiers: Vec<TierInfo>,
    /// Why changes are refused, if they are, after a failure.
    pub poisoned: Option<String>,
    /// Why the store can only be read, if so.
    pub read_only: Option<String>,
}

impl Store {
    /// Opens the store in this directory, or makes one there.
    ///
    /// # Errors
    /// `Locked` if it or one of its tiers' files is open, with the owner's process id;
    /// `InvalidConfig`, `Format`, `TierMissing`, `Corrupt` and `PermissionDenied` as their names say,
    /// each naming the file; `StoreNotFound` if there is none and the configuration says not to make
    /// one. Nothing has changed then, except that an interrupted creation is undone.
    pub fn open(path: impl AsRef<Path>, config: Config) -> Result<Store> {
        let directory = path.as_ref();
        let access = if config.read_only() { Access::Read } else { Access::Write };
        let create = config.create() && access == Access::Write;
        let mut opening = Opening::begin(directory, access, create)?;
        if access == Access::Write {
            manifest::tidy(directory, &is_of_creation)?;
        }
        let runtime = Runtime::os();
        let (config, identity, opened) = match manifest::load(directory)? {
            Some(manifest) => files::open_files(directory, config, &manifest, &mut opening)?,
            None if !create => fail!(StoreNotFound, "there is no store at {}", directory.display()),
            None => files::create_files(directory, config, &runtime, &mut opening)?,
        };
        let files =
            opened.iter().map(|(device, direct)| (device.path().to_owned(), *direct)).collect();
        let devices: Devices = opened.into_iter().map(|(device, _)| device).collect();
        let dram_capacity = config.dram.map(|dram| dram.capacity);
        let engine = Engine::start(runtime, devices, config, identity)?;
        Ok(Store {
            inner: Arc::new(Inner {
                engine,
                files,
                dram_capacity,
                locks: Mutex::new(opening.succeed()),
            }),
        })
    }

    /// Opens a store over devices that the caller has made: the simulator's door.
    #[doc(hidden)]
    pub fn open_on(
        runtime: Runtime,
        devices: Devices,
        config: ResolvedConfig,
        identity: Identity,
        fresh: bool,
    ) -> Result<Store> {
        if fresh {
            format(&runtime, &devices, &config, &identity)?;
        }
        let files = devices.iter().map(|device| (device.path().to_owned(), false)).collect();
        let dram_capacity = config.dram.map(|dram| dram.capacity);
        let engine = Engine::start(runtime, devices, config, identity)?;
        Ok(Store {
            inner: Arc::new(Inner { engine, files, dram_capacity, locks: Mutex::default() }),
        })
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.inner.engine.core
    }

    /// Makes everything durable and ends the engine. Other handles of the store and its buckets
    /// answer `Closed` from then on. Closing twice is not an error.
    pub fn close(&self) -> Result<()> {
        self.inner.close()
    }

    /// Refuses all changes from now on, as after a breach of the engine's own invariants: for bindings
    /// that have caught a panic inside it.
    #[doc(hidden)]
    pub fn poison(&self, error: Error) {
        self.core().poison(error);
    }

    /// Makes everything acknowledged before this call durable: it survives power loss.
    pub fn flush(&self, scope: Scope<'_>) -> Result<()> {
        self.core().runtime.block_on(self.flush_async(scope))
    }

    /// [`flush`](Self::flush), asynchronous.
    #[doc(hidden)]
    pub async fn flush_async(&self, scope: Scope<'_>) -> Result<()> {
        let core = self.core();
        core.check_open()?;
        if let Scope::Bucket(name) = scope {
            self.find(name)?;
        }
        if core.settings.read_only.is_some() {
            return Ok(()); // There is nothing to flush.
        }
        core.check_writable()?;
        if !core.is_persistent() {
            fail!(Unsupported, "a store with DRAM alone cannot flush; add a tier");
        }
        let _operation = core.begin_operation()?;
        flush_everything(core).await
    }

    // ---- buckets --------------------------------------------------------------------------

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
        let record = check_options(options)?;
        let _operation = core.begin_operation()?;
        if core.buckets.len() >= BUCKETS_MAX {
            fail!(LimitExceeded, "a store has at most {BUCKETS_MAX} buckets");
        }
        let making = core.buckets.begin_making(name.as_bytes()).await;
        self.log_bucket(name, record).await?;
        drop(making);
        self.find(name)
    }

    async fn log_bucket(&self, name: &str, options: BucketRecord) -> Result<()> {
        let core = self.core();
        if core.buckets.by_name(name.as_bytes()).is_some() {
            fail!(BucketExists, "bucket {name:?} exists");
        }
        let bucket = core.buckets.take_id();
        if !core.is_persistent() {
            core.buckets.insert(bucket, name.as_bytes(), options);
            return Ok(());
        }
        let record = Record::BucketCreate { bucket, name: name.as_bytes().into(), options };
        core.ask(0, |reply| Request::Bucket(record, reply)).await
    }

    /// Opens a bucket. `BucketNotFound` if there is none of this name.
    pub fn open_bucket(&self, name: &str) -> Result<Bucket> {
        self.core().check_open()?;
        check_name(name)?;
        self.find(name)
    }

    fn find(&self, name: &str) -> Result<Bucket> {
        match self.core().buckets.by_name(name.as_bytes()) {
            Some(state) => Ok(Bucket::new(self.core().clone(), state)),
            None => fail!(BucketNotFound, "there is no bucket {name:?}"),
        }
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
        let info = |bucket: Arc<crate::buckets::BucketState>| BucketInfo {
            name: String::from_utf8_lossy(&bucket.name).into_owned(),
            id: bucket.id,
            blobs: bucket.blob_count(),
            bytes: bucket.byte_count(),
        };
        Ok(self.core().buckets.list().into_iter().map(info).collect())
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
        let Some(state) = core.buckets.by_name(name.as_bytes()) else {
            fail!(BucketNotFound, "there is no bucket {name:?}")
        };
        let Some(mut destroying) = state.begin_destroy().await else {
            fail!(BucketNotFound, "bucket {name:?} is being destroyed");
        };
        if !core.is_persistent() {
            core.buckets.remove(core, state.id);
            destroying.decided();
            return Ok(());
        }
        let record = Record::BucketDestroy { bucket: state.id };
        let answer = core.send(0, |reply| Request::Bucket(record, reply)).await;
        destroying.decided();
        let destroyed = core.answered(answer).await;
        if destroyed.is_err() {
            destroying.refused();
        }
        destroyed
    }

    // ---- several blobs --------------------------------------------------------------------

    /// Makes all changes of a batch, or none: a reader, and a crash, sees the old state or the new one
    /// whole. Runs at Written level at least; at the highest default of its buckets if `durability`
    /// is `None`. Returns the version that each step made; of one that changes nothing, the version
    /// found.
    ///
    /// # Errors
    /// Those of each change, and that of the first condition that does not hold; `InvalidArgument` if
    /// a blob is named twice, `LimitExceeded` if the records do not fit one batch of the log (values
    /// may have any size), `Unsupported` in a store with DRAM alone. Nothing has changed then.
    pub fn commit(
        &self,
        batch: &Batch<'_>,
        durability: Option<Durability>,
    ) -> Result<Vec<Version>> {
        self.core().runtime.block_on(self.commit_async(batch, durability))
    }

    /// [`commit`](Self::commit), asynchronous. It may be dropped: the batch then takes place wholly or
    /// not at all.
    #[doc(hidden)]
    pub async fn commit_async(
        &self,
        batch: &Batch<'_>,
        durability: Option<Durability>,
    ) -> Result<Vec<Version>> {
        let changed = api::batch::commit(self.core(), batch, durability, Reader::Caller).await?;
        Ok(changed.into_iter().map(|changed| changed.version).collect())
    }

    /// The values of several blobs, all as of one moment: no batch shows in part. Of each its value, or
    /// why there is none.
    ///
    /// # Errors
    /// `InvalidArgument` for a key out of bounds or a bucket of another store.
    pub fn get_many(&self, blobs: &[(&Bucket, &[u8])]) -> Result<Vec<Result<Vec<u8>>>> {
        self.core().runtime.block_on(self.get_many_async(blobs))
    }

    /// [`get_many`](Self::get_many), asynchronous.
    #[doc(hidden)]
    pub async fn get_many_async(&self, blobs: &[(&Bucket, &[u8])]) -> Result<Vec<Result<Vec<u8>>>> {
        api::many::get_many(self.core(), blobs, Reader::Caller).await
    }

    // ---- asynchronous operations ----------------------------------------------------------

    /// A queue of asynchronous operations: at most `depth` submitted whose completions have not been
    /// taken, 1 to 65,536. A queue per thread is the fast way; one shared by threads is right too.
    pub fn queue(&self, depth: usize) -> Result<Queue> {
        self.core().check_open()?;
        Queue::new(self.core().clone(), depth)
    }

    // ---- facts ----------------------------------------------------------------------------

    /// What the store is and how it runs.
    pub fn info(&self) -> Info {
        let core = self.core();
        let engine = &self.inner.engine;
        let dram = self.inner.dram_capacity.map(|capacity| TierInfo {
            index: None,
            kind: TierKind::Dram,
            path: None,
            capacity,
            used: core.dram.used_bytes(),
            live: core.dram.used_bytes(),
            direct: false,
            lost: None,
        });
        let devices =
            core.space.tiers().iter().zip(&self.inner.files).map(|(tier, (path, direct))| {
                TierInfo {
                    index: Some(tier.id.0),
                    kind: tier.kind,
                    path: Some(path.clone()),
                    capacity: tier.capacity,
                    used: tier.capacity - tier.free_segments() as u64 * tier.segment_size,
                    live: tier.live_bytes(),
                    direct: *direct,
                    lost: tier.check_there().err().map(|error| error.message().to_owned()),
                }
            });
        Info {
            store_uuid: core.settings.store,
            epoch: core.settings.epoch.0,
            io_backend: engine.io.name.to_owned(),
            io_reason: engine.io.reason.clone(),
            shard_io: engine.shard_io.clone(),
            organizer_backend: core.organizer.backend().unwrap_or_default().to_owned(),
            organizer_reason: engine.organizer_reason.clone(),
            shards: core.shards.len(),
            durability: core.settings.durability,
            memory_budget: core.settings.memory_budget,
            tiers: dram.into_iter().chain(devices).collect(),
            poisoned: core.poisoned().map(ToString::to_string),
            read_only: core.settings.read_only.clone(),
        }
    }

    /// Everything counted since the store was opened.
    pub fn stats(&self) -> Stats {
        let core = self.core();
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let tiers = core.space.tiers().iter().map(|tier| TierStats {
            kind: tier.kind,
            capacity: tier.capacity,
            used: tier.capacity - tier.free_segments() as u64 * tier.segment_size,
            live: tier.live_bytes(),
            free_segments: tier.free_segments() as u64,
            reads: count(&tier.counters.reads),
            read_bytes: count(&tier.counters.read_bytes),
            writes: count(&tier.counters.writes),
            written_bytes: count(&tier.counters.written_bytes),
            flushes: count(&tier.counters.flushes),
        });
        let counters = &core.counters;
        Stats {
            tiers: tiers.collect(),
            memory: MemoryStats {
                budget: core.settings.memory_budget,
                dram_capacity: core.dram.capacity(),
                dram_touched: core.dram.faulted_bytes(),
                dram_used: core.dram.used_bytes(),
                dram_dirty: core.dram.dirty_bytes(),
                index: core.index.budget().used_bytes(),
                pages: core.pages.used_bytes(),
                pages_max: core.pages.limit_bytes(),
                io_buffers: core.pool.in_use() as u64,
                io_buffers_max: core.pool.budget() as u64,
            },
            blobs: core.buckets.blob_count(),
            dram_hits: counters.dram_hits.operations(),
            dram_misses: counters.dram_misses.operations(),
            memory_puts: counters.memory_puts.operations(),
            memory_fallbacks: count(&counters.memory_fallbacks),
            logged_changes: count(&counters.logged_changes),
            written_behind: count(&counters.written_behind),
            put_bytes: counters.memory_puts.bytes() + count(&counters.logged_put_bytes),
            get_bytes: counters.dram_hits.bytes() + counters.dram_misses.bytes(),
            spills: count(&counters.spills),
            caller_evictions: count(&counters.caller_evictions),
            batches: count(&counters.batches),
            records: count(&counters.records),
            corruptions: count(&counters.corruptions),
            page_hits: core.pages.hits_and_misses().0,
            page_misses: core.pages.hits_and_misses().1,
            organizer: core.organizer.stats(),
            get: counters.get.snapshot(),
            put: counters.put.snapshot(),
            device_read: counters.device_read.snapshot(),
            device_write: counters.device_write.snapshot(),
            device_flush: counters.device_flush.snapshot(),
            notes: counters.notes(),
        }
    }
}

impl Inner {
    fn close(&self) -> Result<()> {
        let Some(result) = self.engine.stop() else { return Ok(()) };
        // Released last, and by who ended the engine: nobody opens a store still being written.
        self.locks.lock().clear();
        result
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Nobody is left to tell; what was acknowledged at Written is safe all the same.
        let _unreported = self.close();
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
    if let Some(wrong) = options.buffer_size.and_then(|size| wrong_buffer_size(size.into())) {
        fail!(InvalidArgument, "{wrong}");
    }
    let buffer_size = options.buffer_size.unwrap_or(0);
    Ok(BucketRecord { durability: options.durability, buffer_size, quota_bytes: 0, quota_blobs: 0 })
}
