//! A machine that forbids io_uring: the same engine runs on threads, and says so and why.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

#[allow(dead_code, reason = "other tests use the rest")]
mod support;

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::process::Command;

use isotherm::config::{Config, IoChoice, OrganizerChoice, Tier};
use isotherm::{Durability, ErrorKind, Scope, Store};

fn config() -> isotherm::config::ConfigBuilder {
    Config::builder().tier(Tier::dram("8MiB")).tier(Tier::nvme("64MiB"))
}

/// Set for the process in which a test of this file does its work.
const ALONE: &str = "ISOTHERM_TEST_ALONE";

/// Runs the body of a test in a process of its own: what it does to the process cannot be taken
/// back, and other tests want their rings.
fn alone(test: &str, body: impl FnOnce()) {
    if std::env::var_os(ALONE).is_some() {
        return body();
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads", "1"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{test}: {text}");
    print!("{text}");
}

fn denied(test: &str, body: impl FnOnce()) {
    alone(test, || {
        support::seccomp::deny_io_uring().unwrap();
        body();
    });
}

/// Whether there is io_uring to take away; says so where there is none.
fn has_uring(test: &str) -> bool {
    support::backend::announce(test);
    support::backend::uring().is_ok()
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
            assert!(!path.exists());
            let store = Store::open(&path, config().build().unwrap()).unwrap();
            store.bucket("b").unwrap().put(b"k", b"v").unwrap();
        }
    });
}

#[test]
fn a_shard_that_gets_no_ring_runs_on_threads_and_the_store_says_which_and_why() {
    const TEST: &str = "a_shard_that_gets_no_ring_runs_on_threads_and_the_store_says_which_and_why";
    alone(TEST, || {
        if !has_uring(TEST) {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        let open = |io| {
            let organizer = OrganizerChoice::Threads;
            Store::open(&path, config().shards(2).io(io).organizer(organizer).build().unwrap())
        };
        let descriptors = fs::read_dir("/proc/self/fd").unwrap().count() as u64;
        open(IoChoice::Auto).unwrap().close().unwrap();
        let (mut seen, mut refused) = (Vec::new(), 0);
        // The tiers' files are opened, the probe passes, and then not all rings find a descriptor.
        for spare in 0..32 {
            limit_descriptors(descriptors + spare);
            if let Ok(store) = open(IoChoice::Auto) {
                let info = store.info();
                assert_eq!(info.shard_io.len(), 2);
                for shard in info.shard_io.iter().filter(|shard| shard.name == "threads") {
                    let reason = shard.reason.as_deref().unwrap();
                    assert!(reason.contains("no file descriptor left"), "{reason}");
                    assert!(info.io_reason.as_ref().unwrap().contains(reason), "{info:?}");
                }
                seen.push(info.io_backend);
                store.bucket("b").unwrap().put(b"k", b"v").unwrap();
                store.close().unwrap();
            }
            match open(IoChoice::Uring) {
                Ok(store) => assert_eq!(store.info().io_backend, "uring"),
                Err(error) => refused += u32::from(error.kind() == ErrorKind::Unsupported),
            }
        }
        println!("with ever more descriptors: {seen:?}, io_uring alone refused {refused} times");
        assert!(seen.iter().any(|backend| backend == "mixed"), "{seen:?}");
        assert_eq!(seen.last().unwrap(), "uring");
        assert!(refused > 1, "{refused}");
    });
}

/// Descriptors from this number on cannot be had.
fn limit_descriptors(end: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a local value that outlives the call.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) }, 0);
    limit.rlim_cur = end;
    // SAFETY: as above.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
}

#[test]
fn a_ring_that_fails_stops_the_changes_with_the_reason_and_loses_nothing() {
    const TEST: &str = "a_ring_that_fails_stops_the_changes_with_the_reason_and_loses_nothing";
    alone(TEST, || {
        if !has_uring(TEST) {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let open = || {
            let config = config().shards(1).organizer(OrganizerChoice::Threads);
            Store::open(directory.path().join("store"), config.build().unwrap()).unwrap()
        };
        let store = open();
        let bucket = store.bucket("b").unwrap();
        bucket.put_with(b"before", b"value", Durability::Durable.into()).unwrap();
        replace_rings();
        // A shard that slept in its ring takes the first of them yet.
        let errors: Vec<_> = (0..3)
            .filter_map(|_| bucket.put_with(b"after", b"value", Durability::Durable.into()).err())
            .collect();
        assert!(errors.len() >= 2, "{errors:?}");
        let reason = store.info().poisoned.unwrap();
        assert!(reason.contains("io_uring_enter") && reason.contains("os error 95"), "{reason}");
        assert_eq!(bucket.get(b"before").unwrap(), b"value");
        assert!(store.close().is_err());
        let store = open();
        assert_eq!(store.open_bucket("b").unwrap().get(b"before").unwrap(), b"value");
        store.close().unwrap();
    });
}

/// Puts another file in the place of every ring of this process.
fn replace_rings() {
    let null = File::open("/dev/null").unwrap();
    let mut replaced = 0;
    for entry in fs::read_dir("/proc/self/fd").unwrap() {
        let path = entry.unwrap().path();
        let Ok(target) = fs::read_link(&path) else { continue };
        if !target.to_string_lossy().contains("io_uring") {
            continue;
        }
        let ring = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
        // SAFETY: two descriptors, and no memory; who had the ring is to meet something else.
        assert_eq!(unsafe { libc::dup2(null.as_raw_fd(), ring) }, ring);
        replaced += 1;
    }
    assert!(replaced > 0, "no ring to replace");
}
