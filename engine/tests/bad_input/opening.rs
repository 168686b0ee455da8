//! Configurations, directories and locks that a store is not opened with.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use isotherm::config::{Config, ConfigBuilder, Tier};
use isotherm::{ErrorKind, Store};

use crate::{Place, expect, small};

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
    if let Ok(owner) = std::env::var("ISOTHERM_TEST_OWNER") {
        let path = std::env::var("ISOTHERM_TEST_STORE").unwrap();
        expect(Store::open(path, small().build().unwrap()).map(drop), ErrorKind::Locked, &[&owner]);
        return;
    }
    let place = Place::new();
    let store = place.open();
    let test = "opening::an_opener_in_another_process_is_told_who_has_the_store";
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
    let test = "opening::a_dropped_store_and_a_dead_owner_leave_no_lock";
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
