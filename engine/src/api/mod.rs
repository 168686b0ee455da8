//! The public operations on buckets and blobs.
//!
//! Every operation is an asynchronous function that works under any executor; the synchronous
//! call waits for it on the calling thread. What DRAM answers never waits and never changes
//! threads. [`edit`]: what is done to a blob. [`admission`]: what it will take. [`memory`]: changes
//! at Memory level, `merge`: how they keep the slices few. [`change`]: all others; `paged`: those of large maps;
//! `predecessor`: what they keep of the value before, [`crowded`]: what of it they write anew.
//! `ranges`: several ranges of a value at once. [`stream`] and [`reader`]: values of any length, in
//! bounded memory. [`batch`]: several blobs at once, `many`: gets of them; `copy`: copies
//! and renames. `get`: gets, [`read`]: those that DRAM does not answer,
//! of what `held` keeps in place; `facts`: all else that is known of a blob. [`room`]:
//! slots. `quota`: what changes add to their buckets. [`scan`]: listing, `scan_by`: by an attribute;
//! `attributes`: changes of them. [`queue`]: asynchronous operations, `future`: as futures;
//! `completions`: those that have ended, and who waits for them.

pub mod admission;
pub mod admit;
mod attributes;
pub mod batch;
pub mod bucket;
pub mod change;
mod completions;
mod copy;
pub mod crowded;
mod direct;
pub mod edit;
mod facts;
mod future;
mod get;
pub(crate) mod held;
pub(crate) mod many;
pub mod memory;
mod merge;
pub mod operation;
mod paged;
mod predecessor;
pub mod queue;
mod quota;
mod ranges;
pub mod read;
pub mod reader;
pub mod room;
pub mod scan;
mod scan_by;
mod serve;
pub mod stream;
#[cfg(test)]
mod tests;

pub use attributes::AttributeChanges;
pub use batch::Batch;
pub use bucket::{Bucket, PutOptions};
pub use edit::Condition;
pub use facts::{BlobStat, BucketStat, BufferPlace};
pub use operation::{Action, BlobName, Completion, Done, OpId, OpMemory, Operation};
pub use queue::{Queue, Refused};
pub use reader::BlobReader;
pub use scan::{Cursor, ScanItem, ScanRange};
pub use scan_by::{AttributeCursor, AttributeItem, Order};
pub use stream::BlobWriter;
