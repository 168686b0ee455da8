//! isotherm: a storage engine that a program links.
//!
//! It keeps named byte strings (blobs) on a hierarchy of DRAM, NVMe and HDD, places every piece
//! of them by heat, and never answers with wrong bytes.

pub mod error;
pub mod limits;
pub mod types;
