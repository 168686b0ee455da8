//! Records that are what a record can be, and say what cannot be: of buffers and pages that are not
//! there or are another's, of versions that nobody had, of bases that were not.

use std::ops::Range;

use isotherm::limits::VALUE_LEN_MAX;
use isotherm::log::record::{
    BucketRecord, BufferDef, Extent, MoveSubject, PageRef, Record, SegmentKind,
};
use isotherm::types::{BucketId, BufferId, Epoch, SegmentId, TierId, TierSegment, Version};

use crate::facts::Facts;

fn extent(value_offset: u64, len: u32, buffer: BufferId, buffer_offset: u32) -> Extent {
    Extent { value_offset, len, buffer, buffer_offset }
}

fn named(bucket: u32, name: &[u8]) -> Record {
    let options = BucketRecord::default();
    Record::BucketCreate { bucket: BucketId(bucket), name: name.into(), options }
}

#[test]
fn no_record_of_a_blob_that_cannot_be_makes_a_store_lie() {
    let facts = Facts::read();
    let mut bench = facts.bench();
    let mut attempt = |what: &str, records| facts.try_records(&mut bench, what, records);
    let shared = &facts.shared[0];
    let (page, (page_def, _)) = facts.pages.iter().next().unwrap();
    let (end, shared_end) = (u64::from(shared.raw_len), shared.raw_len);
    attempt(
        "an unknown buffer",
        vec![facts.put(10, vec![extent(0, 10, BufferId(facts.fresh), 0)], vec![])],
    );
    attempt(
        "a slice behind its buffer",
        vec![facts.put(end + 1, vec![extent(0, shared_end + 1, shared.id, 0)], vec![])],
    );
    attempt(
        "a slice beside its buffer",
        vec![facts.put(10, vec![extent(0, 10, shared.id, shared_end)], vec![])],
    );
    attempt("a page as data", vec![facts.put(10, vec![extent(0, 10, *page, 0)], vec![])]);
    attempt("a page as a lone value", vec![facts.put_whole(page_def.clone())]);
    attempt(
        "another's buffer",
        vec![facts.put(end, vec![extent(0, shared_end, shared.id, 0)], vec![])],
    );
    attempt("16 TiB of zeros", vec![facts.put(VALUE_LEN_MAX, vec![], vec![])]);
    attempt(
        "16 TiB and a byte",
        vec![facts.put(VALUE_LEN_MAX, vec![extent(VALUE_LEN_MAX - 1, 1, shared.id, 0)], vec![])],
    );
    let bucket = facts.bucket;
    let key: Box<[u8]> = b"forged"[..].into();
    let version = Version(facts.fresh + 600);
    let (id, lone_key, lone_version, lone) = facts.lone[0].clone();
    let lone_key: Box<[u8]> = lone_key.into();
    let epoch = facts.stored.superblocks[0].epoch;
    for wrong in [0, 1, u64::MAX, Version::last_of(epoch).0 + 1, Version::first_of(Epoch(1)).0 - 1]
    {
        let put = |version| Record::Put {
            bucket,
            key: key.clone(),
            version: Version(version),
            len: 5,
            extents: vec![],
            buffers: vec![],
            attributes: None,
        };
        attempt(&format!("version {wrong}"), vec![put(wrong)]);
        attempt(
            &format!("a delete of version {wrong}"),
            vec![
                put(facts.fresh),
                Record::Delete { bucket, key: key.clone(), version: Version(wrong) },
            ],
        );
        attempt(
            &format!("a clear of version {wrong}"),
            vec![Record::BucketClear { bucket, version: Version(wrong) }],
        );
        let def = facts.buffer_at(0, lone.location, lone.stored_len);
        attempt(
            &format!("buffer {wrong}"),
            vec![facts.put_whole(BufferDef { id: BufferId(wrong), ..def })],
        );
    }
    attempt("a delete of nothing", vec![Record::Delete { bucket, key: key.clone(), version }]);
    attempt(
        "no such bucket",
        vec![Record::Put {
            bucket: BucketId(77_777),
            key: key.clone(),
            version,
            len: 9,
            extents: vec![],
            buffers: vec![],
            attributes: None,
        }],
    );
    for base in [lone_version, Version(lone_version.0 - 1), Version(1), Version(0)] {
        let splice = |cut: Range<u64>, len, extents| Record::Splice {
            bucket: id,
            key: lone_key.clone(),
            base,
            version,
            len,
            cut,
            extents,
            buffers: vec![],
        };
        attempt(&format!("a splice of {base:?}"), vec![splice(0..10, 10, vec![])]);
        attempt(
            &format!("a splice of {base:?} that names a buffer"),
            vec![splice(0..10, 100, vec![extent(0, 10, shared.id, 0)])],
        );
        attempt(
            &format!("a splice of {base:?} to 16 TiB"),
            vec![splice(7..7, VALUE_LEN_MAX, vec![])],
        );
        attempt(
            &format!("attributes of {base:?}"),
            vec![Record::Attributes {
                bucket: id,
                key: lone_key.clone(),
                base,
                version,
                attributes: None,
            }],
        );
        attempt(
            &format!("pages over {base:?}"),
            vec![Record::Paged {
                bucket: id,
                key: lone_key.clone(),
                base: Some(base),
                version,
                len: 10,
                cut: 0..VALUE_LEN_MAX,
                pages: vec![PageRef { start: 0, page: Some(*page), extents: 1 }],
                attributes: None,
            }],
        );
    }
    attempt(
        "attributes of nothing",
        vec![Record::Attributes {
            bucket,
            key: key.clone(),
            base: Version(facts.fresh),
            version,
            attributes: None,
        }],
    );
    attempt("one blob twice", vec![facts.put(5, vec![], vec![]), facts.put(6, vec![], vec![])]);
    bench.finish();
}

