//! Buffers with checksums that are right, in places where no buffer can be, or where another is.

use isotherm::log::record::{BufferDef, Extent, MoveSubject, Record};
use isotherm::types::{BufferId, Location, SegmentId, TierId, Version};

use crate::facts::Facts;

/// Places, and what they are.
fn places(facts: &Facts) -> Vec<(String, Location)> {
    let newest = &facts.stored.superblocks[0];
    let (size, capacity) = (newest.segment_size, newest.capacity);
    let at = |offset| Location::device(TierId(0), offset);
    let mut places = vec![
        ("the superblock".to_owned(), at(0)),
        ("the segment of the superblocks".to_owned(), at(100_000)),
        ("a segment's header".to_owned(), at(3 * size)),
        ("the end of a segment".to_owned(), at(4 * size - 4096)),
        ("an odd byte".to_owned(), at(3 * size + 4097)),
        ("the end of the tier".to_owned(), at(capacity - 4096)),
        ("behind the tier".to_owned(), at(capacity)),
        ("far behind the tier".to_owned(), at((1 << 56) - (1 << 21))),
        ("a tier that is not there".to_owned(), Location::device(TierId(9), 5 * size)),
        ("a free segment".to_owned(), at(capacity - 2 * size + 8192)),
        ("the end of the log".to_owned(), at(log_end(facts))),
        ("another's place".to_owned(), facts.lone[1].3.location),
        ("the middle of another's place".to_owned(), facts.shared[0].location),
    ];
    let first = &facts.stored.batches[0];
    places.push(("a batch of the log".to_owned(), at(first.offset)));
    let chunk = newest.checkpoint.as_ref().unwrap().chunks[0];
    places.push(("the root".to_owned(), chunk.location));
    let image = facts.stored.root.partitions.iter().find(|part| part.len > 0).unwrap();
    places.push(("a partition".to_owned(), image.chunks[0].location));
    if let Some(root) = newest.previous.as_ref().and_then(|before| before.checkpoint.as_ref()) {
        places.push(("the root before".to_owned(), root.chunks[0].location));
    }
    if let Some(ahead) = facts.stored.tail.ahead {
        places.push((
            "the log's next segment".to_owned(),
            at(u64::from(ahead.segment.0) * size + 8192),
        ));
    }
    places
}

fn log_end(facts: &Facts) -> u64 {
    let (tail, newest) = (&facts.stored.tail, &facts.stored.superblocks[0]);
    u64::from(tail.segment.segment.0) * newest.segment_size + tail.used + 40_960
}

#[test]
fn no_buffer_in_a_wrong_place_makes_a_store_lie() {
    let facts = Facts::read();
    let mut bench = facts.bench();
    let (id, key, _, lone) = facts.lone[0].clone();
    let shared = facts.shared.iter().find(|def| def.stored_len >= 4096).unwrap();
    for (what, place) in places(&facts) {
        for len in [1, 4096, 100_000, 1 << 20] {
            let def = facts.buffer_at(0, place, len);
            let what = format!("{len} bytes: {what}");
            facts.try_records(&mut bench, &what, vec![facts.put_whole(def.clone())]);
            let share =
                Record::Share { bucket: id, key: key.clone().into(), buffers: vec![def.clone()] };
            let extents = vec![Extent { value_offset: 7, len, buffer: def.id, buffer_offset: 0 }];
            let put = facts.put(u64::from(len) + 7, extents, vec![]);
            facts.try_records(&mut bench, &format!("{what}, shared"), vec![share, put]);
        }
        let subject = MoveSubject::Lone { bucket: id, key: key.clone().into(), buffer: lone.id };
        let lone = Record::Move { subject, from: lone.location, to: place };
        let subject = MoveSubject::Table { buffer: shared.id };
        let shared = Record::Move { subject, from: shared.location, to: place };
        for (which, record) in [("a lone one", lone), ("a shared one", shared)] {
            // One to its own place is none.
            if record.validate().is_ok() {
                facts.try_records(&mut bench, &format!("{which} moves: {what}"), vec![record]);
            }
        }
    }
    bench.finish();
}

#[test]
fn many_buffers_in_one_place_are_as_many_as_there_are() {
    let facts = Facts::read();
    let mut bench = facts.bench();
    let size = facts.stored.superblocks[0].segment_size;
    let place = Location::device(TierId(1), 3 * size + 4096);
    let first = facts.buffer_at(0, place, 1 << 20);
    for count in [2, 10, 100] {
        let put = |n: u64| Record::Put {
            bucket: facts.bucket,
            key: format!("forged {n}").into_bytes().into(),
            version: Version(facts.fresh + n),
            len: 1 << 20,
            extents: vec![Extent {
                value_offset: 0,
                len: 1 << 20,
                buffer: BufferId(facts.fresh + n),
                buffer_offset: 0,
            }],
            buffers: vec![BufferDef { id: BufferId(facts.fresh + n), ..first.clone() }],
            attributes: None,
        };
        let records = (0..count).map(put).collect();
        facts.try_records(&mut bench, &format!("{count} in one place"), records);
    }
    bench.finish();
}

#[test]
fn no_log_that_goes_on_in_a_wrong_place_makes_a_store_lie() {
    let facts = Facts::read();
    let mut bench = facts.bench();
    let stored = &facts.stored;
    let segments = stored.superblocks[0].capacity / stored.superblocks[0].segment_size;
    let log = stored.tail.history.iter().map(|start| start.segment.segment.0);
    let all = (0..segments as u32 + 2).chain(log).chain([u32::MAX - 1, 1 << 30]);
    for segment in all {
        for generation in [0, 3, 900, u32::MAX - (1 << 24), u32::MAX - 1, u32::MAX] {
            let next = Some((SegmentId(segment), generation));
            let disks =
                stored.with_batch_that(vec![Record::Marker.into()], |batch| batch.next = next);
            let place = format!("{next:?}");
            bench.try_one("the log's next segment", &place, &disks.unwrap(), &Default::default());
        }
    }
    bench.finish();
}
