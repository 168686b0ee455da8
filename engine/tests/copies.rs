//! Copies of checkpoints on the next tier: found by its superblock alone, and equal to the
//! checkpoint that the log's tier holds.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use isotherm::config::{Config, Tier};
use isotherm::log::checkpoint::{PartitionIdentity, PartitionView};
use isotherm::log::root::{PartitionRef, Root};
use isotherm::log::superblock::{Chunk, SUPERBLOCK_LEN, SUPERBLOCK_SLOTS, Superblock};
use isotherm::types::{Location, Place, TierId, Uuid};
use isotherm::{Scope, Store};

/// About as many as two rotations of checkpoints take.
const PUTS: u32 = 1500;
const KEYS: u32 = 300;

fn open(place: &Path) -> Store {
    let config = Config::builder()
        .tier(Tier::dram("8MiB"))
        .tier(Tier::nvme("256MiB"))
        .tier(Tier::hdd("256MiB"))
        .shards(1)
        .build()
        .unwrap();
    Store::open(place, config).unwrap()
}

fn fill(store: &Store, seed: u32) {
    let bucket = store.bucket("b").unwrap();
    for number in 0..PUTS {
        let key = format!("key{}", number % KEYS);
        bucket.put(key.as_bytes(), &vec![(number + seed) as u8; 16 << 10]).unwrap();
    }
    // A map, which stands in the buffer table.
    bucket.put(b"map", &vec![seed as u8; 3 << 20]).unwrap();
    store.flush(Scope::Store).unwrap();
}

/// A tier's file, and what its superblock names.
struct Checkpoint {
    superblock: Superblock,
    root: Root,
    file: File,
}

impl Checkpoint {
    fn of(path: &Path, tier: u8) -> Option<Checkpoint> {
        let file = File::open(path).unwrap();
        let mut slots = [[0; SUPERBLOCK_LEN]; 2];
        for (slot, at) in slots.iter_mut().zip(SUPERBLOCK_SLOTS) {
            file.read_exact_at(slot, at).unwrap();
        }
        let superblock = Superblock::newest([&slots[0], &slots[1]]).unwrap();
        let named = superblock.checkpoint.clone()?;
        let bytes = read(&file, tier, &named.chunks);
        assert_eq!(Root::crc_of(&bytes).unwrap(), named.crc);
        let root = Root::decode(&bytes, superblock.store).unwrap();
        Some(Checkpoint { superblock, root, file })
    }

    fn image(&self, tier: u8, part: &PartitionRef) -> Vec<u8> {
        read(&self.file, tier, &part.chunks)
    }
}

fn read(file: &File, on_tier: u8, chunks: &[Chunk]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for chunk in chunks {
        let Place::Device { tier, offset } = chunk.location.place() else { panic!("in DRAM") };
        assert_eq!(tier.0, on_tier, "a checkpoint lies on one tier");
        let mut part = vec![0; chunk.len as usize];
        file.read_exact_at(&mut part, offset).unwrap();
        bytes.extend(part);
    }
    bytes
}

/// Reads the whole copy; returns its blobs, and how many images the log's tier has alike.
fn verify_copy(place: &Path) -> (BTreeMap<Vec<u8>, u64>, usize) {
    let copy = Checkpoint::of(&place.join("hdd0.tier"), 1).expect("the tier names no copy");
    let original = Checkpoint::of(&place.join("nvme0.tier"), 0).unwrap();
    assert_eq!(copy.root.buckets, original.root.buckets);
    let store: Uuid = copy.superblock.store;
    let (mut blobs, mut same) = (BTreeMap::new(), 0);
    for (number, part) in copy.root.partitions.iter().enumerate() {
        assert!(part.cut <= copy.superblock.watermark, "a copy of what is not durable");
        let image = copy.image(1, part);
        let identity = PartitionIdentity { store, partition: number as u16, cut: part.cut };
        let view = PartitionView::decode(&image, &identity).unwrap();
        assert_eq!(view.crc(), part.crc);
        for blob in view.blobs() {
            let blob = blob.unwrap();
            blobs.insert(blob.key.to_vec(), blob.len);
        }
        view.buffers().for_each(|def| drop(def.unwrap()));
        let newer = &original.root.partitions[number];
        assert!(newer.cut >= part.cut);
        if newer.cut == part.cut {
            assert!(original.image(0, newer) == image, "image {number}");
            same += 1;
        }
    }
    (blobs, same)
}

