//! What is refused, and that a refusal says what is wrong and changes nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use isotherm::config::{Config, ConfigBuilder, Tier};
use isotherm::limits::{BUCKET_NAME_LEN_MAX, KEY_LEN_MAX, VALUE_LEN_MAX};
use isotherm::log::superblock::{SUPERBLOCK_LEN, SUPERBLOCK_SLOTS, Superblock};
use isotherm::{
    Bucket, BucketOptions, Durability, Error, ErrorKind, PutOptions, Result, ScanRange, Scope,
    Store,
};

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        Place { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn store(&self) -> PathBuf {
        self.path("store")
    }

    fn open(&self) -> Store {
        Store::open(self.store(), small().build().unwrap()).unwrap()
    }

    /// A closed store with one blob.
    fn filled() -> Place {
        let place = Place::new();
        let store = place.open();
        let bucket = store.bucket("b").unwrap();
        bucket.put(b"small", b"value").unwrap();
        bucket.put(b"large", &vec![7; 3 << 20]).unwrap();
        store.close().unwrap();
        place
    }

    fn refuses(&self, kind: ErrorKind, words: &[&str]) {
        expect(Store::open(self.store(), small().build().unwrap()).map(drop), kind, words);
    }

    /// Whatever was refused before, the store is as it was.
    fn require_intact(&self) {
        let store = self.open();
        let bucket = store.open_bucket("b").unwrap();
        assert_eq!(bucket.get(b"small").unwrap(), b"value");
        assert!(bucket.get(b"large").unwrap() == vec![7; 3 << 20]);
        store.close().unwrap();
    }
}

fn small() -> ConfigBuilder {
    Config::builder()
        .tier(Tier::dram("8MiB"))
        .tier(Tier::nvme("64MiB"))
        .tier(Tier::hdd("64MiB"))
        .shards(1)
}

#[track_caller]
fn expect<T: std::fmt::Debug>(result: Result<T>, kind: ErrorKind, words: &[&str]) -> Error {
    let error = result.expect_err("this should have been refused");
    assert_eq!(error.kind(), kind, "{error}");
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{text:?} does not say {word:?}");
    }
    error
}

// ---- arguments ----------------------------------------------------------------------------

#[test]
fn every_call_of_a_closed_store_says_closed() {
    let place = Place::new();
    let store = place.open();
    let bucket = store.bucket("b").unwrap();
    bucket.put(b"k", b"v").unwrap();
    let mut cursor = bucket.scan(ScanRange::all());
    store.close().unwrap();
    store.close().unwrap();
    let closed = ErrorKind::Closed;
    expect(bucket.put(b"k", b"w"), closed, &[]);
    expect(bucket.put_with(b"k", b"w", Durability::Memory.into()), closed, &[]);
    expect(bucket.put_at(b"k", 0, b"w"), closed, &[]);
    expect(bucket.append(b"k", b"w"), closed, &[]);
    expect(bucket.truncate(b"k", 0), closed, &[]);
    expect(bucket.delete(b"k"), closed, &[]);
    expect(bucket.get(b"k"), closed, &[]);
    expect(bucket.get_into(b"k", &mut [0; 9]), closed, &[]);
    expect(bucket.get_at(b"k", 0, &mut [0; 9]), closed, &[]);
    expect(bucket.stat(b"k"), closed, &[]);
    expect(bucket.exists(b"k"), closed, &[]);
    expect(bucket.bucket_stat(), closed, &[]);
    expect(bucket.locate(b"k"), closed, &[]);
    expect(cursor.next_page(10), closed, &[]);
    expect(store.create_bucket("c", BucketOptions::default()).map(drop), closed, &[]);
    expect(store.open_bucket("b").map(drop), closed, &[]);
    expect(store.destroy_bucket("b"), closed, &[]);
    expect(store.list_buckets(), closed, &[]);
    expect(store.flush(Scope::Store), closed, &[]);
}

