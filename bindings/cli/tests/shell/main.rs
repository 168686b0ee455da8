//! The `isotherm` command as a shell sees it: arguments in; bytes, text and exit codes out.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod attributes;
mod control;
mod doctor;
mod inspection;
mod names;
mod salvage;
#[path = "../../../../engine/tests/support/seccomp.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod seccomp;
mod support;
mod transfers;
mod trees;
mod usage;
