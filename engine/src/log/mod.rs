//! The on-disk format: pure encoding and decoding, no I/O. `docs/format.md` is its byte-exact
//! description and the rules that writers and readers keep.
//!
//! | file | what it lays out |
//! |---|---|
//! | [`codec`] | little-endian fields: the bounds-checked reader, the appending writer, checksums |
//! | `fields`, `places` | what several structures share: bucket options, segments; chunks, roots, cuts, the log's start |
//! | [`map`] | extents and buffer definitions, shared by records and checkpoints |
//! | [`attributes`] | the attributes of a blob: one block, on disk and in memory |
//! | [`record`], `kinds` | the records: one change each, by the numbers of their kinds; `move_records`, `paged_records`, `shared_records`, `bucket_records`: those of moved buffers, of maps in extent pages, of buffers that several name, of buckets |
//! | [`page`] | an extent page: a part of a large map, with the checks of its buffers |
//! | [`batch`], `layout` | the batch: the unit of the log and of atomicity, with its small payloads; its builder |
//! | [`superblock`], `supplement` | the root of trust of each tier: versions, identity, epoch, cuts, log start; what 1.1 has added |
//! | [`checkpoint`] | partition images; [`root`]: what ties them together |
//! | [`segment`] | the header block and the summary of a segment |
//! | [`tail`], [`scan`] | where the log ends: while it is written, and when it is read at open; [`reader`]: how it is read |
//!
//! A decoder never panics, never allocates more than its input justifies, and names what is
//! wrong and where. A structure is validated before it is written, by the same rules as when it
//! is read: what this module wrote, it can read.

pub mod attributes;
pub mod batch;
mod bucket_records;
pub mod checkpoint;
pub mod codec;
mod fields;
pub mod follow;
mod kinds;
mod layout;
pub mod map;
mod move_records;
pub mod page;
mod paged_records;
mod places;
pub mod reader;
pub mod record;
pub mod root;
pub mod scan;
pub mod segment;
mod shared_records;
pub mod superblock;
mod supplement;
pub mod tail;
#[cfg(test)]
mod tests;

/// Major version of the format. A reader refuses a larger one.
pub const FORMAT_MAJOR: u16 = 1;
/// Minor version: additions that an older reader of the same major may ignore.
pub const FORMAT_MINOR: u16 = 1;
