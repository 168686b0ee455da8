//! A small store that has seen everything: every kind of record stands in its log, blobs of every
//! shape in its tiers. For damage of every bit of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use isotherm::config::ResolvedConfig;
use isotherm::engine::Identity;
use isotherm::io::Devices;
use isotherm::io::runtime::Runtime;
use isotherm::io::sim::SimWorld;
use isotherm::io::sim_device::SimDevice;
use isotherm::io::sim_disk::{Disk, Fate};
use isotherm::log::follow::LogExpect;
use isotherm::log::record::{Record, RecordKind};
use isotherm::log::scan::{Scan, scan};
use isotherm::log::superblock::{LogStart, SUPERBLOCK_LEN, SUPERBLOCK_SLOTS, Superblock};
use isotherm::salvage::SalvageTier;
use isotherm::types::Uuid;
use isotherm::{
    AttributeChanges, Bucket, BucketOptions, Durability, Error, ErrorKind, PutOptions, Result,
    Salvage, ScanRange, Scope, Store,
};

use crate::options::Options;
use crate::rng::mix;

/// Rounds in which every kind of record must have come.
const ROUNDS_MAX: u64 = 40;

/// More than the time after which an idle log gets a marker.
const MARKED_AFTER: Duration = Duration::from_millis(50);

/// A blob, with all that is known of it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Blob {
    /// Its bucket.
    pub bucket: String,
    /// Its key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
    /// Its attributes and its score, as text.
    pub marks: String,
}

/// The devices of the store at one moment, and what it holds.
pub struct Small {
    /// The devices, as a crash has left them: the log has every kind of record.
    pub crashed: Vec<Disk>,
    /// The devices of the same store, after a recovery and a clean close.
    pub closed: Vec<Disk>,
    /// Every blob.
    pub blobs: Vec<Blob>,
    /// Rounds that its life has had.
    pub rounds: u64,
}

/// A blob that was listed, or why it cannot be read: its bucket, its key, the error.
pub type Read = std::result::Result<Blob, (String, Vec<u8>, Error)>;

/// What a store over such devices shows.
pub enum Shown {
    /// It does not open.
    Refused(Error),
    /// Its blobs; of some the reason why they cannot be read.
    Blobs(Vec<Read>),
    /// It opens, and its list of buckets or blobs cannot be read.
    Unlisted(Error),
}

fn config() -> ResolvedConfig {
    let mut options = Options::draw(0, 0);
    (options.tiers, options.page_extents, options.buffer_size) = (2, 64, 64 << 10);
    (options.dram, options.flush_interval_ms) = (2 << 20, 5);
    let mut config = options.config(1);
    // Whatever lies on the first tier is soon moved to the second.
    (config.devices[0].watermark_low, config.devices[0].watermark_high) = (0.01, 0.02);
    config
}

/// A device of this length, which may be shorter than the tier.
fn devices(world: &Arc<SimWorld>, disks: &[Disk], lens: &[u64]) -> Vec<Arc<SimDevice>> {
    let device = |(number, (disk, len)): (usize, (&Disk, &u64))| {
        SimDevice::over(world.clone(), number as u64, *len, disk.clone())
    };
    disks.iter().zip(lens).enumerate().map(device).collect()
}

fn open(world: &Arc<SimWorld>, devices: &[Arc<SimDevice>], fresh: bool) -> Result<Store> {
    let shared: Devices = devices.iter().map(|device| device.clone() as _).collect();
    let identity = identity(devices.len());
    Store::open_on(Runtime::Sim(world.clone()), shared, config(), identity, fresh)
}

fn identity(tiers: usize) -> Identity {
    let devices = (0..tiers).map(|number| Uuid([20 + number as u8; 16])).collect();
    Identity { store: Uuid([2; 16]), devices }
}

/// Bytes of each device.
pub fn capacities() -> Vec<u64> {
    config().devices.iter().map(|tier| tier.capacity).collect()
}

/// A store over copies of such devices.
pub struct Opened {
    world: Arc<SimWorld>,
    devices: Vec<Arc<SimDevice>>,
    /// The store.
    pub store: Store,
}

impl Opened {
    /// Opens it, in a world of this seed.
    pub fn over(disks: &[Disk], lens: &[u64], seed: u64) -> Result<Opened> {
        let world = SimWorld::new(seed);
        let devices = devices(&world, disks, lens);
        let store = open(&world, &devices, false)?;
        Ok(Opened { world, devices, store })
    }

    /// Time goes by: what is to be written behind is, and the organizer has had its turns.
    pub fn pass_time(&self) {
        pass_time(&self.world);
    }

    /// What a crash that loses nothing leaves at this moment.
    pub fn disks(&self) -> Vec<Disk> {
        self.devices.iter().map(|device| survivor(device)).collect()
    }

    /// The store is gone, as it is.
    pub fn lose(self) {
        self.devices.iter().for_each(|device| device.switch_off());
        // It cannot: the devices are gone.
        let _ = self.store.close();
    }
}

