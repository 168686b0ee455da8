//! `df` and `where`: what lies where.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;

use isotherm::control::{info_json, place_json, tier_name};
use isotherm::types::{BufferId, TierId, TierKind};
use isotherm::{BufferPlace, Info};
use serde_json::Value;

use crate::args::{Global, Where};
use crate::failure::Outcome;
use crate::output::{human_size, print, print_json, printable, table};
use crate::owner::with_owner;
use crate::session::{Access, with_store};

/// Buffers of one blob that `where` lists one by one; larger blobs are summed up first.
const LISTED_MAX: usize = 64;

/// `df`.
pub fn df(global: &Global, json: bool) -> Outcome {
    with_store(global, Access::Existing, |store| {
        let info = store.info();
        if json { print_json(&info_json(&info)) } else { print(&tiers_text(&info)) }
    })
}

/// The tiers of a store as a table, and what its I/O runs on.
pub fn tiers_text(info: &Info) -> String {
    let header = ["tier", "capacity", "used", "live", "used %", "direct", "file"];
    let mut rows = vec![header.map(str::to_string).to_vec()];
    for tier in &info.tiers {
        let share = 100.0 * tier.used as f64 / tier.capacity.max(1) as f64;
        let is_dram = tier.kind == TierKind::Dram;
        rows.push(vec![
            tier_name(tier.index.map(usize::from), tier.kind),
            human_size(tier.capacity),
            human_size(tier.used),
            human_size(tier.live),
            format!("{share:.1}"),
            if is_dram {
                "-"
            } else if tier.direct {
                "yes"
            } else {
                "no"
            }
            .to_string(),
            tier.path.as_ref().map_or("-".to_string(), |path| path.display().to_string()),
        ]);
    }
    let because = |reason: &Option<String>| match reason {
        Some(reason) => format!(" ({reason})"),
        None => String::new(),
    };
    format!(
        "{}I/O: {}{}; organizer: {}{}; shards: {}\n",
        table(&rows),
        info.io_backend,
        because(&info.io_reason),
        info.organizer_backend,
        because(&info.organizer_reason),
        info.shards
    )
}

/// `where BUCKET KEY`.
pub fn where_is(global: &Global, place: &Where) -> Outcome {
    let key = place.key.as_bytes();
    with_owner(global, Access::Reading, |owner| {
        let buffers = owner.locate(&place.bucket, key)?;
        if place.json {
            print_json(&buffers_json(&buffers))
        } else {
            print(&buffers_text(key, &buffers))
        }
    })
}

/// One line per tier that holds a part of the blob, then its first buffers.
pub fn buffers_text(key: &[u8], buffers: &[BufferPlace]) -> String {
    let mut text = format!("{}: {}\n", printable(key), summary(buffers));
    let header = ["offset", "length", "tier", "device offset", "in DRAM", "heat"];
    let mut rows = vec![header.map(str::to_string).to_vec()];
    for buffer in buffers.iter().take(LISTED_MAX) {
        rows.push(vec![
            buffer.value_offset.to_string(),
            buffer.len.to_string(),
            tier_name(buffer.tier.map(|tier| tier.index()), buffer.tier_kind),
            buffer.device_offset.map_or("-".to_string(), |offset| offset.to_string()),
            dram_state(buffer).to_string(),
            format!("{:.3}", buffer.heat),
        ]);
    }
    text.push_str(&table(&rows));
    if buffers.len() > LISTED_MAX {
        let more = buffers.len() - LISTED_MAX;
        text.push_str(&format!("and {more} more; --json lists all\n"));
    }
    text
}

/// `3 buffers; nvme:0 2.00 MiB, hdd:1 1.00 MiB; 1.00 MiB also in DRAM`.
pub fn summary(buffers: &[BufferPlace]) -> String {
    let mut by_tier: BTreeMap<String, u64> = BTreeMap::new();
    for buffer in buffers {
        let name = tier_name(buffer.tier.map(|tier| tier.index()), buffer.tier_kind);
        *by_tier.entry(name).or_default() += buffer.len;
    }
    let tiers = by_tier.iter().map(|(name, bytes)| format!("{name} {}", human_size(*bytes)));
    let copies = buffers.iter().filter(|buffer| buffer.in_dram && buffer.tier.is_some());
    let copied: u64 = copies.map(|buffer| buffer.len).sum();
    let mut text = format!("{} buffers", buffers.len());
    for tier in tiers {
        text.push_str(&format!("; {tier}"));
    }
    if copied > 0 {
        text.push_str(&format!("; {} also in DRAM", human_size(copied)));
    }
    text
}

fn dram_state(buffer: &BufferPlace) -> &'static str {
    match (buffer.in_dram, buffer.dirty) {
        (true, true) => "dirty",
        (true, false) => "copy",
        (false, _) => "no",
    }
}

fn buffers_json(buffers: &[BufferPlace]) -> Value {
    buffers.iter().map(place_json).collect()
}

/// What [`buffers_json`] has made. `None` if it is nothing of the kind.
pub fn places_from_json(buffers: &Value) -> Option<Vec<BufferPlace>> {
    buffers.as_array()?.iter().map(place_from_json).collect()
}

fn place_from_json(buffer: &Value) -> Option<BufferPlace> {
    let name = buffer["tier"].as_str()?;
    let (kind, number) = match name.split_once(':') {
        Some((kind, number)) => (kind, Some(number.parse().ok()?)),
        None => (name, None),
    };
    Some(BufferPlace {
        value_offset: buffer["offset"].as_u64()?,
        len: buffer["len"].as_u64()?,
        buffer: BufferId(buffer["buffer"].as_u64()?),
        tier: number.map(TierId),
        tier_kind: kind.parse().ok()?,
        device_offset: buffer["device_offset"].as_u64(),
        in_dram: buffer["in_dram"].as_bool()?,
        dirty: buffer["dirty"].as_bool()?,
        heat: buffer["heat"].as_f64()? as f32,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn places_come_back_from_json_as_they_were() {
        let on_device = BufferPlace {
            value_offset: 1 << 40,
            len: 5,
            buffer: BufferId(7),
            tier: Some(TierId(1)),
            tier_kind: TierKind::Hdd,
            device_offset: Some(4096),
            in_dram: true,
            dirty: false,
            heat: 0.5,
        };
        let in_dram = BufferPlace {
            tier: None,
            tier_kind: TierKind::Dram,
            device_offset: None,
            dirty: true,
            ..on_device.clone()
        };
        let places = vec![on_device, in_dram];
        assert_eq!(places_from_json(&buffers_json(&places)), Some(places));
        assert_eq!(places_from_json(&json!([{ "tier": "tape:0" }])), None);
    }
}
