//! Salvage of the small store with every kind of record, under the same damage as in `damage`: of what
//! strict opening refuses it brings back what it can, and none of it is wrong or an older version that is
//! called current.
//!
//! ISOTHERM_DAMAGE_STRIDE: every how many'th bit is flipped, 1 for each.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeMap;

use isotherm::io::sim_disk::Disk;
use isotherm_sim::damage::{Damaged, cut_short, flip_bits, moments, overwrite_sectors, stride};
use isotherm_sim::rng::Rng;
use isotherm_sim::salvaged::{Tally, Truth};
use isotherm_sim::small::{Shown, Small, capacities, make, salvage, show};

struct Bench {
    truth: Truth,
    /// By kind of damage: stores that strict refuses, and what came back of them.
    table: BTreeMap<String, (u64, Tally)>,
    bad: Vec<String>,
}

fn there(disks: &[Disk]) -> Vec<Option<Disk>> {
    disks.iter().cloned().map(Some).collect()
}

impl Bench {
    fn new(small: &Small) -> Bench {
        Bench { truth: Truth::of(small).unwrap(), table: BTreeMap::new(), bad: Vec::new() }
    }

    fn try_one(&mut self, moment: &str, damaged: &Damaged<'_>) {
        let is_refused = matches!(show(damaged.disks, damaged.lens), Shown::Refused(_));
        let tried = self.truth.try_on(&there(damaged.disks), damaged.lens, &|_| false);
        match tried {
            Ok(tally) if is_refused => {
                let (stores, sum) =
                    self.table.entry(format!("{moment}, {}", damaged.kind)).or_default();
                *stores += 1;
                sum.add(&tally);
            }
            Ok(_) => {}
            Err(told) => {
                self.bad.push(format!("{moment}, {} at {:?}: {told}", damaged.kind, damaged.place))
            }
        }
    }

    /// Of the stores that strict refuses, how many blobs came back whole.
    fn finish(self) -> u64 {
        for (kind, (stores, sum)) in &self.table {
            println!("{kind}: {stores} refused, {sum:?}");
        }
        assert!(self.bad.is_empty(), "{} bad:\n{}", self.bad.len(), self.bad.join("\n"));
        let whole = |(_, sum): &(u64, Tally)| sum.current + sum.in_doubt;
        self.table.values().map(whole).sum()
    }
}

#[test]
fn an_undamaged_store_is_salvaged_whole_and_current() {
    let small = make().unwrap();
    let truth = Truth::of(&small).unwrap();
    for (_, disks) in moments(&small) {
        let tally = truth.try_on(&there(disks), &capacities(), &|_| false).unwrap();
        assert_eq!(tally.current, small.blobs.len() as u64, "{tally:?}");
        let salvage = salvage(&there(disks), &capacities()).unwrap();
        assert!(!salvage.report().has_losses(), "{:?}", salvage.report());
    }
}

#[test]
fn no_flipped_bit_makes_salvage_lie() {
    let small = make().unwrap();
    let mut bench = Bench::new(&small);
    for (moment, disks) in moments(&small) {
        flip_bits(disks, stride(), &mut |damaged| bench.try_one(moment, damaged));
    }
    assert!(bench.finish() > 0);
}

#[test]
fn no_damaged_sector_makes_salvage_lie() {
    let small = make().unwrap();
    let mut rng = Rng::new(1);
    let mut bench = Bench::new(&small);
    let every = (stride() / 2000).max(1) as usize;
    for (moment, disks) in moments(&small) {
        overwrite_sectors(disks, &small.crashed, every, &mut rng, &mut |damaged| {
            bench.try_one(moment, damaged);
        });
    }
    assert!(bench.finish() > 0);
}

#[test]
fn no_device_that_is_cut_short_makes_salvage_lie() {
    let small = make().unwrap();
    let mut bench = Bench::new(&small);
    for (moment, disks) in moments(&small) {
        cut_short(disks, &mut |damaged| bench.try_one(moment, damaged));
    }
    assert!(bench.finish() > 0);
}

#[test]
fn several_damages_at_once_and_lost_tiers_do_not_make_salvage_lie() {
    let small = make().unwrap();
    let truth = Truth::of(&small).unwrap();
    let mut rng = Rng::new(2);
    let mut sum = Tally::default();
    for round in 0..300 {
        let (_, disks) = moments(&small)[round % 2];
        let mut disks = disks.to_vec();
        for _ in 0..1 + rng.below(12) {
            let device = rng.below(2) as usize;
            let ranges = disks[device].written();
            let range = &ranges[rng.below(ranges.len() as u64) as usize];
            let len = 4096 << rng.below(5);
            let at = range.start + rng.below(range.end - range.start) / 512 * 512;
            let len = len.min(capacities()[device] - at);
            let bytes: Vec<u8> = (0..len).map(|_| rng.next() as u8).collect();
            disks[device].damage(at, &bytes);
        }
        let mut disks = there(&disks);
        if round % 10 == 0 {
            disks[rng.below(2) as usize] = None;
        }
        match truth.try_on(&disks, &capacities(), &|_| false) {
            Ok(tally) => sum.add(&tally),
            Err(told) => panic!("round {round}: {told}"),
        }
    }
    println!("several damages, 300 stores: {sum:?}");
    assert!(sum.current > 0 && sum.in_doubt > 0);
}
