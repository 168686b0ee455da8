//! What the engine counts, and the snapshot that users see.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;

/// Latencies of one kind of operation, 10 ns to 100 s, to two digits.
pub struct Latency {
    histogram: Mutex<Histogram<u64>>,
}

impl Default for Latency {
    fn default() -> Self {
        let histogram = match Histogram::new_with_bounds(10, 100_000_000_000, 2) {
            Ok(histogram) => histogram,
            Err(error) => unreachable!("constant histogram bounds: {error}"),
        };
        Latency { histogram: Mutex::new(histogram) }
    }
}

impl Latency {
    /// Records one operation.
    pub fn record(&self, took: Duration) {
        self.record_for(1, took);
    }

    /// Records one operation that stands for so many.
    pub fn record_for(&self, operations: u64, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.histogram.lock().saturating_record_n(nanos, operations);
    }

    /// The figures so far.
    pub fn snapshot(&self) -> LatencyStats {
        let histogram = self.histogram.lock();
        LatencyStats {
            count: histogram.len(),
            p50_ns: histogram.value_at_quantile(0.5),
            p90_ns: histogram.value_at_quantile(0.9),
            p99_ns: histogram.value_at_quantile(0.99),
            p999_ns: histogram.value_at_quantile(0.999),
            max_ns: histogram.max(),
        }
    }
}

/// Figures of a [`Latency`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LatencyStats {
    /// Operations; of those answered from DRAM, as many as a sample stands for.
    pub count: u64,
    /// Median, nanoseconds.
    pub p50_ns: u64,
    /// 90th percentile.
    pub p90_ns: u64,
    /// 99th percentile.
    pub p99_ns: u64,
    /// 99.9th percentile.
    pub p999_ns: u64,
    /// Longest.
    pub max_ns: u64,
}

/// Lanes of a counter. As many threads have one to themselves; the others share the last.
pub const LANES: usize = 16;
const SHARED_LANE: usize = LANES - 1;

/// The lanes that some thread has to itself, a bit each.
static TAKEN: AtomicU32 = AtomicU32::new(0);

/// Gives the thread's lane back when the thread ends.
struct OwnLane(usize);

impl Drop for OwnLane {
    fn drop(&mut self) {
        LANE.set(SHARED_LANE);
        // The next owner sees what this one has counted.
        TAKEN.fetch_and(!(1 << self.0), Ordering::Release);
    }
}

thread_local! {
    static LANE: Cell<usize> = const { Cell::new(LANES) };
    static OWN_LANE: RefCell<Option<OwnLane>> = const { RefCell::new(None) };
}

#[cold]
fn take_lane() -> usize {
    let lane = TAKEN
        .fetch_update(Ordering::Acquire, Ordering::Relaxed, |taken| {
            let free = taken.trailing_ones() as usize;
            (free < SHARED_LANE).then_some(taken | 1 << free)
        })
        .map_or(SHARED_LANE, |taken| taken.trailing_ones() as usize);
    LANE.set(lane);
    if lane != SHARED_LANE {
        // A thread that is ending has no place to keep it; it shares.
        let kept = OWN_LANE.try_with(|own| *own.borrow_mut() = Some(OwnLane(lane)));
        if kept.is_err() {
            drop(OwnLane(lane));
            return SHARED_LANE;
        }
    }
    lane
}

/// The calling thread's lane. Several threads may have the same.
#[inline]
pub fn thread_lane() -> usize {
    match LANE.get() {
        LANES => take_lane(),
        lane => lane,
    }
}

/// Operations and their bytes, which threads add to without sharing a cache line.
#[derive(Default)]
pub struct Traffic {
    lanes: [Lane; LANES],
}

#[derive(Default)]
#[repr(align(128))]
struct Lane {
    operations: AtomicU64,
    bytes: AtomicU64,
}

impl Traffic {
    /// Counts an operation.
    #[inline]
    pub fn count(&self, bytes: u64) {
        let number = thread_lane();
        let lane = &self.lanes[number];
        for (counter, more) in [(&lane.operations, 1), (&lane.bytes, bytes)] {
            if number == SHARED_LANE {
                counter.fetch_add(more, Ordering::Relaxed);
                continue;
            }
            // Nobody else writes this lane: no locked instruction, which would also make the next
            // operation wait for this one's loads.
            let before = counter.load(Ordering::Relaxed);
            counter.store(before.wrapping_add(more), Ordering::Relaxed);
        }
    }

    /// Whether this thread's next operation is the last of `every`, which must be a power of two:
    /// in a sample it stands for all of them.
    #[inline]
    pub fn is_sampled(&self, every: u64) -> bool {
        debug_assert!(every.is_power_of_two());
        let before = self.lanes[thread_lane()].operations.load(Ordering::Relaxed);
        before & (every - 1) == every - 1
    }

    /// Operations.
    pub fn operations(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.operations.load(Ordering::Relaxed)).sum()
    }

    /// Their bytes.
    pub fn bytes(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.bytes.load(Ordering::Relaxed)).sum()
    }
}

