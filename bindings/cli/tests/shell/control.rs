//! `info`, `stats`, `where`, `check`, `flush` and `top`: beside a process that has the store open,
//! and without one.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use isotherm::config::{Config, ConfigBuilder, Tier};
use isotherm::{Durability, Scope, Store};
use serde_json::json;

use crate::support::{Shell, fields, noise};

fn config() -> ConfigBuilder {
    let tiers = Config::builder().tier(Tier::dram("8MiB")).tier(Tier::nvme("64MiB"));
    tiers.shards(1).buffer_size("64KiB")
}

/// Opens the shell's store in this process.
fn open(shell: &Shell, config: ConfigBuilder) -> Store {
    Store::open(shell.path("store"), config.build().unwrap()).unwrap()
}

/// Changes a byte of a blob behind the store's back.
fn damage(store: &Store, bucket: &str, key: &str) {
    let places = store.open_bucket(bucket).unwrap().locate(key.as_bytes()).unwrap();
    let path = store.info().tiers[1].path.clone().unwrap();
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let (mut byte, at) = ([0], places[0].device_offset.unwrap() + 7);
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[!byte[0]], at).unwrap();
}

#[test]
fn while_one_process_writes_at_full_speed_another_asks() {
    let shell = Shell::empty();
    let store = open(&shell, config());
    let bucket = store.bucket("b").unwrap();
    bucket.put(b"still", &noise(300_000)).unwrap();
    let (ended, puts) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for level in [Durability::Memory, Durability::Written] {
            let (bucket, ended, puts) = (&bucket, &ended, &puts);
            let values = [100, 5000, 70_000, 200_000].map(noise);
            scope.spawn(move || {
                for n in 0.. {
                    if ended.load(Ordering::Relaxed) {
                        break;
                    }
                    let key = format!("{level:?}-{}", n % 23);
                    bucket.put_with(key.as_bytes(), &values[n % 4], level.into()).unwrap();
                    puts.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // The writers end also if this fails.
        let asked = std::panic::catch_unwind(|| {
            let first = shell.json(&["stats"])["puts"].as_u64().unwrap();
            assert_eq!(shell.json(&["info"])["process"], std::process::id());
            for _ in 0..3 {
                let report = shell.json(&["check"]);
                assert_eq!((&report["clean"], &report["faults"]), (&json!(true), &json!([])));
                let places = shell.json(&["where", "b", "still"]);
                assert_eq!(places.as_array().unwrap().len(), 5, "{places}");
                assert!(places.as_array().unwrap().iter().all(|place| place["tier"] == "nvme:0"));
            }
            shell.run(&["flush"]).expect_code(0);
            let top = shell.json(&["top"]);
            assert!(top["puts_per_second"].as_f64().unwrap() > 1.0, "{top}");
            let last = shell.json(&["stats"])["puts"].as_u64().unwrap();
            assert!(last > first, "{first} puts, then {last}");
        });
        ended.store(true, Ordering::Relaxed);
        asked.unwrap();
    });
    assert!(puts.into_inner() > 100);
    store.close().unwrap();
}

#[test]
fn a_store_that_nobody_has_open_is_opened_for_the_question() {
    let shell = Shell::with_blob(&noise(200_000));
    let names = ["durability", "epoch", "io", "memory_budget", "organizer", "poisoned", "process"];
    let info = shell.json(&["info"]);
    assert_eq!(fields(&info)[..7], names);
    assert!(info["read_only"].is_string(), "{info}");
    assert_eq!(shell.json(&["stats"])["blobs"], 1);
    assert!(shell.run(&["stats"]).expect_code(0).text().contains("memory.dram_used"));
    let report = shell.json(&["check"]);
    assert_eq!(
        (&report["clean"], &report["blobs"], &report["miscounts"]),
        (&json!(true), &json!(1), &json!([]))
    );
    let text = shell.run(&["check", "--rate", "1GiB"]).expect_code(0).text();
    assert!(text.starts_with("1 blobs in 1 buckets: 1 buffers"), "{text}");
    assert!(shell.run(&["top"]).expect_code(0).text().contains("nvme:0"));
    shell.run(&["flush"]).expect_code(0);
    // Asking makes nothing, and leaves nothing.
    assert!(!shell.path("store/CONTROL").exists());
    let empty = Shell::empty();
    for line in [&["info"][..], &["stats"], &["check"], &["flush"], &["top"]] {
        empty.run(line).expect_code(3);
        assert!(!empty.path("store").exists(), "{line:?}");
    }
}

#[test]
fn damage_is_listed_and_exits_with_1_whoever_reads_it() {
    let shell = Shell::empty();
    let store = open(&shell, config());
    let bucket = store.bucket("b").unwrap();
    for key in ["good", "bad\n", "worse"] {
        bucket.put(key.as_bytes(), &noise(50_000)).unwrap();
    }
    store.flush(Scope::Store).unwrap();
    damage(&store, "b", "bad\n");
    damage(&store, "b", "worse");
    let require = || {
        let found = shell.run(&["check"]);
        assert_eq!(found.code, 1, "{}", found.text());
        assert!(found.stderr.contains("2 faults"), "{}", found.stderr);
        let text = found.text();
        assert!(text.contains("b/bad\\x0a") && text.contains("b/worse"), "{text}");
        assert!(text.contains("Corrupt") && !text.contains("good"), "{text}");
        let json = shell.run(&["check", "--json"]);
        assert_eq!((json.code, &json.json()["fault_count"]), (1, &json!(2)));
    };
    require();
    store.close().unwrap();
    require();
}

#[test]
fn errors_of_the_owner_have_the_exit_codes_of_ones_own() {
    let shell = Shell::empty();
    let store = open(&shell, config());
    store.bucket("b").unwrap().put(b"k", b"value").unwrap();
    let lines: [(&[&str], i32, &str); 5] = [
        (&["where", "b", "absent"], 3, "absent"),
        (&["where", "nobucket", "k"], 3, "nobucket"),
        (&["flush", "nobucket"], 3, "nobucket"),
        (&["check", "--rate", "fast"], 2, "fast"),
        (&["check", "--rate", "0"], 2, "0 bytes"),
    ];
    for (line, code, word) in lines {
        let refused = shell.run(line).expect_code(code).stderr;
        assert!(refused.contains(word), "{line:?}: {refused}");
    }
    store.close().unwrap();
}

#[test]
fn an_owner_without_a_socket_cannot_be_asked() {
    let shell = Shell::empty();
    let store = open(&shell, config().control_socket(false));
    let refused = shell.run(&["stats"]).expect_code(1).stderr;
    let process = format!("process {}", std::process::id());
    assert!(refused.contains(&process) && refused.contains("no control socket"), "{refused}");
    store.close().unwrap();
}