#[test]
fn no_record_of_pages_that_cannot_be_makes_a_store_lie() {
    let facts = Facts::read();
    let mut bench = facts.bench();
    let mut attempt = |what: &str, records| facts.try_records(&mut bench, what, records);
    let bucket = facts.bucket;
    let key: Box<[u8]> = b"forged"[..].into();
    let version = Version(facts.fresh + 600);
    let shared = &facts.shared[0];
    let (page, (page_def, names)) = facts.pages.iter().next().unwrap();
    let paged = |pages| Record::Paged {
        bucket,
        key: key.clone(),
        base: None,
        version,
        len: 5_000_000,
        cut: 0..VALUE_LEN_MAX,
        pages,
        attributes: None,
    };
    let part = |start, page, extents| PageRef { start, page: Some(page), extents };
    attempt("an unknown page", vec![paged(vec![part(0, BufferId(facts.fresh), 3)])]);
    attempt("data as a page", vec![paged(vec![part(0, shared.id, 3)])]);
    attempt("a lone buffer as a page", vec![paged(vec![part(0, facts.lone[0].3.id, 3)])]);
    attempt("another's page", vec![paged(vec![part(0, *page, 3)])]);
    attempt("a page twice", vec![paged(vec![part(0, *page, 3), part(10, *page, 3)])]);
    attempt(
        "pages of many extents",
        vec![paged(vec![part(0, *page, 43_690), part(1, *page, 43_690)])],
    );
    attempt(
        "a page at the end",
        vec![paged(vec![part(0, *page, 1), part(VALUE_LEN_MAX - 1, *page, 1)])],
    );
    let (id, paged_key, paged_version, len, parts) = facts.paged.clone();
    let paged_key: Box<[u8]> = paged_key.into();
    let change = |base, cut: Range<u64>, pages| Record::Paged {
        bucket: id,
        key: paged_key.clone(),
        base: Some(base),
        version,
        len,
        cut,
        pages,
        attributes: None,
    };
    attempt("no pages any more", vec![change(paged_version, 0..VALUE_LEN_MAX, vec![])]);
    attempt("the first page is gone", vec![change(paged_version, 0..1, vec![])]);
    attempt(
        "pages of another base",
        vec![change(Version(paged_version.0 - 1), 0..1, vec![part(0, *page, 1)])],
    );
    attempt(
        "the pages of one in the middle",
        vec![change(
            paged_version,
            5..VALUE_LEN_MAX,
            parts.iter().map(|of| PageRef { start: of.start + 5, ..*of }).collect(),
        )],
    );
    attempt(
        "extents into pages",
        vec![Record::Splice {
            bucket: id,
            key: paged_key.clone(),
            base: paged_version,
            version,
            len,
            cut: 0..10,
            extents: vec![],
            buffers: vec![],
        }],
    );
    let written = |page: BufferId, names: Vec<BufferId>, buffers| Record::Page {
        bucket,
        key: key.clone(),
        version,
        page,
        names,
        buffers,
    };
    attempt("a page that is there", vec![written(*page, names.clone(), vec![page_def.clone()])]);
    attempt("a page over data", vec![written(shared.id, names.clone(), vec![shared.clone()])]);
    let new = facts.buffer_at(1, page_def.location, page_def.stored_len);
    let fresh = BufferId(facts.fresh);
    attempt("a page with another's bytes", vec![written(new.id, names.clone(), vec![new.clone()])]);
    attempt(
        "a page with another's bytes, in use",
        vec![written(new.id, names.clone(), vec![new.clone()]), paged(vec![part(0, new.id, 3)])],
    );
    attempt(
        "a page that names nothing there is",
        vec![written(new.id, vec![fresh], vec![new.clone()])],
    );
    attempt("a page that names a page", vec![written(new.id, vec![*page], vec![new.clone()])]);
    attempt("a page that names nothing", vec![written(new.id, vec![], vec![new.clone()])]);
    let release =
        |page: BufferId, names: &[BufferId]| Record::Release { page, names: names.into() };
    attempt("a release of nothing", vec![release(fresh, &[])]);
    attempt("a release of nothing, with names", vec![release(fresh, names)]);
    attempt("a release of a page in use", vec![release(*page, names)]);
    attempt("a release without the names", vec![release(*page, &[])]);
    attempt("a release with other names", vec![release(*page, &[shared.id])]);
    attempt("a release of data", vec![release(shared.id, &[])]);
    attempt("a release of a lone buffer", vec![release(facts.lone[0].3.id, &[])]);
    attempt(
        "a page released twice",
        vec![
            written(new.id, vec![], vec![new.clone()]),
            release(new.id, &[]),
            release(new.id, &[]),
        ],
    );
    attempt(
        "a page comes and goes",
        vec![written(new.id, names.clone(), vec![new.clone()]), release(new.id, names)],
    );
    bench.finish();
}

