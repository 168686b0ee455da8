//! The public operations on buckets and blobs.
//!
//! Every operation is an asynchronous function that works under any executor; the synchronous
//! call waits for it on the calling thread. What DRAM answers never waits and never changes
//! threads. [`edit`]: what is done to a blob. [`admission`]: what it will take. [`memory`]: changes
//! at Memory level, `merge`: how they keep the slices few. [`change`]: all others; [`paged`]: those of large maps;
//! `predecessor`: what they keep of the value before. [`batch`]: several blobs at once, `many`: gets of them; `copy`: copies
//! and renames. [`read`]: gets,
//! of what `held` keeps in place. [`room`]:
//! slots. [`scan`]: listing. [`queue`]: asynchronous operations;
//! `completions`: those that have ended, and who waits for them.

pub mod admission;
pub mod batch;
pub mod bucket;
pub mod change;
mod completions;
mod copy;
pub mod edit;
pub(crate) mod held;
pub(crate) mod many;
pub mod memory;
mod merge;
pub mod operation;
mod paged;
mod predecessor;
pub mod queue;
pub mod read;
pub mod room;
pub mod scan;
mod serve;
#[cfg(test)]
mod tests;

pub use batch::Batch;
pub use bucket::{BlobStat, Bucket, BucketStat, BufferPlace, PutOptions};
pub use edit::Condition;
pub use operation::{Action, Completion, Done, OpId, OpMemory, Operation};
pub use queue::{Queue, Refused};
pub use scan::{Cursor, ScanItem, ScanRange};
