//! The checkpoint root: counters, buckets, segments, and where each partition is.

use super::checkpoint::{check_format, check_start};
use super::codec::{Decoder, Encoder, check_seal, seal};
use super::fields::{
    BucketRecord, SegmentKind, bucket_len, check_tier, decode_bucket, decode_segment,
    encode_bucket, encode_segment,
};
use super::map::check_name;
use super::places::{CHUNK_LEN, CHUNKS_MAX, Chunk, LogStart, check_chunks};
use super::{FORMAT_MAJOR, FORMAT_MINOR};
use crate::error::{Result, fail};
use crate::limits::{BUCKETS_MAX, PARTITIONS};
use crate::types::{BatchSeq, BucketId, TierSegment, Uuid, Version};

/// First bytes of a checkpoint root.
pub const ROOT_MAGIC: [u8; 8] = *b"iso-root";
/// Bytes of a root before its tables.
pub const ROOT_HEADER_LEN: usize = 120;

const CRC_AT: usize = ROOT_HEADER_LEN - 4;
const SEGMENT_ENTRY_LEN: usize = 16;
const PARTITION_REF_LEN: usize = 24;
const _: () = assert!(ROOT_HEADER_LEN.is_multiple_of(8) && PARTITION_REF_LEN.is_multiple_of(8));

/// What a recovery starts from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Root {
    /// The store.
    pub store: Uuid,
    /// The batch after which the buckets, the segments and the counters are those given here.
    pub seq: BatchSeq,
    /// Above every version and buffer id used up to then.
    pub next_version: Version,
    /// Above every bucket number used up to then.
    pub next_bucket: BucketId,
    /// Above every segment generation used up to then, on any tier.
    pub next_generation: u32,
    /// The first batch to replay: not beyond the successor of the oldest partition's cut.
    pub log_start: LogStart,
    /// The buckets, ascending by number.
    pub buckets: Vec<BucketEntry>,
    /// The segments in use, ascending. The others are free.
    pub segments: Vec<SegmentEntry>,
    /// Where each partition is, by its number.
    pub partitions: Vec<PartitionRef>,
}

/// A bucket of the root's table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BucketEntry {
    /// Its number.
    pub bucket: BucketId,
    /// Its name.
    pub name: Box<[u8]>,
    /// Its defaults and quotas.
    pub options: BucketRecord,
}

/// A segment of the root's table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentEntry {
    /// The segment.
    pub segment: TierSegment,
    /// Its generation.
    pub generation: u32,
    /// What it holds.
    pub kind: SegmentKind,
}

/// Where a partition's image is. One without chunks is empty and was never written: then all
/// other fields but the cut are zero.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionRef {
    /// The batch at which it is an exact cut.
    pub cut: BatchSeq,
    /// Length of the image.
    pub len: u64,
    /// The image's checksum field.
    pub crc: u32,
    /// Its pieces, in order.
    pub chunks: Vec<Chunk>,
}

impl Root {
    /// The bytes of this root; their checksum, for the superblock, is at [`Root::crc_of`].
    pub fn encode(&self) -> Result<Vec<u8>> {
        if let Err(fault) = self.validate() {
            fail!(Internal, "checkpoint root not written: {fault}");
        }
        let total_len = self.encoded_len();
        let mut bytes = Vec::with_capacity(total_len);
        let mut out = Encoder::new(&mut bytes);
        out.bytes(&ROOT_MAGIC);
        out.u16(FORMAT_MAJOR);
        out.u16(FORMAT_MINOR);
        out.u32(self.next_generation);
        out.uuid(self.store);
        out.u64(self.seq.0);
        out.u64(self.next_version.0);
        out.u32(self.next_bucket.0);
        out.len32(self.buckets.len());
        out.len32(self.segments.len());
        out.len32(self.partitions.len());
        self.log_start.encode(&mut out);
        out.u64(total_len as u64);
        out.u32(self.log_start.chain);
        out.zeros_to(ROOT_HEADER_LEN);
        for BucketEntry { bucket, name, options } in &self.buckets {
            encode_bucket(&mut out, *bucket, name, options);
        }
        for SegmentEntry { segment, generation, kind } in &self.segments {
            encode_segment(&mut out, *segment, *generation, *kind as u8);
        }
        self.partitions.iter().for_each(|partition| partition.encode(&mut out));
        seal(&mut bytes, CRC_AT);
        Ok(bytes)
    }

    /// The checksum field of an encoded root.
    pub fn crc_of(bytes: &[u8]) -> Result<u32> {
        check_seal("checkpoint root", bytes, CRC_AT)
    }

    fn encoded_len(&self) -> usize {
        let buckets = self.buckets.iter().map(|entry| bucket_len(&entry.name)).sum::<usize>();
        let partitions = self
            .partitions
            .iter()
            .map(|partition| PARTITION_REF_LEN + CHUNK_LEN * partition.chunks.len())
            .sum::<usize>();
        ROOT_HEADER_LEN + buckets + SEGMENT_ENTRY_LEN * self.segments.len() + partitions
    }

