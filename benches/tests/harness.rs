//! The harness as its users start it: what it reports, what it leaves, what it refuses.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::{Value, json};
use tempfile::TempDir;

fn bench(directory: &Path, line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_isotherm-bench"));
    command.arg("--directory").arg(directory).args(line.split(' '));
    command.output().unwrap()
}

/// Runs in a directory of its own, in which nothing may stay.
fn run(line: &str) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let output = bench(directory.path(), line);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "{line}");
    output
}

/// The report of a run that ends well.
fn report(line: &str) -> Value {
    let output = run(&format!("--output-format=json {line}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {}: {said}", output.status);
    serde_json::from_slice(&output.stdout).unwrap()
}

fn count(direction: &Value) -> u64 {
    direction["total_ios"].as_u64().unwrap()
}

/// What must hold of a direction, whatever was done.
fn check_direction(direction: &Value, bs: u64, is_used: bool, line: &str) {
    let (ios, latency) = (count(direction), &direction["lat_ns"]);
    assert_eq!(ios > 0, is_used, "{line}: {direction}");
    assert_eq!(direction["io_bytes"], json!(ios * bs), "{line}");
    assert_eq!(latency["N"], json!(ios), "{line}");
    let percentiles = [1, 50, 95, 99].map(|percent| {
        direction["clat_ns"]["percentile"][format!("{percent}.000000")].as_u64().unwrap()
    });
    let last = direction["clat_ns"]["percentile"]["99.900000"].as_u64().unwrap();
    assert!(percentiles.is_sorted() && percentiles[3] <= last, "{line}: {latency}");
    let (min, max) = (latency["min"].as_u64().unwrap(), latency["max"].as_u64().unwrap());
    let mean = latency["mean"].as_f64().unwrap();
    assert!(min <= percentiles[0] && last <= max, "{line}: {latency}");
    assert!(min as f64 <= mean && mean <= max as f64, "{line}: {latency}");
    if is_used {
        let seconds = direction["runtime"].as_f64().unwrap() / 1e3;
        let iops = direction["iops"].as_f64().unwrap();
        assert!((iops * seconds / ios as f64 - 1.0).abs() < 0.05, "{line}: {direction}");
    }
}

#[test]
fn every_load_through_each_interface_reports_what_fio_would() {
    let loads = [
        ("read", true, false),
        ("write", false, true),
        ("randread", true, false),
        ("randwrite", false, true),
        ("rw", true, true),
        ("readwrite", true, true),
        ("randrw", true, true),
    ];
    for (rw, reads, writes) in loads {
        for engine in ["rust", "c"] {
            for depth in [1, 8] {
                let line = format!(
                    "--rw={rw} --engine={engine} --iodepth={depth} --bs=4k --size=1m \
                     --runtime=100ms --time_based"
                );
                let report = report(&line);
                let job = &report["jobs"][0];
                check_direction(&job["read"], 4096, reads, &line);
                check_direction(&job["write"], 4096, writes, &line);
                assert!(job["job_runtime"].as_u64().unwrap() >= 100, "{line}");
                assert!(job["cpu_ns_per_op"].as_f64().unwrap() > 0.0, "{line}");
                // The kernel tells the two apart by samples: one of them may be 0.
                let parts = [&job["usr_cpu"], &job["sys_cpu"]].map(|part| part.as_f64().unwrap());
                assert!(parts[0] + parts[1] > 0.0, "{line}: {parts:?}");
                assert_eq!(job["job options"]["engine"], json!(engine));
            }
        }
    }
}

#[test]
fn a_job_ends_with_its_size_or_with_the_time_whichever_is_first() {
    for engine in ["rust", "c"] {
        let line = format!("--rw=randread --bs=4k --size=64k --numjobs=3 --engine={engine}");
        assert_eq!(count(&report(&line)["jobs"][0]["read"]), 48);
        let line = format!("--rw=write --bs=1k --size=8k --iodepth=4 --engine={engine}");
        assert_eq!(count(&report(&line)["jobs"][0]["write"]), 8);
    }
    let cut = report("--rw=write --durability=durable --bs=4k --size=1g --runtime=200ms");
    assert!((1..200_000).contains(&count(&cut["jobs"][0]["write"])));
}

#[test]
fn ranges_of_larger_blobs_are_what_was_written_also_when_nothing_is_in_dram() {
    for engine in ["rust", "c"] {
        for (rw, depth) in [("randread", 1), ("randread", 8), ("rw", 8)] {
            let line = format!(
                "--rw={rw} --bs=4k --blob_size=2500k --size=5000k --numjobs=2 --cold --verify \
                 --iodepth={depth} --engine={engine}"
            );
            let report = report(&line);
            let job = &report["jobs"][0];
            let ios = count(&job["read"]) + count(&job["write"]);
            assert_eq!((ios, &job["mismatches"]), (2500, &json!(0)), "{line}");
        }
        let line =
            format!("--rw=randwrite --bs=1k --blob_size=8k --size=64k --verify --engine={engine}");
        assert_eq!(count(&report(&line)["jobs"][0]["write"]), 64);
    }
}

#[test]
fn levels_and_settings_reach_the_store() {
    for engine in ["rust", "c"] {
        for level in ["memory", "written", "durable"] {
            let line = format!(
                "--rw=write --bs=4k --size=64k --durability={level} --engine={engine} \
                 --set tier.0.kind=dram --set tier.0.capacity=16MiB --set tier.1.kind=nvme \
                 --set tier.1.capacity=256MiB"
            );
            let store = &report(&line)["store"];
            assert_eq!(store["durability"], json!(level), "{line}");
            assert_eq!(store["tiers"][1]["capacity"], json!(256 << 20), "{line}");
        }
        let line =
            format!("--rw=randrw --bs=64 --size=64k --engine={engine} --set tier.0.kind=dram");
        let store = &report(&line)["store"];
        assert_eq!(store["tiers"].as_array().unwrap().len(), 1);
    }
}

#[test]
fn a_tier_elsewhere_goes_with_the_store() {
    let elsewhere = tempfile::tempdir().unwrap();
    let path = elsewhere.path().join("tier");
    for engine in ["rust", "c"] {
        report(&format!(
            "--rw=randread --size=64k --cold --engine={engine} --set tier.0.kind=nvme \
             --set tier.0.capacity=256MiB --set tier.0.path={}",
            path.display()
        ));
        assert!(!path.exists());
    }
}

#[test]
fn people_get_lines_that_fio_would_print() {
    let output = run("--rw=randread --bs=4k --size=256k --name=mine");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("mine: rw=randread, bs=4KiB, blob_size=4KiB, size=256KiB"), "{text}");
    for part in ["read: IOPS=", "BW=", "64 operations", "p99.9=", "cpu: usr="] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("write:"), "{text}");
}

