//! Streams that are left open, beside everything that needs room, in the simulator.

use std::io::Read;

use crate::api::{BlobReader, BlobWriter, Bucket};
use crate::store::Scope;
use crate::testing::{SimStore, config};

const MIB: usize = 1 << 20;
/// They leave little room on the tier.
const STREAMS: usize = 4;
/// Nearly as many as there are segments.
const READERS: usize = 13;
/// Values that are written over meanwhile: several times the tier.
const OVERWRITES: usize = 200;

/// Bytes that tell streams apart.
fn value(number: usize) -> Vec<u8> {
    vec![number as u8 + 1; 2 * MIB + 10]
}

/// Streams of two buffers each on a device, with buffers between them that are dead soon.
fn open_writers(bucket: &Bucket) -> Vec<BlobWriter> {
    let open = |number: usize| {
        let mut writer = bucket.writer(&[number as u8], Default::default()).unwrap();
        for piece in value(number).chunks(MIB / 2) {
            writer.append(piece).unwrap();
            bucket.put(b"between", &vec![0; MIB / 2]).unwrap();
        }
        writer
    };
    (0..STREAMS).map(open).collect()
}

fn overwrite(bucket: &Bucket) {
    for round in 0..OVERWRITES {
        bucket.put(b"over", &vec![round as u8; MIB]).unwrap();
    }
}

fn live_bytes(sim: &SimStore) -> u64 {
    sim.core().space.tiers().iter().map(|tier| tier.live_bytes()).sum()
}

fn moved_bytes(sim: &SimStore) -> u64 {
    sim.store.stats().organizer.moved_bytes
}

fn read(mut reader: BlobReader) -> Vec<u8> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn what_a_stream_has_written_is_moved_out_of_the_way_and_committed_where_it_is() {
    let sim = SimStore::new(1, config(2));
    let bucket = sim.bucket("b");
    let writers = open_writers(&bucket);
    overwrite(&bucket);
    assert!(moved_bytes(&sim) > MIB as u64, "the streams were in nobody's way");
    for writer in writers {
        writer.commit().unwrap();
    }
    sim.store.flush(Scope::Store).unwrap();
    drop(bucket);
    let sim = sim.kill();
    let bucket = sim.store.bucket("b").unwrap();
    for number in 0..STREAMS {
        assert!(bucket.get(&[number as u8]).unwrap() == value(number), "stream {number}");
    }
    drop(bucket);
    sim.store.close().unwrap();
}

#[test]
fn a_stream_that_is_given_up_after_its_buffers_were_moved_leaves_nothing() {
    let sim = SimStore::new(2, config(2));
    let bucket = sim.bucket("b");
    let writers = open_writers(&bucket);
    overwrite(&bucket);
    assert!(live_bytes(&sim) > (2 * STREAMS * MIB) as u64);
    drop(writers);
    for key in [b"between".as_slice(), b"over"] {
        bucket.delete(key).unwrap();
    }
    sim.store.flush(Scope::Store).unwrap();
    sim.steps(500);
    assert_eq!(live_bytes(&sim), 0);
    drop(bucket);
    sim.store.close().unwrap();
}

#[test]
fn readers_of_values_that_are_gone_keep_no_segment_from_others() {
    let sim = SimStore::new(3, config(2));
    let bucket = sim.bucket("b");
    let open = |number: usize| {
        bucket.put(b"read", &vec![number as u8; MIB]).unwrap();
        let reader = bucket.reader(b"read").unwrap();
        bucket.put(b"between", &vec![0; 3 * MIB]).unwrap();
        reader
    };
    let readers: Vec<BlobReader> = (0..READERS).map(open).collect();
    overwrite(&bucket);
    for (number, reader) in readers.into_iter().enumerate() {
        assert!(read(reader) == vec![number as u8; MIB], "reader {number}");
    }
    drop(bucket);
    sim.store.close().unwrap();
}
