//! Values in memory, in isotherm and in its peers.
//!
//! Operations come in bursts, so that the call through the trait costs nothing worth naming. Every
//! value carries the number of its key, and every get checks it.

use std::path::Path;
use std::sync::RwLock;

use dashmap::DashMap;
use isotherm::config::{Config, Tier};
use isotherm::{Bucket, Durability, PutOptions, Store};

use crate::Outcome;
use crate::picks::{fill, is_stamped, key, stamp};

/// Something that keeps the values of keys 0, 1, 2... in memory.
pub trait Memory: Sync {
    /// How it is called in a report.
    fn name(&self) -> &'static str;

    /// Copies the value of each of these keys into `dst`, which has a value's size.
    fn gets(&self, burst: &[u32], dst: &mut [u8]) -> Outcome;

    /// Replaces the value of each of these keys by `value`, stamped. `thread` numbers the caller.
    fn puts(&self, thread: usize, burst: &[u32], value: &mut [u8]) -> Outcome;

    /// Lets work end that puts have left behind.
    fn settle(&self) -> Outcome {
        Ok(())
    }
}

#[cold]
fn wrong(name: &str, number: u32) -> Outcome {
    Err(format!("{name}: the value of key {number} is not its own").into())
}

fn keys(count: usize) -> Vec<[u8; 16]> {
    (0..count).map(key).collect()
}

/// isotherm, called as a program calls it.
pub struct Isotherm {
    name: &'static str,
    store: Store,
    bucket: Bucket,
    keys: Vec<[u8; 16]>,
    persistent: bool,
    _directory: tempfile::TempDir,
}

impl Isotherm {
    /// A store in a new directory in `place` with all keys in its DRAM tier. With `persistent`
    /// it has a device tier behind, to which puts are written within the flush interval.
    pub fn new(
        place: &Path,
        count: usize,
        value_len: usize,
        persistent: bool,
    ) -> Outcome<Isotherm> {
        let directory = tempfile::tempdir_in(place)?;
        // A slot for the head and, for a while, one for the old value; size classes round up.
        let values = (count * (value_len + 512)) as u64;
        let dram = (values * 2).max(64 << 20);
        let mut config = Config::builder()
            .tier(Tier::dram(dram))
            .memory_budget(dram + (512 << 20))
            .durability(Durability::Memory);
        if persistent {
            config = config.tier(Tier::nvme((values * 6).max(1 << 30)));
        }
        let store = Store::open(directory.path().join("store"), config.build()?)?;
        let bucket = store.bucket("bench")?;
        let name = if persistent { "isotherm, written behind" } else { "isotherm" };
        let made =
            Isotherm { name, store, bucket, keys: keys(count), persistent, _directory: directory };
        made.load(value_len)?;
        Ok(made)
    }

    fn load(&self, value_len: usize) -> Outcome {
        let mut value = vec![0; value_len];
        fill(&mut value, 1);
        for number in 0..self.keys.len() as u32 {
            self.puts(0, &[number], &mut value)?;
        }
        self.settle()
    }

    /// The store, for its statistics.
    pub fn store(&self) -> &Store {
        &self.store
    }
}

impl Memory for Isotherm {
    fn name(&self) -> &'static str {
        self.name
    }

    fn gets(&self, burst: &[u32], dst: &mut [u8]) -> Outcome {
        for number in burst {
            let len = self.bucket.get_into(&self.keys[*number as usize], dst)?;
            if len != dst.len() || !is_stamped(dst, *number) {
                return wrong(self.name, *number);
            }
        }
        Ok(())
    }

    fn puts(&self, _thread: usize, burst: &[u32], value: &mut [u8]) -> Outcome {
        for number in burst {
            stamp(value, *number);
            let options = PutOptions::from(Durability::Memory);
            self.bucket.put_with(&self.keys[*number as usize], value, options)?;
        }
        Ok(())
    }

    fn settle(&self) -> Outcome {
        if self.persistent {
            self.store.flush(isotherm::Scope::Store)?;
        }
        Ok(())
    }
}

/// DashMap as a program would use it for byte strings: values copied out by a get, allocated and
/// inserted by a put.
pub struct Dash {
    map: DashMap<Vec<u8>, Box<[u8]>>,
    keys: Vec<[u8; 16]>,
}

impl Dash {
    /// A map with all keys.
    pub fn new(count: usize, value_len: usize) -> Outcome<Dash> {
        let made = Dash { map: DashMap::with_capacity(count), keys: keys(count) };
        let mut value = vec![0; value_len];
        fill(&mut value, 1);
        for number in 0..count as u32 {
            made.puts(0, &[number], &mut value)?;
        }
        Ok(made)
    }
}

impl Memory for Dash {
    fn name(&self) -> &'static str {
        "DashMap"
    }

    fn gets(&self, burst: &[u32], dst: &mut [u8]) -> Outcome {
        for number in burst {
            match self.map.get(&self.keys[*number as usize][..]) {
                Some(value) => dst.copy_from_slice(&value),
                None => return wrong(self.name(), *number),
            }
            if !is_stamped(dst, *number) {
                return wrong(self.name(), *number);
            }
        }
        Ok(())
    }

    fn puts(&self, _thread: usize, burst: &[u32], value: &mut [u8]) -> Outcome {
        for number in burst {
            stamp(value, *number);
            self.map.insert(self.keys[*number as usize].to_vec(), Box::from(&value[..]));
        }
        Ok(())
    }
}

/// No store at all: copies from and to one large region, at the places that the load picks.
pub struct Region {
    shared: Vec<u8>,
    /// What a thread writes: its own, for puts to one place would be a data race.
    private: Vec<RwLock<Vec<u8>>>,
}

impl Region {
    /// A region with a place for each key.
    pub fn new(count: usize, value_len: usize, threads: usize) -> Outcome<Region> {
        let mut shared = vec![0; count * value_len];
        fill(&mut shared, 1);
        for (number, value) in shared.chunks_mut(value_len).enumerate() {
            stamp(value, number as u32);
        }
        let private = (0..threads).map(|_| RwLock::new(shared.clone())).collect();
        Ok(Region { shared, private })
    }
}

impl Memory for Region {
    fn name(&self) -> &'static str {
        "memcpy"
    }

    fn gets(&self, burst: &[u32], dst: &mut [u8]) -> Outcome {
        for number in burst {
            let at = *number as usize * dst.len();
            dst.copy_from_slice(&self.shared[at..at + dst.len()]);
            if !is_stamped(std::hint::black_box(&*dst), *number) {
                return wrong(self.name(), *number);
            }
        }
        Ok(())
    }

    fn puts(&self, thread: usize, burst: &[u32], value: &mut [u8]) -> Outcome {
        let Ok(mut region) = self.private[thread].write() else {
            return Err("another thread has panicked".into());
        };
        for number in burst {
            stamp(value, *number);
            let at = *number as usize * value.len();
            region[at..at + value.len()].copy_from_slice(value);
            std::hint::black_box(&mut region[at..at + value.len()]);
        }
        Ok(())
    }
}
