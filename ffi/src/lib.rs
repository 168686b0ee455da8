//! The C interface: `include/isotherm.h` is made from these files, comments included.
//!
//! There is no policy here. A call checks what it was given ([`memory`], [`options`]), finds the
//! object behind a handle ([`handle`], [`object`]), asks the engine, and answers with a number and a
//! message ([`status`], [`entry`]). The files after those are the calls, in the order of the header.
//!
//! Rules that hold for every call:
//! - its body runs in [`entry::entry`]: no panic leaves it, and a forked child is turned away;
//! - handles are numbers, never pointers, so a wrong one is an error and nothing worse;
//! - every pointer is checked for NULL and every length for overflow before anything is done;
//! - what it hands out is written last, and only when the call succeeds.

// The names are those of C.
#![allow(non_camel_case_types)]

pub mod entry;
mod fork;
mod handle;
pub mod memory;
mod object;
pub mod options;

pub mod status;
pub mod version;

pub mod store;

pub mod bucket;

pub mod change;
pub mod get;

mod scan;

mod batch;
mod many;

pub mod operation;
pub mod queue;

const _: () = assert!(size_of::<usize>() == 8, "lengths in the interface are 64 bits wide");
