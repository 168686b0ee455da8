//! The parts of the `isotherm` command, shared with its demo.

pub mod args;
pub mod attributes;
pub mod check;
pub mod compact;
pub mod doctor;
pub mod facts;
pub mod failure;
pub mod inspect;
pub mod list;
pub mod name;
pub mod output;
pub mod owner;
pub mod parallel;
pub mod progress;
pub mod remove;
pub mod salvage;
pub mod session;
pub mod source;
pub mod target;
pub mod top;
pub mod transfer;
pub mod tree;
