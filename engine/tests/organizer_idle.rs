//! A process of its own: it measures the threads by their name.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::time::{Duration, Instant};

use isotherm::Store;
use isotherm::config::{Config, Tier};

#[test]
fn an_idle_store_uses_no_cpu() {
    let dir = tempfile::tempdir().unwrap();
    let config =
        Config::builder().tier(Tier::dram("8MiB")).tier(Tier::nvme("128MiB")).build().unwrap();
    let store = Store::open(dir.path().join("s"), config).unwrap();
    let bucket = store.bucket("b").unwrap();
    bucket.put(b"key", b"value").unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let (before, start) = (thread_ticks("isotherm-org"), Instant::now());
    std::thread::sleep(Duration::from_secs(1));
    let used = thread_ticks("isotherm-org") - before;
    assert!(used <= 1, "{used} ticks of 10 ms in {:?}", start.elapsed());
    store.close().unwrap();
}

/// User and system time of this process's threads of a name, in clock ticks.
fn thread_ticks(name: &str) -> u64 {
    let mut ticks = 0;
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let path = task.unwrap().path().join("stat");
        let Ok(stat) = std::fs::read_to_string(path) else { continue };
        let Some((head, tail)) = stat.rsplit_once(") ") else { continue };
        if head.ends_with(name) {
            let fields: Vec<&str> = tail.split(' ').collect();
            ticks += fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        }
    }
    ticks
}
