//! `ls`, `stat`, `rm`, `df` and `where`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use serde_json::json;

use crate::support::{Shell, fields, noise};

#[test]
fn buckets_and_blobs_are_listed_in_order_with_their_sizes() {
    let shell = Shell::with_blob(b"value");
    shell.put("b", "lib/x", b"123");
    shell.put("b", "lib/y", &noise(70_000));
    shell.put("a", "k", b"");
    let buckets = shell.run(&["ls"]).expect_code(0).text();
    let rows = buckets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let rows: Vec<_> = rows.collect();
    assert_eq!(rows[0], ["bucket", "blobs", "bytes"]);
    assert_eq!((rows[1][..2].to_vec(), rows[2][..2].to_vec()), (vec!["a", "1"], vec!["b", "3"]));

    let names = |arguments: &[&str]| -> Vec<String> {
        let text = shell.run(arguments).expect_code(0).text();
        text.lines().map(|line| line.trim_start().to_string()).collect()
    };
    assert_eq!(names(&["ls", "b"]), ["5  k", "3  lib/x", "70000  lib/y"]);
    assert_eq!(names(&["ls", "b", "lib/"]), ["3  lib/x", "70000  lib/y"]);
    assert!(names(&["ls", "b", "none"]).is_empty());
}

#[test]
fn a_key_of_any_bytes_is_stored_and_listed_on_one_line() {
    let shell = Shell::with_blob(b"value");
    let key = OsStr::from_bytes(b"a\n\xff\\");
    shell.put("b", key, b"odd");
    assert!(shell.run(&["ls", "b"]).expect_code(0).text().contains("a\\x0a\\xff\\x5c\n"));
    let get = ["get".as_ref(), "b".as_ref(), key];
    assert_eq!(shell.run(&get).expect_code(0).stdout, b"odd");
}

#[test]
fn stat_tells_length_and_version_of_a_blob_and_the_size_of_a_bucket() {
    let shell = Shell::with_blob(&noise(3 << 20));
    let before = shell.json(&["stat", "b", "k"]);
    assert_eq!(fields(&before), ["bucket", "buffers", "key", "len", "version"]);
    assert_eq!((&before["bucket"], &before["key"]), (&"b".into(), &"k".into()));
    assert_eq!((&before["len"], &before["buffers"]), (&(3 << 20).into(), &3.into()));
    shell.put("b", "k", b"new");
    let after = shell.json(&["stat", "b", "k"]);
    assert!(after["version"].as_u64() > before["version"].as_u64());
    assert!(shell.run(&["stat", "b", "k"]).expect_code(0).text().contains("length   3 (3 B)"));

    let bucket = shell.json(&["stat", "b"]);
    assert_eq!(fields(&bucket), ["blobs", "bucket", "bytes"]);
    assert_eq!((&bucket["blobs"], &bucket["bytes"]), (&1.into(), &3.into()));
    assert!(shell.run(&["stat", "b"]).expect_code(0).text().contains("blobs   1"));
}

#[test]
fn what_was_removed_is_gone_and_the_rest_stays() {
    let shell = Shell::with_blob(b"value");
    for key in ["x", "y"] {
        shell.put("b", key, b"1");
    }
    shell.run(&["rm", "b", "x", "y"]).expect_code(0);
    assert_eq!(shell.run(&["ls", "b"]).expect_code(0).text().trim(), "5  k");
    let missing = shell.run(&["rm", "b", "x"]).expect_code(3).stderr;
    assert!(missing.contains("'x'") || missing.contains("\"x\""), "{missing}");
}

#[test]
fn df_tells_tiers_with_the_sizes_they_were_made_with_and_what_io_runs_on() {
    let shell = Shell::with_blob(&noise(1 << 20));
    let df = shell.json(&["df"]);
    let facts = [
        "durability",
        "epoch",
        "io",
        "memory_budget",
        "organizer",
        "poisoned",
        "process",
        "read_only",
        "shards",
        "store",
        "tiers",
    ];
    assert_eq!(fields(&df), facts);
    assert_eq!(fields(&df["io"]), ["backend", "reason"]);
    assert_eq!(fields(&df["organizer"]), ["backend", "reason"]);
    assert_eq!(df["durability"], "written");
    let tiers = df["tiers"].as_array().unwrap();
    let names = ["capacity", "direct", "kind", "live", "lost", "path", "tier", "used"];
    assert!(tiers.iter().all(|tier| fields(tier) == names));
    assert_eq!((&tiers[0]["tier"], &tiers[1]["tier"]), (&json!("dram"), &json!("nvme:0")));
    assert_eq!(tiers[1]["capacity"], 64 << 20);
    assert!(tiers[1]["live"].as_u64().unwrap() >= 1 << 20);
    assert!(tiers[1]["path"].as_str().unwrap().starts_with(shell.path("store").to_str().unwrap()));
    let text = shell.run(&["df"]).expect_code(0).text();
    assert!(text.contains("nvme:0") && text.contains("64.0 MiB"), "{text}");
    assert!(text.contains(&format!("I/O: {}", df["io"]["backend"].as_str().unwrap())), "{text}");
}

#[test]
fn where_tells_the_place_of_each_buffer_of_a_blob() {
    let shell = Shell::with_blob(&noise((2 << 20) + 5));
    let buffers = shell.json(&["where", "b", "k"]);
    let buffers = buffers.as_array().unwrap();
    let names = ["buffer", "device_offset", "dirty", "heat", "in_dram", "len", "offset", "tier"];
    assert!(buffers.iter().all(|buffer| fields(buffer) == names && buffer["tier"] == "nvme:0"));
    let parts = buffers.iter().map(|buffer| json!([buffer["offset"], buffer["len"]]));
    let wanted = [[0, 1 << 20], [1 << 20, 1 << 20], [2 << 20, 5]];
    assert!(parts.eq(wanted.map(|part| json!(part))), "{buffers:?}");
    let text = shell.run(&["where", "b", "k"]).expect_code(0).text();
    assert!(text.starts_with("k: 3 buffers; nvme:0 2.00 MiB"), "{text}");
}
