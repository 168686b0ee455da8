//! Damage of a small store with every kind of record: bits flipped, sectors zeroed, made random, swapped
//! and taken from an older moment, devices cut short. Whatever the store shows is right, or it says why
//! it cannot tell.
//!
//! ISOTHERM_DAMAGE_STRIDE: every how many'th bit is flipped, 1 for each.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use isotherm::io::sim_disk::{Disk, SECTOR};
use isotherm_sim::rng::Rng;
use isotherm_sim::small::{Blob, Small, capacities, make, show};
use isotherm_sim::verdict::{Judgement, Verdict, judge};

struct Bench {
    blobs: BTreeSet<Blob>,
    lens: Vec<u64>,
    /// By kind of damage, and what came of it.
    table: BTreeMap<(String, Verdict), u64>,
    /// Most blobs that one flipped bit took.
    lost_max: usize,
    bad: Vec<String>,
}

impl Bench {
    fn new(small: &Small) -> Bench {
        let blobs = small.blobs.iter().cloned().collect();
        let (table, bad) = (BTreeMap::new(), Vec::new());
        Bench { blobs, lens: capacities(), table, lost_max: 0, bad }
    }

    fn try_one(&mut self, kind: &str, disks: &[Disk], place: impl std::fmt::Debug) {
        let lens = self.lens.clone();
        let shown = catch_unwind(AssertUnwindSafe(|| show(disks, &lens)));
        let Judgement { verdict, told, refused } = match shown {
            Err(panic) => {
                let told = isotherm_sim::run::message_of(&panic);
                Judgement { told, ..Judgement::of(Verdict::Panicked) }
            }
            Ok(shown) => judge(&self.blobs, shown),
        };
        self.lost_max = self.lost_max.max(refused);
        *self.table.entry((kind.to_owned(), verdict)).or_default() += 1;
        if verdict >= Verdict::Missing && self.bad.len() < 20 {
            self.bad.push(format!("{kind} at {place:?}: {verdict:?}: {told}"));
        }
    }

    fn finish(self) {
        for ((kind, verdict), count) in &self.table {
            println!("{kind}: {verdict:?} {count}");
        }
        println!("most blobs lost by one damage: {} of {}", self.lost_max, self.blobs.len());
        assert!(self.bad.is_empty(), "{}", self.bad.join("\n"));
    }
}

/// The sectors that hold anything, by device.
fn sectors(disk: &Disk) -> Vec<u64> {
    let ranges = disk.written().into_iter();
    let all = ranges.flat_map(|range| range.step_by(SECTOR));
    all.filter(|at| sector(disk, *at).iter().any(|byte| *byte != 0)).collect()
}

fn sector(disk: &Disk, at: u64) -> [u8; SECTOR] {
    let mut bytes = [0; SECTOR];
    disk.read(at, &mut bytes);
    bytes
}

/// The devices with one sector damaged.
fn with(disks: &[Disk], device: usize, at: u64, bytes: &[u8]) -> Vec<Disk> {
    let mut copy = disks.to_vec();
    copy[device].damage(at, bytes);
    copy
}

fn stride() -> u64 {
    std::env::var("ISOTHERM_DAMAGE_STRIDE").map_or(19_997, |stride| stride.parse().unwrap())
}

#[test]
fn the_small_store_comes_back_whole_where_nothing_is_damaged() {
    let small = make().unwrap();
    assert!(small.blobs.len() > 12, "{} blobs", small.blobs.len());
    for disks in [&small.crashed, &small.closed] {
        let mut bench = Bench::new(&small);
        bench.try_one("nothing", disks, ());
        assert_eq!(bench.table.keys().next().unwrap().1, Verdict::Right);
        bench.finish();
    }
}

#[test]
fn no_flipped_bit_makes_a_store_lie() {
    let small = make().unwrap();
    for (moment, disks) in [("crashed", &small.crashed), ("closed", &small.closed)] {
        let mut bench = Bench::new(&small);
        let (mut sectors_end, mut next) = (0, 0);
        for (device, disk) in disks.iter().enumerate() {
            for at in sectors(disk) {
                let first = sectors_end;
                sectors_end += SECTOR as u64 * 8;
                while next < sectors_end {
                    let bit = next - first;
                    let mut bytes = sector(disk, at);
                    bytes[bit as usize / 8] ^= 1 << (bit % 8);
                    let damaged = with(disks, device, at, &bytes);
                    bench.try_one(&format!("{moment}, a bit"), &damaged, (device, at, bit));
                    next += stride();
                }
            }
        }
        println!("{moment}: {sectors_end} bits, every {}th flipped", stride());
        bench.finish();
    }
}

#[test]
fn no_damaged_sector_makes_a_store_lie() {
    let small = make().unwrap();
    let mut rng = Rng::new(1);
    let every = (stride() / 2000).max(1) as usize;
    for (moment, disks) in [("crashed", &small.crashed), ("closed", &small.closed)] {
        let mut bench = Bench::new(&small);
        for (device, disk) in disks.iter().enumerate() {
            let sectors = sectors(disk);
            for at in sectors.iter().copied().step_by(every) {
                let random: Vec<u8> = (0..SECTOR).map(|_| rng.next() as u8).collect();
                let other = sector(disk, sectors[rng.below(sectors.len() as u64) as usize]);
                let older = sector(&small.crashed[device], at);
                for (kind, bytes) in [
                    ("zeros", &[0; SECTOR][..]),
                    ("ones", &[0xFF; SECTOR][..]),
                    ("random", &random[..]),
                    ("another sector", &other[..]),
                    ("an older one", &older[..]),
                ] {
                    let damaged = with(disks, device, at, bytes);
                    bench.try_one(&format!("{moment}, {kind}"), &damaged, (device, at));
                }
            }
        }
        bench.finish();
    }
}

#[test]
fn no_device_that_is_cut_short_makes_a_store_lie() {
    let small = make().unwrap();
    for (moment, disks) in [("crashed", &small.crashed), ("closed", &small.closed)] {
        let mut bench = Bench::new(&small);
        let lens = bench.lens.clone();
        for (device, whole) in lens.into_iter().enumerate() {
            let mut len = whole;
            while len >= 4096 {
                len = (len * 9 / 10) / 4096 * 4096;
                bench.lens[device] = len;
                bench.try_one(&format!("{moment}, cut short"), disks, (device, len));
            }
            bench.lens[device] = whole;
        }
        bench.finish();
    }
}
