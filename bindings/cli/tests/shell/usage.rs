//! Bad input: which exit code it has, and that its message names the thing.

use std::fs;

use crate::support::{SMALL, Shell, bare, feed, ran};

#[test]
fn a_command_line_that_makes_no_sense_exits_with_2() {
    let shell = Shell::with_blob(b"value");
    let long = "k".repeat(1025);
    let lines: [&[&str]; 14] = [
        &[],
        &["nonsense"],
        &["get"],
        &["get", "b"],
        &["rm", "b"],
        &["ls", "--nonsense"],
        &["put", "-r", "b", "directory", "file"],
        &["get", "-r", "b", "directory", "-o", "file"],
        &["--set", "shards", "ls"],
        &["--set", "shards=many", "ls"],
        &["--set", "sharps=2", "ls"],
        &["--durability", "forever", "ls"],
        &["get", "b", &long],
        &["get", "", "k"],
    ];
    for line in lines {
        let refused = shell.run(line).expect_code(2);
        assert!(refused.stdout.is_empty(), "{line:?}");
    }
    let nameless = ran(bare().arg("ls").output().unwrap()).expect_code(2);
    assert!(nameless.stderr.contains("ISOTHERM_STORE"), "{}", nameless.stderr);
}

#[test]
fn a_wrong_setting_is_named_with_what_is_right() {
    let shell = Shell::with_blob(b"value");
    let expected = [
        ("sharps=2", "'shards'"),
        ("flush_interval=soon", "soon"),
        ("tier.1.capacity=64Moos", "64MiB"),
        ("tier.1.watermark_low=7", "7"),
        ("shards=99", "1 to 8"),
    ];
    for (setting, fix) in expected {
        let refused = shell.run(&["--set", setting, "df"]).expect_code(2).stderr;
        assert!(refused.contains(fix), "{setting}: {refused}");
    }
}

#[test]
fn a_configuration_file_counts_and_a_mistake_in_it_is_named() {
    let shell = Shell::empty();
    let (good, bad) = (shell.path("good.toml"), shell.path("bad.toml"));
    fs::write(&good, "[[tier]]\nkind = \"nvme\"\ncapacity = \"64MiB\"\n").unwrap();
    fs::write(&bad, "flush_intervall = \"1s\"\n").unwrap();
    let mut put = shell.isotherm();
    put.arg("-c").arg(&good).args(["put", "b", "k"]);
    feed(put, b"value").expect_code(0);
    assert_eq!(shell.json(&["df"])["tiers"][0]["capacity"], 64 << 20);

    let refused = shell.run(&["-c", bad.to_str().unwrap(), "ls"]).expect_code(2).stderr;
    assert!(refused.contains("bad.toml") && refused.contains("'flush_interval'"), "{refused}");
    let missing = shell.run(&["-c", "/nowhere.toml", "ls"]).expect_code(1).stderr;
    assert!(missing.contains("/nowhere.toml"), "{missing}");
}

#[test]
fn what_is_not_there_exits_with_3_and_is_named() {
    let shell = Shell::with_blob(b"value");
    let lines: [(&[&str], &str); 7] = [
        (&["get", "b", "absent"], "absent"),
        (&["stat", "b", "absent"], "absent"),
        (&["where", "b", "absent"], "absent"),
        (&["rm", "b", "absent"], "absent"),
        (&["get", "nobucket", "k"], "nobucket"),
        (&["ls", "nobucket"], "nobucket"),
        (&["stat", "nobucket"], "nobucket"),
    ];
    for (line, name) in lines {
        let missing = shell.run(line).expect_code(3).stderr;
        assert!(missing.contains(name), "{line:?}: {missing}");
    }
    let empty = Shell::empty();
    for line in [&["ls"][..], &["df"], &["get", "b", "k"], &["rm", "b", "k"]] {
        let missing = empty.run(line).expect_code(3).stderr;
        assert!(missing.contains(empty.path("store").to_str().unwrap()), "{missing}");
        assert!(!empty.path("store").exists(), "{line:?}");
    }
}

#[test]
fn other_errors_exit_with_1_and_name_the_file() {
    let shell = Shell::with_blob(b"value");
    let (put, get) = (["put", "b", "k", "/nowhere/file"], ["get", "b", "k", "-o", "/nowhere/file"]);
    for line in [&put[..], &get[..], &["put", "-r", "b", "/nowhere"]] {
        let failed = shell.run(line).expect_code(1).stderr;
        assert!(failed.contains("/nowhere"), "{line:?}: {failed}");
    }
    assert_eq!(shell.run(&["get", "b", "k"]).expect_code(0).stdout, b"value");
}

#[test]
fn a_store_of_dram_alone_is_warned_of() {
    let shell = Shell::empty();
    let mut put = shell.isotherm();
    put.args(&SMALL[..4]).args(["put", "b", "k"]);
    let ran = feed(put, b"value");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("only DRAM"), "{}", ran.stderr);
}

#[test]
fn help_and_version_are_no_errors() {
    for option in ["--help", "--version"] {
        let text = ran(bare().arg(option).output().unwrap()).expect_code(0).text();
        assert!(text.contains("isotherm"), "{text}");
    }
}
