//! Tests of the format: what was written reads back, what was damaged does not.

mod random;

mod batch_tests;
mod block_tests;
mod checkpoint_tests;
mod record_tests;

use crate::error::{ErrorKind, Result};

/// Every prefix of `bytes` must be refused; `read` must not panic.
fn refuses_every_prefix<T>(bytes: &[u8], read: impl Fn(&[u8]) -> Result<T>) {
    for len in 0..bytes.len() {
        assert!(read(&bytes[..len]).is_err(), "accepted {len} of {} bytes", bytes.len());
    }
}

/// Every single flipped bit must be refused, as damage or as another format.
fn refuses_every_flip<T>(bytes: &[u8], read: impl Fn(&[u8]) -> Result<T>) {
    let mut damaged = bytes.to_vec();
    for bit in 0..bytes.len() * 8 {
        damaged[bit / 8] ^= 1 << (bit % 8);
        match read(&damaged) {
            Ok(_) => panic!("accepted with bit {bit} flipped"),
            Err(error) => assert!(
                matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Format),
                "bit {bit}: {error}"
            ),
        }
        damaged[bit / 8] ^= 1 << (bit % 8);
    }
}
