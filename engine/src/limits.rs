//! Every bound of the engine in one place, each with its reason.

use std::time::Duration;

/// Longest key, in bytes. Two keys and their record must fit one 4 KiB block.
pub const KEY_LEN_MAX: usize = 1024;
/// Longest bucket name, in bytes.
pub const BUCKET_NAME_LEN_MAX: usize = 255;
/// Largest value: 16 TiB.
pub const VALUE_LEN_MAX: u64 = 16 << 40;
/// Longest name of an attribute, in bytes.
pub const ATTRIBUTE_NAME_LEN_MAX: usize = 64;
/// Longest text that is an attribute's value, in bytes.
pub const ATTRIBUTE_TEXT_LEN_MAX: usize = 1024;
/// Most attributes of a blob, and most bytes of all of them: they stand in memory, and in every
/// record of a whole state.
pub const ATTRIBUTES_MAX: usize = 64;
/// See [`ATTRIBUTES_MAX`].
pub const ATTRIBUTES_LEN_MAX: usize = 4096;
/// Most buckets in a store; each costs an ordered map and a table row.
pub const BUCKETS_MAX: usize = 65_536;
/// Most tiers, DRAM included.
pub const TIERS_MAX: usize = 16;
/// Most shards of a store.
pub const SHARDS_MAX: usize = 8;

/// The unit of device alignment: O_DIRECT on every device met so far accepts it.
pub const BLOCK: usize = 4096;
/// A check block: the unit whose checksum stands in the metadata. 1 % of a cold read in CPU.
pub const CHECK_BLOCK: usize = 16 * 1024;
/// Values up to this many bytes ride in the log batch: one device write instead of two.
pub const INLINE_MAX: usize = CHECK_BLOCK;
/// Bytes of values that one record may carry in its batch.
pub const INLINE_RECORD_MAX: usize = 256 * 1024;
/// Default and largest size of a buffer, the unit that is placed, checksummed and moved.
pub const BUFFER_SIZE_DEFAULT: usize = 1 << 20;
/// Smallest buffer size that may be configured.
pub const BUFFER_SIZE_MIN: usize = 64 << 10;
/// Largest buffer size that may be configured.
pub const BUFFER_SIZE_MAX: usize = 1 << 20;

/// Extents of one extent page: one of 128 whole buffers of 1 MiB takes about 38 KiB, so that a
/// cold read of a large map costs little more than its data. Maps of up to half as many extents
/// stand inline.
pub const PAGE_EXTENTS_DEFAULT: u32 = 128;
/// See [`PAGE_EXTENTS_DEFAULT`]: tests set fewer, so that small values have pages.
pub const PAGE_EXTENTS_MIN: u32 = 2;
/// See [`PAGE_EXTENTS_DEFAULT`]: a page of so many whole buffers fits a buffer.
pub const PAGE_EXTENTS_MAX: u32 = 2048;
/// Memory for extent pages: the part of the budget beside the DRAM tier, and its bounds.
pub const PAGE_CACHE_PART: u64 = 16;
/// See [`PAGE_CACHE_PART`].
pub const PAGE_CACHE_BYTES_MIN: u64 = 1 << 20;
/// See [`PAGE_CACHE_PART`].
pub const PAGE_CACHE_BYTES_MAX: u64 = 256 << 20;

/// Slots of the DRAM arena are numbered in units of this many bytes.
pub const SLOT_UNIT: usize = 64;
/// Smallest and largest DRAM tier. The upper bound is 2^32 slot units.
pub const DRAM_CAPACITY_MIN: u64 = 8 << 20;
/// See [`DRAM_CAPACITY_MIN`].
pub const DRAM_CAPACITY_MAX: u64 = (u32::MAX as u64) * SLOT_UNIT as u64;
/// Smallest device tier: log, checkpoints, reserve and some data.
pub const TIER_CAPACITY_MIN: u64 = 64 << 20;
/// Largest device tier: 1 PiB. Segment numbers (32 bits) and locations (56 bits) both hold it.
pub const TIER_CAPACITY_MAX: u64 = 1 << 50;
/// Fewest segments of a device tier: log, checkpoints, the cleaner's reserve and some data.
pub const SEGMENTS_MIN: u64 = 16;
/// Smallest and largest segment. A segment holds at least two buffers and its summary.
pub const SEGMENT_SIZE_MIN: u64 = 4 << 20;
/// See [`SEGMENT_SIZE_MIN`].
pub const SEGMENT_SIZE_MAX: u64 = 64 << 20;

/// The last open of a store for writing: versions have 24 bits for it.
pub const EPOCH_MAX: u32 = (1 << 24) - 1;
/// Numbers of batches and of superblocks are below this. A store does not get there; one that has come
/// half way is not believed.
pub const SEQ_END: u64 = 1 << 62;
/// The largest generation of a segment that a store may have reached when it is opened for writing: the
/// last ones are left to what it opens then.
pub const GENERATION_MAX: u32 = u32::MAX - (1 << 24);
/// The largest number of a bucket.
pub const BUCKET_NUMBER_MAX: u32 = u32::MAX - 1;

/// Least memory beside the DRAM tier, for index, caches and queues.
pub const MEMORY_BESIDE_DRAM_MIN: u64 = 32 << 20;
/// Shortest and longest flush interval, in milliseconds.
pub const FLUSH_INTERVAL_MIN_MS: u64 = 1;
/// See [`FLUSH_INTERVAL_MIN_MS`].
pub const FLUSH_INTERVAL_MAX_MS: u64 = 3_600_000;

/// Shortest and longest time between two passes of the background scrub.
pub const SCRUB_INTERVAL_MIN: Duration = Duration::from_millis(10);
/// See [`SCRUB_INTERVAL_MIN`].
pub const SCRUB_INTERVAL_MAX: Duration = Duration::from_secs(365 * 86_400);

/// Stripes of the index: a power of two, several per core on the largest machine foreseen.
pub const STRIPES: usize = 1024;
/// Checkpoint partitions. Stripe s belongs to partition s % PARTITIONS.
pub const PARTITIONS: usize = 256;
/// Bytes that may be written and not yet flushed.
pub const UNFLUSHED_MAX: u64 = 256 << 20;
/// Requests that may wait in one shard's mailbox.
pub const MAILBOX_LEN_MAX: usize = 1024;
/// Steps of one batch: its records must fit one batch of the log.
pub const BATCH_STEPS_MAX: usize = 65_536;
/// Operations that one queue may have under way. They wait in mailboxes and for permits, each with
/// about half a KiB of memory.
pub const QUEUE_DEPTH_MAX: usize = 65_536;
/// Device operations one shard keeps in flight.
pub const RING_DEPTH: usize = 256;
/// Operations handed to the kernel together while more are being pushed: early enough that the
/// device starts, late enough that the system call is shared.
pub const SUBMIT_BATCH: usize = 8;
/// Worker threads of one ring on a machine without io_uring.
pub const RING_WORKERS_MAX: usize = 16;
/// Attempts of one transfer that make no progress (EINTR, EAGAIN, less than a block).
pub const IO_RETRIES_MAX: u32 = 16;
/// Largest buffer that the pool keeps for reuse.
pub const POOLED_BUFFER_MAX: usize = 2 << 20;

const _: () = assert!(STRIPES.is_power_of_two() && STRIPES.is_multiple_of(PARTITIONS));
const _: () =
    assert!(BUFFER_SIZE_MAX.is_multiple_of(CHECK_BLOCK) && CHECK_BLOCK.is_multiple_of(BLOCK));
const _: () = assert!(SEGMENT_SIZE_MIN >= 2 * BUFFER_SIZE_MAX as u64);
