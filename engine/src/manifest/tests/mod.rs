//! Creation, damage, interruption and reopening of a manifest.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::config::testing::TestDir;
use crate::config::{Config, Tier};
use crate::error::ErrorKind;

fn two_tiers() -> Config {
    let tiers = [Tier::dram("16MiB"), Tier::nvme("64MiB"), Tier::hdd("128MiB")];
    tiers.into_iter().fold(Config::builder(), |builder, tier| builder.tier(tier)).build().unwrap()
}

/// The manifest of a new store in this directory, not yet saved.
fn new_manifest(directory: &Path) -> (Manifest, ResolvedConfig) {
    let resolved = two_tiers().resolve(directory).unwrap();
    let uuids = [Uuid([1; 16]), Uuid([0xAB; 16])];
    (Manifest::new(directory, Uuid([7; 16]), &resolved, &uuids), resolved)
}

fn make_tier_files(resolved: &ResolvedConfig) {
    for tier in &resolved.devices {
        File::create(&tier.file).unwrap();
    }
}

fn create_store(directory: &Path) -> Manifest {
    let (manifest, resolved) = new_manifest(directory);
    begin(directory, &manifest).unwrap();
    make_tier_files(&resolved);
    save(directory, &manifest).unwrap();
    manifest
}

#[test]
fn a_saved_manifest_loads_as_it_was_and_is_private() {
    let dir = TestDir::new("manifest");
    let manifest = create_store(dir.path());
    assert_eq!(load(dir.path()).unwrap(), Some(manifest.clone()));
    assert_eq!(manifest.tiers[0].path, Path::new("nvme0.tier"));
    let mode = fs::metadata(dir.path().join(MANIFEST_FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!dir.path().join(CREATING_FILE).exists());
    assert!(!dir.path().join(TEMPORARY_FILE).exists());
}

#[test]
fn an_empty_or_missing_directory_is_no_store() {
    let dir = TestDir::new("empty");
    assert_eq!(load(dir.path()).unwrap(), None);
    assert_eq!(load(&dir.path().join("missing")).unwrap(), None);
}

#[test]
fn every_single_flipped_bit_is_a_format_error_that_names_the_file() {
    let dir = TestDir::new("flip");
    create_store(dir.path());
    let path = dir.path().join(MANIFEST_FILE);
    let whole = fs::read(&path).unwrap();
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let error = text::parse(&bytes, &path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Format, "bit {bit}");
        assert!(error.message().contains(path.to_str().unwrap()), "bit {bit}: {error}");
    }
    for len in 0..whole.len() {
        assert!(text::parse(&whole[..len], &path).is_err(), "cut at {len}");
    }
}

#[test]
fn a_newer_format_is_refused_with_both_numbers() {
    let dir = TestDir::new("newer");
    let (manifest, _) = new_manifest(dir.path());
    let printed = text::print(&manifest).unwrap();
    let (_, body) = printed.split_once("\nformat").unwrap();
    let body = format!("format{body}").replacen("format = 1", "format = 9", 1);
    let sum = xxhash_rust::xxh3::xxh3_64(body.as_bytes());
    let title = printed.lines().next().unwrap();
    let newer = format!("{title}\n# xxh3 {sum:016x}\n{body}");
    let error = text::parse(newer.as_bytes(), Path::new("STORE")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Format);
    assert!(error.message().contains("format 9") && error.message().contains("up to 1"), "{error}");
}

#[test]
fn an_interrupted_creation_is_undone_and_counts_as_no_store() {
    let dir = TestDir::new("interrupted");
    let (manifest, resolved) = new_manifest(dir.path());
    begin(dir.path(), &manifest).unwrap();
    make_tier_files(&resolved);
    fs::write(dir.path().join(TEMPORARY_FILE), "half a mani").unwrap();
    let before = fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(load(dir.path()).unwrap(), None);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), before, "a look changes nothing");
    tidy(dir.path(), &|_, _| panic!("no file lies elsewhere")).unwrap();
    assert_eq!(load(dir.path()).unwrap(), None);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    // And the creation can start anew.
    create_store(dir.path());
}

#[test]
fn tier_files_without_a_manifest_are_a_format_error() {
    let dir = TestDir::new("stray");
    create_store(dir.path());
    fs::remove_file(dir.path().join(MANIFEST_FILE)).unwrap();
    let error = load(dir.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Format);
    assert!(error.message().contains("hdd0.tier"), "{error}");
    assert!(dir.path().join("nvme0.tier").exists(), "nothing is removed");
}

#[test]
fn a_default_configuration_reopens_the_stores_own_tiers_also_after_a_move() {
    let dir = TestDir::new("moved");
    let home = dir.path().join("home");
    fs::create_dir(&home).unwrap();
    create_store(&home);
    let moved = dir.path().join("moved");
    fs::rename(&home, &moved).unwrap();
    let manifest = load(&moved).unwrap().unwrap();
    let config = reconcile(Config::default(), &manifest, &moved).unwrap();
    assert_eq!(config.devices[1].file, moved.join("hdd0.tier"));
    assert_eq!(config.devices[1].capacity, 128 << 20);
    assert_eq!(config.dram.unwrap().capacity, 16 << 20);
}

#[test]
fn configured_tiers_must_match_and_the_free_settings_may_differ() {
    let dir = TestDir::new("match");
    let manifest = create_store(dir.path());
    let open = |tiers: Vec<Tier>| {
        let builder = tiers.into_iter().fold(Config::builder(), |builder, tier| builder.tier(tier));
        reconcile(builder.shards(2).build().unwrap(), &manifest, dir.path())
    };
    let config = open(vec![
        Tier::dram("32MiB"),
        Tier::nvme("64MiB").watermarks(0.5, 0.6),
        Tier::hdd("128MiB"),
    ])
    .unwrap();
    assert_eq!((config.dram.unwrap().capacity, config.shards), (32 << 20, 2));
    assert_eq!(config.devices[0].watermark_high, 0.6);

    let refused = |tiers, part: &str| {
        let error = open(tiers).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.message().contains(part), "{error}");
    };
    refused(vec![Tier::nvme("64MiB")], "1 nvme and hdd tiers are configured");
    refused(vec![Tier::nvme("64MiB"), Tier::nvme("128MiB")], "tier.1.kind = nvme");
    refused(
        vec![Tier::dram("16MiB"), Tier::nvme("128MiB"), Tier::hdd("128MiB")],
        "tier.1.capacity",
    );
    let other_segment = Config::builder().segment_size("8MiB").build().unwrap();
    let error = reconcile(other_segment, &manifest, dir.path()).unwrap_err();
    assert!(error.message().contains("segment_size = 8MiB is not the store's 4MiB"), "{error}");
}

#[test]
fn a_missing_tier_file_is_named_and_a_moved_one_is_found_where_the_user_says() {
    let dir = TestDir::new("missing");
    let manifest = create_store(dir.path());
    let elsewhere = TestDir::new("elsewhere");
    fs::rename(dir.path().join("hdd0.tier"), elsewhere.path().join("hdd0.tier")).unwrap();
    let error = reconcile(Config::default(), &manifest, dir.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TierMissing);
    assert!(error.message().contains("hdd0.tier"), "{error}");
    let config = Config::builder()
        .tier(Tier::nvme("64MiB"))
        .tier(Tier::hdd("128MiB").path(elsewhere.path()))
        .build()
        .unwrap();
    let config = reconcile(config, &manifest, dir.path()).unwrap();
    assert_eq!(config.devices[1].file, elsewhere.path().join("hdd0.tier"));
}