#[test]
fn names_that_are_empty_or_too_long_are_refused_and_the_longest_allowed_is_not() {
    let place = Place::new();
    let store = place.open();
    let bucket = store.bucket("b").unwrap();
    let wrong = ErrorKind::InvalidArgument;
    let long = vec![b'k'; KEY_LEN_MAX + 1];
    for key in [&b""[..], &long] {
        let length = key.len().to_string();
        let says = ["1024", &length];
        expect(bucket.put(key, b"v"), wrong, &says);
        expect(bucket.put_with(key, b"v", Durability::Memory.into()), wrong, &says);
        expect(bucket.put_at(key, 0, b"v"), wrong, &says);
        expect(bucket.append(key, b"v"), wrong, &says);
        expect(bucket.truncate(key, 0), wrong, &says);
        expect(bucket.delete(key), wrong, &says);
        expect(bucket.get(key), wrong, &says);
        expect(bucket.get_into(key, &mut [0; 9]), wrong, &says);
        expect(bucket.get_at(key, 0, &mut [0; 9]), wrong, &says);
        expect(bucket.stat(key), wrong, &says);
        expect(bucket.exists(key), wrong, &says);
        expect(bucket.locate(key), wrong, &says);
    }
    bucket.put(&long[..KEY_LEN_MAX], b"v").unwrap();
    assert_eq!(bucket.get(&long[..KEY_LEN_MAX]).unwrap(), b"v");
    let long = "n".repeat(BUCKET_NAME_LEN_MAX + 1);
    for name in ["", &long] {
        expect(store.create_bucket(name, BucketOptions::default()).map(drop), wrong, &["255"]);
        expect(store.open_bucket(name).map(drop), wrong, &["255"]);
        expect(store.bucket(name).map(drop), wrong, &["255"]);
        expect(store.destroy_bucket(name), wrong, &["255"]);
    }
    store.bucket(&long[..BUCKET_NAME_LEN_MAX]).unwrap();
}

#[test]
fn names_of_nothing_are_told_apart_from_wrong_names() {
    let place = Place::new();
    let store = place.open();
    let bucket = store.bucket("b").unwrap();
    expect(bucket.get(b"k"), ErrorKind::NotFound, &["k", "b"]);
    expect(bucket.get_into(b"k", &mut []), ErrorKind::NotFound, &[]);
    expect(bucket.get_at(b"k", 0, &mut []), ErrorKind::NotFound, &[]);
    for level in [Durability::Memory, Durability::Written] {
        let options = PutOptions::from(level);
        expect(bucket.delete_with(b"k", options), ErrorKind::NotFound, &[]);
        expect(bucket.truncate_with(b"k", 9, options), ErrorKind::NotFound, &[]);
    }
    assert!(!bucket.exists(b"k").unwrap());
    expect(store.open_bucket("c").map(drop), ErrorKind::BucketNotFound, &["c"]);
    expect(store.destroy_bucket("c"), ErrorKind::BucketNotFound, &["c"]);
    expect(store.flush(Scope::Bucket("c")), ErrorKind::BucketNotFound, &["c"]);
    expect(
        store.create_bucket("b", BucketOptions::default()).map(drop),
        ErrorKind::BucketExists,
        &["b"],
    );
    let options = BucketOptions { buffer_size: Some(100_000), ..BucketOptions::default() };
    expect(store.create_bucket("c", options).map(drop), ErrorKind::InvalidArgument, &["100000"]);
}

