//! Blobs that change together only: batches of several keys, a blob that is renamed and copied for ever,
//! and one that is written piece by piece. Whatever a kill leaves, no half of a batch or of a stream
//! shows, the blob has one name, and what was acknowledged is there.

use std::sync::atomic::{AtomicBool, Ordering};

use isotherm::{Batch, Bucket, Durability, ErrorKind, PutOptions, Store};

use crate::journal::{Event, Journal};
use crate::support::content::fill;
use crate::support::rng::{Rng, mix};

/// Groups, each with a thread of its own.
pub const GROUPS: u64 = 2;
/// Lengths of the values of a group's keys: of every shape, some in pages.
const LENS: [u64; 7] = [8, 100, 5000, 20_000, 70_000, 1_200_000, 2_500_000];
/// Bytes of a streamed value, at least and at most.
const STREAM_LENS: std::ops::Range<u64> = 100_000..4_000_000;
/// Largest piece of one.
const PIECE_MAX: u64 = 400_000;
/// Names that the wandering blob goes through.
pub const NAMES: u64 = 5;
/// What is told of a group that is torn.
pub const TORN: u64 = u64::MAX;
/// What is told of a blob that is under none of its names.
pub const ABSENT: u64 = u64::MAX - 1;

fn bucket(store: &Store) -> Bucket {
    store.bucket("groups").unwrap()
}

fn key(group: u64, number: usize) -> Vec<u8> {
    format!("group {group}/{number}").into_bytes()
}

fn name(group: u64, at: u64) -> Vec<u8> {
    format!("wanderer {group}/{}", at % NAMES).into_bytes()
}

fn twin(group: u64) -> Vec<u8> {
    format!("twin {group}").into_bytes()
}

fn stream_key(group: u64) -> Vec<u8> {
    format!("stream {group}").into_bytes()
}

/// The number under which the journal has the stream of a group.
pub fn stream_of(group: u64) -> u64 {
    GROUPS + group
}

/// The value of a key as of a stamp, which it begins with.
fn value(group: u64, number: usize, stamp: u64, len: u64) -> Vec<u8> {
    let mut bytes = vec![0; len as usize];
    fill(stamp << 8 ^ group << 4 ^ number as u64, 0, &mut bytes);
    bytes[..8].copy_from_slice(&stamp.to_le_bytes());
    bytes
}

fn stamp_of(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(TORN, |stamp| u64::from_le_bytes(*stamp))
}

/// Notes what an open has found of every group.
pub fn report(store: &Store, journal: &Journal) {
    for group in 0..GROUPS {
        journal.note(Event::GroupFound { group, stamp: found_stamp(store, group) });
        let (stream, stamp) = (stream_of(group), found_stream(store, group));
        journal.note(Event::GroupFound { group: stream, stamp });
        journal.note(Event::WandererFound { group, at: found_name(store, group) });
    }
}

/// The stamp that all keys of a group have, 0 if none is there.
pub fn found_stamp(store: &Store, group: u64) -> u64 {
    let bucket = bucket(store);
    let keys: Vec<Vec<u8>> = (0..LENS.len()).map(|number| key(group, number)).collect();
    let blobs: Vec<(&Bucket, &[u8])> = keys.iter().map(|key| (&bucket, &key[..])).collect();
    let values = store.get_many(&blobs).unwrap();
    if values.iter().all(|value| value.as_ref().is_err_and(|e| e.kind() == ErrorKind::NotFound)) {
        return 0;
    }
    let stamp = values[0].as_ref().map_or(TORN, |value| stamp_of(value));
    let whole = values.iter().zip(LENS).enumerate().all(|(number, (found, len))| {
        found.as_ref().is_ok_and(|found| *found == value(group, number, stamp, len))
    });
    if whole { stamp } else { TORN }
}

/// The stamp of a streamed value, 0 if there is none.
pub fn found_stream(store: &Store, group: u64) -> u64 {
    let found = match bucket(store).get(&stream_key(group)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return 0,
        found => found.unwrap(),
    };
    let stamp = stamp_of(&found);
    if found == streamed(group, stamp) { stamp } else { TORN }
}

