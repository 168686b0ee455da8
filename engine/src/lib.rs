//! isotherm: a storage engine that a program links.
//!
//! It keeps named byte strings (blobs) on a hierarchy of DRAM, NVMe and HDD, places every piece
//! of them by heat, and never answers with wrong bytes.

pub mod api;
pub mod buckets;
pub mod config;
pub mod core;
pub mod engine;
pub mod error;
pub mod gate;
pub mod index;
pub mod io;
pub mod limits;
pub mod log;
pub mod mailbox;
pub mod manifest;
pub mod organizer;
pub mod paging;
pub mod placement;
pub mod recover;
pub mod shard;
pub mod stats;
pub mod store;
#[cfg(test)]
mod testing;
pub mod tier;
pub mod types;

/// So that the README's code compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

pub use api::{
    Action, Batch, BlobStat, Bucket, BucketStat, BufferPlace, Completion, Condition, Cursor, Done,
    OpId, OpMemory, Operation, PutOptions, Queue, Refused, ScanItem, ScanRange,
};
pub use config::{Config, MissingTiers};
pub use error::{Error, ErrorKind, Result};
pub use stats::Stats;
pub use store::{BucketInfo, BucketOptions, Info, Scope, Store, TierInfo};
pub use types::{Durability, TierKind, Version};