#[test]
fn offsets_and_lengths_beyond_the_largest_value_are_refused_and_nothing_changes() {
    let place = Place::new();
    let store = place.open();
    let bucket = store.bucket("b").unwrap();
    bucket.put(b"k", b"value").unwrap();
    let wrong = ErrorKind::InvalidArgument;
    for level in [Durability::Memory, Durability::Written, Durability::Durable] {
        let options = PutOptions::from(level);
        for at in [u64::MAX, u64::MAX - 1, VALUE_LEN_MAX, VALUE_LEN_MAX - 1] {
            expect(bucket.put_at_with(b"k", at, b"xyz", options), wrong, &[&at.to_string()]);
            expect(bucket.put_at_with(b"new", at, b"xyz", options), wrong, &[]);
        }
        expect(bucket.truncate_with(b"k", VALUE_LEN_MAX + 1, options), wrong, &[]);
        expect(bucket.truncate_with(b"k", u64::MAX, options), wrong, &[]);
        // As long as may be: nothing but holes.
        bucket.truncate_with(b"k", VALUE_LEN_MAX, options).unwrap();
        expect(bucket.append_with(b"k", b"x", options), wrong, &[]);
        assert_eq!(bucket.stat(b"k").unwrap().len, VALUE_LEN_MAX);
        bucket.truncate_with(b"k", 5, options).unwrap();
    }
    assert!(!bucket.exists(b"new").unwrap());
    assert_eq!(bucket.get(b"k").unwrap(), b"value");
    let mut piece = [1; 4];
    assert_eq!(bucket.get_at(b"k", u64::MAX, &mut piece).unwrap(), 0);
    assert_eq!(bucket.get_at(b"k", 3, &mut piece).unwrap(), 2);
    assert_eq!(piece, *b"ue\x01\x01");
}

#[test]
fn a_value_that_memory_cannot_hold_is_refused_and_readable_in_pieces() {
    let place = Place::new();
    let store = place.open();
    let bucket = store.bucket("b").unwrap();
    bucket.put_at(b"k", VALUE_LEN_MAX - 1, b"x").unwrap();
    expect(bucket.get(b"k"), ErrorKind::NoMemory, &["get_at"]);
    let mut end = [7; 3];
    assert_eq!(bucket.get_at(b"k", VALUE_LEN_MAX - 3, &mut end).unwrap(), 3);
    assert_eq!(end, *b"\0\0x");
}

#[test]
fn a_buffer_that_is_too_small_is_told_the_needed_size() {
    let place = Place::new();
    let store = place.open();
    let bucket = store.bucket("b").unwrap();
    for (level, len) in
        [(Durability::Memory, 1000), (Durability::Written, 1000), (Durability::Written, 3 << 20)]
    {
        bucket.put_with(b"k", &vec![5; len], level.into()).unwrap();
        for room in [0, 1, len - 1] {
            let got = bucket.get_into(b"k", &mut vec![0; room]);
            let error = expect(got, ErrorKind::BufferTooSmall, &[&len.to_string()]);
            assert_eq!(error.needed(), Some(len as u64));
        }
        assert_eq!(bucket.get_into(b"k", &mut vec![0; len + 1]).unwrap(), len);
    }
}

#[test]
fn a_store_of_dram_alone_refuses_what_it_cannot_promise() {
    let place = Place::new();
    let config = || Config::builder().tier(Tier::dram("8MiB")).build().unwrap();
    let store = Store::open(place.store(), config()).unwrap();
    let bucket = store.bucket("b").unwrap();
    bucket.put(b"k", b"v").unwrap();
    for level in [Durability::Written, Durability::Durable] {
        expect(bucket.put_with(b"k", b"w", level.into()), ErrorKind::Unsupported, &["DRAM"]);
    }
    expect(store.flush(Scope::Store), ErrorKind::Unsupported, &["DRAM"]);
    expect(bucket.put(b"large", &vec![0; 16 << 20]), ErrorKind::NoSpace, &["DRAM"]);
    assert_eq!(bucket.get(b"k").unwrap(), b"v");
}

// ---- bounds -------------------------------------------------------------------------------

fn fill_until_refused(bucket: &Bucket, prefix: &str, len: usize) -> (u64, Error) {
    let value = vec![9; len];
    for number in 0..100_000 {
        if let Err(error) = bucket.put(format!("{prefix}{number}").as_bytes(), &value) {
            return (number, error);
        }
    }
    panic!("100000 blobs of {len} bytes fit");
}