    /// Reads the root that these bytes are, no more and no less.
    pub fn decode(bytes: &[u8], store: Uuid) -> Result<Root> {
        let mut input = Decoder::new("checkpoint root", bytes);
        check_start(&mut input, ROOT_MAGIC)?;
        check_seal("checkpoint root", bytes, CRC_AT)?;
        check_format(&mut input)?;
        let next_generation = input.u32("next_generation")?;
        let found = input.uuid("store")?;
        if found != store {
            return Err(input.corrupt(format!("it belongs to store {found}, not {store}")));
        }
        let seq = BatchSeq(input.u64("seq")?);
        let next_version = Version(input.u64("next_version")?);
        let next_bucket = BucketId(input.u32("next_bucket")?);
        let bucket_count = input.count(bucket_len(&[0]), "bucket_count")?;
        let segment_count = input.count(SEGMENT_ENTRY_LEN, "segment_count")?;
        let partition_count = input.count(PARTITION_REF_LEN, "partition_count")?;
        let log_start = input.bytes(LogStart::LEN, "log_start")?;
        let total_len = input.u64("total_len")?;
        let chain = input.u32("log_start.chain")?;
        let log_start = LogStart::decode(&mut Decoder::new("root log_start", log_start), chain)?;
        input.zeros(CRC_AT - input.position(), "reserved")?;
        input.u32("crc")?;
        if total_len != bytes.len() as u64 {
            let message = format!("total_len is {total_len}, {} bytes are here", bytes.len());
            return Err(input.corrupt(message));
        }
        let buckets = repeat(&mut input, bucket_count, BucketEntry::decode)?;
        let segments = repeat(&mut input, segment_count, SegmentEntry::decode)?;
        let partitions = repeat(&mut input, partition_count, PartitionRef::decode)?;
        let root = Root {
            store,
            seq,
            next_version,
            next_bucket,
            next_generation,
            log_start,
            buckets,
            segments,
            partitions,
        };
        root.validate().map_err(|fault| input.corrupt(fault))?;
        input.finish()?;
        Ok(root)
    }

    /// What is wrong with this root, if anything.
    fn validate(&self) -> std::result::Result<(), String> {
        let Root { buckets, segments, partitions, .. } = self;
        if buckets.len() > BUCKETS_MAX || partitions.len() != PARTITIONS {
            return Err(format!("{} buckets, {} partitions", buckets.len(), partitions.len()));
        }
        if buckets.windows(2).any(|pair| pair[0].bucket >= pair[1].bucket)
            || buckets.last().is_some_and(|last| last.bucket >= self.next_bucket)
        {
            return Err("the buckets are not ascending and below next_bucket".into());
        }
        for entry in buckets {
            check_name(&entry.name)?;
            entry.options.validate()?;
        }
        if segments.windows(2).any(|pair| pair[0].segment >= pair[1].segment) {
            return Err("the segments are not ascending".into());
        }
        for entry in segments {
            check_tier(entry.segment)?;
            if entry.generation >= self.next_generation {
                return Err(format!("{entry:?} is not below {}", self.next_generation));
            }
        }
        for partition in partitions {
            check_chunks(&partition.chunks, partition.len)?;
            if partition.chunks.is_empty() && partition.crc != 0 {
                return Err("a partition without a place has a checksum".into());
            }
        }
        check_tier(self.log_start.segment)
    }
}

impl BucketEntry {
    fn decode(input: &mut Decoder<'_>) -> Result<BucketEntry> {
        let (bucket, name, options) = decode_bucket(input)?;
        Ok(BucketEntry { bucket, name, options })
    }
}

impl SegmentEntry {
    fn decode(input: &mut Decoder<'_>) -> Result<SegmentEntry> {
        let (segment, generation, kind) = decode_segment(input, SegmentKind::decode)?;
        Ok(SegmentEntry { segment, generation, kind })
    }
}

impl PartitionRef {
    fn encode(&self, out: &mut Encoder<'_>) {
        out.u64(self.cut.0);
        out.u64(self.len);
        out.u32(self.crc);
        out.len32(self.chunks.len());
        self.chunks.iter().for_each(|chunk| chunk.encode(out));
    }

    fn decode(input: &mut Decoder<'_>) -> Result<PartitionRef> {
        let cut = BatchSeq(input.u64("partition.cut")?);
        let len = input.u64("partition.len")?;
        let crc = input.u32("partition.crc")?;
        let count = input.count(CHUNK_LEN, "partition.chunk_count")?;
        if count > CHUNKS_MAX {
            return Err(input.corrupt(format!("{count} chunks, {CHUNKS_MAX} at most")));
        }
        let chunks = repeat(input, count, Chunk::decode)?;
        Ok(PartitionRef { cut, len, crc, chunks })
    }
}

/// Reads `count` items; the count has been held against the bytes that remain.
fn repeat<T>(
    input: &mut Decoder<'_>,
    count: usize,
    read: impl Fn(&mut Decoder<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    (0..count).map(|_| read(input)).collect()
}