/// What a store over these devices shows.
pub fn show(disks: &[Disk], lens: &[u64]) -> Shown {
    let opened = match Opened::over(disks, lens, 7) {
        Ok(opened) => opened,
        Err(error) => return Shown::Refused(error),
    };
    let shown = blobs(&opened.store).map_or_else(Shown::Unlisted, Shown::Blobs);
    opened.lose();
    shown
}

fn blobs(store: &Store) -> Result<Vec<Read>> {
    let mut blobs = Vec::new();
    for info in store.list_buckets()? {
        let bucket = store.open_bucket(&info.name)?;
        for item in bucket.scan(ScanRange::all()) {
            let key = item?.key;
            let read = read(&bucket, &info.name, &key);
            blobs.push(read.map_err(|error| (info.name.clone(), key.to_vec(), error)));
        }
    }
    Ok(blobs)
}

fn read(bucket: &Bucket, name: &str, key: &[u8]) -> Result<Blob> {
    let value = bucket.get(key)?;
    let score = bucket.stat(key)?.score;
    let marks = format!("{score:?} {:?}", bucket.attributes(key)?);
    Ok(Blob { bucket: name.to_owned(), key: key.to_vec(), value, marks })
}

/// Every state that a blob has had in a life of so many rounds, and at its end.
pub fn states(rounds: u64, state: &mut dyn FnMut(Blob)) -> Result<()> {
    let world = SimWorld::new(5);
    let lens = capacities();
    let devices = devices(&world, &vec![Disk::default(); lens.len()], &lens);
    let store = open(&world, &devices, true)?;
    let mut seen = |store: &Store| {
        for read in blobs(store)? {
            state(read.map_err(|(_, _, error)| error)?);
        }
        Ok(())
    };
    (1..=rounds).try_for_each(|round| live(&store, round, &mut seen))?;
    store.close()
}

/// What salvage makes of these devices; `None` of one that is lost.
pub fn salvage(disks: &[Option<Disk>], lens: &[u64]) -> Result<Salvage> {
    let (world, config) = (SimWorld::new(9), config());
    let tier = |(number, (disk, len)): (usize, (&Option<Disk>, &u64))| {
        let over = |disk: &Disk| SimDevice::over(world.clone(), number as u64, *len, disk.clone());
        let device = disk.as_ref().map(over).ok_or_else(|| "it is gone".to_owned());
        let tier = &config.devices[number];
        SalvageTier {
            device: device.map(|device| device as _),
            capacity: tier.capacity,
            segment_size: tier.segment_size,
        }
    };
    let tiers = disks.iter().zip(lens).enumerate().map(tier).collect();
    Salvage::open_on(identity(disks.len()), tiers)
}

/// Makes it.
pub fn make() -> Result<Small> {
    let world = SimWorld::new(5);
    let lens = capacities();
    let first = devices(&world, &vec![Disk::default(); lens.len()], &lens);
    let store = open(&world, &first, true)?;
    let mut round = 0;
    let (crashed, blobs) = loop {
        round += 1;
        live(&store, round, &mut |_| Ok(()))?;
        pass_time(&world);
        let disks: Vec<Disk> = first.iter().map(|device| survivor(device)).collect();
        let kinds = kinds_in(&world, &disks[0], lens[0])?;
        if Record::KINDS.iter().all(|kind| kinds.contains(&(*kind as u16))) {
            let blobs = blobs(&store)?.into_iter().map(|read| read.map_err(|(_, _, error)| error));
            break (disks, blobs.collect::<Result<Vec<_>>>()?);
        }
        if round == ROUNDS_MAX {
            let what = format!("after {round} rounds the log has only {kinds:?}");
            return Err(Error::new(ErrorKind::Internal, what));
        }
    };
    first.iter().for_each(|device| device.switch_off());
    // It cannot: the devices are gone.
    let _ = store.close();
    let world = SimWorld::new(6);
    let second = devices(&world, &crashed, &lens);
    open(&world, &second, false)?.close()?;
    let closed = second.iter().map(|device| survivor(device)).collect();
    Ok(Small { crashed, closed, blobs, rounds: round })
}

/// A while later the log's end is named by a marker: until then rot there looks like a torn tail.
fn pass_time(world: &Arc<SimWorld>) {
    let runtime = Runtime::Sim(world.clone());
    let until = runtime.now().after(MARKED_AFTER);
    runtime.block_on_until(until, std::future::pending::<()>());
}

fn survivor(device: &SimDevice) -> Disk {
    device.disk().after_crash(|_| Fate::Kept)
}

/// The kinds of records in the log that a recovery would read.
fn kinds_in(world: &Arc<SimWorld>, disk: &Disk, len: u64) -> Result<BTreeSet<u16>> {
    let slots = SUPERBLOCK_SLOTS.map(|at| {
        let mut bytes = vec![0; SUPERBLOCK_LEN];
        disk.read(at, &mut bytes);
        bytes
    });
    let superblock = Superblock::newest(slots.each_ref().map(Vec::as_slice))?;
    let log = log_of(world, &superblock, superblock.log_start, disk, len)?;
    let records = log.batches.iter().flat_map(|batch| batch.records());
    Ok(records.map(|record| record.kind()).map(|kind: RecordKind| kind as u16).collect())
}

