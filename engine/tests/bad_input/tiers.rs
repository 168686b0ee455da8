//! Tier files that are not those of the store, or not as it left them.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;

use isotherm::config::{Config, ConfigBuilder, Tier};
use isotherm::log::superblock::{SUPERBLOCK_LEN, SUPERBLOCK_SLOTS, Superblock};
use isotherm::{ErrorKind, Store};

use crate::{Place, expect, small};

#[test]
fn tier_files_that_are_missing_exchanged_cut_or_foreign_are_refused_and_stay_as_they_are() {
    let place = Place::filled();
    let (nvme, hdd) = (place.store().join("nvme0.tier"), place.store().join("hdd0.tier"));
    let aside = place.path("aside");
    for tier in [&nvme, &hdd] {
        fs::rename(tier, &aside).unwrap();
        place.refuses(ErrorKind::TierMissing, &[tier.file_name().unwrap().to_str().unwrap()]);
        assert!(!tier.exists(), "a missing tier was made anew");
        // Empty, and of no store at all.
        File::create(tier).unwrap();
        assert!(Store::open(place.store(), small().build().unwrap()).is_err());
        OpenOptions::new().write(true).open(tier).unwrap().set_len(64 << 20).unwrap();
        place.refuses(ErrorKind::Format, &[tier.file_name().unwrap().to_str().unwrap()]);
        fs::rename(&aside, tier).unwrap();
    }
    // Exchanged.
    fs::rename(&nvme, &aside).unwrap();
    fs::rename(&hdd, &nvme).unwrap();
    fs::rename(&aside, &hdd).unwrap();
    place.refuses(ErrorKind::TierMissing, &["exchanged"]);
    fs::rename(&nvme, &aside).unwrap();
    fs::rename(&hdd, &nvme).unwrap();
    fs::rename(&aside, &hdd).unwrap();
    // Of another store.
    let other = Place::filled();
    fs::rename(&hdd, &aside).unwrap();
    fs::copy(other.store().join("hdd0.tier"), &hdd).unwrap();
    place.refuses(ErrorKind::TierMissing, &["belongs to store"]);
    fs::rename(&aside, &hdd).unwrap();
    // Cut.
    let file = OpenOptions::new().write(true).open(&hdd).unwrap();
    file.set_len(32 << 20).unwrap();
    place.refuses(ErrorKind::TierMissing, &["hdd0.tier"]);
    file.set_len(64 << 20).unwrap();
    place.require_intact();
}

#[test]
fn an_old_copy_of_a_tier_is_refused() {
    let place = Place::filled();
    let hdd = place.store().join("hdd0.tier");
    fs::copy(&hdd, place.path("old")).unwrap();
    place.require_intact();
    fs::rename(&hdd, place.path("new")).unwrap();
    fs::rename(place.path("old"), &hdd).unwrap();
    place.refuses(ErrorKind::TierMissing, &["old copy"]);
    fs::rename(place.path("new"), &hdd).unwrap();
    place.require_intact();
}

#[test]
fn tiers_configured_otherwise_than_the_store_has_them_are_refused() {
    let place = Place::filled();
    let wrong = ErrorKind::InvalidConfig;
    let open =
        |config: ConfigBuilder| Store::open(place.store(), config.build().unwrap()).map(drop);
    let dram = || Config::builder().tier(Tier::dram("8MiB"));
    expect(open(dram().tier(Tier::nvme("64MiB"))), wrong, &["2"]);
    expect(open(dram().tier(Tier::nvme("64MiB")).tier(Tier::hdd("128MiB"))), wrong, &["capacity"]);
    expect(open(dram().tier(Tier::nvme("64MiB")).tier(Tier::nvme("64MiB"))), wrong, &["kind"]);
    expect(open(Config::builder().segment_size("8MiB")), wrong, &["segment_size"]);
    // Without tiers, the store's own.
    open(Config::builder()).unwrap();
    place.require_intact();
}

#[test]
fn a_newer_format_is_refused_and_says_which() {
    let place = Place::filled();
    let manifest = place.store().join("STORE");
    let text = fs::read_to_string(&manifest).unwrap();
    let lines: Vec<&str> = text.splitn(3, '\n').collect();
    let body = lines[2].replacen("format = 1\n", "format = 4711\n", 1);
    let checksum = xxhash_rust::xxh3::xxh3_64(body.as_bytes());
    fs::write(&manifest, format!("{}\n# xxh3 {checksum:016x}\n{body}", lines[0])).unwrap();
    place.refuses(ErrorKind::Format, &["4711"]);
    fs::write(&manifest, b"no manifest at all").unwrap();
    place.refuses(ErrorKind::Format, &[]);
    fs::write(&manifest, text).unwrap();
    place.require_intact();
}

#[test]
fn superblocks_that_are_damaged_are_refused_and_one_of_two_is_enough() {
    let place = Place::filled();
    for name in ["nvme0.tier", "hdd0.tier"] {
        // The open writes one slot and its close the other: both are in use.
        place.require_intact();
        let file =
            OpenOptions::new().read(true).write(true).open(place.store().join(name)).unwrap();
        let [first, second] = SUPERBLOCK_SLOTS.map(|at| {
            let mut bytes = [0; SUPERBLOCK_LEN];
            file.read_exact_at(&mut bytes, at).unwrap();
            assert!(Superblock::decode(&bytes).is_ok(), "slot {at} of {name} is in use");
            bytes
        });
        let damage = |at| file.write_all_at(&[0xA5; SUPERBLOCK_LEN], at).unwrap();
        let mend = || {
            file.write_all_at(&first, SUPERBLOCK_SLOTS[0]).unwrap();
            file.write_all_at(&second, SUPERBLOCK_SLOTS[1]).unwrap();
        };
        SUPERBLOCK_SLOTS.into_iter().for_each(damage);
        place.refuses(ErrorKind::Format, &[name]);
        mend();
        for at in SUPERBLOCK_SLOTS {
            // The next open mends it: each is the only one once.
            damage(at);
            place.require_intact();
        }
    }
}

#[test]
fn a_tier_that_needs_what_this_engine_does_not_know_is_refused() {
    let place = Place::filled();
    let nvme = place.store().join("nvme0.tier");
    let file = OpenOptions::new().read(true).write(true).open(&nvme).unwrap();
    for at in SUPERBLOCK_SLOTS {
        let mut bytes = [0; SUPERBLOCK_LEN];
        file.read_exact_at(&mut bytes, at).unwrap();
        let Ok(mut superblock) = Superblock::decode(&bytes) else { continue };
        superblock.features.incompat = 1 << 40;
        file.write_all_at(&superblock.encode().unwrap(), at).unwrap();
    }
    place.refuses(ErrorKind::Format, &["nvme0.tier"]);
}
