//! The harness proves that it can see an engine lie, before it says that another does not.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::process::{Command, Output};

fn compare(arguments: &[&str]) -> Output {
    let place = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_isotherm-compare"));
    command.args(["bitflip", "--directory"]).arg(place.path()).args(arguments);
    command.output().unwrap()
}

/// The cells of an engine's row under a heading.
fn row(report: &str, heading: &str, engine: &str) -> Vec<u64> {
    let (_, section) = report.split_once(&format!("### {heading}\n")).expect(heading);
    let line = section.lines().find(|line| line.starts_with(&format!("| {engine}"))).unwrap();
    line.split('|').filter_map(|cell| cell.trim().parse().ok()).collect()
}

#[test]
fn the_planted_engine_is_seen_to_lie_and_isotherm_is_not() {
    let output = compare(&["--only", "isotherm", "--bits", "150", "--sectors", "20"]);
    let report = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{report}{}", String::from_utf8_lossy(&output.stderr));
    for (heading, stores) in [("One bit flipped", 150), ("One sector", 60), ("A file cut", 20)] {
        let heading = report
            .lines()
            .find_map(|line| line.strip_prefix("### ").filter(|title| title.starts_with(heading)));
        let heading = heading.unwrap();
        let [all, _, _, _, missing, wrong, crashed, hung, _] =
            row(&report, heading, "isotherm")[..]
        else {
            panic!("{report}")
        };
        assert_eq!((all, missing, wrong, crashed, hung), (stores, 0, 0, 0, 0));
        let planted = row(&report, heading, "planted liar");
        // A file that is cut short tells it even without checksums.
        assert!(planted[0] == stores && (heading.starts_with("A file") || planted[5] > stores / 2));
    }
}

#[test]
fn an_engine_that_is_none_is_named() {
    let output = compare(&["--only", "nosuch"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no engine nosuch"));
}
