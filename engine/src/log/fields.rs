//! Fields that several structures share: a bucket's options, a segment's place and kind.

use super::codec::{Decoder, Encoder, pad8};
use super::map::Fault;
use crate::error::{ErrorKind, Result};
use crate::limits::{BUFFER_SIZE_MAX, BUFFER_SIZE_MIN, TIERS_MAX};
use crate::types::{BucketId, Durability, SegmentId, TierSegment};

/// Bytes of a bucket's fields before its name.
const BUCKET_FIXED: usize = 32;
const _: () = assert!(BUCKET_FIXED.is_multiple_of(8));

/// A bucket's defaults and quotas.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BucketRecord {
    /// Default durability; `None` takes the store's.
    pub durability: Option<Durability>,
    /// Buffer size; 0 takes the store's.
    pub buffer_size: u32,
    /// Most bytes of values; 0 is none.
    pub quota_bytes: u64,
    /// Most blobs; 0 is none.
    pub quota_blobs: u64,
}

/// What a segment holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum SegmentKind {
    /// Batches.
    Log = 1,
    /// Buffers.
    Data = 2,
    /// Checkpoint partitions, roots, metadata pages.
    Meta = 3,
}

impl SegmentKind {
    pub(super) fn decode(input: &mut Decoder<'_>) -> Result<SegmentKind> {
        match input.u8("segment.kind")? {
            1 => Ok(SegmentKind::Log),
            2 => Ok(SegmentKind::Data),
            3 => Ok(SegmentKind::Meta),
            kind => Err(input.error(ErrorKind::Format, format!("segment kind {kind} is unknown"))),
        }
    }
}

impl BucketRecord {
    const INHERIT: u8 = 255;

    /// What is wrong with these options, if anything.
    pub(super) fn validate(&self) -> std::result::Result<(), Fault> {
        let size = self.buffer_size;
        if size != 0 && !(BUFFER_SIZE_MIN..=BUFFER_SIZE_MAX).contains(&(size as usize)) {
            return Err(format!("a buffer size of {size} is outside the limits"));
        }
        Ok(())
    }

    fn durability_number(&self) -> u8 {
        match self.durability {
            None => Self::INHERIT,
            Some(Durability::Memory) => 0,
            Some(Durability::Written) => 1,
            Some(Durability::Durable) => 2,
        }
    }

    fn decode_durability(input: &mut Decoder<'_>) -> Result<Option<Durability>> {
        match input.u8("durability")? {
            0 => Ok(Some(Durability::Memory)),
            1 => Ok(Some(Durability::Written)),
            2 => Ok(Some(Durability::Durable)),
            Self::INHERIT => Ok(None),
            level => Err(input.corrupt(format!("durability {level} is unknown"))),
        }
    }
}

/// Bytes of a bucket's fields, here and in the checkpoint root.
pub(super) fn bucket_len(name: &[u8]) -> usize {
    BUCKET_FIXED + pad8(name.len())
}

pub(super) fn encode_bucket(
    out: &mut Encoder<'_>,
    bucket: BucketId,
    name: &[u8],
    options: &BucketRecord,
) {
    out.u32(bucket.0);
    out.len16(name.len());
    out.u8(options.durability_number());
    out.u8(0);
    out.u32(options.buffer_size);
    out.u32(0);
    out.u64(options.quota_bytes);
    out.u64(options.quota_blobs);
    out.bytes(name);
    out.pad_to_8();
}

pub(super) fn decode_bucket(
    input: &mut Decoder<'_>,
) -> Result<(BucketId, Box<[u8]>, BucketRecord)> {
    let bucket = BucketId(input.u32("bucket")?);
    let name_len = input.u16("name_len")?;
    let durability = BucketRecord::decode_durability(input)?;
    input.zeros(1, "reserved")?;
    let buffer_size = input.u32("buffer_size")?;
    input.zeros(4, "reserved")?;
    let quota_bytes = input.u64("quota_bytes")?;
    let quota_blobs = input.u64("quota_blobs")?;
    let name = input.bytes(usize::from(name_len), "name")?.into();
    input.pad_to_8()?;
    Ok((bucket, name, BucketRecord { durability, buffer_size, quota_bytes, quota_blobs }))
}

pub(super) fn encode_segment(
    out: &mut Encoder<'_>,
    segment: TierSegment,
    generation: u32,
    kind: u8,
) {
    out.u8(segment.tier.0);
    out.u8(kind);
    out.u16(0);
    out.u32(segment.segment.0);
    out.u32(generation);
    out.u32(0);
}

/// Reads a segment's place and generation; `kind` reads the byte of its kind.
pub(super) fn decode_segment<T>(
    input: &mut Decoder<'_>,
    kind: impl FnOnce(&mut Decoder<'_>) -> Result<T>,
) -> Result<(TierSegment, u32, T)> {
    let tier = input.tier("segment.tier")?;
    let kind = kind(input)?;
    input.zeros(2, "reserved")?;
    let segment = SegmentId(input.u32("segment.number")?);
    let generation = input.u32("segment.generation")?;
    input.zeros(4, "reserved")?;
    Ok((TierSegment { tier, segment }, generation, kind))
}

/// What is wrong with a segment's tier, if anything.
pub(super) fn check_tier(segment: TierSegment) -> std::result::Result<(), Fault> {
    match segment.tier.index() {
        0..TIERS_MAX => Ok(()),
        tier => Err(format!("tier {tier} does not exist, a store has {TIERS_MAX} at most")),
    }
}
