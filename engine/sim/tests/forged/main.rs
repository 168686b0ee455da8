//! Forged structures: every field of every kind of record, of batches, pages, checkpoints and
//! superblocks is given hostile values, with checksums that are right; beside them stand forgeries that
//! somebody thought of. The store says what is wrong, or it goes on; it never panics, hangs, takes
//! memory without bounds, or shows or loses what the forgery is not about.
//!
//! ISOTHERM_FORGED_STRIDE: every how many'th change of a field is tried, 1 for each.
//! ISOTHERM_FORGED_TOLD: if set, what came of each is told.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod bench;
mod checkpoints;
mod facts;
mod fields;
mod pages;
mod places;
mod records;
mod superblocks;

use isotherm::log::codec::Decoder;
use isotherm::log::record::{MoveSubject, Record};
use isotherm_sim::forge::Stored;
use isotherm_sim::rng::Rng;
use isotherm_sim::small::make;
use isotherm_sim::trial::Touched;

use bench::Bench;
use fields::changes;

/// Records of one kind that are forged, and batches of the log.
const RECORDS_PER_KIND: usize = 4;
const BATCHES: usize = 6;
/// Bytes of a batch's header before its records.
const BATCH_FIXED: usize = 160;

/// What a record is about. Everything that a new kind can name belongs here.
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
fn no_forged_field_of_a_record_makes_a_store_lie() {
    let small = make().unwrap();
    let stored = Stored::read(&small.crashed).unwrap();
    let mut bench = Bench::new(&small, &small.crashed);
    let mut rng = Rng::new(1);
    for kind in Record::KINDS {
        let mut records = stored.records_of(kind);
        // Those that the checkpoint has not seen are the ones that count.
        records.retain(|(at, ..)| stored.is_effective(&stored.batches[*at]));
        assert!(!records.is_empty(), "no {kind:?} record behind the checkpoint");
        let step = (records.len() / RECORDS_PER_KIND).max(1);
        for (at, range, record) in records.into_iter().step_by(step).take(RECORDS_PER_KIND) {
            let batch = &stored.batches[at];
            for change in changes(&batch.header[range.clone()], &mut rng) {
                let forged = change.made(&batch.header[range.clone()]);
                let mut header = batch.header.clone();
                header[range.clone()].copy_from_slice(&forged);
                let mut touched = Touched::default();
                touch(&record, &mut touched);
                let mut input = Decoder::with_base("record", &forged, range.start);
                if let Ok(says) = Record::decode(&mut input) {
                    touch(&says, &mut touched);
                }
                let place = format!("batch {at}, {}: {record:?}", change.shown());
                let disks = stored.with_header(at, &header);
                bench.try_one(&format!("{kind:?}"), &place, &disks, &touched);
            }
        }
    }
    bench.finish();
}

#[test]
fn no_forged_field_of_a_batch_makes_a_store_lie() {
    let small = make().unwrap();
    let stored = Stored::read(&small.crashed).unwrap();
    let mut bench = Bench::new(&small, &small.crashed);
    let mut rng = Rng::new(2);
    let count = stored.batches.len();
    for at in (0..BATCHES).map(|n| n * (count - 1) / (BATCHES - 1)) {
        let batch = &stored.batches[at];
        let mut touched = Touched::default();
        batch.view.records().for_each(|record| touch(record, &mut touched));
        for change in changes(&batch.header[..BATCH_FIXED], &mut rng) {
            let header = change.made(&batch.header);
            let place = format!("batch {at} of {count}, {}", change.shown());
            let disks = stored.with_header(at, &header);
            bench.try_one("batch", &place, &disks, &touched);
        }
    }
    bench.finish();
}
