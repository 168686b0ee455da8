//! Superblocks that know less than others, and slots that are damaged.

use std::fs;

use isotherm::types::{BatchSeq, Epoch};
use isotherm::{Durability, ErrorKind, Store};

use crate::{Place, config, damage, degraded, refused, value};

#[test]
fn every_tier_learns_the_new_epoch_the_cut_and_who_was_there() {
    let (place, _) = Place::filled();
    let before = place.superblocks(0)[0].1.clone();
    let store = place.open(config());
    let found: Vec<_> = [0, 1].map(|tier| place.superblocks(tier)[0].1.clone()).into();
    for block in &found {
        assert_eq!(block.epoch, Epoch(before.epoch.0 + 1));
        assert_eq!(block.cuts, found[0].cuts);
        assert_eq!(block.tier_epochs, [block.epoch, block.epoch]);
        assert!(!block.clean);
    }
    let cut = found[0].cuts.last().unwrap();
    assert_eq!(cut.epoch, before.epoch);
    // The store runs: a checkpoint or its copy may have raised what a tier's superblock names.
    assert!(found.iter().all(|block| block.watermark >= cut.seq), "{found:?}");
    store.close().unwrap();
}

#[test]
fn a_watermark_that_only_another_tier_names_counts() {
    let (place, _) = Place::filled();
    let last = place.superblocks(0)[0].1.watermark;
    place.change_superblocks(1, |block| block.watermark = BatchSeq(last.0 + 3));
    let beyond = (last.0 + 3).to_string();
    refused(place.try_open(config()), ErrorKind::Corrupt, &["flushed up to batch", &beyond]);
}

/// A store that was opened a second time and left by a crash.
fn crashed_after_an_open() -> Place {
    let place = Place::new();
    let store = place.open(config());
    store.bucket("b").unwrap().put(b"early", &value(1)).unwrap();
    store.close().unwrap();
    let store = place.open(config());
    let bucket = store.open_bucket("b").unwrap();
    bucket.put_with(b"late", b"value", Durability::Durable.into()).unwrap();
    let crashed = place.after_a_crash();
    store.close().unwrap();
    crashed
}

fn require_early_and_late(store: &Store) {
    let bucket = store.open_bucket("b").unwrap();
    assert_eq!(bucket.get(b"late").unwrap(), b"value");
    assert!(bucket.get(b"early").unwrap() == value(1));
}

#[test]
fn a_slot_that_is_damaged_before_the_first_checkpoint_is_made_up_for_by_the_other() {
    let crashed = crashed_after_an_open();
    let epoch = crashed.superblocks(0)[0].1.epoch;
    for slot in [0, 1] {
        let damaged = crashed.after_a_crash();
        // Of every tier: none makes up for what another does not know.
        for tier in [0, 1] {
            let (at, _) = damaged.superblocks(tier)[slot];
            damage(&damaged.file(tier), at + 200);
        }
        let store = damaged.open(config());
        require_early_and_late(&store);
        assert_eq!(store.info().epoch, epoch.0 + 1);
        store.close().unwrap();
    }
}

#[test]
fn a_slot_that_cannot_be_read_is_a_damaged_one() {
    let crashed = crashed_after_an_open();
    let [first, second] = [0..4096, 65_536..69_632];
    for bad in [[first.clone(), second.clone()], [second.clone(), first.clone()]] {
        let store = crashed.after_a_crash().open_faulty(bad, i64::MAX).unwrap();
        require_early_and_late(&store);
        store.close().unwrap();
    }
    let both = crashed.open_faulty([0..69_632, first], i64::MAX);
    refused(both, ErrorKind::Io, &["superblock", "nvme0.tier"]);
}

#[test]
fn an_old_copy_of_the_log_tier_is_refused() {
    let place = Place::new();
    let store = place.open(config());
    store.bucket("b").unwrap().put(b"early", &value(1)).unwrap();
    store.close().unwrap();
    let old = place.directory.path().join("old");
    fs::copy(place.file(0), &old).unwrap();
    let epoch = place.superblocks(0)[0].1.epoch.0;
    let store = place.open(config());
    let bucket = store.open_bucket("b").unwrap();
    bucket.put_with(b"late", b"value", Durability::Durable.into()).unwrap();
    let crashed = place.after_a_crash();
    let newer = crashed.directory.path().join("newer");
    store.close().unwrap();
    fs::rename(crashed.file(0), &newer).unwrap();
    fs::copy(&old, crashed.file(0)).unwrap();
    let words =
        ["nvme0.tier", "hdd0.tier", &format!("open {epoch}"), &format!("open {}", epoch + 1)];
    for config in [config(), degraded(), config().read_only(true)] {
        refused(crashed.try_open(config), ErrorKind::TierMissing, &words);
    }
    // Nothing was written: with the right file all is well.
    fs::rename(&newer, crashed.file(0)).unwrap();
    let store = crashed.open(config());
    require_early_and_late(&store);
    store.close().unwrap();
}
