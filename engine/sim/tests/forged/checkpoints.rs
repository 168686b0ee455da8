//! Checkpoints with checksums that are right, and nothing to fall back on.

use std::collections::BTreeMap;

use isotherm::log::checkpoint::{BufferEntry, PartitionEncoder, PartitionIdentity, PartitionView};
use isotherm::log::codec::seal;
use isotherm::log::root::Root;
use isotherm::types::{BatchSeq, BucketId, Location, Place, TierId, Version};
use isotherm_sim::forge::{Stored, StoredImage, field};
use isotherm_sim::fuzz::partition::push;
use isotherm_sim::rng::Rng;
use isotherm_sim::small::make;
use isotherm_sim::trial::Touched;

use crate::bench::{Bench, stride};
use crate::facts::Facts;
use crate::fields::changes;

/// Partitions that are forged.
const IMAGES: usize = 6;
/// Of those that are written anew, every so many'th, unless everything is tried.
const IMAGES_STEP: usize = 5;
const IMAGE_CRC_AT: usize = 76;
const ROOT_CRC_AT: usize = 116;
const ROOT_HEADER: usize = 120;
/// Where the version of a partition's first blob stands.
const BLOB_VERSION_AT: usize = 88;

type Entries = BTreeMap<(BucketId, Vec<u8>), String>;

/// The blobs of an image, if it can be read.
fn entries(bytes: &[u8], identity: &PartitionIdentity) -> Option<Entries> {
    let mut bytes = bytes.to_vec();
    seal(&mut bytes, IMAGE_CRC_AT);
    let view = PartitionView::decode(&bytes, identity).ok()?;
    let mut found = Entries::new();
    for blob in view.blobs() {
        let blob = blob.ok()?;
        found.insert((blob.bucket, blob.key.to_vec()), format!("{blob:?}"));
    }
    Some(found)
}

/// The blobs that two images have differently.
fn touched_by(image: &StoredImage, forged: &[u8]) -> Touched {
    let mut touched = Touched::default();
    let (Some(old), Some(new)) =
        (entries(&image.bytes, &image.identity), entries(forged, &image.identity))
    else {
        return touched;
    };
    for name in old.keys().chain(new.keys()) {
        if old.get(name) != new.get(name) {
            touched.blobs.insert(name.clone());
        }
    }
    touched
}

/// The partitions with most in them.
fn largest(stored: &Stored) -> Vec<&StoredImage> {
    let mut images: Vec<&StoredImage> = stored.images.iter().collect();
    images.sort_by_key(|image| std::cmp::Reverse(image.bytes.len()));
    images.truncate(IMAGES);
    images
}

#[test]
fn no_forged_field_of_a_partition_makes_a_store_lie() {
    let small = make().unwrap();
    let mut rng = Rng::new(5);
    for disks in [&small.closed, &small.crashed] {
        let stored = Stored::read(disks).unwrap();
        let mut bench = Bench::new(&small, disks);
        for image in largest(&stored) {
            for change in changes(&image.bytes, &mut rng) {
                let forged = change.made(&image.bytes);
                let touched = touched_by(image, &forged);
                let place = format!("partition {}, {}", image.partition, change.shown());
                let disks = stored.with_checkpoint(&[(image.partition, forged)], |_| ()).unwrap();
                bench.try_one("partition", &place, &disks, &touched);
            }
        }
        bench.finish();
    }
}

#[test]
fn no_forged_field_of_a_root_makes_a_store_lie() {
    let facts = Facts::read();
    let mut bench = facts.bench();
    let mut rng = Rng::new(6);
    let bytes = facts.stored.root.encode().unwrap();
    // The header, the buckets and some segments; then partitions.
    let middle = bytes.len() / 2 / 8 * 8;
    for part in [0..ROOT_HEADER - 4, ROOT_HEADER..ROOT_HEADER + 400, middle..middle + 160] {
        for change in changes(&bytes[part.clone()], &mut rng) {
            let mut forged = bytes.clone();
            forged[part.clone()].copy_from_slice(&change.made(&bytes[part.clone()]));
            let mut touched = Touched::default();
            let mut sealed = forged.clone();
            seal(&mut sealed, ROOT_CRC_AT);
            if let Ok(root) = Root::decode(&sealed, facts.stored.root.store) {
                let (old, new) = (&facts.stored.root.buckets, &root.buckets);
                let differing = old.iter().filter(|entry| !new.contains(entry));
                touched.buckets.extend(differing.map(|entry| entry.bucket));
                // Buckets between the two moments came, or are not known to have come.
                touched.lists = root.seq != facts.stored.root.seq;
            }
            let place = format!("from {}: {}", part.start, change.shown());
            let disks = facts.stored.with_checkpoint(&[], |root| *root = forged).unwrap();
            bench.try_one("root", &place, &disks, &touched);
        }
    }
    bench.finish();
}