#[test]
fn full_tiers_say_so_stay_readable_and_deletable_and_take_data_again() {
    let place = Place::new();
    let store = place.open();
    let bucket = store.bucket("b").unwrap();
    for round in 0..3 {
        let (count, error) = fill_until_refused(&bucket, "large", 1 << 20);
        assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
        assert!(count > 32, "only {count} MiB of 128 fit in round {round}");
        // Smaller ones fit for a while, and at Memory level no more is promised than there is.
        fill_until_refused(&bucket, "small", 20_000);
        let memory = bucket.put_with(b"huge", &vec![1; 4 << 20], Durability::Memory.into());
        expect(memory, ErrorKind::NoSpace, &[]);
        assert!(!bucket.exists(b"huge").unwrap());
        store.flush(Scope::Store).unwrap();
        for item in bucket.scan(ScanRange::all()) {
            let item = item.unwrap();
            let value = bucket.get(&item.key).unwrap();
            assert!(value.len() as u64 == item.len && value.iter().all(|byte| *byte == 9));
        }
        let keys: Vec<_> = bucket.scan(ScanRange::all()).map(|item| item.unwrap().key).collect();
        keys.iter().for_each(|key| bucket.delete(key).unwrap());
    }
    bucket.put(b"again", &vec![3; 16 << 20]).unwrap();
    assert!(bucket.get(b"again").unwrap() == vec![3; 16 << 20]);
    store.close().unwrap();
    let store = place.open();
    assert!(store.open_bucket("b").unwrap().get(b"again").unwrap() == vec![3; 16 << 20]);
}

#[test]
fn an_index_that_outgrows_the_budget_refuses_the_put_and_goes_on_after_deletes() {
    let place = Place::new();
    // 40 MiB, of which the engine's own buffers take their part.
    let config = Config::builder()
        .tier(Tier::dram("8MiB"))
        .tier(Tier::nvme("256MiB"))
        .memory_budget("40MiB")
        .shards(1)
        .build()
        .unwrap();
    let store = Store::open(place.store(), config).unwrap();
    let bucket = store.bucket("b").unwrap();
    let key = |number: u32| {
        let mut key = vec![b'k'; KEY_LEN_MAX];
        key[..4].copy_from_slice(&number.to_be_bytes());
        key
    };
    let refused = (0..100_000).find_map(|number| {
        bucket
            .put_with(&key(number), b"", Durability::Memory.into())
            .err()
            .map(|error| (number, error))
    });
    let (count, error) = refused.expect("100000 keys of 1 KiB fit in 40 MiB");
    assert_eq!(error.kind(), ErrorKind::NoMemory, "{error}");
    assert!(error.message().contains("memory_budget"), "{error}");
    assert!(!bucket.exists(&key(count)).unwrap());
    expect(bucket.put(&key(count), b"v"), ErrorKind::NoMemory, &[]);
    assert_eq!(bucket.get(&key(0)).unwrap(), b"");
    (0..count).for_each(|number| bucket.delete(&key(number)).unwrap());
    store.flush(Scope::Store).unwrap();
    bucket.put(&key(0), b"v").unwrap();
}

// ---- opening ------------------------------------------------------------------------------

