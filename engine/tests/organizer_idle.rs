//! An idle store costs nothing. Measured in a process that does nothing else, over all its threads.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::process::Command;
use std::time::Duration;

use isotherm::config::{Config, Tier};
use isotherm::{Scope, Store};

const TEST: &str = "an_idle_store_uses_no_cpu";
/// Set for the process that is measured.
const ALONE: &str = "ISOTHERM_TEST_IDLE";
/// A hundredth of one core: far below what a thread that polls would take.
const CPU_MAX: Duration = Duration::from_millis(20);
const IDLE: Duration = Duration::from_secs(2);

#[test]
fn an_idle_store_uses_no_cpu() {
    if std::env::var_os(ALONE).is_some() {
        return stay_idle();
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", TEST, "--nocapture", "--test-threads", "1"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    print!("{text}");
}

fn stay_idle() {
    let dir = tempfile::tempdir().unwrap();
    let tiers = Config::builder().tier(Tier::dram("8MiB")).tier(Tier::nvme("128MiB"));
    let store = Store::open(dir.path().join("s"), tiers.shards(2).build().unwrap()).unwrap();
    let bucket = store.bucket("b").unwrap();
    bucket.put(b"key", b"value").unwrap();
    store.flush(Scope::Store).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    require_threads();
    let before = cpu_time();
    std::thread::sleep(IDLE);
    let used = cpu_time() - before;
    println!("{used:?} of CPU in {IDLE:?}");
    assert!(used <= CPU_MAX, "{used:?} of CPU in {IDLE:?}");
    // Those that were measured were there all the time.
    require_threads();
    store.close().unwrap();
}

fn require_threads() {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    // One of the kernel's own may end meanwhile.
    let name = |task: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(task.unwrap().path().join("comm")).ok()
    };
    let names: Vec<String> = tasks.filter_map(name).collect();
    for engine in ["isotherm-0", "isotherm-1", "isotherm-org"] {
        assert!(names.iter().any(|name| name.trim() == engine), "no {engine} among {names:?}");
    }
}

/// User and system time of this process, all its threads together.
fn cpu_time() -> Duration {
    // SAFETY: `rusage` is plain data for which zeros are valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is a writable `rusage`.
    assert_eq!(unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) }, 0);
    let of = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
    };
    of(usage.ru_utime) + of(usage.ru_stime)
}
