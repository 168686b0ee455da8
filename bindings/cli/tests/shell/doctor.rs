//! `doctor`: says what an engine then does.

use std::os::unix::process::CommandExt;
use std::process::Command;

use serde_json::Value;

use crate::seccomp::deny_io_uring;
use crate::support::{Ran, Shell, bare, fields, ran};

fn denied(mut command: Command) -> Command {
    // SAFETY: the closure only makes system calls, so it may run between fork and exec.
    unsafe { command.pre_exec(deny_io_uring) };
    command
}

fn doctor(mut command: Command) -> Ran {
    ran(command.args(["doctor", "--json"]).output().unwrap())
}

fn finding<'a>(findings: &'a Value, name: &str) -> &'a Value {
    let found = findings.as_array().unwrap().iter().find(|finding| finding["name"] == name);
    found.unwrap()
}

#[test]
fn every_finding_has_a_state_and_whatever_is_not_good_a_fix() {
    let shell = Shell::with_blob(b"value");
    let findings = shell.json(&["doctor"]);
    for finding in findings.as_array().unwrap() {
        assert_eq!(fields(finding), ["fix", "found", "name", "state"]);
        assert!(["ok", "warning"].contains(&finding["state"].as_str().unwrap()), "{finding}");
        assert_eq!(finding["fix"] == "", finding["state"] == "ok", "{finding}");
    }
    let text = shell.run(&["doctor"]).expect_code(0).text();
    let names = ["kernel", "io_uring", "memlock", "glommio", "memory", "O_DIRECT", "free space"];
    assert!(names.iter().all(|name| text.contains(name)), "{text}");
}

#[test]
fn it_needs_no_store_and_leaves_nothing_behind() {
    let shell = Shell::empty();
    let mut command = bare();
    command.current_dir(shell.path(""));
    doctor(command).expect_code(0);
    assert_eq!(std::fs::read_dir(shell.path("")).unwrap().count(), 0);
    shell.run(&["doctor"]).expect_code(0);
    assert!(!shell.path("store").exists());
}

#[test]
fn it_says_what_a_store_then_runs_on() {
    let shell = Shell::with_blob(b"value");
    for restrict in [|command| command, denied] {
        let findings = doctor(restrict(shell.isotherm())).expect_code(0).json();
        let mut df = restrict(shell.isotherm());
        let df = ran(df.args(["df", "--json"]).output().unwrap()).expect_code(0).json();
        for (name, part, backend) in
            [("io_uring", "io", "uring"), ("glommio", "organizer", "glommio")]
        {
            let (finding, part) = (finding(&findings, name), &df[part]);
            assert_eq!(finding["state"] == "ok", part["backend"] == backend, "{finding} {part}");
            if let Some(reason) = part["reason"].as_str() {
                assert!(finding["found"].as_str().unwrap().starts_with(reason), "{finding} {part}");
            }
        }
        let direct = df["tiers"][1]["direct"] == true;
        assert_eq!(finding(&findings, "O_DIRECT")["state"] == "ok", direct);
    }
}

#[test]
fn a_backend_that_is_configured_and_forbidden_is_bad() {
    let shell = Shell::empty();
    for (setting, name) in [("io=uring", "io_uring"), ("organizer=glommio", "glommio")] {
        let mut command = denied(shell.isotherm());
        command.args(["--set", setting]);
        let ran = doctor(command).expect_code(1);
        assert_eq!(finding(&ran.json(), name)["state"], "bad");
        assert!(ran.stderr.contains("1 checks failed"), "{}", ran.stderr);
    }
    let mut threads = denied(shell.isotherm());
    threads.args(["--set", "io=threads", "--set", "organizer=threads"]);
    let findings = doctor(threads).expect_code(0).json();
    for name in ["io_uring", "glommio"] {
        assert_eq!(finding(&findings, name)["state"], "ok");
    }
}

#[test]
fn direct_writes_come_with_the_alignment_that_was_found() {
    let findings = Shell::empty().json(&["doctor"]);
    let direct = finding(&findings, "O_DIRECT");
    let found = direct["found"].as_str().unwrap();
    assert!(direct["state"] != "ok" || found.contains("aligned to "), "{found}");
}