/// An image made anew, of what it has and what is added.
fn rewritten(
    image: &StoredImage,
    identity: PartitionIdentity,
    forge: impl Fn(&mut BufferEntry),
    twice: (usize, usize),
) -> Vec<u8> {
    let view = PartitionView::decode(&image.bytes, &image.identity).unwrap();
    let mut encoder = PartitionEncoder::new(identity);
    for (at, blob) in view.blobs().map(Result::unwrap).enumerate() {
        for _ in 0..1 + usize::from(at < twice.0) {
            push(&mut encoder, &blob).unwrap();
        }
    }
    for (at, entry) in view.buffers().map(Result::unwrap).enumerate() {
        let mut entry = entry;
        forge(&mut entry);
        for _ in 0..1 + usize::from(at < twice.1) {
            // What cannot be written is left to the fields.
            let _ = encoder.push_buffer(&entry);
        }
    }
    encoder.finish()
}

#[test]
fn no_partition_that_cannot_be_makes_a_store_lie() {
    let facts = Facts::read();
    let mut bench = facts.bench();
    let stored = &facts.stored;
    for image in stored.images.iter().step_by(stride().min(IMAGES_STEP)) {
        let view = stored.view(image).unwrap();
        if view.blob_count() + view.buffer_count() == 0 {
            continue;
        }
        let mut attempt = |what: &str, forged: Vec<u8>| {
            let place = format!("partition {}: {what}", image.partition);
            let disks = stored.with_checkpoint(&[(image.partition, forged)], |_| ()).unwrap();
            bench.try_one("partitions", &place, &disks, &Touched::default());
        };
        let same = |_: &mut BufferEntry| ();
        attempt("as it is", rewritten(image, image.identity, same, (0, 0)));
        attempt("a blob twice", rewritten(image, image.identity, same, (1, 0)));
        attempt("a buffer twice", rewritten(image, image.identity, same, (0, 1)));
        for named in [0, 1, 2, 1000, u32::MAX - 1, u32::MAX] {
            let forge = move |entry: &mut BufferEntry| entry.named = named;
            attempt(
                &format!("named {named} times"),
                rewritten(image, image.identity, forge, (0, 0)),
            );
        }
        let forge = |entry: &mut BufferEntry| {
            entry.is_page = !entry.is_page;
            entry.named = 0;
        };
        attempt("pages are data, data are pages", rewritten(image, image.identity, forge, (0, 0)));
        let forge = |entry: &mut BufferEntry| entry.def.checks.clear();
        attempt("no checks", rewritten(image, image.identity, forge, (0, 0)));
        let forge =
            |entry: &mut BufferEntry| entry.def.location = Location::device(TierId(1), 4096);
        attempt("in no place", rewritten(image, image.identity, forge, (0, 0)));
    }
    bench.finish();
}

/// The same image as one of another batch, which its root agrees with.
#[test]
fn no_cut_that_lies_makes_a_store_lie() {
    let facts = Facts::read();
    let mut bench = facts.bench();
    let stored = Stored::read(&facts.small.crashed).unwrap();
    let mut crashed = Bench::new(&facts.small, &facts.small.crashed);
    for (bench, stored) in [(&mut bench, &facts.stored), (&mut crashed, &stored)] {
        for image in largest(stored) {
            for cut in [
                0,
                1,
                image.identity.cut.0 - 1,
                image.identity.cut.0 + 1,
                stored.last_seq().0,
                u64::MAX,
            ] {
                let identity = PartitionIdentity { cut: BatchSeq(cut), ..image.identity };
                let forged = rewritten(image, identity, |_| (), (0, 0));
                let mut touched = Touched { lists: true, ..Touched::default() };
                touched.buckets.extend([facts.bucket, facts.other_bucket]);
                let number = image.partition;
                let mut root = stored.root.clone();
                root.partitions[number].cut = BatchSeq(cut);
                let with_cut = Stored { root, ..Stored::read(&stored.disks).unwrap() };
                let disks = with_cut.with_checkpoint(&[(number, forged)], |_| ()).unwrap();
                bench.try_one("cuts", &format!("partition {number} at {cut}"), &disks, &touched);
            }
        }
    }
    bench.finish();
    crashed.finish();
}

