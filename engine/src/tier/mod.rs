//! The tiers: where bytes live.
//!
//! * [`dram`]: the arena and its directory.
//! * `segments`: one device tier, segment by segment. [`space`]: all of them; what is live, reusable. [`free`]: what can be had.
//!   [`reserve`]: what data may not use. [`writer`]: fills one segment at a time. [`written`]: bytes that no record names
//!   yet.

pub mod dram;
pub mod free;
pub mod reserve;
pub mod room;
mod segments;
pub mod space;
pub mod writer;
pub mod written;