#[test]
fn configurations_that_make_no_sense_are_refused() {
    let wrong = ErrorKind::InvalidConfig;
    let place = Place::new();
    let file = place.path("tier");
    let twice = |path: &Path| {
        Config::builder()
            .tier(Tier::nvme("64MiB").path(path))
            .tier(Tier::hdd("64MiB").path(path))
            .build()
    };
    expect(twice(&file), wrong, &["same"]);
    // The same file by two names.
    let link = place.path("link");
    std::os::unix::fs::symlink(place.directory.path(), &link).unwrap();
    let two_names = Config::builder()
        .tier(Tier::nvme("64MiB").path(&file))
        .tier(Tier::hdd("64MiB").path(link.join("tier")))
        .build()
        .and_then(|config| Store::open(place.store(), config).map(drop));
    expect(two_names, wrong, &["same"]);
    expect(
        Config::builder().tier(Tier::dram("8MiB")).memory_budget("16MiB").build(),
        wrong,
        &["memory_budget"],
    );
    expect(Config::builder().tier(Tier::nvme("1MiB")).build(), wrong, &["capacity"]);
    expect(Config::builder().tier(Tier::dram("many")).build(), wrong, &["capacity"]);
    expect(Config::builder().shards(0).build(), wrong, &["shards"]);
    expect(Config::builder().shards(9).build(), wrong, &["shards"]);
    expect(Config::from_toml("shard = 3"), wrong, &["shard", "shards"]);
    expect(
        Config::from_toml("[[tier]]\nkind = \"nvme\"\ncapacty = \"1GiB\""),
        wrong,
        &["capacity"],
    );
    expect(
        ConfigBuilder::default().set("flush_intervall", "1s").map(drop),
        wrong,
        &["flush_interval"],
    );
    let huge = Config::builder().tier(Tier::nvme("512TiB")).build().unwrap();
    expect(Store::open(place.store(), huge).map(drop), wrong, &["free"]);
    // After all that, the place is as good as new.
    place.open().close().unwrap();
}

#[test]
fn directories_that_are_missing_or_no_directories_are_refused() {
    let place = Place::new();
    let no_store = || small().create(false).build().unwrap();
    expect(
        Store::open(place.path("nothing"), no_store()).map(drop),
        ErrorKind::StoreNotFound,
        &["nothing"],
    );
    assert!(!place.path("nothing").exists());
    fs::create_dir(place.path("empty")).unwrap();
    expect(
        Store::open(place.path("empty"), no_store()).map(drop),
        ErrorKind::StoreNotFound,
        &["empty"],
    );
    assert_eq!(fs::read_dir(place.path("empty")).unwrap().count(), 0);
    let far = place.path("no/such/parent");
    let error =
        expect(Store::open(&far, small().build().unwrap()).map(drop), ErrorKind::Io, &["parent"]);
    assert!(!error.message().is_empty());
    fs::write(place.path("file"), b"text").unwrap();
    assert!(Store::open(place.path("file"), small().build().unwrap()).is_err());
    assert_eq!(fs::read(place.path("file")).unwrap(), b"text");
    let elsewhere = Tier::nvme("64MiB").path(place.path("no-directory/tier"));
    let config = Config::builder().tier(elsewhere).build().unwrap();
    expect(
        Store::open(place.store(), config).map(drop),
        ErrorKind::InvalidConfig,
        &["no-directory"],
    );
}

#[test]
fn a_directory_that_may_not_be_written_is_refused() {
    // SAFETY: the call has no arguments and only reads the process's identity.
    if unsafe { libc::geteuid() } == 0 {
        // Permissions do not hold root; a file system without write access would.
        let read_only = Path::new("/proc/isotherm-test");
        assert!(Store::open(read_only, small().build().unwrap()).is_err());
        return;
    }
    let place = Place::new();
    let closed = place.path("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, Permissions::from_mode(0o500)).unwrap();
    let opened = Store::open(closed.join("store"), small().build().unwrap()).map(drop);
    expect(opened, ErrorKind::PermissionDenied, &["closed"]);
    expect(
        Store::open(&closed, small().build().unwrap()).map(drop),
        ErrorKind::PermissionDenied,
        &["closed"],
    );
}

#[test]
fn a_second_opener_is_told_who_has_the_store() {
    let place = Place::new();
    let store = place.open();
    let pid = std::process::id().to_string();
    place.refuses(ErrorKind::Locked, &[&pid]);
    // The first one does not notice.
    store.bucket("b").unwrap().put(b"k", b"v").unwrap();
    store.close().unwrap();
    place.open().close().unwrap();
}

#[test]
fn an_opener_in_another_process_is_told_who_has_the_store() {
    let place = Place::new();
    let store = place.open();
    let other = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "other_opener", "--nocapture", "--test-threads", "1"])
        .env("ISOTHERM_TEST_STORE", place.store())
        .env("ISOTHERM_TEST_OWNER", std::process::id().to_string())
        .output()
        .unwrap();
    assert!(other.status.success(), "{}", String::from_utf8_lossy(&other.stdout));
    store.close().unwrap();
}

