//! Promotion: buffers that were read from a slower tier move up while the fastest has room.

use std::collections::{BTreeSet, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use crate::core::{BufferName, Core};
use crate::error::Result;
use crate::index::entry::Entry;
use crate::index::extents::Extent;
use crate::index::state::{Buffer, Value};
use crate::io::exec::{Class, Exec};
use crate::organizer::facts::{sample_mean_score, tier_to_promote_to};
use crate::organizer::mover::{Mover, Temperature};
use crate::organizer::occupants::{Large, Occupant};
use crate::organizer::reading::read_one;
use crate::organizer::relocate::rescue_or_note;
use crate::placement::policy::{BufferFacts, PlacementPolicy};
use crate::tier::space::SegmentPin;
use crate::types::{Place, TierId, Uuid};

/// Buffers of one blob that one hint moves: a large blob that stays hot gets more hints.
const BUFFERS_MAX: usize = 64;

/// Serves hints until the organizer ends.
pub async fn serve_hints(
    core: Arc<Core>,
    exec: Rc<dyn Exec>,
    devices: Arc<[Uuid]>,
    policy: Rc<dyn PlacementPolicy>,
) {
    let mut mover = Mover::new(core.clone(), exec.clone(), Class::Background, devices);
    loop {
        // Before the look at the flag: a stop between the two would be slept over.
        let ticket = core.organizer.ticket();
        if core.organizer.is_stopping() {
            break;
        }
        let hints = core.organizer.take_hints();
        if hints.is_empty() {
            ticket.await;
            continue;
        }
        // A blob that was read ten times is looked at once.
        let hashes: BTreeSet<u64> = hints.into_iter().collect();
        for hash in hashes {
            if core.organizer.is_stopping() {
                break;
            }
            if core.check_poison().is_ok()
                && let Err(error) = promote_blob(&core, &*exec, &mut mover, &*policy, hash).await
            {
                core.counters.note(error.to_string());
            }
            exec.yield_now().await;
        }
        if let Err(error) = mover.finish().await {
            core.counters.note(error.to_string());
        }
    }
    mover.close().await;
}

async fn promote_blob(
    core: &Core,
    exec: &dyn Exec,
    mover: &mut Mover,
    policy: &dyn PlacementPolicy,
    hash: u64,
) -> Result<()> {
    let mean_score = sample_mean_score(core);
    for held in find(core, hash) {
        let facts = BufferFacts {
            tier: held.tier,
            slower: None,
            faster: tier_to_promote_to(core, held.tier),
            score: held.occupant.score,
            mean_score,
            demote_all: false,
            stored_len: held.occupant.buffer.stored_len,
        };
        let to = policy.decide(&facts);
        let Buffer { id, location, .. } = held.occupant.buffer;
        if to == held.tier || core.organizer.damage.has(id, location) {
            continue;
        }
        // No room, or no verified bytes: the buffer stays where it is.
        let mut reading = read_one(core, exec, held.tier, held.occupant).await;
        let damaged = reading.damaged.pop();
        let rescued = damaged.and_then(|(who, error)| rescue_or_note(core, who, &error));
        if let Some((occupant, bytes)) = reading.verified.pop().or(rescued)
            && !mover.add(to, Temperature::Hot, occupant, &bytes).await?
        {
            break;
        }
    }
    Ok(())
}

/// A buffer on a slower tier, and what keeps its bytes there.
struct Held {
    occupant: Occupant,
    tier: TierId,
    _pin: Option<SegmentPin>,
}

/// The buffers of a blob that lie below the fastest tier. Those of a map are looked up outside
/// the stripe lock: the map keeps them.
fn find(core: &Core, hash: u64) -> Vec<Held> {
    let now = core.runtime.now();
    let mut found = Vec::new();
    let mut maps = Vec::new();
    {
        let mut stripe = core.index.lock(hash);
        let (entries, dir) = stripe.with_hash_and_dir(hash);
        for entry in entries {
            let score = entry.score(&core.dram, dir, now);
            match &entry.visible.value {
                Value::Lone(lone) => {
                    let pin = || core.space.pin(lone.location);
                    found.extend(held(name_of(entry, false), lone.clone(), score, pin));
                }
                value => {
                    maps.extend(Large::of(value).map(|map| (map, name_of(entry, true), score)));
                }
            }
        }
    }
    for (map, name, score) in maps {
        match map {
            Large::Mapped(map) => take_slower(core, map.extents(), &name, score, &mut found),
            Large::Paged(map) => {
                // Whoever read the buffers has read their pages: the others are not looked for.
                let pages = map.pages().iter().filter_map(|part| core.pages.peek(part.page?));
                for page in pages {
                    take_slower(core, &page.extents, &name, score, &mut found);
                }
            }
        }
    }
    found
}

fn take_slower(
    core: &Core,
    extents: &[Extent],
    name: &BufferName,
    score: f32,
    found: &mut Vec<Held>,
) {
    let mut seen = HashSet::new();
    for extent in extents {
        if found.len() >= BUFFERS_MAX {
            return;
        }
        if !seen.insert(extent.buffer) {
            continue;
        }
        let name = BufferName { value_offset: extent.value_offset, ..name.clone() };
        if let Some((buffer, pin)) = core.table.pin(extent.buffer) {
            found.extend(held(name, buffer, score, || pin));
        }
    }
}

fn name_of(entry: &Entry, table: bool) -> BufferName {
    BufferName {
        bucket: entry.bucket,
        key: entry.key.clone(),
        version: entry.visible.version,
        value_offset: 0,
        table,
    }
}

fn held(
    name: BufferName,
    buffer: Buffer,
    score: f32,
    pin: impl FnOnce() -> Option<SegmentPin>,
) -> Option<Held> {
    match buffer.location.place() {
        Place::Device { tier, .. } if tier.index() > 0 => Some(Held {
            tier,
            occupant: Occupant { name, buffer, score, is_rescued: false },
            _pin: pin(),
        }),
        _ => None,
    }
}
