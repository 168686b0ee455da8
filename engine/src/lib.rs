//! isotherm: a storage engine that a program links.
//!
//! It keeps named byte strings (blobs) on a hierarchy of DRAM, NVMe and HDD, places every piece
//! of them by heat, and never answers with wrong bytes.

pub mod api;
pub mod buckets;
pub mod check;
pub mod config;
pub mod control;
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
pub mod plant;
pub mod recover;
pub mod salvage;
pub mod shard;
pub mod stats;
pub mod store;
pub mod survey;
mod sync;
#[cfg(test)]
mod testing;
pub mod tier;
pub mod types;
mod usage;

/// So that the README's code compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

pub use api::{
    Action, AttributeChanges, AttributeCursor, AttributeItem, Batch, BlobName, BlobReader,
    BlobStat, BlobWriter, Bucket, BucketStat, BufferPlace, Completion, Condition, Cursor, Done,
    OpId, OpMemory, Operation, Order, PutOptions, Queue, Refused, ScanItem, ScanRange,
};
pub use check::{CheckOptions, CheckProgress, CheckReport, Fault, FaultyPart, Miscount, Recount};
pub use config::{Config, MissingTiers};
pub use error::{Error, ErrorKind, Result};
pub use log::attributes::AttributeValue;
pub use organizer::damage::DamagedBuffer;
pub use salvage::{Doubt, Piece, Salvage, SalvageReport, SalvagedBlob, SalvagedBucket, Standing};
pub use stats::Stats;
pub use store::{
    BucketInfo, BucketOptions, CompactReport, CompactedTier, Info, Scope, Store, TierInfo,
};
pub use survey::{Structure, StructureFault, SurveyReport};
pub use types::{Durability, TierKind, Version};