/// Of a length that follows from the stamp, too.
fn streamed(group: u64, stamp: u64) -> Vec<u8> {
    let len = STREAM_LENS.start + mix(stamp) % (STREAM_LENS.end - STREAM_LENS.start);
    value(group, 77, stamp, len)
}

/// Where the wandering blob is: under one of its names, whole, and so is its twin. [`ABSENT`] if it is
/// nowhere.
pub fn found_name(store: &Store, group: u64) -> u64 {
    let bucket = bucket(store);
    let there: Vec<u64> =
        (0..NAMES).filter(|at| bucket.exists(&name(group, *at)).unwrap()).collect();
    let [at] = there[..] else { return if there.is_empty() { ABSENT } else { TORN } };
    let is_whole = |key: &[u8]| bucket.get(key).is_ok_and(|found| found == wanderer(group));
    let twin = twin(group);
    let twin_is_whole = !bucket.exists(&twin).unwrap() || is_whole(&twin);
    if is_whole(&name(group, at)) && twin_is_whole { at } else { TORN }
}

/// Of one buffer, and of many in pages.
fn wanderer(group: u64) -> Vec<u8> {
    value(group, 99, 1, [70_000, 2_500_000][group as usize % 2])
}

/// Changes a group for ever.
pub fn run(store: &Store, journal: &Journal, group: u64, stop: &AtomicBool, rng: &mut Rng) {
    let bucket = bucket(store);
    let mut stamp = found_stamp(store, group);
    let mut stream_stamp = found_stream(store, group);
    let mut at = found_name(store, group);
    while !stop.load(Ordering::Relaxed) {
        let level = rng.pick(&[Durability::Written, Durability::Written, Durability::Durable]);
        if rng.one_in(4) {
            stamp += 1;
            journal.note(Event::GroupIntent { group, stamp });
            commit(store, &bucket, group, stamp, level);
            journal.note(Event::GroupAck { group, stamp });
        } else if rng.one_in(4) {
            let stream = stream_of(group);
            stream_stamp += 1;
            journal.note(Event::GroupIntent { group: stream, stamp: stream_stamp });
            write_stream(&bucket, group, stream_stamp, level.into(), rng);
            journal.note(Event::GroupAck { group: stream, stamp: stream_stamp });
        } else {
            journal.note(Event::WandererIntent { group });
            at = wander(&bucket, group, at, level.into(), rng.one_in(2));
            journal.note(Event::WandererAck { group, at });
        }
    }
}

fn commit(store: &Store, bucket: &Bucket, group: u64, stamp: u64, level: Durability) {
    let values = LENS.iter().enumerate();
    let values: Vec<Vec<u8>> =
        values.map(|(number, len)| value(group, number, stamp, *len)).collect();
    let mut batch = Batch::new();
    for (number, bytes) in values.iter().enumerate() {
        batch.put(bucket, &key(group, number), &bytes[..]);
    }
    store.commit(&batch, Some(level)).unwrap();
}

/// Writes a value piece by piece, once in a while another one before that is given up.
fn write_stream(bucket: &Bucket, group: u64, stamp: u64, options: PutOptions, rng: &mut Rng) {
    let value = streamed(group, stamp);
    if rng.one_in(4) {
        let mut given_up = bucket.writer(&stream_key(group), options).unwrap();
        given_up.append(&value[..value.len() / 2]).unwrap();
    }
    let mut writer = bucket.writer(&stream_key(group), options).unwrap();
    let mut rest = &value[..];
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.len().min(1 + rng.below(PIECE_MAX) as usize));
        writer.append(piece).unwrap();
        rest = after;
    }
    writer.commit().unwrap();
}

/// Makes the blob, or copies it and gives it its next name. Returns where it is then.
fn wander(bucket: &Bucket, group: u64, at: u64, options: PutOptions, copies: bool) -> u64 {
    if at == ABSENT {
        bucket.put_with(&name(group, 0), &wanderer(group), options).unwrap();
        return 0;
    }
    if copies {
        bucket.copy(&name(group, at), bucket, &twin(group), options).unwrap();
    }
    bucket.rename(&name(group, at), bucket, &name(group, at + 1), options).unwrap();
    (at + 1) % NAMES
}
