//! A machine that forbids io_uring: the same engine runs on threads, and says so and why.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

#[allow(dead_code, reason = "other tests use the rest")]
mod support;

use std::process::Command;

use isotherm::config::{Config, IoChoice, OrganizerChoice, Tier};
use isotherm::{Durability, ErrorKind, Scope, Store};

fn config() -> isotherm::config::ConfigBuilder {
    Config::builder().tier(Tier::dram("8MiB")).tier(Tier::nvme("64MiB"))
}

/// Set for the process in which a test of this file does its work.
const DENIED: &str = "ISOTHERM_TEST_DENIED";

/// Runs the body of a test in a process of its own, with io_uring denied: the filter cannot be
/// taken back, and other tests want the ring.
fn denied(test: &str, body: impl FnOnce()) {
    if std::env::var_os(DENIED).is_some() {
        support::seccomp::deny_io_uring().unwrap();
        return body();
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads", "1"])
        .env(DENIED, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{test}: {text}");
}

#[test]
fn a_store_works_on_threads_and_says_why() {
    denied("a_store_works_on_threads_and_says_why", || {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        let value = vec![7; 3 << 20];
        for open in 0..2 {
            let store = Store::open(&path, config().build().unwrap()).unwrap();
            let bucket = store.bucket("b").unwrap();
            for level in [Durability::Memory, Durability::Written, Durability::Durable] {
                let key = format!("{level:?}");
                assert!(open == 0 || bucket.get(key.as_bytes()).unwrap() == value);
                bucket.put_with(key.as_bytes(), &value, level.into()).unwrap();
                assert!(bucket.get(key.as_bytes()).unwrap() == value);
            }
            store.flush(Scope::Store).unwrap();
            let info = store.info();
            assert_eq!(info.io_backend, "threads");
            let reason = info.io_reason.unwrap_or_default();
            assert!(reason.contains("io_uring") && reason.contains("EPERM"), "{reason}");
            assert_eq!(info.organizer_backend, "threads");
            assert!(info.organizer_reason.is_some_and(|reason| !reason.is_empty()));
            store.close().unwrap();
        }
    });
}

#[test]
fn what_was_asked_for_and_is_forbidden_is_refused() {
    denied("what_was_asked_for_and_is_forbidden_is_refused", || {
        let directory = tempfile::tempdir().unwrap();
        let wants = [config().io(IoChoice::Uring), config().organizer(OrganizerChoice::Glommio)];
        for (number, builder) in wants.into_iter().enumerate() {
            let path = directory.path().join(format!("store-{number}"));
            let refused = Store::open(&path, builder.build().unwrap()).map(drop).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
            // Nothing is left locked or half made.
            let store = Store::open(&path, config().build().unwrap()).unwrap();
            store.bucket("b").unwrap().put(b"k", b"v").unwrap();
        }
    });
}
