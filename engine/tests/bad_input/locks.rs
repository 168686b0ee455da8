//! Who may have a store open beside whom.

use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

use isotherm::config::{Config, Tier};
use isotherm::{ErrorKind, Store};

use crate::{Place, expect, small};

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
    if let Ok(owner) = std::env::var("ISOTHERM_TEST_OWNER") {
        let path = std::env::var("ISOTHERM_TEST_STORE").unwrap();
        expect(Store::open(path, small().build().unwrap()).map(drop), ErrorKind::Locked, &[&owner]);
        return;
    }
    let place = Place::new();
    let store = place.open();
    let test = "locks::an_opener_in_another_process_is_told_who_has_the_store";
    let other = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads", "1"])
        .env("ISOTHERM_TEST_STORE", place.store())
        .env("ISOTHERM_TEST_OWNER", std::process::id().to_string())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&other.stdout);
    assert!(other.status.success() && said.contains("1 passed"), "{said}");
    store.close().unwrap();
}

#[test]
fn a_dropped_store_and_a_dead_owner_leave_no_lock() {
    if let Ok(path) = std::env::var("ISOTHERM_TEST_STORE") {
        own_until_killed(&path);
    }
    let place = Place::new();
    drop(place.open());
    let test = "locks::a_dropped_store_and_a_dead_owner_leave_no_lock";
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads", "1"])
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

/// The other process of the test above.
fn own_until_killed(path: &str) -> ! {
    let _store = Store::open(path, small().build().unwrap()).unwrap();
    println!("it is open");
    std::io::stdout().flush().unwrap();
    loop {
        std::thread::park();
    }
}

#[test]
fn readers_share_a_store_and_keep_writers_out() {
    let place = Place::filled();
    let reader = || Store::open(place.store(), small().read_only(true).build().unwrap());
    let pid = std::process::id().to_string();
    let writer = place.open();
    expect(reader().map(drop), ErrorKind::Locked, &[&pid]);
    writer.close().unwrap();
    let readers = [reader().unwrap(), reader().unwrap()];
    for store in &readers {
        place.refuses(ErrorKind::Locked, &[&pid]);
        assert_eq!(store.open_bucket("b").unwrap().get(b"small").unwrap(), b"value");
        store.close().unwrap();
    }
    place.require_intact();
}

#[test]
fn a_copy_of_the_directory_that_names_the_same_tiers_is_locked_while_the_store_is_open() {
    let place = Place::new();
    let (file, copy) = (place.path("far.tier"), place.path("copy"));
    let config = || {
        let tiers = Config::builder().tier(Tier::dram("8MiB"));
        tiers.tier(Tier::nvme("64MiB").path(&file)).build().unwrap()
    };
    let store = Store::open(place.store(), config()).unwrap();
    let bucket = store.bucket("b").unwrap();
    fs::create_dir(&copy).unwrap();
    for name in ["STORE", "LOCK"] {
        fs::copy(place.store().join(name), copy.join(name)).unwrap();
    }
    let pid = std::process::id().to_string();
    for builder in [Config::builder(), Config::builder().read_only(true)] {
        let opened = Store::open(&copy, builder.build().unwrap()).map(drop);
        expect(opened, ErrorKind::Locked, &["far.tier", &pid]);
    }
    bucket.put(b"k", b"value").unwrap();
    store.close().unwrap();
    // A handle that is left holds no lock.
    let other = Store::open(&copy, Config::default()).unwrap();
    assert_eq!(other.open_bucket("b").unwrap().get(b"k").unwrap(), b"value");
    let reader = Config::builder().read_only(true).build().unwrap();
    expect(Store::open(place.store(), reader).map(drop), ErrorKind::Locked, &["far.tier", &pid]);
    other.close().unwrap();
    drop(bucket);
}
