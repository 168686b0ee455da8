//! Damage of a small store with every kind of record: bits flipped, sectors zeroed, made random, swapped
//! and taken from an older moment, devices cut short. Whatever the store shows is right, or it says why
//! it cannot tell.
//!
//! ISOTHERM_DAMAGE_STRIDE: every how many'th bit is flipped, 1 for each.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use isotherm_sim::damage::{Damaged, cut_short, flip_bits, moments, overwrite_sectors, stride};
use isotherm_sim::rng::Rng;
use isotherm_sim::small::{Blob, Small, capacities, make, show};
use isotherm_sim::verdict::{Judgement, Verdict, judge};

struct Bench {
    moment: &'static str,
    blobs: BTreeSet<Blob>,
    /// By kind of damage, and what came of it.
    table: BTreeMap<(String, Verdict), u64>,
    /// Most blobs that one flipped bit took.
    lost_max: usize,
    bad: Vec<String>,
}

impl Bench {
    fn new(small: &Small, moment: &'static str) -> Bench {
        let blobs = small.blobs.iter().cloned().collect();
        let (table, bad) = (BTreeMap::new(), Vec::new());
        Bench { moment, blobs, table, lost_max: 0, bad }
    }

    fn try_one(&mut self, damaged: &Damaged<'_>) {
        let kind = format!("{}, {}", self.moment, damaged.kind);
        let shown = catch_unwind(AssertUnwindSafe(|| show(damaged.disks, damaged.lens)));
        let Judgement { verdict, told, refused } = match shown {
            Err(panic) => {
                let told = isotherm_sim::run::message_of(&panic);
                Judgement { told, ..Judgement::of(Verdict::Panicked) }
            }
            Ok(shown) => judge(&self.blobs, shown),
        };
        self.lost_max = self.lost_max.max(refused);
        *self.table.entry((kind.clone(), verdict)).or_default() += 1;
        if verdict >= Verdict::Missing && self.bad.len() < 20 {
            self.bad.push(format!("{kind} at {:?}: {verdict:?}: {told}", damaged.place));
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

#[test]
fn the_small_store_comes_back_whole_where_nothing_is_damaged() {
    let small = make().unwrap();
    assert!(small.blobs.len() > 12, "{} blobs", small.blobs.len());
    for (moment, disks) in moments(&small) {
        let mut bench = Bench::new(&small, moment);
        let lens = capacities();
        bench.try_one(&Damaged { kind: "nothing", place: (0, 0), disks, lens: &lens });
        assert_eq!(bench.table.keys().next().unwrap().1, Verdict::Right);
        bench.finish();
    }
}

#[test]
fn no_flipped_bit_makes_a_store_lie() {
    let small = make().unwrap();
    for (moment, disks) in moments(&small) {
        let mut bench = Bench::new(&small, moment);
        let bits = flip_bits(disks, stride(), &mut |damaged| bench.try_one(damaged));
        println!("{moment}: {bits} bits, every {}th flipped", stride());
        bench.finish();
    }
}

#[test]
fn no_damaged_sector_makes_a_store_lie() {
    let small = make().unwrap();
    let mut rng = Rng::new(1);
    let every = (stride() / 2000).max(1) as usize;
    for (moment, disks) in moments(&small) {
        let mut bench = Bench::new(&small, moment);
        overwrite_sectors(disks, &small.crashed, every, &mut rng, &mut |damaged| {
            bench.try_one(damaged);
        });
        bench.finish();
    }
}

#[test]
fn no_device_that_is_cut_short_makes_a_store_lie() {
    let small = make().unwrap();
    for (moment, disks) in moments(&small) {
        let mut bench = Bench::new(&small, moment);
        cut_short(disks, &mut |damaged| bench.try_one(damaged));
        bench.finish();
    }
}
