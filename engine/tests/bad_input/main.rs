//! What is refused, and that a refusal says what is wrong and changes nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod bounds;
mod calls;
mod creation;
mod locks;
mod opening;
mod tiers;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

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
        place.fill();
        place
    }

    fn fill(&self) {
        let store = self.open();
        let bucket = store.bucket("b").unwrap();
        bucket.put(b"small", b"value").unwrap();
        bucket.put(b"large", &vec![7; 3 << 20]).unwrap();
        store.close().unwrap();
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

/// The names in a directory, in order.
fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string();
    let mut names: Vec<String> = entries.map(|entry| name(entry).unwrap()).collect();
    names.sort();
    names
}

/// Set for the process in which a test gives up root.
const AS_USER: &str = "ISOTHERM_TEST_AS_USER";
/// Nobody, on every Linux.
const NOBODY: u32 = 65534;

/// Runs the body of a test as somebody whom permissions hold. Root does so in a process of its own.
fn as_user(test: &str, body: impl FnOnce(&Place)) {
    // SAFETY: the call has no arguments and only reads the process's identity.
    let is_root = unsafe { libc::geteuid() } == 0;
    if !is_root {
        return body(&Place::new());
    }
    if std::env::var_os(AS_USER).is_some() {
        let place = Place::new();
        std::os::unix::fs::chown(place.directory.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        // SAFETY: both calls take numbers and change this process's identity alone.
        let given_up = unsafe {
            libc::setresgid(NOBODY, NOBODY, NOBODY) == 0
                && libc::setresuid(NOBODY, NOBODY, NOBODY) == 0
        };
        assert!(given_up, "{}", std::io::Error::last_os_error());
        return body(&place);
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads", "1"])
        .env(AS_USER, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{test}: {text}");
}
