//! The C interface as its users meet it: C and C++ programs, compiled outside the tree against what
//! `make install` installs. ISOTHERM_FFI_BLOBS: how many blobs the programs store.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod installed;
mod library;
mod programs;
