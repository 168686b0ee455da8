//! C and C++ programs: plain, under valgrind, with AddressSanitizer.

use std::path::Path;
use std::process::Command;

use crate::installed::{compile, program, root, run};

const BLOBS: &str = "ffi/tests/programs/blobs.c";
const BLOBS_CXX: &str = "ffi/tests/programs/blobs.cc";
const SANITIZED: [&str; 2] = ["-fsanitize=address", "-fsanitize=undefined"];

fn count() -> u64 {
    std::env::var("ISOTHERM_FFI_BLOBS").map_or(1000, |count| count.parse().unwrap())
}

/// The arguments of a program that stores or checks `count` blobs of a writer.
fn blobs(mut command: Command, store: &Path, count: u64, action: &str, writer: &str) {
    let capacity = if self::count() > 2000 { "6GiB" } else { "1GiB" };
    command.arg(store).args([capacity, &count.to_string(), action, writer]);
    run(&mut command);
}

/// Off io_uring, for valgrind stops all threads while one waits in a ring.
fn valgrind(path: &Path) -> Command {
    let mut command = program("valgrind");
    command.args(["-q", "--error-exitcode=9", "--fair-sched=yes", "--child-silent-after-fork=yes"]);
    command.args([
        "--leak-check=full",
        "--errors-for-leak-kinds=definite",
        "--show-leak-kinds=definite",
    ]);
    let known = root().join("ffi/tests/c_abi/valgrind.supp");
    command.arg(format!("--suppressions={}", known.display())).arg(path);
    command.env("CHECK_IO", "threads");
    command
}

#[test]
fn c_and_cxx_read_what_the_other_has_written() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    let c = compile(BLOBS, &[], directory.path());
    let cxx = compile(BLOBS_CXX, &["-O2"], directory.path());
    blobs(program(&c), &store, count(), "write", "c");
    blobs(program(&cxx), &store, count(), "write", "cxx");
    blobs(program(&cxx), &store, count(), "read", "c");
    blobs(program(&c), &store, count(), "read", "cxx");
}

#[test]
fn blobs_are_stored_and_read_clean_under_valgrind_and_address_sanitizer() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    let plain = compile(BLOBS, &[], directory.path());
    let sanitized = compile(BLOBS, &SANITIZED, directory.path());
    blobs(valgrind(&plain), &store, 40, "write", "valgrind");
    blobs(program(&sanitized), &store, count() / 2, "write", "asan");
    blobs(valgrind(&plain), &store, 40, "read", "asan");
    blobs(program(&sanitized), &store, 40, "read", "valgrind");
}

/// Runs a program of one argument, its store, in all ways.
fn run_in_all_ways(source: &str) {
    let directory = tempfile::tempdir().unwrap();
    let plain = compile(source, &[], directory.path());
    let sanitized = compile(source, &SANITIZED, directory.path());
    for (number, mut command) in
        [program(&plain), program(&sanitized), valgrind(&plain)].into_iter().enumerate()
    {
        run(command.arg(directory.path().join(number.to_string())));
    }
}

#[test]
fn misuse_is_refused_with_the_status_that_says_what_it_is() {
    run_in_all_ways("ffi/tests/programs/misuse.c");
}

#[test]
fn handles_that_are_closed_and_children_that_are_forked_are_refused() {
    run_in_all_ways("ffi/tests/programs/lives.c");
}

#[test]
fn a_limit_of_the_size_of_files_is_an_error_and_not_the_end_of_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let limited = compile("ffi/tests/programs/limited.c", &[], directory.path());
    for io in ["auto", "threads"] {
        run(program(&limited).env("CHECK_IO", io).arg(directory.path().join(io)));
    }
}

#[test]
fn the_examples_run() {
    let directory = tempfile::tempdir().unwrap();
    for (source, store) in [("bindings/c/example.c", "c"), ("bindings/cpp/example.cpp", "cpp")] {
        let example = compile(source, &[], directory.path());
        let output = run(program(&example).arg(directory.path().join(store)));
        assert!(String::from_utf8_lossy(&output.stdout).contains("run-7"), "{output:?}");
    }
}