#[test]
fn the_next_tier_holds_a_copy_of_the_last_rotation_that_its_superblock_names() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("store");
    let store = open(&path);
    fill(&store, 0);
    store.close().unwrap();
    let filled = Checkpoint::of(&path.join("nvme0.tier"), 0).unwrap().superblock.watermark;
    // How often checkpoints are taken depends on the machine: until one began after all keys.
    let began_after = |copy: Checkpoint| copy.root.partitions.iter().all(|part| part.cut > filled);
    let copied = (0..20).any(|_| {
        let store = open(&path);
        fill(&store, 0);
        store.close().unwrap();
        Checkpoint::of(&path.join("hdd0.tier"), 1).is_some_and(began_after)
    });
    assert!(copied, "rotations are not copied");
    let (blobs, same) = verify_copy(&path);
    let keys = (0..KEYS).map(|number| format!("key{number}").into_bytes());
    assert!(keys.into_iter().all(|key| blobs.get(&key) == Some(&(16 << 10))));
    assert!(same > 0, "no image is as the log's tier has it");
    let first = Checkpoint::of(&path.join("hdd0.tier"), 1).unwrap().root.seq;
    // Opening keeps it, and does not hand its segments out.
    let store = open(&path);
    let bucket = store.open_bucket("b").unwrap();
    for number in 0..150u32 {
        bucket.put(format!("x{number}").as_bytes(), &[9; 1 << 20]).unwrap();
    }
    store.close().unwrap();
    verify_copy(&path);
    // Later rotations replace it.
    let store = open(&path);
    fill(&store, 1);
    fill(&store, 2);
    store.close().unwrap();
    let (blobs, _) = verify_copy(&path);
    assert_eq!(blobs.get(&b"map"[..]), Some(&(3 << 20)));
    assert!(Checkpoint::of(&path.join("hdd0.tier"), 1).unwrap().root.seq > first);
}

#[test]
fn the_copy_before_stays_too_over_opens_and_closes() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("store");
    let store = open(&path);
    (0..2).for_each(|seed| fill(&store, seed));
    store.close().unwrap();
    let newest = Checkpoint::of(&path.join("hdd0.tier"), 1).unwrap();
    for _ in 0..2 {
        let store = open(&path);
        store.bucket("b").unwrap().put(b"x", &[9; 1 << 20]).unwrap();
        store.close().unwrap();
    }
    let Checkpoint { superblock, file, .. } = Checkpoint::of(&path.join("hdd0.tier"), 1).unwrap();
    assert_eq!(superblock.checkpoint, newest.superblock.checkpoint);
    let before = superblock.previous.and_then(|previous| previous.checkpoint).unwrap();
    assert!(before.seq < newest.root.seq);
    let root = Root::decode(&read(&file, 1, &before.chunks), superblock.store).unwrap();
    for part in root.partitions.iter().filter(|part| !part.chunks.is_empty()) {
        assert_eq!(PartitionView::crc_of(&read(&file, 1, &part.chunks)).unwrap(), part.crc);
    }
}

#[test]
fn a_copy_that_points_out_of_its_tier_is_none() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("store");
    let store = open(&path);
    fill(&store, 0);
    store.close().unwrap();
    let Checkpoint { superblock, mut root, .. } =
        Checkpoint::of(&path.join("hdd0.tier"), 1).unwrap();
    let named = superblock.checkpoint.unwrap();
    let mut places = root.partitions.iter_mut().flat_map(|part| part.chunks.first_mut());
    places.next().unwrap().location = Location::device(TierId(1), 1 << 50);
    let bytes = root.encode().unwrap();
    let file = File::options().read(true).write(true).open(path.join("hdd0.tier")).unwrap();
    let [chunk] = &named.chunks[..] else { panic!("a root in pieces") };
    let Place::Device { offset, .. } = chunk.location.place() else { panic!("in DRAM") };
    file.write_all_at(&bytes, offset).unwrap();
    for at in SUPERBLOCK_SLOTS {
        let mut slot = [0; SUPERBLOCK_LEN];
        file.read_exact_at(&mut slot, at).unwrap();
        let mut block = Superblock::decode(&slot).unwrap();
        for root in block.checkpoint.iter_mut().filter(|root| **root == named) {
            root.crc = Root::crc_of(&bytes).unwrap();
        }
        file.write_all_at(&block.encode().unwrap(), at).unwrap();
    }
    let store = open(&path);
    fill(&store, 1);
    store.close().unwrap();
    verify_copy(&path);
}

#[test]
fn a_tier_without_room_to_spare_gets_no_copies() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("store");
    let config = || {
        let tiers = Config::builder().tier(Tier::dram("8MiB")).tier(Tier::nvme("256MiB"));
        tiers.tier(Tier::hdd("64MiB")).segment_size("4MiB").shards(1).build().unwrap()
    };
    let store = Store::open(&path, config()).unwrap();
    fill(&store, 0);
    store.close().unwrap();
    assert!(Checkpoint::of(&path.join("hdd0.tier"), 1).is_none());
}
