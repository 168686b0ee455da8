//! `salvage`: a damaged store comes back in a new one, and the report says what does not.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use isotherm::config::Config;
use isotherm::{BucketOptions, PutOptions, Store};
use serde_json::Value;

use crate::support::{Ran, SMALL, Shell, bare, fields, noise, ran};

const LOST: i32 = 4;

fn salvage(shell: &Shell, arguments: &[&str]) -> Ran {
    let mut command = bare();
    command.arg("salvage").arg(shell.path("store")).args(arguments);
    ran(command.output().unwrap())
}

fn config() -> Config {
    Config::builder().build().unwrap()
}

/// Overwrites the first place of the tier's file, behind `from`, where these bytes stand.
fn damage(file: &Path, from: usize, bytes: &[u8]) {
    let content = fs::read(file).unwrap();
    let found = content[from..].windows(bytes.len()).position(|window| window == bytes);
    let at = from + found.expect("the bytes are not on the tier");
    let file = OpenOptions::new().write(true).open(file).unwrap();
    file.write_all_at(&vec![0x5A; bytes.len()], at as u64).unwrap();
}

/// A store with attributes, a quota, a sparse value and one that can be damaged alone.
fn filled() -> Shell {
    let shell = Shell::with_blob(b"value");
    let store = Store::open(shell.path("store"), config()).unwrap();
    let bucket = store.open_bucket("b").unwrap();
    bucket.set_attribute(b"k", "n", 3).unwrap();
    bucket.set_score(b"k", 0.25).unwrap();
    bucket.put(b"empty", b"").unwrap();
    let (head, tail) = (noise(9 << 20), noise(1000));
    bucket.put_ranges(b"sparse", &[(0, &head), (1 << 40, &tail)], PutOptions::default()).unwrap();
    bucket.put(b"bad", &noise(300_000)).unwrap();
    let quota_blobs = Some(4);
    let options = BucketOptions { quota_blobs, ..BucketOptions::default() };
    store.set_bucket_options("b", options).unwrap();
    store.create_bucket("nothing in it", BucketOptions::default()).unwrap();
    store.close().unwrap();
    shell
}

#[test]
fn a_store_without_damage_is_copied_whole_with_attributes_holes_and_quotas() {
    let shell = filled();
    let copy = shell.path("copy");
    let told = salvage(&shell, &[copy.to_str().unwrap(), "--json"]).expect_code(0).json();
    assert_eq!(told["losses"], false);
    assert_eq!((&told["copied"], &told["current"]), (&4.into(), &4.into()));
    assert!(told["blobs"].as_array().unwrap().is_empty());
    let store = Store::open(&copy, config()).unwrap();
    let names: Vec<String> =
        store.list_buckets().unwrap().into_iter().map(|bucket| bucket.name).collect();
    assert_eq!(names, ["b", "nothing in it"]);
    assert_eq!(store.list_buckets().unwrap()[0].options.quota_blobs, Some(4));
    let bucket = store.open_bucket("b").unwrap();
    assert_eq!(bucket.get(b"k").unwrap(), b"value");
    assert_eq!(bucket.attributes(b"k").unwrap(), [("n".to_owned(), 3.into())]);
    assert_eq!(bucket.stat(b"k").unwrap().score, Some(0.25));
    assert_eq!(bucket.stat(b"empty").unwrap().len, 0);
    assert!(bucket.get(b"bad").unwrap() == noise(300_000));
    assert_eq!(bucket.stat(b"sparse").unwrap().len, (1 << 40) + 1000);
    let (mut head, mut tail) = (vec![0; 9 << 20], vec![0; 2000]);
    bucket.get_at(b"sparse", 0, &mut head).unwrap();
    bucket.get_at(b"sparse", (1 << 40) - 1000, &mut tail).unwrap();
    assert!(head == noise(9 << 20) && tail == [vec![0; 1000], noise(1000)].concat());
    store.close().unwrap();
    // It is a store like any other, and nothing is left beside it.
    assert!(!shell.path("copy.salvaging").exists());
    let again = salvage(&shell, &[copy.to_str().unwrap()]).expect_code(1);
    assert!(again.stderr.contains("exists"), "{}", again.stderr);
}