/// Counters of one store.
#[derive(Default)]
pub struct Counters {
    /// Gets answered from DRAM alone.
    pub dram_hits: Traffic,
    /// All other gets that found their blob.
    pub dram_misses: Traffic,
    /// Changes at Memory level that DRAM took, and the bytes they brought.
    pub memory_puts: Traffic,
    /// Bytes that callers put by all other changes.
    pub logged_put_bytes: AtomicU64,
    /// Changes that went through the log.
    pub logged_changes: AtomicU64,
    /// Memory puts that ran as Written for want of room.
    pub memory_fallbacks: AtomicU64,
    /// Buffers of puts that went to a slower tier for want of room on the fastest.
    pub spills: AtomicU64,
    /// Memory changes written behind.
    pub written_behind: AtomicU64,
    /// Clean slots taken by callers who needed room.
    pub caller_evictions: AtomicU64,
    /// Gets from devices that did not get a place in DRAM: others there are as hot.
    pub dram_refusals: AtomicU64,
    /// Batches of the log.
    pub batches: AtomicU64,
    /// Records of the log.
    pub records: AtomicU64,
    /// Checksum mismatches met.
    pub corruptions: AtomicU64,
    /// Operations of callers; of those that DRAM answers one in many, which stands for them.
    pub get: Latency,
    /// See `get`.
    pub put: Latency,
    /// Device operations of the shards.
    pub device_read: Latency,
    /// See `device_read`.
    pub device_write: Latency,
    /// See `device_read`.
    pub device_flush: Latency,
    notes: Mutex<Vec<String>>,
}

/// Notes kept.
const NOTES_MAX: usize = 64;

impl Counters {
    /// Keeps a message about something that went wrong and was survived.
    pub fn note(&self, message: String) {
        let mut notes = self.notes.lock();
        if notes.len() == NOTES_MAX {
            notes.remove(0);
        }
        notes.push(message);
    }

    /// The newest such messages.
    pub fn notes(&self) -> Vec<String> {
        self.notes.lock().clone()
    }
}

/// One tier in a [`Stats`].
#[derive(Clone, Debug)]
pub struct TierStats {
    /// NVMe or HDD.
    pub kind: crate::types::TierKind,
    /// Bytes of the tier's file.
    pub capacity: u64,
    /// Bytes of segments in use.
    pub used: u64,
    /// Bytes of buffers that something refers to.
    pub live: u64,
    /// Segments free.
    pub free_segments: u64,
    /// Device reads and their bytes.
    pub reads: u64,
    /// See `reads`.
    pub read_bytes: u64,
    /// Device writes and their bytes.
    pub writes: u64,
    /// See `writes`.
    pub written_bytes: u64,
    /// Device flushes.
    pub flushes: u64,
}

/// Memory by purpose, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemoryStats {
    /// The configured budget.
    pub budget: u64,
    /// DRAM tier: capacity, and the part that has been touched.
    pub dram_capacity: u64,
    /// See `dram_capacity`.
    pub dram_touched: u64,
    /// DRAM tier: bytes in use by slots.
    pub dram_used: u64,
    /// DRAM tier: bytes no device holds.
    pub dram_dirty: u64,
    /// Index and buffer table.
    pub index: u64,
    /// Extent pages in memory, and their bound.
    pub pages: u64,
    /// See `pages`.
    pub pages_max: u64,
    /// Buffers for device I/O in use, and their bound.
    pub io_buffers: u64,
    /// See `io_buffers`.
    pub io_buffers_max: u64,
}

/// A snapshot of everything counted.
#[derive(Clone, Debug)]
pub struct Stats {
    /// Device tiers, fastest first.
    pub tiers: Vec<TierStats>,
    /// Memory by purpose.
    pub memory: MemoryStats,
    /// Blobs in all buckets.
    pub blobs: u64,
    /// Gets answered from DRAM.
    pub dram_hits: u64,
    /// All other gets that found their blob.
    pub dram_misses: u64,
    /// Changes at Memory level that DRAM took.
    pub memory_puts: u64,
    /// Memory puts that ran as Written for want of room.
    pub memory_fallbacks: u64,
    /// Changes logged for their callers.
    pub logged_changes: u64,
    /// Memory changes written behind.
    pub written_behind: u64,
    /// Bytes put by callers.
    pub put_bytes: u64,
    /// Bytes got by callers.
    pub get_bytes: u64,
    /// Buffers of puts that went to a slower tier.
    pub spills: u64,
    /// Clean slots that callers took.
    pub caller_evictions: u64,
    /// Gets from devices whose bytes were not hot enough for a place in DRAM.
    pub dram_refusals: u64,
    /// Batches and records of the log.
    pub batches: u64,
    /// See `batches`.
    pub records: u64,
    /// Checksum mismatches met.
    pub corruptions: u64,
    /// Extent pages found in memory when they were needed.
    pub page_hits: u64,
    /// Extent pages that had to be read.
    pub page_misses: u64,
    /// What the organizer has done.
    pub organizer: crate::organizer::OrganizerStats,
    /// Latency of gets, a sample where DRAM answers.
    pub get: LatencyStats,
    /// Latency of puts, a sample where DRAM answers.
    pub put: LatencyStats,
    /// Latency of the shards' device reads.
    pub device_read: LatencyStats,
    /// Latency of the shards' device writes.
    pub device_write: LatencyStats,
    /// Latency of the shards' flushes.
    pub device_flush: LatencyStats,
    /// Newest messages about what went wrong and was survived.
    pub notes: Vec<String>,
}

impl Stats {
    /// Part of the gets that DRAM answered.
    pub fn hit_ratio(&self) -> f64 {
        ratio(self.dram_hits, self.dram_hits + self.dram_misses)
    }

    /// Bytes written to devices per byte put.
    pub fn write_amplification(&self) -> f64 {
        ratio(self.tiers.iter().map(|tier| tier.written_bytes).sum(), self.put_bytes)
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
