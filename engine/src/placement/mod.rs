//! Placement: facts in, decisions out. Pure.

pub mod heat;
pub mod policy;
