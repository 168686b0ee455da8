//! What the behaviour tests share.

pub mod backend;
pub mod content;
pub mod rng;
pub mod rot;
pub mod seccomp;
