//! `put` and `get` of one blob.

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};

use crate::support::{Shell, bare, feed, noise, ran};

#[test]
fn a_file_comes_back_byte_for_byte() {
    for len in [0, 1, 64 << 10, (3 << 20) + 7] {
        let (shell, bytes) = (Shell::with_blob(b"another"), noise(len));
        let (source, copy) = (shell.path("source"), shell.path("copy"));
        fs::write(&source, &bytes).unwrap();
        let source = source.to_str().unwrap();
        shell.run(&["put", "b", "file", source]).expect_code(0);
        shell.run(&["get", "b", "file", "-o", copy.to_str().unwrap()]).expect_code(0);
        assert!(fs::read(&copy).unwrap() == bytes, "{len} bytes");
    }
}

#[test]
fn a_file_that_is_mapped_comes_back_byte_for_byte() {
    let shell = Shell::empty();
    let source = shell.path("source");
    // One piece of what a put reads whole is exceeded, so this is mapped.
    let bytes = noise((64 << 20) + 4097);
    fs::write(&source, &bytes).unwrap();
    let tier = ["--set", "tier.0.kind=nvme", "--set", "tier.0.capacity=256MiB"];
    let put = ["put", "b", "large", source.to_str().unwrap()];
    shell.run(&[&tier[..], &put[..]].concat()).expect_code(0);
    assert!(shell.run(&["get", "b", "large"]).expect_code(0).stdout == bytes);
}

#[test]
fn standard_input_and_output_carry_a_blob() {
    let bytes = noise((2 << 20) + 1);
    let shell = Shell::with_blob(&bytes);
    assert!(shell.run(&["get", "b", "k"]).expect_code(0).stdout == bytes);
    assert!(shell.run(&["get", "b", "k", "-o", "-"]).expect_code(0).stdout == bytes);

    let mut dash = shell.isotherm();
    dash.args(["put", "b", "dash", "-"]);
    feed(dash, &bytes).expect_code(0);
    assert!(shell.run(&["get", "b", "dash"]).expect_code(0).stdout == bytes);
}

#[test]
fn a_stream_longer_than_dram_and_budget_is_stored_in_bounded_memory_or_not_at_all() {
    let shell = Shell::with_blob(b"before");
    // More than the DRAM tier holds; more than the NVMe tier does.
    for (len, code) in [(10 << 20, 0), (200 << 20, 1)] {
        let mut put = shell.isotherm();
        let mut zeros = Command::new("head");
        zeros.args(["-c", &len.to_string(), "/dev/zero"]).stdout(Stdio::piped());
        let mut zeros = zeros.spawn().unwrap();
        put.args(["put", "b", "k", "-"]).stdin(zeros.stdout.take().unwrap());
        let ran = ran(put.output().unwrap()).expect_code(code);
        // The pipe's end here too: else its writer would wait for ever.
        drop(put);
        assert!(code == 0 || ran.stderr.contains("no room"), "{}", ran.stderr);
        zeros.wait().unwrap();
        assert_eq!(shell.json(&["stat", "b", "k"])["len"], 10 << 20);
    }
    assert!(shell.run(&["get", "b", "k"]).expect_code(0).stdout == vec![0; 10 << 20]);
}

#[test]
fn a_pipe_by_name_is_a_stream_too() {
    let shell = Shell::with_blob(b"value");
    let mut put = shell.isotherm();
    put.args(["put", "b", "piped", "/dev/stdin"]);
    feed(put, &noise(3_000_000)).expect_code(0);
    assert!(shell.run(&["get", "b", "piped"]).expect_code(0).stdout == noise(3_000_000));
}

#[test]
fn a_put_at_memory_level_is_there_for_the_next_command() {
    let (shell, bytes) = (Shell::with_blob(b"old"), noise(100_000));
    let mut put = shell.isotherm();
    put.args(["--durability", "memory", "put", "b", "k"]);
    feed(put, &bytes).expect_code(0);
    assert!(shell.run(&["get", "b", "k"]).expect_code(0).stdout == bytes);
}

#[test]
fn the_store_may_be_named_by_the_environment() {
    let shell = Shell::with_blob(b"value");
    let mut get = bare();
    get.env("ISOTHERM_STORE", shell.path("store")).args(["get", "b", "k"]);
    assert_eq!(ran(get.output().unwrap()).expect_code(0).stdout, b"value");
}

#[test]
fn a_get_that_fails_leaves_no_file() {
    let shell = Shell::with_blob(b"value");
    let out = shell.path("out");
    fs::create_dir(&out).unwrap();
    let file = out.join("file");
    shell.run(&["get", "b", "missing", "-o", file.to_str().unwrap()]).expect_code(3);
    assert_eq!(fs::read_dir(&out).unwrap().count(), 0);
}

#[test]
fn a_reader_that_has_read_enough_is_no_error() {
    let shell = Shell::with_blob(&noise(4 << 20));
    let mut get = shell.isotherm();
    get.args(["get", "b", "k"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = get.spawn().unwrap();
    let mut first = [0; 16];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(first, noise(4 << 20)[..16]);
    ran(child.wait_with_output().unwrap()).expect_code(0);
}

#[test]
fn a_second_opener_is_told_the_process_that_has_the_store() {
    let bytes = noise(4 << 20);
    let shell = Shell::with_blob(&bytes);
    let mut get = shell.isotherm();
    let mut holder = get.args(["get", "b", "k"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = holder.stdout.take().unwrap();
    // The store is open from the first byte until the pipe, which is smaller, has been read.
    let mut got = vec![0; 1];
    stdout.read_exact(&mut got).unwrap();
    let refused = shell.run(&["ls"]).expect_code(1).stderr;
    assert!(refused.contains(&format!("process {}", holder.id())), "{refused}");
    stdout.read_to_end(&mut got).unwrap();
    assert!(got == bytes && holder.wait().unwrap().success());
}
