//! Extent pages: the maps of large values, and the checksums of their buffers, on the devices.
//!
//! * [`cache`]: pages in memory, within a bound. [`load`]: reads and verifies them.
//! * [`write`]: cuts a map into pages and writes them ahead of the record that commits it.
//!
//! A page is a buffer like any other: it has an id and a row in the buffer table, is checked when
//! it is read, and is moved by the organizer. Once written it never changes, so that a cached page
//! is never stale.

pub mod cache;
pub mod load;
pub mod write;
