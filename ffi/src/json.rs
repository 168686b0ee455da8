//! Facts about a store as JSON.

use isotherm::stats::{LatencyStats, MemoryStats, TierStats};
use isotherm::{Info, Stats, TierInfo};
use serde_json::{Value, json};

/// What a store is and how it runs.
pub(crate) fn info(info: &Info) -> String {
    json!({
        "store": info.store_uuid.to_string(),
        "epoch": info.epoch,
        "io": { "backend": info.io_backend, "reason": info.io_reason },
        "organizer": { "backend": info.organizer_backend, "reason": info.organizer_reason },
        "shards": info.shards,
        "durability": info.durability.name(),
        "memory_budget": info.memory_budget,
        "poisoned": info.poisoned,
        "read_only": info.read_only,
        "tiers": info.tiers.iter().map(tier).collect::<Vec<Value>>(),
    })
    .to_string()
}

fn tier(tier: &TierInfo) -> Value {
    json!({
        "tier": tier.index,
        "kind": tier.kind.name(),
        "path": tier.path.as_ref().map(|path| path.to_string_lossy()),
        "capacity": tier.capacity,
        "used": tier.used,
        "live": tier.live,
        "direct": tier.direct,
        "lost": tier.lost,
    })
}

/// What a store has counted.
pub(crate) fn stats(stats: &Stats) -> String {
    json!({
        "blobs": stats.blobs,
        "put_bytes": stats.put_bytes,
        "get_bytes": stats.get_bytes,
        "dram_hits": stats.dram_hits,
        "dram_misses": stats.dram_misses,
        "hit_ratio": stats.hit_ratio(),
        "memory_puts": stats.memory_puts,
        "memory_fallbacks": stats.memory_fallbacks,
        "logged_changes": stats.logged_changes,
        "written_behind": stats.written_behind,
        "write_amplification": stats.write_amplification(),
        "spills": stats.spills,
        "caller_evictions": stats.caller_evictions,
        "batches": stats.batches,
        "records": stats.records,
        "corruptions": stats.corruptions,
        "page_hits": stats.page_hits,
        "page_misses": stats.page_misses,
        "organizer": organizer(stats),
        "memory": memory(&stats.memory),
        "tiers": stats.tiers.iter().map(tier_counts).collect::<Vec<Value>>(),
        "latency_ns": {
            "get": latency(&stats.get),
            "put": latency(&stats.put),
            "device_read": latency(&stats.device_read),
            "device_write": latency(&stats.device_write),
            "device_flush": latency(&stats.device_flush),
        },
        "notes": stats.notes,
    })
    .to_string()
}

fn organizer(stats: &Stats) -> Value {
    let organizer = &stats.organizer;
    json!({
        "backend": organizer.backend,
        "read_bytes": organizer.read_bytes,
        "written_bytes": organizer.written_bytes,
        "cleanings": organizer.cleanings,
        "demotions": organizer.demotions,
        "promotions": organizer.promotions,
        "moved_bytes": organizer.moved_bytes,
        "lost_races": organizer.lost_races,
        "released_pages": organizer.released_pages,
        "dram_evictions": organizer.dram_evictions,
        "corrupt_buffers": organizer.corrupt_buffers,
    })
}

fn memory(memory: &MemoryStats) -> Value {
    json!({
        "budget": memory.budget,
        "dram_capacity": memory.dram_capacity,
        "dram_touched": memory.dram_touched,
        "dram_used": memory.dram_used,
        "dram_dirty": memory.dram_dirty,
        "index": memory.index,
        "pages": memory.pages,
        "pages_max": memory.pages_max,
        "io_buffers": memory.io_buffers,
        "io_buffers_max": memory.io_buffers_max,
    })
}

fn tier_counts(tier: &TierStats) -> Value {
    json!({
        "kind": tier.kind.name(),
        "capacity": tier.capacity,
        "used": tier.used,
        "live": tier.live,
        "free_segments": tier.free_segments,
        "reads": tier.reads,
        "read_bytes": tier.read_bytes,
        "writes": tier.writes,
        "written_bytes": tier.written_bytes,
        "flushes": tier.flushes,
    })
}

fn latency(latency: &LatencyStats) -> Value {
    json!({
        "count": latency.count,
        "p50": latency.p50_ns,
        "p90": latency.p90_ns,
        "p99": latency.p99_ns,
        "p999": latency.p999_ns,
        "max": latency.max_ns,
    })
}
