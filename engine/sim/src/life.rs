//! One opening of a store, in a world of its own over disks that outlive it.

use std::mem::ManuallyDrop;
use std::sync::Arc;

use isotherm::engine::Identity;
use isotherm::io::Devices;
use isotherm::io::runtime::Runtime;
use isotherm::io::sim::SimWorld;
use isotherm::io::sim_device::{Faults, SimDevice};
use isotherm::io::sim_disk::{Disk, Fate};
use isotherm::types::Uuid;
use isotherm::{Result, ScanRange, Store};

use crate::calls;
use crate::common::Common;
use crate::options::Options;
use crate::oracle::{End, Found};
use crate::rng::Rng;

/// Keys that a listing asks for at a time.
const PAGE: usize = 16;

/// See the module. One that is dropped on the way, by a panic, is leaked: a store cannot close in a
/// world that stands still.
pub struct Life {
    /// The world that steps the store.
    pub world: Arc<SimWorld>,
    /// Its devices.
    pub devices: Vec<Arc<SimDevice>>,
    /// The store.
    pub store: ManuallyDrop<Store>,
}

impl Life {
    /// Opens the store on these disks, or makes it.
    pub fn open(options: &Options, rng: &mut Rng, disks: Vec<Disk>, fresh: bool) -> Result<Life> {
        let shards = if fresh { options.shards } else { 1 + rng.below(3) as usize };
        let world = SimWorld::new(rng.next());
        let over = |(number, disk)| {
            SimDevice::over(world.clone(), number as u64, options.capacities[number], disk)
        };
        let devices: Vec<Arc<SimDevice>> = disks.into_iter().enumerate().map(over).collect();
        let shared: Devices = devices.iter().map(|device| device.clone() as _).collect();
        let ids = (0..options.tiers).map(|number| Uuid([10 + number as u8; 16]));
        let identity = Identity { store: Uuid([1; 16]), devices: ids.collect() };
        let runtime = Runtime::Sim(world.clone());
        let store = Store::open_on(runtime, shared, options.config(shards), identity, fresh)?;
        Ok(Life { world, devices, store: ManuallyDrop::new(store) })
    }

    /// From now on the devices fail like this.
    pub fn set_faults(&self, faults: Faults) {
        self.devices.iter().for_each(|device| device.set_faults(faults));
    }

    /// What the devices have at this moment.
    pub fn disks(&self) -> Vec<Disk> {
        self.devices.iter().map(|device| device.disk()).collect()
    }

    /// What every key holds, by gets and by the listings, which must agree.
    pub fn found(&self, common: &Common) -> Result<Vec<Found>> {
        let runtime = Runtime::Sim(self.world.clone());
        runtime.block_on(async {
            let buckets = common.buckets(&self.store).await?;
            let names = &common.names;
            let mut found = Vec::with_capacity(names.len());
            for (key, name) in names.iter().enumerate() {
                found.push(match calls::get(common.bucket(&buckets, key), name).await {
                    Ok(value) => Found::Value(value),
                    Err(error) => Found::Error(format!("{:?}: {error}", error.kind())),
                });
            }
            for (number, bucket) in buckets.iter().enumerate() {
                let mut cursor = bucket.scan(ScanRange::all());
                let mut listed = Vec::new();
                loop {
                    let page = cursor.next_page(PAGE)?;
                    if page.is_empty() {
                        break;
                    }
                    listed.extend(page.into_iter().map(|item| item.key.to_vec()));
                }
                for key in common.keys_of(number) {
                    let is_listed = listed.contains(&names[key]);
                    if let Found::Value(value) = &found[key]
                        && value.is_some() != is_listed
                    {
                        let what = format!("listed: {is_listed}, found: {}", value.is_some());
                        found[key] = Found::Error(what);
                    }
                }
            }
            Ok(found)
        })
    }

    /// Ends it without a word to the devices.
    pub fn lose(self) {
        self.devices.iter().for_each(|device| device.switch_off());
        // It cannot: the devices are gone.
        let _ = self.store.close();
        drop(ManuallyDrop::into_inner(self.store));
    }

    /// Closes it.
    pub fn close(self) -> Result<Vec<Disk>> {
        let closed = self.store.close();
        let disks = self.disks();
        drop(ManuallyDrop::into_inner(self.store));
        closed.map(|()| disks)
    }
}

/// What such an end makes of the disks.
pub fn after(disks: &[Disk], end: End, rng: &mut Rng) -> Vec<Disk> {
    let kept = rng.pick(&[0, 10, 50, 90, 100]);
    let torn = rng.pick(&[0, 0, 30]);
    if end == End::Kill {
        // What the process handed to the device goes on, or had not begun.
        return disks.iter().map(|disk| disk.after_kill(|| rng.one_in(2))).collect();
    }
    let mut fate = |_| {
        if rng.below(100) < torn {
            Fate::Torn(rng.next())
        } else if rng.below(100) < kept {
            Fate::Kept
        } else {
            Fate::Lost
        }
    };
    disks.iter().map(|disk| disk.after_crash(&mut fate)).collect()
}
