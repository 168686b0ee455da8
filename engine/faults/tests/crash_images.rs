//! The binary, as it is started. Where it cannot run it must say so, and why.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// What the binary ends with where it cannot run.
const NOT_RUN: i32 = 77;

fn images(arguments: &[&str]) -> Command {
    let mut images = Command::new(env!("CARGO_BIN_EXE_isotherm-crash-images"));
    images.args(arguments);
    images
}

/// What it printed; nothing where it cannot run.
fn said(output: &Output) -> Option<String> {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.code() == Some(NOT_RUN) {
        assert!(said.starts_with("NOT RUN: "), "{said}");
        eprintln!("{said}");
        return None;
    }
    assert!(output.status.success(), "{}\n{said}\n{output:?}", output.status);
    Some(said)
}

/// What of process `number` is left on the machine.
fn left_of(number: u32) -> Vec<String> {
    let name = format!("isotherm-crash-images-{number}");
    let listed = Command::new("losetup").args(["--list", "--noheadings"]).output();
    let devices = listed.map(|output| output.stdout).unwrap_or_default();
    let text =
        fs::read_to_string("/proc/self/mountinfo").unwrap() + &String::from_utf8_lossy(&devices);
    let mut left: Vec<String> =
        text.lines().filter(|line| line.contains(&name)).map(String::from).collect();
    let directory = std::env::temp_dir().join(&name);
    left.extend(directory.exists().then(|| directory.display().to_string()));
    left
}

#[test]
fn no_crash_image_has_lost_a_change_and_nothing_is_left_behind() {
    for file_system in ["xfs", "ext4"] {
        let running = images(&["--images", "25", "--fs", file_system])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let number = running.id();
        let Some(said) = said(&running.wait_with_output().unwrap()) else { continue };
        assert!(said.starts_with(&format!("{file_system}: 25 images, 0 losses")), "{said}");
        assert_eq!(left_of(number), Vec::<String>::new());
    }
}

/// What shows that a loss would be seen.
#[test]
fn a_disk_that_lies_about_flushes_is_caught() {
    let output = images(&["--images", "60", "--fs", "ext4", "--lying"]).output().unwrap();
    if let Some(said) = said(&output) {
        assert!(said.contains("LOSS: "), "{said}");
    }
}

#[test]
fn a_disk_that_begins_to_fail_loses_nothing_that_was_acknowledged() {
    for file_system in ["xfs", "ext4"] {
        let output = images(&["--failing", "--fs", file_system]).output().unwrap();
        if let Some(said) = said(&output) {
            assert_eq!(said.matches(" are there").count(), 4, "{said}");
        }
    }
}

#[test]
fn the_next_run_undoes_what_a_killed_one_has_left() {
    let mut killed = images(&["--images", "1000", "--fs", "ext4"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let number = killed.id();
    let start = Instant::now();
    // Two mounts and a loop device.
    while left_of(number).len() < 4 {
        if killed.try_wait().unwrap().is_some_and(|status| status.code() == Some(NOT_RUN)) {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}", left_of(number));
        std::thread::sleep(Duration::from_millis(1));
    }
    // Somewhere in the use of the store.
    std::thread::sleep(Duration::from_millis(300));
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert_ne!(
        left_of(number),
        Vec::<String>::new(),
        "it left nothing: it was not killed in its midst"
    );
    said(&images(&["--images", "1", "--fs", "ext4"]).output().unwrap());
    assert_eq!(left_of(number), Vec::<String>::new());
}
