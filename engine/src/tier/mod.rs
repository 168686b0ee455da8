//! The tiers: where bytes live.
//!
//! * [`dram`]: the arena and its directory.
//! * [`space`]: segments of the device tiers; what is free, live, reusable. [`reserve`]: what data
//!   may not use. [`writer`]: fills one segment at a time. [`written`]: bytes that no record names
//!   yet.

pub mod dram;
pub mod reserve;
pub mod space;
pub mod writer;
pub mod written;