#[test]
fn no_record_of_shared_and_moved_buffers_that_cannot_be_makes_a_store_lie() {
    let facts = Facts::read();
    let mut bench = facts.bench();
    let mut attempt = |what: &str, records| facts.try_records(&mut bench, what, records);
    let key: Box<[u8]> = b"forged"[..].into();
    let (id, lone_key, _, lone) = facts.lone[0].clone();
    let (_, _, _, other) = facts.lone[1].clone();
    let lone_key: Box<[u8]> = lone_key.into();
    let shared = &facts.shared[0];
    let share = |key: &[u8], buffers| Record::Share { bucket: id, key: key.into(), buffers };
    attempt("of a blob that is not there", vec![share(&key, vec![lone.clone()])]);
    attempt("another's lone buffer", vec![share(&lone_key, vec![other.clone()])]);
    attempt(
        "another's lone buffer, named",
        vec![
            share(&key, vec![other.clone()]),
            facts.put(
                u64::from(other.raw_len),
                vec![extent(0, other.raw_len, other.id, 0)],
                vec![],
            ),
        ],
    );
    attempt("a shared one again", vec![share(&lone_key, vec![shared.clone()])]);
    for (what, def) in [("a lone one", &lone), ("a shared one", shared)] {
        let elsewhere = facts.buffer_at(0, other.location, def.stored_len);
        let forged = BufferDef { id: def.id, ..elsewhere };
        attempt(&format!("{what} as other bytes"), vec![share(&key, vec![forged.clone()])]);
        attempt(&format!("{what} as another blob's"), vec![facts.put_whole(forged.clone())]);
        attempt(
            &format!("{what} as another blob's, then shared"),
            vec![facts.put_whole(forged.clone()), share(b"forged", vec![forged])],
        );
        attempt(&format!("{what} as it is"), vec![facts.put_whole(def.clone())]);
    }
    let moved = |subject, from, to| Record::Move { subject, from, to };
    let table = |buffer| MoveSubject::Table { buffer };
    let of_lone = |key: &[u8], buffer| MoveSubject::Lone { bucket: id, key: key.into(), buffer };
    attempt(
        "a move of nothing",
        vec![moved(table(BufferId(facts.fresh)), lone.location, other.location)],
    );
    attempt("a move from elsewhere", vec![moved(table(shared.id), lone.location, other.location)]);
    attempt(
        "a move of a lone one as a shared one",
        vec![moved(table(lone.id), lone.location, other.location)],
    );
    attempt(
        "a move to another's place",
        vec![moved(table(shared.id), shared.location, lone.location)],
    );
    attempt(
        "a move of another's",
        vec![moved(of_lone(b"forged", lone.id), lone.location, other.location)],
    );
    attempt(
        "a move of a lone one to another's place",
        vec![moved(of_lone(&lone_key, lone.id), lone.location, other.location)],
    );
    attempt(
        "there and back",
        vec![
            moved(of_lone(&lone_key, lone.id), lone.location, other.location),
            moved(of_lone(&lone_key, lone.id), other.location, lone.location),
        ],
    );
    bench.finish();
}

