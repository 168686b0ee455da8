//! The public handle: open, close, flush, buckets, info and statistics. `opening`: what a failed
//! open takes back. `salvage`: a
//! damaged one is read. `lock`: who has it open. `files`: its tiers' files. `buckets`:
//! calls about whole buckets. `compact`: space given back. `facts`: info and statistics.

mod buckets;
mod compact;
pub(crate) mod facts;
mod files;
mod lock;
mod opening;
mod salvage;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::api::read::Reader;
pub use crate::store::buckets::{BucketInfo, BucketOptions};

use crate::api::{self, Batch, Bucket, Queue};
use crate::config::{Config, ResolvedConfig};
use crate::control::Service;
use crate::core::Core;
use crate::engine::{Engine, Identity, IoBackend, flush_everything, format};
use crate::error::{Error, Result, fail};
use crate::io::Devices;
use crate::io::runtime::Runtime;
use crate::manifest;
use crate::organizer::damage::DamagedBuffer;
use crate::stats::Stats;
pub use crate::store::compact::{CompactReport, CompactedTier};
use crate::store::facts::Facts;
use crate::store::lock::Access;
use crate::store::opening::{Opening, is_of_creation};
use crate::types::{Durability, TierKind, Uuid, Version};

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
    facts: Arc<Facts>,
    locks: Mutex<Vec<File>>,
    control: Mutex<Option<Service>>,
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
        let control_socket = config.control_socket();
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
        let inner = Inner::new(engine, files, dram_capacity, opening.succeed());
        if control_socket {
            inner.serve(directory, access);
        }
        Ok(Store { inner: Arc::new(inner) })
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
        let inner = Inner::new(engine, files, dram_capacity, Vec::new());
        Ok(Store { inner: Arc::new(inner) })
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
        flush(self.core(), scope).await
    }

    // ---- several blobs --------------------------------------------------------------------

    /// Makes all changes of a batch, or none: a reader, and a crash, sees the old state or the new one
    /// whole. Runs at Written level at least; at the highest default of its buckets if `durability`
    /// is `None`. Returns the version that each step made; of one that changes nothing, the version
    /// found, or that under which the log has it now.
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

    /// Stores many values, all or none: a [batch](Self::commit) of puts. Each blob at most once.
    pub fn put_many(
        &self,
        blobs: &[(&Bucket, &[u8], &[u8])],
        durability: Option<Durability>,
    ) -> Result<Vec<Version>> {
        self.core().runtime.block_on(self.put_many_async(blobs, durability))
    }

    /// [`put_many`](Self::put_many), asynchronous.
    #[doc(hidden)]
    pub async fn put_many_async(
        &self,
        blobs: &[(&Bucket, &[u8], &[u8])],
        durability: Option<Durability>,
    ) -> Result<Vec<Version>> {
        self.commit_async(&api::many::puts(blobs), durability).await
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

    // ---- space ----------------------------------------------------------------------------

    /// Frees the space of what was deleted and replaced, now, where the engine would wait until it is
    /// needed: moves what lives in sparse segments together. Reads and changes go on meanwhile.
    ///
    /// # Errors
    /// `Unsupported` in a store with DRAM alone, `ReadOnly`, `Closed` and `DeviceFailed` as their
    /// names say.
    pub fn compact(&self) -> Result<CompactReport> {
        self.core().runtime.block_on(self.compact_async())
    }

    /// [`compact`](Self::compact), asynchronous.
    #[doc(hidden)]
    pub async fn compact_async(&self) -> Result<CompactReport> {
        compact::compact(self.core()).await
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
        self.inner.facts.info()
    }

    /// Everything counted since the store was opened.
    pub fn stats(&self) -> Stats {
        self.inner.facts.stats()
    }

    /// Buffers whose bytes on a device were found rotten, by the scrub, a check, a move or a get since
    /// the store was opened, and that are still there: reading them answers `Corrupt` until their blobs
    /// are put again. At most 4,096 are remembered. From any thread.
    pub fn damaged(&self) -> Vec<DamagedBuffer> {
        self.core().organizer.damage.list(self.core())
    }

    pub(crate) fn facts(&self) -> &Arc<Facts> {
        &self.inner.facts
    }
}

/// [`Store::flush`], for those who have no handle.
pub(crate) async fn flush(core: &Arc<Core>, scope: Scope<'_>) -> Result<()> {
    core.check_open()?;
    if let Scope::Bucket(name) = scope {
        find(core, name)?;
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

fn find(core: &Arc<Core>, name: &str) -> Result<Bucket> {
    match core.buckets.by_name(name.as_bytes()) {
        Some(state) => Ok(Bucket::new(core.clone(), state)),
        None => fail!(BucketNotFound, "there is no bucket {name:?}"),
    }
}

impl Inner {
    fn new(
        engine: Engine,
        files: Vec<(PathBuf, bool)>,
        dram_capacity: Option<u64>,
        locks: Vec<File>,
    ) -> Inner {
        let facts = Arc::new(Facts::of(&engine, files, dram_capacity));
        Inner { engine, facts, locks: Mutex::new(locks), control: Mutex::default() }
    }

    /// Serves the control socket. A store in a directory that takes none is open all the same.
    fn serve(&self, directory: &Path, access: Access) {
        match Service::start(directory, access == Access::Write, self.facts.clone()) {
            Ok(service) => *self.control.lock() = service,
            Err(error) => self.facts.core.counters.note(error.message().to_owned()),
        }
    }

    fn close(&self) -> Result<()> {
        {
            // While the store is locked, so that it is not the next owner's socket that goes; and
            // whoever else closes it waits here.
            let mut control = self.control.lock();
            if let Some(service) = control.take() {
                service.stop();
            }
        }
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