#[test]
fn a_blob_that_cannot_be_read_whole_is_left_out_or_copied_in_part_and_told() {
    let shell = filled();
    let part = noise(300_000)[100_000..100_064].to_vec();
    damage(&shell.path("store").join("nvme0.tier"), 4 << 20, &part);
    let copy = shell.path("copy");
    let told = salvage(&shell, &[copy.to_str().unwrap(), "--json"]);
    assert_eq!(told.code, LOST, "{}", told.stderr);
    let told = told.json();
    assert_eq!((&told["copied"], &told["not_copied"]), (&3.into(), &1.into()));
    let blob = &told["blobs"][0];
    assert_eq!((&blob["key"], &blob["standing"]), (&"bad".into(), &"current".into()));
    assert_eq!(blob["copied"], false);
    let lost = &blob["unreadable"][0];
    assert_eq!((&lost["offset"], &lost["len"]), (&98_304.into(), &16_384.into()));
    let expected = ["bucket", "copied", "doubt", "key", "len", "refused", "standing", "unreadable"];
    assert_eq!(fields(blob), expected);
    let store = Store::open(&copy, config()).unwrap();
    assert!(!store.open_bucket("b").unwrap().exists(b"bad").unwrap());
    store.close().unwrap();

    let other = shell.path("other");
    let told = salvage(&shell, &[other.to_str().unwrap(), "--partial"]);
    assert_eq!(told.code, LOST, "{}", told.stderr);
    assert!(told.text().contains("b/bad"), "{}", told.text());
    let store = Store::open(&other, config()).unwrap();
    let bucket = store.open_bucket("b").unwrap();
    let mut expected = noise(300_000);
    expected[98_304..98_304 + 16_384].fill(0);
    assert!(bucket.get(b"bad").unwrap() == expected);
    assert_eq!(bucket.attribute(b"bad", "salvage").unwrap(), Some("partial".into()));
    assert_eq!(bucket.attribute(b"k", "salvage").unwrap(), None);
    store.close().unwrap();
}

#[test]
fn a_damaged_log_leaves_marked_blobs_or_with_current_only_none_that_may_be_stale() {
    let shell = Shell::with_blob(b"value");
    shell.put("b", "later", b"another value");
    // The record of this is known by the key beside it; both batches are below what was flushed.
    damage(&shell.path("store").join("nvme0.tier"), 4 << 20, b"later");
    let strict = shell.run(&["ls", "b"]).expect_code(1);
    assert!(strict.stderr.contains("log"), "{}", strict.stderr);

    let dry = salvage(&shell, &["--dry-run", "--json"]);
    assert_eq!(dry.code, LOST, "{}", dry.stderr);
    let dry: Value = dry.json();
    let gaps = dry["log"]["gaps"].as_array().unwrap();
    assert_eq!((gaps.len(), &dry["maybe_stale"]), (1, &1.into()));
    let directory = shell.path("");
    let names = || {
        let mut names: Vec<String> = fs::read_dir(&directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(), ["store"]);

    let copy = shell.path("copy");
    let told = salvage(&shell, &[copy.to_str().unwrap()]);
    assert_eq!(told.code, LOST, "{}", told.stderr);
    let text = told.text();
    assert!(text.contains("of the log are lost") && text.contains("maybe-stale"), "{text}");
    let store = Store::open(&copy, config()).unwrap();
    let bucket = store.open_bucket("b").unwrap();
    assert_eq!(bucket.get(b"k").unwrap(), b"value");
    assert_eq!(bucket.attribute(b"k", "salvage").unwrap(), Some("maybe-stale".into()));
    assert!(!bucket.exists(b"later").unwrap());
    store.close().unwrap();

    let current = shell.path("current");
    let told = salvage(&shell, &[current.to_str().unwrap(), "--current-only", "--json"]);
    assert_eq!(told.code, LOST, "{}", told.stderr);
    assert_eq!((&told.json()["left_out"], &told.json()["copied"]), (&1.into(), &0.into()));
    let store = Store::open(&current, config()).unwrap();
    assert!(!store.open_bucket("b").unwrap().exists(b"k").unwrap());
    store.close().unwrap();
    assert_eq!(names(), ["copy", "current", "store"]);
}

#[test]
fn the_new_store_has_other_tiers_where_they_are_named() {
    let shell = Shell::with_blob(b"value");
    let copy = shell.path("copy");
    let mut command = bare();
    command.args(&SMALL[..6]).args(["--set", "tier.1.capacity=128MiB", "salvage"]);
    command.arg(shell.path("store")).arg(&copy);
    ran(command.output().unwrap()).expect_code(0);
    assert_eq!(fs::metadata(copy.join("nvme0.tier")).unwrap().len(), 128 << 20);
}

#[test]
fn a_salvage_that_makes_no_sense_is_refused() {
    let shell = Shell::with_blob(b"value");
    salvage(&shell, &[]).expect_code(2);
    salvage(&shell, &["copy", "--dry-run"]).expect_code(2);
    salvage(&shell, &["--dry-run", "--tier", "first=x"]).expect_code(2);
    salvage(&shell, &["--dry-run", "--tier", "9=x"]).expect_code(2);
    let mut nowhere = bare();
    nowhere.arg("salvage").arg(shell.path("nowhere")).arg("--dry-run");
    ran(nowhere.output().unwrap()).expect_code(3);
}