#[test]
fn what_makes_no_sense_ends_with_2_and_names_option_value_and_what_is_allowed() {
    for (line, said) in [
        ("--rw=reed --size=1m", ["'reed'", "--rw", "randread"]),
        ("--rw=read", ["--size", "required", "Usage"]),
        ("--size=much", ["'much'", "--size", "4096"]),
        ("--size=1m --iodepth=0", ["'0'", "--iodepth", "1 to 65536"]),
        ("--size=1k --bs=4k", ["--size=1KiB", "one blob", "4KiB"]),
        ("--size=1m --time_based", ["--time_based", "--runtime", "10"]),
        ("--size=1m --durability=maybe", ["'maybe'", "--durability", "written"]),
        ("--size=1m --set shards=many", ["--set shards=many", "shards", "many"]),
        ("--size=1m --set tier.0.kind=dram --cold", ["--cold", "DRAM alone", "add a tier"]),
        ("--size=1m --engine=c --library=/nowhere.so", ["--library", "/nowhere.so", "libisotherm"]),
        ("--size=1m --ioengine=libaio", ["--ioengine", "unexpected", "Usage"]),
    ] {
        let output = run(line);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{line}: {text}");
        assert!(said.iter().all(|part| text.contains(part)), "{line}: {text}");
        assert!(output.stdout.is_empty());
    }
    let output = bench(Path::new("/nowhere/at/all"), "--size=1m");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn what_the_store_refuses_ends_with_1_and_without_a_report() {
    for engine in ["rust", "c"] {
        let output = run(&format!(
            "--rw=write --bs=64k --size=64m --engine={engine} --set tier.0.kind=dram \
             --set tier.0.capacity=16MiB"
        ));
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(output.stdout.is_empty() && text.contains("DRAM"), "{text}");
    }
}

/// The shared library, built as `make install` builds it, in the profile of the tests.
fn shared_library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let built = Path::new(env!("CARGO_BIN_EXE_isotherm-bench")).parent().unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let profile = if cfg!(debug_assertions) { "test" } else { "release" };
        let mut command = Command::new(root.join("scripts/library.sh"));
        command.arg("build").env("CARGO_PROFILE", profile);
        let output = command.env("CARGO_TARGET_DIR", built.parent().unwrap()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        built.join("libisotherm.so")
    })
}

#[test]
fn the_c_interface_may_be_that_of_a_shared_library() {
    let library = shared_library().display();
    for depth in [1, 8] {
        let line = format!(
            "--rw=randrw --bs=4k --size=1m --engine=c --iodepth={depth} --verify --library={library}"
        );
        let report = report(&line);
        let job = &report["jobs"][0];
        assert_eq!(count(&job["read"]) + count(&job["write"]), 256);
        assert_eq!(job["job options"]["library"], json!(library.to_string()));
    }
    let other = TempDir::new().unwrap();
    let copy = other.path().join("no-library.so");
    std::fs::write(&copy, "no library").unwrap();
    let output = run(&format!("--size=1m --engine=c --library={}", copy.display()));
    assert_eq!(output.status.code(), Some(2));
}
