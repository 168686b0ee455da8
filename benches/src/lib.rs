//! What isotherm costs, measured beside its peers in the same run.
//!
//! `isotherm-table` makes the README's table: interleaved rounds, medians with their range, ratios
//! inside one section only, CPU per operation. The criterion benches look closer at memory.
//! `isotherm-bench` ([`harness`]) puts on any load that fio's words describe.

pub mod arguments;
pub mod drive;
pub mod fio;
pub mod harness;
pub mod memory;
pub mod picks;
pub mod raw_log;
pub mod rounds;
pub mod rows;
pub mod shared_log;
pub mod table;
pub mod usage;
pub mod writers;

/// What a measurement comes to. An error ends the run: a figure that is not sound is not printed.
pub type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;
