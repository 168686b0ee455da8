//! Checkpoints that are damaged: the one before does, with a little more of the log.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;

use isotherm::log::root::Root;
use isotherm::log::superblock::{Chunk, RootRef};
use isotherm::types::{BatchSeq, Epoch, Place as At};
use isotherm::{Durability, Scope, Store};

use crate::{Place, config, damage};

const KEYS: u32 = 90;

fn offset(chunk: &Chunk) -> u64 {
    let At::Device { offset, .. } = chunk.location.place() else { panic!("a chunk in DRAM") };
    offset
}

fn content(round: u32, number: u32) -> Vec<u8> {
    vec![(7 * round + number) as u8; 16 << 10]
}

/// Enough log for several steps of checkpoints.
fn fill(store: &Store, round: u32) {
    let bucket = store.bucket("b").unwrap();
    for number in 0..KEYS {
        bucket.put(&number.to_le_bytes(), &content(round, number)).unwrap();
    }
    store.flush(Scope::Store).unwrap();
}

fn require(store: &Store, round: u32) {
    let bucket = store.open_bucket("b").unwrap();
    for number in 0..KEYS {
        assert!(bucket.get(&number.to_le_bytes()).unwrap() == content(round, number), "{number}");
    }
}

impl Place {
    /// A store with several checkpoints: closed, and as a crash would have left it before.
    fn checkpointed_and_crashed() -> (Place, Place) {
        let place = Place::new();
        let store = place.open(config());
        (0..4).for_each(|round| fill(&store, round));
        // Behind the newest checkpoint.
        let later = store.bucket("later").unwrap();
        later.put_with(b"k", b"value", Durability::Durable.into()).unwrap();
        let crashed = place.after_a_crash();
        store.close().unwrap();
        (place, crashed)
    }

    fn checkpointed() -> Place {
        Place::checkpointed_and_crashed().0
    }

    /// The newest root, and what names it.
    fn root(&self) -> (Root, RootRef) {
        let (_, superblock) = self.superblocks(0)[0].clone();
        let named = superblock.checkpoint.unwrap();
        let file = File::open(self.file(0)).unwrap();
        let mut bytes = Vec::new();
        for chunk in &named.chunks {
            let mut part = vec![0; chunk.len as usize];
            file.read_exact_at(&mut part, offset(chunk)).unwrap();
            bytes.extend(part);
        }
        (Root::decode(&bytes, superblock.store).unwrap(), named)
    }

    /// Replaces the newest root by this one, wherever it is named.
    fn forge_root(&self, forged: &Root) {
        let (_, named) = self.root();
        let bytes = forged.encode().unwrap();
        let file = OpenOptions::new().write(true).open(self.file(0)).unwrap();
        let mut rest = &bytes[..];
        for chunk in &named.chunks {
            let (now, later) = rest.split_at(chunk.len as usize);
            file.write_all_at(now, offset(chunk)).unwrap();
            rest = later;
        }
        self.change_superblocks(0, |block| {
            for root in block.checkpoint.iter_mut().filter(|root| **root == named) {
                root.crc = Root::crc_of(&bytes).unwrap();
            }
        });
    }
}

/// Opens what was damaged, twice, and goes on.
fn require_whole(place: &Place) {
    let crashed = place.after_a_crash();
    let store = place.open(config());
    require(&store, 3);
    assert_eq!(store.open_bucket("later").unwrap().get(b"k").unwrap(), b"value");
    let copy = place.after_a_crash();
    store.close().unwrap();
    for place in [&crashed, &copy, place] {
        let store = place.open(config());
        require(&store, 3);
        fill(&store, 4);
        fill(&store, 5);
        store.close().unwrap();
        let store = place.open(config());
        require(&store, 5);
        store.close().unwrap();
    }
}

#[test]
fn a_damaged_root_is_made_up_for_by_the_one_before_after_opens_and_closes() {
    let place = Place::checkpointed();
    // An open and a close without a checkpoint in between.
    place.open(config()).close().unwrap();
    let (_, named) = place.root();
    damage(&place.file(0), offset(&named.chunks[0]) + 60);
    require_whole(&place);
}

#[test]
fn a_damaged_root_is_made_up_for_by_the_one_before_after_a_crash() {
    let place = Place::checkpointed();
    let store = place.open(config());
    let crashed = place.after_a_crash();
    store.close().unwrap();
    let (_, named) = crashed.root();
    damage(&crashed.file(0), offset(&named.chunks[0]) + 60);
    require_whole(&crashed);
}

#[test]
fn a_damaged_root_is_made_up_for_by_the_older_slot_where_1_0_named_no_other() {
    let (_, crashed) = Place::checkpointed_and_crashed();
    crashed.change_superblocks(0, |block| {
        (block.previous, block.begun, block.features.compat) = (None, Epoch(0), 0);
    });
    let slots = crashed.superblocks(0);
    assert_ne!(slots[0].1.checkpoint, slots[1].1.checkpoint);
    let (_, named) = crashed.root();
    damage(&crashed.file(0), offset(&named.chunks[0]) + 60);
    require_whole(&crashed);
}

#[test]
fn a_damaged_image_is_made_up_for_by_the_one_before() {
    let place = Place::checkpointed();
    let (root, _) = place.root();
    let newest = root.partitions.iter().max_by_key(|part| (part.cut, part.len)).unwrap();
    damage(&place.file(0), offset(&newest.chunks[0]) + 100);
    require_whole(&place);
}

#[test]
fn a_root_that_is_beyond_what_was_flushed_does_not_count() {
    let place = Place::checkpointed();
    let (mut root, _) = place.root();
    // It would hide that the last bucket was created.
    root.seq = BatchSeq(root.seq.0 + 10_000);
    place.forge_root(&root);
    require_whole(&place);
}
