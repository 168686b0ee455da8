//! Configurations and directories that a store is not opened with.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use isotherm::config::{Config, ConfigBuilder, Tier};
use isotherm::{ErrorKind, Store};

use crate::{Place, as_user, expect, names_in, small};

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
    as_user("opening::a_directory_that_may_not_be_written_is_refused", |place| {
        let closed = place.path("closed");
        fs::create_dir(&closed).unwrap();
        fs::set_permissions(&closed, Permissions::from_mode(0o500)).unwrap();
        for path in [closed.join("store"), closed.clone()] {
            let opened = Store::open(path, small().build().unwrap()).map(drop);
            expect(opened, ErrorKind::PermissionDenied, &["closed", "Permission denied"]);
        }
        assert_eq!(names_in(&closed), [""; 0]);
    });
}

#[test]
fn a_store_that_may_not_be_written_can_be_read() {
    as_user("opening::a_store_that_may_not_be_written_can_be_read", |place| {
        place.fill();
        let set = |name: &str, mode| {
            fs::set_permissions(place.store().join(name), Permissions::from_mode(mode)).unwrap();
        };
        for lock_is_there in [true, false] {
            if !lock_is_there {
                fs::remove_file(place.store().join("LOCK")).unwrap();
            }
            let before = names_in(&place.store());
            before.iter().for_each(|name| set(name, 0o400));
            set(".", 0o500);
            let store = Store::open(place.store(), small().read_only(true).build().unwrap());
            let store = store.unwrap();
            assert!(store.info().read_only.is_some());
            let bucket = store.open_bucket("b").unwrap();
            assert!(bucket.get(b"large").unwrap() == vec![7; 3 << 20]);
            store.close().unwrap();
            place.refuses(ErrorKind::PermissionDenied, &["LOCK"]);
            assert_eq!(names_in(&place.store()), before);
            set(".", 0o700);
            before.iter().for_each(|name| set(name, 0o600));
        }
        place.require_intact();
    });
}