/// Not a test by itself: the second process of the test above.
#[test]
fn other_opener() {
    let Ok(owner) = std::env::var("ISOTHERM_TEST_OWNER") else { return };
    let path = std::env::var("ISOTHERM_TEST_STORE").unwrap();
    expect(Store::open(path, small().build().unwrap()).map(drop), ErrorKind::Locked, &[&owner]);
}

#[test]
fn a_dropped_store_and_a_dead_owner_leave_no_lock() {
    let place = Place::new();
    drop(place.open());
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "owner_until_killed", "--nocapture", "--test-threads", "1"])
        .env("ISOTHERM_TEST_STORE", place.store())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = Vec::new();
    let mut out = owner.stdout.take().unwrap();
    while !said.ends_with(b"it is open\n") {
        let mut byte = [0];
        assert_eq!(out.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&said));
        said.push(byte[0]);
    }
    place.refuses(ErrorKind::Locked, &[&owner.id().to_string()]);
    owner.kill().unwrap();
    owner.wait().unwrap();
    place.open().close().unwrap();
}

/// Not a test by itself: the owner in the test above.
#[test]
fn owner_until_killed() {
    let Ok(path) = std::env::var("ISOTHERM_TEST_STORE") else { return };
    let _store = Store::open(path, small().build().unwrap()).unwrap();
    println!("it is open");
    std::io::stdout().flush().unwrap();
    loop {
        std::thread::park();
    }
}

#[test]
fn an_interrupted_creation_is_undone() {
    let place = Place::filled();
    // As if the process had died before the last step: the manifest still has its other name.
    fs::rename(place.store().join("STORE"), place.store().join("STORE.creating")).unwrap();
    let store = place.open();
    assert!(store.list_buckets().unwrap().is_empty());
    store.bucket("b").unwrap().put(b"small", b"value").unwrap();
    store.close().unwrap();
    assert!(!place.store().join("STORE.creating").exists());
}

#[test]
fn a_creation_that_died_before_its_tiers_were_made_is_undone() {
    let place = Place::filled();
    fs::rename(place.store().join("STORE"), place.store().join("STORE.creating")).unwrap();
    fs::remove_file(place.store().join("hdd0.tier")).unwrap();
    place.open().close().unwrap();
    let place = Place::new();
    fs::create_dir(place.store()).unwrap();
    fs::write(place.store().join("STORE.tmp"), b"half of a manif").unwrap();
    place.open().close().unwrap();
}

#[test]
fn a_store_without_its_manifest_is_not_overwritten() {
    let place = Place::filled();
    let manifest = fs::read(place.store().join("STORE")).unwrap();
    fs::remove_file(place.store().join("STORE")).unwrap();
    assert!(Store::open(place.store(), small().build().unwrap()).is_err());
    fs::write(place.store().join("STORE"), manifest).unwrap();
    place.require_intact();
}

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
    let nvme = place.store().join("nvme0.tier");
    let mut file = OpenOptions::new().read(true).write(true).open(&nvme).unwrap();
    let mut first = vec![0; 1 << 20];
    file.read_exact(&mut first).unwrap();
    let mut write = |bytes: &[u8]| {
        file.seek(SeekFrom::Start(0)).unwrap();
        file.write_all(bytes).unwrap();
    };
    write(&vec![0xA5; 1 << 20]);
    place.refuses(ErrorKind::Format, &["nvme0.tier"]);
    write(&first);
    place.require_intact();
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
