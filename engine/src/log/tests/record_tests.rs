use super::random::Random;
use super::refuses_every_prefix;
use crate::error::ErrorKind;
use crate::log::attributes::Attributes;
use crate::log::codec::{Decoder, Encoder};
use crate::log::record::{BufferDef, ENCODING_RAW, Extent, MoveSubject, Record};
use crate::types::{BucketId, BufferId, Location, SlotId, TierId, Version};

fn encode(record: &Record) -> Vec<u8> {
    let mut bytes = Vec::new();
    record.encode(&mut Encoder::new(&mut bytes));
    bytes
}

fn decode(bytes: &[u8]) -> crate::error::Result<Record> {
    let mut input = Decoder::new("record", bytes);
    let record = Record::decode(&mut input)?;
    input.finish()?;
    Ok(record)
}

fn def(id: u64, len: u32) -> BufferDef {
    BufferDef {
        id: BufferId(id),
        raw_len: len,
        stored_len: len,
        location: Location::device(TierId(0), 8192),
        encoding: ENCODING_RAW,
        logical_crc: 7,
        checks: vec![9; BufferDef::check_count(len)],
    }
}

fn extent(value_offset: u64, len: u32, buffer: u64, buffer_offset: u32) -> Extent {
    Extent { value_offset, len, buffer: BufferId(buffer), buffer_offset }
}

fn put(len: u64, extents: Vec<Extent>, buffers: Vec<BufferDef>) -> Record {
    let (bucket, key, version) = (BucketId(1), b"key".as_slice().into(), Version(5));
    Record::Put { bucket, key, version, len, extents, buffers, attributes: None }
}

/// Both sides refuse it: the writer by `validate`, the reader as damage.
fn refused(record: &Record, why: &str) {
    let fault = record.validate().expect_err(why);
    assert!(fault.contains(why), "{fault:?} does not say {why:?}");
    let error = decode(&encode(record)).expect_err(why);
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
}

#[test]
fn every_kind_round_trips_at_the_length_it_announces() {
    let mut random = Random::new();
    for kind in Record::KINDS {
        for _ in 0..300 {
            let record = random.record(kind);
            assert_eq!(record.kind(), kind);
            record.validate().unwrap();
            let bytes = encode(&record);
            assert_eq!(bytes.len(), record.encoded_len());
            assert!(bytes.len().is_multiple_of(8));
            assert_eq!(decode(&bytes).unwrap(), record);
        }
    }
}

#[test]
fn kind_numbers_are_dense_and_listed_once() {
    let numbers: Vec<_> = Record::KINDS.iter().map(|&kind| kind as u16).collect();
    assert_eq!(numbers, (1..=Record::KINDS.len() as u16).collect::<Vec<_>>());
}

#[test]
fn every_prefix_of_a_record_is_refused() {
    let mut random = Random::new();
    for kind in Record::KINDS {
        for _ in 0..20 {
            refuses_every_prefix(&encode(&random.record(kind)), decode);
        }
    }
}

#[test]
fn arbitrary_bytes_never_panic() {
    let mut random = Random::new();
    for _ in 0..20_000 {
        let mut bytes = encode(&random.any_record());
        for _ in 0..1 + random.below(4) {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] = random.next() as u8;
        }
        // Whatever is accepted is valid, and is exactly what these bytes say.
        if let Ok(record) = decode(&bytes) {
            record.validate().unwrap();
            assert_eq!(encode(&record), bytes);
        }
    }
}

#[test]
fn unknown_kinds_flags_and_encodings_are_another_format() {
    let good = encode(&put(10, vec![extent(0, 10, 1, 0)], vec![def(1, 10)]));
    let def_at = good.len() - (32 + 8);
    for (at, value) in [(0, 200), (2, 1), (2, 4), (def_at + 28, 1), (def_at + 29, 12)] {
        let mut bytes = good.clone();
        bytes[at] = value;
        assert_eq!(decode(&bytes).unwrap_err().kind(), ErrorKind::Format, "byte {at}");
    }
}

#[test]
fn hostile_counts_and_lengths_are_refused_before_allocating() {
    let good = encode(&put(10, vec![extent(0, 10, 1, 0)], vec![def(1, 10)]));
    let def_at = good.len() - (32 + 8);
    // record length, key length, extent count, buffer count, raw_len, stored_len
    for (at, width) in [(4, 4), (12, 2), (32, 4), (36, 4), (def_at + 16, 4), (def_at + 20, 4)] {
        let mut bytes = good.clone();
        bytes[at..at + width].fill(0xFF);
        assert_eq!(decode(&bytes).unwrap_err().kind(), ErrorKind::Corrupt, "byte {at}");
        // A zero moves what follows, which may then read as damage or as another format.
        bytes[at..at + width].fill(0);
        assert!(decode(&bytes).is_err(), "byte {at}");
    }
}

