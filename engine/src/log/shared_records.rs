//! The record that moves definitions of buffers to the buffer table.

use super::codec::{Decoder, Encoder, pad8};
use super::map::{BUFFER_DEF_LEN, Fault, check_buffers, check_key};
use super::record::{BufferDef, Record, decode_blob_name, encode_blob_name};
use crate::error::Result;

const SHARE_FIXED: usize = 16;
const _: () = assert!(SHARE_FIXED.is_multiple_of(8));

/// Bytes of a Share record after its header.
pub(super) fn share_len(key: &[u8], buffers: &[BufferDef]) -> usize {
    let defs: usize = buffers.iter().map(BufferDef::encoded_len).sum();
    SHARE_FIXED + pad8(key.len()) + defs
}

/// Appends the body of a Share record.
pub(super) fn encode(record: &Record, out: &mut Encoder<'_>) {
    let Record::Share { bucket, key, buffers } = record else {
        unreachable!("not a record of shared buffers")
    };
    encode_blob_name(out, *bucket, key);
    out.len32(buffers.len());
    out.u32(0);
    out.bytes(key);
    out.pad_to_8();
    buffers.iter().for_each(|def| def.encode(out));
}

pub(super) fn decode_share(input: &mut Decoder<'_>) -> Result<Record> {
    let (bucket, key_len) = decode_blob_name(input)?;
    let buffers = input.count(BUFFER_DEF_LEN, "buffer_count")?;
    input.zeros(4, "reserved")?;
    let key = input.bytes(key_len, "key")?.into();
    input.pad_to_8()?;
    let buffers = (0..buffers).map(|_| BufferDef::decode(input)).collect::<Result<_>>()?;
    Ok(Record::Share { bucket, key, buffers })
}

/// What is wrong with it, if anything.
pub(super) fn validate(key: &[u8], buffers: &[BufferDef]) -> std::result::Result<(), Fault> {
    check_key(key)?;
    check_buffers(buffers)?;
    match buffers.iter().find(|def| def.checks.is_empty()) {
        Some(def) => Err(format!("buffer {} is shared without checks", def.id.0)),
        None if buffers.is_empty() => Err("nothing is shared".into()),
        None => Ok(()),
    }
}