#[test]
fn no_record_of_buckets_and_segments_that_cannot_be_makes_a_store_lie() {
    let facts = Facts::read();
    let mut bench = facts.bench();
    let mut attempt = |what: &str, records| facts.try_records(&mut bench, what, records);
    let (first, second) = (facts.bucket, facts.other_bucket);
    attempt("a bucket that is there", vec![named(first.0, b"again")]);
    attempt("a name that is taken", vec![named(5000, b"second")]);
    attempt("no number is left", vec![named(u32::MAX, b"last")]);
    attempt("one number is left", vec![named(u32::MAX - 1, b"last")]);
    attempt("number 0", vec![named(0, b"zero")]);
    attempt("a name that is no text", vec![named(5000, &[0xFF; 255])]);
    let options = BucketRecord::default();
    attempt(
        "a taken name",
        vec![Record::BucketChange { bucket: first, name: b"second"[..].into(), options }],
    );
    attempt(
        "two change names",
        vec![
            Record::BucketChange { bucket: first, name: b"second"[..].into(), options },
            Record::BucketChange { bucket: second, name: b"first"[..].into(), options },
        ],
    );
    attempt(
        "a change of nothing",
        vec![Record::BucketChange { bucket: BucketId(5000), name: b"x"[..].into(), options }],
    );
    let narrow = BucketRecord { quota_bytes: 1, quota_blobs: 1, ..options };
    attempt(
        "a quota of a byte",
        vec![Record::BucketChange { bucket: first, name: b"first"[..].into(), options: narrow }],
    );
    let wide = BucketRecord { quota_bytes: u64::MAX, quota_blobs: u64::MAX, ..options };
    attempt(
        "a quota of all",
        vec![Record::BucketChange { bucket: first, name: b"first"[..].into(), options: wide }],
    );
    attempt("the end of nothing", vec![Record::BucketDestroy { bucket: BucketId(5000) }]);
    attempt(
        "destroyed and made again",
        vec![Record::BucketDestroy { bucket: first }, named(first.0, b"first")],
    );
    let at = |tier, segment| TierSegment { tier: TierId(tier), segment: SegmentId(segment) };
    for (tier, segment) in [(0, 0), (0, 1), (0, 3), (0, u32::MAX), (1, 1), (7, 1), (15, u32::MAX)] {
        let segment = at(tier, segment);
        for generation in [0, 1, 1000, u32::MAX - (1 << 24), u32::MAX - 1, u32::MAX] {
            for kind in [SegmentKind::Log, SegmentKind::Data, SegmentKind::Meta] {
                attempt(
                    &format!("{segment:?} is opened, generation {generation}"),
                    vec![Record::SegmentOpen { segment, generation, kind }],
                );
            }
            attempt(
                &format!("{segment:?} is freed, generation {generation}"),
                vec![Record::SegmentFree { segment, generation }],
            );
        }
    }
    bench.finish();
}