#[test]
fn maps_that_overlap_reverse_or_exceed_are_refused() {
    let overlap = vec![extent(0, 10, 1, 0), extent(9, 5, 1, 0)];
    refused(&put(20, overlap, vec![def(1, 10)]), "begins before");
    let reversed = vec![extent(10, 5, 1, 0), extent(0, 5, 1, 0)];
    refused(&put(20, reversed, vec![def(1, 10)]), "begins before");
    refused(&put(9, vec![extent(0, 10, 1, 0)], vec![def(1, 10)]), "beyond");
    refused(&put(9, vec![extent(u64::MAX, 10, 1, 0)], vec![def(1, 10)]), "beyond");
    refused(&put(20, vec![extent(0, 10, 1, 1)], vec![def(1, 10)]), "a slice ends");
    refused(&put(20, vec![extent(0, 10, 2, u32::MAX)], vec![def(1, 10)]), "a slice ends");
    refused(&put(20, vec![extent(0, 0, 1, 0)], vec![def(1, 10)]), "is empty");
    refused(&put(20, vec![], vec![def(2, 10), def(1, 10)]), "precedes");
    refused(&put(20, vec![], vec![def(1, 10), def(1, 10)]), "precedes");
    refused(&put((16 << 40) + 1, vec![], vec![]), "beyond");
}

#[test]
fn a_splice_stays_inside_its_cut_and_follows_its_base() {
    let splice = |base, cut, extents| Record::Splice {
        bucket: BucketId(1),
        key: b"key".as_slice().into(),
        base: Version(base),
        version: Version(5),
        len: 100,
        cut,
        extents,
        buffers: vec![],
    };
    // A truncation: the cut may lie beyond the new length, extents may not.
    assert_eq!(splice(4, 100..900, vec![]).validate(), Ok(()));
    refused(&splice(5, 0..10, vec![]), "does not follow");
    refused(&splice(4, 10..20, vec![extent(9, 2, 1, 0)]), "begins before");
    refused(&splice(4, 10..20, vec![extent(19, 2, 1, 0)]), "beyond");
    refused(&splice(4, 90..200, vec![extent(99, 2, 1, 0)]), "beyond");
    #[expect(clippy::reversed_empty_ranges)]
    refused(&splice(4, 20..10, vec![]), "reversed");
}

#[test]
fn keys_places_and_definitions_out_of_bounds_are_refused() {
    let delete = |len: usize| Record::Delete {
        bucket: BucketId(1),
        key: vec![b'k'; len].into(),
        version: Version(1),
    };
    refused(&delete(0), "a key of 0 bytes");
    refused(&delete(1025), "a key of 1025 bytes");
    let with = |change: fn(&mut BufferDef)| {
        let mut def = def(1, 20_000);
        change(&mut def);
        put(0, vec![], vec![def])
    };
    refused(&with(|def| def.location = Location::dram(SlotId(3))), "DRAM");
    refused(&with(|def| def.location = Location::device(TierId(16), 0)), "tier 16");
    refused(&with(|def| def.location = Location::device(TierId(0), (1 << 56) - 1)), "56 bits");
    refused(&with(|def| def.raw_len += 1), "raw, yet");
    refused(&with(|def| (def.raw_len, def.stored_len) = (0, 0)), "raw_len is 0");
    // The reader takes the count from stored_len: only the writer can get this wrong.
    let fault = with(|def| _ = def.checks.pop()).validate().unwrap_err();
    assert!(fault.contains("1 checks for 2"), "{fault}");
    let place = Location::device(TierId(0), 4096);
    let subject = MoveSubject::Table { buffer: BufferId(1) };
    refused(&Record::Move { subject, from: place, to: place }, "to itself");
}

#[test]
fn attributes_stand_at_the_end_of_whole_states_alone() {
    let said = Attributes::new(Some(0.5), &[("n".into(), 7.into())]).unwrap();
    let (bucket, key) = (BucketId(1), Box::from(&b"key"[..]));
    let record = Record::Attributes {
        bucket,
        key: Box::clone(&key),
        base: Version(4),
        version: Version(5),
        attributes: said.clone(),
    };
    let good = encode(&record);
    let block = good.len() - said.as_ref().unwrap().encoded_len();
    assert_eq!(good[2..4], [2, 0]);
    // length, count, flags, score, reserved, a name's length, a type, a value's length, padding
    for at in [0, 4, 6, 11, 12, 16, 17, 18, 31] {
        let mut bytes = good.clone();
        bytes[block + at] ^= 0x81;
        assert_eq!(decode(&bytes).unwrap_err().kind(), ErrorKind::Corrupt, "byte {at}");
    }
    // A kind that has none, and a change that keeps those of its base.
    let mut delete = encode(&Record::Delete { bucket, key: Box::clone(&key), version: Version(5) });
    delete[2] = 2;
    assert_eq!(decode(&delete).unwrap_err().kind(), ErrorKind::Format);
    let change = Record::Paged {
        bucket,
        key,
        base: Some(Version(4)),
        version: Version(5),
        len: 0,
        cut: 0..0,
        pages: vec![],
        attributes: said,
    };
    refused(&change, "says attributes");
}
