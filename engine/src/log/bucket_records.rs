//! The records of buckets: made, changed, cleared, gone.

use super::codec::{Decoder, Encoder};
use super::fields::{bucket_len, decode_bucket, encode_bucket};
use super::kinds::RecordKind;
use super::map::{Fault, check_name};
use super::record::Record;
use crate::error::Result;
use crate::types::{BucketId, Version};

const DESTROY_FIXED: usize = 8;
const CLEAR_FIXED: usize = 16;
const _: () = assert!(DESTROY_FIXED.is_multiple_of(8) && CLEAR_FIXED.is_multiple_of(8));

/// Bytes of one of them after its header.
pub(super) fn encoded_len(record: &Record) -> usize {
    match record {
        Record::BucketCreate { name, .. } | Record::BucketChange { name, .. } => bucket_len(name),
        Record::BucketDestroy { .. } => DESTROY_FIXED,
        Record::BucketClear { .. } => CLEAR_FIXED,
        _ => unreachable!("not a record of a bucket"),
    }
}

/// Appends the body of one of them.
pub(super) fn encode(record: &Record, out: &mut Encoder<'_>) {
    match record {
        Record::BucketCreate { bucket, name, options }
        | Record::BucketChange { bucket, name, options } => {
            encode_bucket(out, *bucket, name, options);
        }
        Record::BucketDestroy { bucket } => {
            out.u32(bucket.0);
            out.u32(0);
        }
        Record::BucketClear { bucket, version } => {
            out.u32(bucket.0);
            out.u32(0);
            out.u64(version.0);
        }
        _ => unreachable!("not a record of a bucket"),
    }
}

pub(super) fn decode(kind: RecordKind, input: &mut Decoder<'_>) -> Result<Record> {
    if matches!(kind, RecordKind::BucketCreate | RecordKind::BucketChange) {
        let (bucket, name, options) = decode_bucket(input)?;
        return Ok(match kind {
            RecordKind::BucketCreate => Record::BucketCreate { bucket, name, options },
            _ => Record::BucketChange { bucket, name, options },
        });
    }
    let bucket = BucketId(input.u32("bucket")?);
    input.zeros(4, "reserved")?;
    Ok(match kind {
        RecordKind::BucketDestroy => Record::BucketDestroy { bucket },
        _ => Record::BucketClear { bucket, version: Version(input.u64("version")?) },
    })
}

/// What is wrong with one of them, if anything.
pub(super) fn validate(record: &Record) -> std::result::Result<(), Fault> {
    match record {
        Record::BucketCreate { name, options, .. } | Record::BucketChange { name, options, .. } => {
            check_name(name)?;
            options.validate()
        }
        _ => Ok(()),
    }
}
