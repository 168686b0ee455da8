//! Facts of a store as JSON. Names stay once they are there: other programs read them.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::api::BufferPlace;
use crate::check::{CheckProgress, CheckReport, Fault, FaultyPart, Recount};
use crate::control::request::to_hex;
use crate::stats::{LatencyStats, Stats, TierStats};
use crate::store::Info;
use crate::survey::{StructureFault, SurveyReport};
use crate::types::TierKind;

/// Buffers of a blob that an answer lists.
const PLACES_MAX: usize = 16 << 10;

/// `dram`, `nvme:0`, `hdd:1`: the kind and the device tier's number.
pub fn tier_name(index: Option<usize>, kind: TierKind) -> String {
    index.map_or_else(|| kind.name().to_owned(), |index| format!("{}:{index}", kind.name()))
}

/// What a store is and how it runs.
pub fn info(info: &Info) -> Value {
    let tiers = info.tiers.iter().map(|tier| {
        json!({
            "tier": tier_name(tier.index.map(usize::from), tier.kind),
            "kind": tier.kind.name(),
            "path": tier.path.as_ref().map(|path| path.to_string_lossy()),
            "capacity": tier.capacity,
            "used": tier.used,
            "live": tier.live,
            "direct": tier.direct,
            "lost": tier.lost,
        })
    });
    json!({
        "store": info.store_uuid.to_string(),
        "epoch": info.epoch,
        "process": std::process::id(),
        "io": { "backend": info.io_backend, "reason": info.io_reason },
        "organizer": { "backend": info.organizer_backend, "reason": info.organizer_reason },
        "shards": info.shards,
        "durability": info.durability.name(),
        "memory_budget": info.memory_budget,
        "tiers": tiers.collect::<Vec<_>>(),
        "poisoned": info.poisoned,
        "read_only": info.read_only,
    })
}

/// What a store has counted.
pub fn stats(stats: &Stats) -> Value {
    let tiers = stats.tiers.iter().enumerate().map(|(number, tier)| {
        let mut fields = tier_room(number, tier);
        fields.extend(tier_counts(tier).map(|(name, count)| (name.to_owned(), json!(count))));
        Value::Object(fields)
    });
    let mut fields = Map::new();
    fields.insert("tiers".to_owned(), tiers.collect());
    fields.insert("memory".to_owned(), memory(stats));
    fields.insert("organizer".to_owned(), organizer(stats));
    fields.insert("blobs".to_owned(), json!(stats.blobs));
    fields.insert("hit_ratio".to_owned(), json!(stats.hit_ratio()));
    fields.insert("write_amplification".to_owned(), json!(stats.write_amplification()));
    fields.insert("notes".to_owned(), json!(stats.notes));
    fields.extend(counts(stats).into_iter().map(|(name, count)| (name.to_owned(), json!(count))));
    let latencies = [
        ("get", &stats.get),
        ("put", &stats.put),
        ("device_read", &stats.device_read),
        ("device_write", &stats.device_write),
        ("device_flush", &stats.device_flush),
    ];
    let latencies = latencies.map(|(name, latency)| (name.to_owned(), latency_json(latency)));
    fields.insert("latency".to_owned(), Value::Object(latencies.into_iter().collect()));
    Value::Object(fields)
}

fn memory(stats: &Stats) -> Value {
    let memory = &stats.memory;
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
        "repaired_buffers": organizer.repaired_buffers,
        "quarantined_buffers": organizer.quarantined_buffers,
        "scrub": {
            "bytes": organizer.scrub.bytes,
            "passes": organizer.scrub.passes,
            "last_pass_s": organizer.scrub.last_pass_s,
            "bad_structures": organizer.scrub.bad_structures,
            "repaired_structures": organizer.scrub.repaired_structures,
        },
    })
}

fn latency_json(latency: &LatencyStats) -> Value {
    json!({
        "count": latency.count,
        "p50_ns": latency.p50_ns,
        "p90_ns": latency.p90_ns,
        "p99_ns": latency.p99_ns,
        "p999_ns": latency.p999_ns,
        "max_ns": latency.max_ns,
    })
}