/// The log from `start` on, as a recovery would read it that goes by this superblock.
pub(crate) fn log_of(
    world: &Arc<SimWorld>,
    superblock: &Superblock,
    start: LogStart,
    disk: &Disk,
    len: u64,
) -> Result<Scan> {
    let expect = LogExpect::of(superblock);
    let device = SimDevice::over(world.clone(), 9, len, disk.clone());
    scan(&*device, start, &expect)
}

fn bytes(seed: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| mix((seed << 32) | (at / 8)).to_le_bytes()[at as usize % 8]).collect()
}

/// Makes a sparse value of so many extents, of few bytes.
fn scatter(bucket: &Bucket, key: &[u8], extents: u64, seed: u64) -> Result<()> {
    let parts: Vec<_> = (0..extents).map(|at| (at * (64 << 10), bytes(seed + at, 100))).collect();
    let ranges: Vec<(u64, &[u8])> = parts.iter().map(|(at, bytes)| (*at, &bytes[..])).collect();
    bucket.put_ranges(key, &ranges, PutOptions::default()).map(drop)
}

/// Does everything once, each round a little different. `seen` is called after every change.
fn live(store: &Store, round: u64, seen: &mut dyn FnMut(&Store) -> Result<()>) -> Result<()> {
    // Buffers move, segments come free, and the log begins anew.
    store.compact()?;
    let (first, second) = (store.bucket("first")?, store.bucket("second")?);
    let seed = |at: u64| round * 100 + at;
    for (at, level) in
        [Durability::Memory, Durability::Written, Durability::Durable, Durability::Memory]
            .into_iter()
            .enumerate()
    {
        let key = format!("value {at} of {}", round % 2);
        first.put_with(key.as_bytes(), &bytes(seed(at as u64), 100 << (3 * at)), level.into())?;
        seen(store)?;
    }
    // A map of several buffers with a hole, an edit in its middle and a cut end; one in pages; one of
    // so many extents that an edit is logged as a difference.
    first.put(b"map", &bytes(seed(10), 100_000))?;
    seen(store)?;
    first.put_at(b"map", 20_000, &bytes(seed(11), 20_000))?;
    seen(store)?;
    first.put_at(b"map", 150_000, b"behind a hole")?;
    seen(store)?;
    first.truncate(b"map", 150_006)?;
    seen(store)?;
    first.append(b"map", b"the end")?;
    seen(store)?;
    scatter(&second, b"fine", 20, seed(19))?;
    seen(store)?;
    second.put_at(b"fine", 500_000, &bytes(seed(18), 2000))?;
    seen(store)?;
    scatter(&second, b"paged", 50, seed(20))?;
    seen(store)?;
    second.put_at(b"paged", 100_000, &bytes(seed(21), 20_000))?;
    seen(store)?;
    second.truncate(b"paged", 3_000_001)?;
    seen(store)?;
    scatter(&second, b"short-lived", 40, seed(22))?;
    seen(store)?;
    second.delete(b"short-lived")?;
    seen(store)?;
    // Attributes: of what is in the log, in pages, and in DRAM alone.
    let changes = |at: u64| {
        AttributeChanges::new()
            .set("round", seed(at) as i64)
            .set("text", format!("{at}"))
            .score(0.5)
    };
    first.set_attributes(b"map", &changes(30))?;
    seen(store)?;
    second.set_attributes(b"paged", &changes(31))?;
    seen(store)?;
    second.put_with(b"kept", &bytes(seed(32), 5_000), Durability::Memory.into())?;
    seen(store)?;
    second.set_attributes(b"kept", &changes(33))?;
    seen(store)?;
    // Buffers that several name; a name that changes.
    first.put(b"original", &bytes(seed(40), 50_000))?;
    seen(store)?;
    first.copy(b"original", &second, b"copy", PutOptions::default())?;
    seen(store)?;
    first.rename(b"original", &first, b"renamed", PutOptions::default())?;
    seen(store)?;
    // Buckets that come, change, are cleared and go.
    store.bucket("coming")?.put(b"x", &bytes(seed(50), 3000))?;
    seen(store)?;
    store.rename_bucket("coming", "going")?;
    seen(store)?;
    store.destroy_bucket("going")?;
    seen(store)?;
    let limited = store.bucket("limited")?;
    limited.put(b"cleared", &bytes(seed(51), 20_000))?;
    seen(store)?;
    store.clear_bucket("limited")?;
    seen(store)?;
    limited.put(b"new", b"value")?;
    seen(store)?;
    let quota_bytes = Some(100_000 + round);
    store.set_bucket_options("limited", BucketOptions { quota_bytes, ..Default::default() })?;
    seen(store)?;
    store.flush(Scope::Store)
}
