//! Reads of blobs that somebody else is changing: whatever is answered was there at some moment of the
//! read.

use isotherm::{Bucket, ErrorKind, Result};

use crate::common::Common;
use crate::oracle::KeyId;

/// Reads a key of any caller. What is wrong with the answer, if anything.
pub async fn look(common: &Common, bucket: &Bucket, key: KeyId) -> Result<Option<String>> {
    let Some(reading) = common.oracle.borrow().begin_read(key) else { return Ok(None) };
    let bytes = match bucket.get_async(&common.names[key]).await {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if common.is_over.get() || common.oracle.borrow().may_read(&reading, bytes.as_deref()) {
        return Ok(None);
    }
    let shown = bytes.map(|bytes| (bytes.len(), bytes[..bytes.len().min(8)].to_vec()));
    Ok(Some(format!("a get of key {key}, being changed, shows {shown:02x?}: it never held that")))
}