#[test]
fn no_root_that_cannot_be_makes_a_store_lie() {
    let facts = Facts::read();
    let mut bench = facts.bench();
    let stored = &facts.stored;
    let newest = &stored.superblocks[0];
    let epoch = newest.epoch;
    let mut attempt = |what: &str, forge: &dyn Fn(&mut Root)| {
        let mut root = stored.root.clone();
        forge(&mut root);
        let touched = Touched {
            lists: root.seq != stored.root.seq,
            buckets: stored
                .root
                .buckets
                .iter()
                .filter(|entry| !root.buckets.contains(entry))
                .map(|entry| entry.bucket)
                .collect(),
            ..Touched::default()
        };
        if let Ok(bytes) = root.encode() {
            let disks = stored.with_checkpoint(&[], |root| *root = bytes).unwrap();
            bench.try_one("roots", what, &disks, &touched);
        }
    };
    for version in [
        0,
        1,
        Version::first_of(epoch).0,
        Version::last_of(epoch).0,
        Version::last_of(epoch).0 + 1,
        u64::MAX,
    ] {
        attempt(&format!("version {version} is next"), &|root| {
            root.next_version = Version(version)
        });
    }
    for bucket in [u32::MAX - 1, u32::MAX] {
        attempt(&format!("bucket {bucket} is next"), &|root| root.next_bucket = BucketId(bucket));
    }
    for generation in [1000, u32::MAX - (1 << 24), u32::MAX - 1, u32::MAX] {
        attempt(&format!("generation {generation} is next"), &|root| {
            root.next_generation = generation
        });
    }
    for seq in [
        0,
        stored.root.seq.0 - 1,
        stored.root.seq.0 + 1,
        stored.last_seq().0,
        stored.last_seq().0 + 1,
        u64::MAX,
    ] {
        attempt(&format!("seq {seq}"), &|root| root.seq = BatchSeq(seq));
    }
    attempt("one name for two buckets", &|root| {
        root.buckets[1].name = root.buckets[0].name.clone()
    });
    attempt("no buckets", &|root| root.buckets.clear());
    attempt("no segments", &|root| root.segments.clear());
    let there: Vec<usize> = stored.images.iter().map(|image| image.partition).collect();
    attempt("two partitions change places", &|root| root.partitions.swap(there[0], there[1]));
    attempt("one partition twice", &|root| {
        root.partitions[there[0]] = root.partitions[there[1]].clone()
    });
    attempt("all partitions are one", &|root| {
        let first = root.partitions[there[0]].clone();
        root.partitions.fill(first);
    });
    attempt("a partition is empty", &|root| {
        let part = &mut root.partitions[there[0]];
        (part.len, part.crc) = (0, 0);
        part.chunks.clear();
    });
    let chunk = stored.root.partitions[there[0]].chunks[0];
    let size = newest.segment_size;
    let Place::Device { offset, .. } = chunk.location.place() else { unreachable!("on a device") };
    for (what, tier, at) in [
        ("the superblocks", 0, 0),
        ("a tier that is not there", 7, size),
        ("the middle of a block", 0, offset + 8),
        ("behind the tier", 0, newest.capacity),
        ("far behind the tier", 0, (1 << 56) - (1 << 33)),
        ("the end of a segment", 0, 3 * size - 4096),
        ("the log", 0, stored.batches[0].offset),
        ("data", 1, size + 4096),
    ] {
        for len in [chunk.len, 1 << 20, 1 << 26, u32::MAX] {
            attempt(&format!("{len} bytes in {what}"), &|root| {
                let part = &mut root.partitions[there[0]];
                part.chunks[0].location = Location::device(TierId(tier), at);
                part.chunks[0].len = len;
                part.len = u64::from(len);
            });
            attempt(&format!("64 times {len} bytes in {what}"), &|root| {
                let part = &mut root.partitions[there[0]];
                let mut chunk = part.chunks[0];
                (chunk.location, chunk.len) = (Location::device(TierId(tier), at), len);
                part.chunks = vec![chunk; 64];
                part.len = 64 * u64::from(len);
            });
        }
    }
    // A version that is yet to be issued, and a root that says it was.
    let blobs = |image: &&StoredImage| stored.view(image).unwrap().blob_count() > 0;
    let image = stored.images.iter().find(blobs).unwrap();
    let mut forged = image.bytes.clone();
    let late = Version::last_of(epoch).0 + 1000;
    forged[BLOB_VERSION_AT..BLOB_VERSION_AT + 8].copy_from_slice(&late.to_le_bytes());
    let touched = touched_by(image, &forged);
    let root = Root { next_version: Version(u64::MAX), ..stored.root.clone() };
    let with_root = Stored { root, ..Stored::read(&stored.disks).unwrap() };
    let disks = with_root.with_checkpoint(&[(image.partition, forged)], |_| ()).unwrap();
    bench.try_one("roots", "a version of the next open", &disks, &touched);
    // What cannot be encoded: other numbers of partitions, with and without their bytes.
    for count in [0u32, 1, 255, 257, u32::MAX] {
        let disks =
            stored.with_checkpoint(&[], |root| root[60..64].copy_from_slice(&count.to_le_bytes()));
        bench.try_one(
            "roots",
            &format!("{count} partitions"),
            &disks.unwrap(),
            &Touched::default(),
        );
        let disks = stored.with_checkpoint(&[], |root| {
            assert_eq!(u32::from_le_bytes(field(root, 60)), 256);
            root[60..64].copy_from_slice(&count.to_le_bytes());
            root.resize(root.len() + 24, 0);
            let len = root.len() as u64;
            root[96..104].copy_from_slice(&len.to_le_bytes());
        });
        bench.try_one(
            "roots",
            &format!("{count} partitions, and more bytes"),
            &disks.unwrap(),
            &Touched::default(),
        );
    }
    bench.finish();
}
