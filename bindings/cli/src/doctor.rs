//! `doctor`: checks this host for what the engine needs, with the fix for each.

mod checks;
mod disk;

pub use disk::free_bytes;

use std::path::{Path, PathBuf};

use isotherm::config::Config;
use serde_json::json;

use crate::args::Global;
use crate::failure::{Failure, Outcome};
use crate::output::{print, print_json};
use crate::session::{Access, configuration};

/// How a check came out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// As it should be.
    Good,
    /// The engine works, with less speed or room.
    Warning,
    /// The engine cannot work.
    Bad,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Good => "ok",
            State::Warning => "warning",
            State::Bad => "bad",
        }
    }
}

/// One thing that was checked.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What was looked at.
    pub name: &'static str,
    /// How it came out.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to do about it; empty when there is nothing to do.
    pub fix: String,
}

impl Finding {
    fn good(name: &'static str, found: impl Into<String>) -> Finding {
        Finding { name, state: State::Good, found: found.into(), fix: String::new() }
    }

    fn warning(name: &'static str, found: impl Into<String>, fix: &str) -> Finding {
        Finding { name, state: State::Warning, found: found.into(), fix: fix.to_string() }
    }

    fn bad(name: &'static str, found: impl Into<String>, fix: &str) -> Finding {
        Finding { name, state: State::Bad, found: found.into(), fix: fix.to_string() }
    }
}

/// `doctor`. Needs no store; with one, its file system is checked, else the current directory's.
pub fn run(global: &Global, json: bool) -> Outcome {
    let place = global.store.clone().unwrap_or_else(|| PathBuf::from("."));
    let findings = examine(&place, &configuration(global, Access::Existing)?);
    if json {
        let rows = findings.iter().map(|finding| {
            json!({
                "name": finding.name,
                "state": finding.state.name(),
                "found": finding.found,
                "fix": finding.fix,
            })
        });
        print_json(&json!(rows.collect::<Vec<_>>()))?;
    } else {
        print(&text(&findings))?;
    }
    match findings.iter().filter(|finding| finding.state == State::Bad).count() {
        0 => Ok(()),
        count => Err(Failure::Other(format!("{count} checks failed; the fixes stand with them"))),
    }
}

/// All checks, for a store at `place` that is opened with this configuration.
fn examine(place: &Path, config: &Config) -> Vec<Finding> {
    vec![
        checks::kernel(),
        checks::io_uring(config.io()),
        checks::locked_memory(),
        checks::glommio(config.organizer()),
        checks::memory(),
        disk::direct_io(place),
        disk::free_space(place),
    ]
}

fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        text.push_str(&format!(
            "{:<8} {:<14} {}\n",
            finding.state.name(),
            finding.name,
            finding.found
        ));
        if !finding.fix.is_empty() {
            text.push_str(&format!("{:<8} {:<14} fix: {}\n", "", "", finding.fix));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_not_good_comes_with_its_fix() {
        let findings = examine(&std::env::temp_dir(), &Config::default());
        assert_eq!(findings.len(), 7);
        for finding in findings {
            let needs_fix = finding.state != State::Good;
            assert_eq!(needs_fix, !finding.fix.is_empty(), "{finding:?}");
            assert!(!finding.found.is_empty());
        }
    }
}