/// What a store counts; the first seven are worth a rate.
fn counts(stats: &Stats) -> [(&'static str, u64); 19] {
    [
        ("gets", stats.dram_hits + stats.dram_misses),
        ("puts", stats.memory_puts + stats.logged_changes),
        ("get_bytes", stats.get_bytes),
        ("put_bytes", stats.put_bytes),
        ("batches", stats.batches),
        ("dram_hits", stats.dram_hits),
        ("scrubbed_bytes", stats.organizer.scrub.bytes),
        ("dram_misses", stats.dram_misses),
        ("memory_puts", stats.memory_puts),
        ("memory_fallbacks", stats.memory_fallbacks),
        ("logged_changes", stats.logged_changes),
        ("written_behind", stats.written_behind),
        ("spills", stats.spills),
        ("caller_evictions", stats.caller_evictions),
        ("dram_refusals", stats.dram_refusals),
        ("records", stats.records),
        ("corruptions", stats.corruptions),
        ("page_hits", stats.page_hits),
        ("page_misses", stats.page_misses),
    ]
}
const RATES: usize = 7;

fn tier_counts(tier: &TierStats) -> [(&'static str, u64); 5] {
    [
        ("reads", tier.reads),
        ("read_bytes", tier.read_bytes),
        ("writes", tier.writes),
        ("written_bytes", tier.written_bytes),
        ("flushes", tier.flushes),
    ]
}

fn tier_room(number: usize, tier: &TierStats) -> Map<String, Value> {
    let fields = [
        ("tier", json!(tier_name(Some(number), tier.kind))),
        ("capacity", json!(tier.capacity)),
        ("used", json!(tier.used)),
        ("live", json!(tier.live)),
        ("free_segments", json!(tier.free_segments)),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Rates over a time, from what was counted before it (nothing, if there is none) and after.
pub(super) fn top(before: Option<&Stats>, after: &Stats, since: Duration) -> Value {
    let mut fields = rates(
        before.map(counts).as_ref().map(|counts| &counts[..RATES]),
        &counts(after)[..RATES],
        since,
    );
    let tiers = after.tiers.iter().enumerate().map(|(number, tier)| {
        let last = before.and_then(|before| before.tiers.get(number)).map(tier_counts);
        let mut fields = tier_room(number, tier);
        fields.extend(rates(last.as_ref().map(|counts| &counts[..]), &tier_counts(tier), since));
        Value::Object(fields)
    });
    fields.insert("tiers".to_owned(), tiers.collect());
    fields.insert("seconds".to_owned(), json!(since.as_secs_f64()));
    fields.insert("blobs".to_owned(), json!(after.blobs));
    fields.insert("memory".to_owned(), memory(after));
    fields.insert("quarantined_buffers".to_owned(), json!(after.organizer.quarantined_buffers));
    Value::Object(fields)
}

fn rates(
    before: Option<&[(&'static str, u64)]>,
    after: &[(&'static str, u64)],
    since: Duration,
) -> Map<String, Value> {
    let seconds = since.as_secs_f64().max(1e-9);
    let rate = |(at, (name, count)): (usize, &(&'static str, u64))| {
        let last = before.map_or(0, |before| before[at].1);
        (format!("{name}_per_second"), json!(count.saturating_sub(last) as f64 / seconds))
    };
    after.iter().enumerate().map(rate).collect()
}

pub(super) fn places(places: &[BufferPlace]) -> Value {
    let rows = places.iter().take(PLACES_MAX).map(place);
    json!({ "count": places.len(), "buffers": rows.collect::<Vec<_>>() })
}

/// Where a slice of a value lies.
pub fn place(place: &BufferPlace) -> Value {
    json!({
        "offset": place.value_offset,
        "len": place.len,
        "buffer": place.buffer.0,
        "tier": tier_name(place.tier.map(|tier| tier.index()), place.tier_kind),
        "device_offset": place.device_offset,
        "in_dram": place.in_dram,
        "dirty": place.dirty,
        "heat": place.heat,
    })
}

pub(super) fn progress(progress: &CheckProgress) -> Value {
    json!({
        "blobs": progress.blobs,
        "blobs_total": progress.blobs_total,
        "bytes": progress.bytes,
        "bytes_total": progress.bytes_total,
        "faults": progress.faults,
    })
}

pub(super) fn report(report: &CheckReport) -> Value {
    let recount = match &report.recount {
        Recount::NotMade => Value::Null,
        Recount::Made(miscounts) => miscounts
            .iter()
            .map(|miscount| {
                json!({
                    "tier": miscount.tier.0,
                    "segment": miscount.segment.0,
                    "counted": miscount.counted,
                    "found": miscount.found,
                })
            })
            .collect(),
    };
    json!({
        "clean": report.is_clean(),
        "buckets": report.buckets,
        "blobs": report.blobs,
        "buffers": report.buffers,
        "pages": report.pages,
        "bytes": report.bytes,
        "in_memory": report.in_memory,
        "fault_count": report.fault_count,
        "faults": report.faults.iter().map(fault).collect::<Vec<_>>(),
        "structures": structures(&report.structures),
        "miscounts": recount,
        "cancelled": report.cancelled,
    })
}

/// What the engine keeps for itself, as a check has seen it.
fn structures(report: &SurveyReport) -> Value {
    let fault = |fault: &StructureFault| {
        json!({
            "structure": fault.structure.name(),
            "kind": format!("{:?}", fault.kind),
            "code": fault.kind.code(),
            "tier": fault.tier.0,
            "device_offset": fault.device_offset,
            "message": fault.message,
        })
    };
    json!({
        "superblocks": report.superblocks,
        "checkpoint_parts": report.checkpoint_parts,
        "batches": report.batches,
        "bytes": report.bytes,
        "fault_count": report.fault_count,
        "faults": report.faults.iter().map(fault).collect::<Vec<_>>(),
    })
}

fn fault(fault: &Fault) -> Value {
    json!({
        "bucket": fault.bucket,
        "key": String::from_utf8_lossy(&fault.key),
        "key_hex": to_hex(&fault.key),
        "part": match fault.part {
            FaultyPart::Buffer => "buffer",
            FaultyPart::ExtentPage => "page",
        },
        "kind": format!("{:?}", fault.kind),
        "code": fault.kind.code(),
        "buffer": fault.buffer.0,
        "value_offset": fault.value_offset,
        "tier": fault.tier.map(|tier| tier.0),
        "device_offset": fault.device_offset,
        "message": fault.message,
    })
}
