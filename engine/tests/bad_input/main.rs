//! What is refused, and that a refusal says what is wrong and changes nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod bounds;
mod calls;
mod opening;
mod tiers;

use std::path::PathBuf;

use isotherm::config::{Config, ConfigBuilder, Tier};
use isotherm::{Error, ErrorKind, Result, Store};

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
