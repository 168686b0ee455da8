//! Forged structures: every field of every kind of record, of batches, checkpoints and superblocks is given
//! hostile values, with checksums that are right. The store says so, or it goes on; it never panics,
//! hangs, takes memory without bounds, or shows another blob's bytes.
//!
//! ISOTHERM_FORGED_STRIDE: every how many'th change is tried, 1 for each.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeMap;

use isotherm::io::sim_disk::Disk;
use isotherm::log::codec::Decoder;
use isotherm::log::record::{MoveSubject, Record};
use isotherm_sim::forge::Stored;
use isotherm_sim::rng::Rng;
use isotherm_sim::small::{Small, make};
use isotherm_sim::trial::{Touched, Truth, Verdict};

/// Records of one kind that are forged.
const RECORDS_PER_KIND: usize = 4;

fn stride() -> u64 {
    std::env::var("ISOTHERM_FORGED_STRIDE").map_or(499, |stride| stride.parse().unwrap())
}

struct Bench {
    truth: Truth,
    table: BTreeMap<(String, Verdict), u64>,
    bad: Vec<String>,
    count: u64,
    messages: BTreeMap<String, u64>,
}

impl Bench {
    fn new(small: &Small, disks: &[Disk]) -> Bench {
        let truth = Truth::of(&small.blobs, disks).unwrap();
        let (table, messages) = (BTreeMap::new(), BTreeMap::new());
        Bench { truth, table, bad: Vec::new(), count: 0, messages }
    }

    /// Whether the next change is one of those that are tried.
    fn is_due(&mut self) -> bool {
        self.count += 1;
        self.count.is_multiple_of(stride())
    }

    fn try_one(&mut self, what: &str, place: &str, disks: &[Disk], touched: &Touched) {
        let (verdict, told) = self.truth.try_on(disks, touched);
        *self.table.entry((what.to_owned(), verdict)).or_default() += 1;
        if !verdict.is_good() {
            self.bad.push(format!("{what}, {place}: {verdict:?}: {told}"));
        } else if std::env::var_os("ISOTHERM_FORGED_TOLD").is_some() {
            let told: String = told.chars().filter(|c| !c.is_ascii_digit()).collect();
            *self.messages.entry(told).or_default() += 1;
        }
    }

    fn finish(self) {
        for ((what, verdict), count) in &self.table {
            println!("{what}: {verdict:?} {count}");
        }
        self.messages.iter().for_each(|(told, count)| println!("  {count} x {told}"));
        println!("{} changes, every {}th tried", self.count, stride());
        assert!(self.bad.is_empty(), "{} bad:\n{}", self.bad.len(), self.bad.join("\n"));
    }
}

/// What a field may be given: its width, where it stands, its new bytes.
struct Change {
    at: usize,
    name: &'static str,
    bytes: Vec<u8>,
}

/// Every field of every width that may stand in these bytes, with every hostile value.
fn changes(bytes: &[u8], from: usize, rng: &mut Rng) -> Vec<Change> {
    let mut all = Vec::new();
    for width in [8, 4, 2, 1] {
        for at in (from..bytes.len()).step_by(width).filter(|at| at + width <= bytes.len()) {
            let mut wide = [0; 8];
            wide[..width].copy_from_slice(&bytes[at..at + width]);
            let old = u64::from_le_bytes(wide);
            let top = 1 << (8 * width - 1);
            for (name, new) in [
                ("0", 0),
                ("1", 1),
                ("the largest", u64::MAX),
                ("one more", old.wrapping_add(1)),
                ("one less", old.wrapping_sub(1)),
                ("the highest bit", old ^ top),
                ("random", rng.next()),
            ] {
                let new = &new.to_le_bytes()[..width];
                if *new != bytes[at..at + width] {
                    all.push(Change { at, name, bytes: new.to_vec() });
                }
            }
        }
    }
    all
}

fn changed(bytes: &[u8], change: &Change) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[change.at..change.at + change.bytes.len()].copy_from_slice(&change.bytes);
    bytes
}

/// What a record is about.
fn touch(record: &Record, touched: &mut Touched) {
    match record {
        Record::Put { bucket, key, .. }
        | Record::Splice { bucket, key, .. }
        | Record::Delete { bucket, key, .. }
        | Record::Paged { bucket, key, .. }
        | Record::Attributes { bucket, key, .. }
        | Record::Move { subject: MoveSubject::Lone { bucket, key, .. }, .. }
        | Record::Share { bucket, key, .. } => {
            touched.blobs.insert((*bucket, key.to_vec()));
        }
        Record::BucketCreate { bucket, .. }
        | Record::BucketDestroy { bucket }
        | Record::BucketChange { bucket, .. }
        | Record::BucketClear { bucket, .. } => {
            touched.buckets.insert(*bucket);
        }
        Record::Move { subject: MoveSubject::Table { .. }, .. }
        | Record::Page { .. }
        | Record::Release { .. }
        | Record::SegmentOpen { .. }
        | Record::SegmentFree { .. }
        | Record::Marker => {}
    }
}

#[test]
fn no_forged_record_makes_a_store_lie() {
    let small = make().unwrap();
    let stored = Stored::read(&small.crashed).unwrap();
    let mut bench = Bench::new(&small, &small.crashed);
    bench.try_one("nothing", "", &small.crashed, &Touched::default());
    let mut rng = Rng::new(1);
    for kind in Record::KINDS {
        let mut records = stored.records_of(kind);
        // Those that the checkpoint has not seen are the ones that count.
        records.sort_by_key(|(at, ..)| !stored.is_effective(&stored.batches[*at]));
        let effective =
            records.iter().filter(|(at, ..)| stored.is_effective(&stored.batches[*at])).count();
        println!("{kind:?}: {} records, {effective} behind the checkpoint", records.len());
        assert!(!records.is_empty(), "no {kind:?} record");
        let step = (effective / RECORDS_PER_KIND).max(1);
        for (at, range, record) in records.into_iter().step_by(step).take(RECORDS_PER_KIND) {
            let batch = &stored.batches[at];
            for change in changes(&batch.header[range.clone()], 0, &mut rng) {
                if !bench.is_due() {
                    continue;
                }
                let mut header = batch.header.clone();
                let forged = changed(&header[range.clone()], &change);
                header[range.clone()].copy_from_slice(&forged);
                let mut touched = Touched::default();
                touch(&record, &mut touched);
                let mut input = Decoder::with_base("record", &forged, range.start);
                if let Ok(says) = Record::decode(&mut input) {
                    touch(&says, &mut touched);
                }
                let disks = stored.with_header(at, &header);
                let place = format!(
                    "batch {at}, byte {} of {}: {}: {record:?}",
                    change.at,
                    forged.len(),
                    change.name
                );
                bench.try_one(&format!("{kind:?}"), &place, &disks, &touched);
            }
        }
    }
    bench.finish();
}
