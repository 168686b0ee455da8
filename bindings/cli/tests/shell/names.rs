//! `mv`, `cp`, `rm -r` and `compact`.

use crate::support::{Shell, fields, noise};

#[test]
fn a_blob_gets_another_name_within_its_bucket_and_in_another() {
    let bytes = noise(300_000);
    let shell = Shell::with_blob(&bytes);
    shell.run(&["mv", "b", "k", "moved"]).expect_code(0);
    shell.run(&["stat", "b", "k"]).expect_code(3);
    shell.run(&["cp", "b", "moved", "copy"]).expect_code(0);
    shell.run(&["cp", "b", "moved", "far", "--to", "other"]).expect_code(0);
    shell.run(&["mv", "b", "copy", "farther", "--to", "other"]).expect_code(0);
    for (bucket, key) in [("b", "moved"), ("other", "far"), ("other", "farther")] {
        assert!(shell.run(&["get", bucket, key]).expect_code(0).stdout == bytes, "{bucket} {key}");
    }
    assert_eq!(shell.json(&["stat", "b"])["blobs"], 1);
    // What cannot be is refused, and makes no bucket.
    shell.run(&["mv", "b", "none", "x", "--to", "new"]).expect_code(3);
    shell.run(&["stat", "new"]).expect_code(3);
    shell.run(&["cp", "none", "k", "x"]).expect_code(3);
    let same = shell.run(&["mv", "b", "moved", "moved"]).expect_code(2).stderr;
    assert!(same.contains("own name"), "{same}");
    shell.run(&["mv", "b", "moved"]).expect_code(2);
}

#[test]
fn many_blobs_are_removed_by_the_beginning_of_their_keys() {
    let shell = Shell::with_blob(b"value");
    for key in ["lib/a", "lib/b", "libc", "other"] {
        shell.put("b", key, &noise(2_000));
    }
    let removed = shell.run(&["rm", "-r", "b", "lib/"]).expect_code(0).text();
    assert_eq!(removed, "removed 2 blobs, 3.91 KiB\n");
    let listed = shell.run(&["ls", "b"]).expect_code(0).text();
    let keys: Vec<&str> =
        listed.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(keys, ["k", "libc", "other"]);
    assert!(shell.run(&["rm", "-r", "b"]).expect_code(0).text().contains("removed 3 blobs"));
    assert_eq!(shell.json(&["stat", "b"])["blobs"], 0);
    assert!(shell.run(&["rm", "-r", "b"]).expect_code(0).text().contains("removed 0 blobs"));
    shell.run(&["rm", "-r", "none"]).expect_code(3);
    shell.run(&["rm", "-r", "b", "one", "two"]).expect_code(2);
}

#[test]
fn what_was_removed_is_free_in_df_after_a_compaction() {
    let shell = Shell::with_blob(b"stays");
    let used = || shell.json(&["df"])["tiers"][1]["used"].as_u64().unwrap();
    for number in 0..4 {
        shell.put("b", format!("large-{number}"), &noise(3 << 20));
    }
    let full = used();
    shell.run(&["rm", "-r", "b", "large-"]).expect_code(0);
    let report = shell.json(&["compact"]);
    assert_eq!(fields(&report["tiers"][0]), ["freed", "tier", "used"]);
    assert!(used() + (8 << 20) <= full, "{full} before, {} after", used());
    assert_eq!(shell.run(&["get", "b", "k"]).expect_code(0).stdout, b"stays");
    assert!(shell.run(&["compact"]).expect_code(0).text().contains("nvme"));
}
