//! What the fuzzer runs, one function a target: any bytes go in, and a panic is a finding.
//!
//! The bodies stand here, so that the fuzzer (`engine/fuzz`, of a nightly toolchain) and
//! `cargo test` (`tests/corpus.rs`, over the committed inputs) run the same. Checksums are repaired
//! before a decoder is asked: without that hardly any input would get past the first check.

mod config;
mod inputs;
mod log_batch;
mod open;
pub mod partition;
mod parts;
mod superblock;

use isotherm::log::FORMAT_MINOR;
use isotherm::log::codec::seal;

pub use config::config;
pub use inputs::inputs;
pub use log_batch::log_batch;
pub use open::open;
pub use partition::checkpoint;
pub use superblock::superblock;

/// A target: any bytes go in.
pub type Target = fn(&[u8]);

/// Every target by its name, which is that of its binary and of the directory of its inputs.
pub const TARGETS: [(&str, Target); 5] = [
    ("log_batch", log_batch),
    ("checkpoint", checkpoint),
    ("superblock", superblock),
    ("config", config),
    ("open", open),
];

/// Where every structure with a major version has its minor one, behind the magic, but the
/// superblock, whose minor version is read.
const MINOR_AT: usize = 10;
const CHECKSUM_LEN: usize = 4;

/// The structure as this version writes it: of its minor version, which readers ignore, and with the
/// checksum that its bytes give. `None` if it is too short to have one.
fn repaired(bytes: &[u8], checksum_at: usize) -> Option<Vec<u8>> {
    if bytes.len() < checksum_at + CHECKSUM_LEN {
        return None;
    }
    let mut bytes = bytes.to_vec();
    bytes[MINOR_AT..MINOR_AT + 2].copy_from_slice(&FORMAT_MINOR.to_le_bytes());
    seal(&mut bytes, checksum_at);
    Some(bytes)
}

/// The bytes of a field of a fixed place; zeros where there are none.
fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    if let Some(found) = bytes.get(at..at + N) {
        field.copy_from_slice(found);
    }
    field
}

/// Stops at the first byte that differs.
fn require_same(what: &str, written: &[u8], read: &[u8]) {
    let differs = written.iter().zip(read).position(|(written, read)| written != read);
    assert_eq!(differs, None, "{what}: what was decoded is written with another byte there");
    assert_eq!(written.len(), read.len(), "{what}: what was decoded is written longer or shorter");
}
