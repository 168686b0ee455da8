//! Who lives in a segment.
//!
//! Candidates come from the segment's summary, from the batches of a former log segment, or, where
//! neither can be read, from a walk through index and table. Liveness is decided by index and
//! table alone; a candidate that they do not know at exactly its place is passed over.

use std::collections::HashSet;
use std::sync::Arc;

use crate::core::{BufferName, Core};
use crate::index::entry::Entry;
use crate::index::extents::Extent;
use crate::index::state::{BlobState, Buffer, Map, PagedMap, Value};
use crate::index::table::RowView;
use crate::io::runtime::Nanos;
use crate::limits::PARTITIONS;
use crate::log::record::MoveSubject;
use crate::organizer::facts::sample_mean_score;
use crate::tier::dram::DirStripe;
use crate::tier::space::SegmentPin;
use crate::types::{BucketId, BufferId, Location, Place, TierSegment, Version};

/// Occupants of one attempt: bounds the memory. What is left over is found by the next attempt.
const OCCUPANTS_MAX: usize = 16 * 1024;

/// A live buffer of the segment.
#[derive(Clone)]
pub struct Occupant {
    /// For the summary of the segment it goes to. `name.table` says who owns it.
    pub name: BufferName,
    /// Its facts.
    pub buffer: Buffer,
    /// The decayed access score of its blob.
    pub score: f32,
    /// Its bytes come from a second copy: those at its place are rotten.
    pub is_rescued: bool,
}

impl Occupant {
    /// For the log.
    pub fn subject(&self) -> MoveSubject {
        let buffer = self.buffer.id;
        match self.name.table {
            true => MoveSubject::Table { buffer },
            false => {
                MoveSubject::Lone { bucket: self.name.bucket, key: (*self.name.key).into(), buffer }
            }
        }
    }
}

/// A buffer that was once written to the segment.
pub struct Candidate<'a> {
    /// The bucket of the blob it was written for.
    pub bucket: BucketId,
    /// The key of that blob.
    pub key: &'a [u8],
    /// The version of that blob.
    pub version: Version,
    /// The buffer.
    pub buffer: BufferId,
    /// The byte of the value that the buffer begins with.
    pub value_offset: u64,
    /// Where it was written.
    pub location: Location,
}

/// Picks the live ones among candidates.
pub struct Collector<'a> {
    core: &'a Core,
    at: TierSegment,
    now: Nanos,
    seen: HashSet<BufferId>,
    live: Vec<Occupant>,
    pin: Option<SegmentPin>,
}

impl<'a> Collector<'a> {
    /// For one segment.
    pub fn new(core: &'a Core, at: TierSegment) -> Collector<'a> {
        let now = core.runtime.now();
        Collector { core, at, now, seen: HashSet::new(), live: Vec::new(), pin: None }
    }

    /// Whether the attempt has enough to do.
    pub fn is_full(&self) -> bool {
        self.live.len() >= OCCUPANTS_MAX
    }

    /// The live ones by place, and a pin that keeps the segment from being reused. No pin: there
    /// are none.
    pub fn finish(mut self) -> (Vec<Occupant>, Option<SegmentPin>) {
        self.live.sort_by_key(|occupant| match occupant.buffer.location.place() {
            Place::Device { offset, .. } => offset,
            Place::Dram(_) => u64::MAX,
        });
        (self.live, self.pin)
    }

    /// Whether a location lies in the segment.
    pub fn covers(&self, location: Location) -> bool {
        matches!(location.place(), Place::Device { tier, offset } if tier == self.at.tier
            && self.core.space.tier(tier).segment_at(offset) == self.at.segment)
    }

    /// Takes a candidate in if it is live where it was written.
    pub fn consider(&mut self, candidate: &Candidate<'_>) {
        if self.is_full() || !self.covers(candidate.location) {
            return;
        }
        let Candidate { bucket, key, .. } = *candidate;
        let core = self.core;
        let hash = core.index.hash(bucket, key);
        let mut score = 0.0;
        let mut own_key = None;
        {
            let mut stripe = core.index.lock(hash);
            if let (Some(entry), dir) = stripe.get_with_dir(hash, bucket, key) {
                score = entry.score(&core.dram, dir, self.now);
                own_key = Some(entry.key.clone());
                let lone = lone_at(entry, |lone| {
                    lone.id == candidate.buffer && lone.location == candidate.location
                });
                if let Some((version, lone)) = lone {
                    return self.take_lone(entry, version, lone, score);
                }
            }
        }
        let name = BufferName {
            bucket,
            key: own_key.unwrap_or_else(|| key.into()),
            version: candidate.version,
            value_offset: candidate.value_offset,
            table: true,
        };
        self.take_row(candidate.buffer, name, score);
    }

    /// Takes every lone buffer of an entry that lies in the segment. Under the stripe lock.
    pub fn consider_entry(&mut self, entry: &mut Entry, dir: &mut DirStripe) {
        if self.is_full() {
            return;
        }
        if let Some((version, lone)) = lone_at(entry, |lone| self.covers(lone.location)) {
            let score = entry.score(&self.core.dram, dir, self.now);
            self.take_lone(entry, version, lone, score);
        }
    }

    /// Under the stripe lock: the location is current.
    fn take_lone(&mut self, entry: &Entry, version: Version, lone: Buffer, score: f32) {
        if !self.seen.insert(lone.id) {
            return;
        }
        self.pin = self.pin.take().or_else(|| self.core.space.pin(lone.location));
        let name = BufferName {
            bucket: entry.bucket,
            key: entry.key.clone(),
            version,
            value_offset: 0,
            table: false,
        };
        self.live.push(Occupant { name, buffer: lone, score, is_rescued: false });
    }

    /// Takes a row of the table if it lies in the segment.
    pub fn take_row(&mut self, id: BufferId, name: BufferName, score: f32) {
        if self.is_full() || self.seen.contains(&id) {
            return;
        }
        let Some((buffer, pin)) = self.core.table.pin(id) else { return };
        if self.covers(buffer.location) {
            self.pin = self.pin.take().or(pin);
            self.seen.insert(id);
            self.live.push(Occupant { name, buffer, score, is_rescued: false });
        }
    }

    /// The rows of the table that lie in the segment: all shards, one lock at a time.
    pub fn rows_inside(&self) -> HashSet<BufferId> {
        let mut inside = HashSet::new();
        for shard in 0..PARTITIONS {
            self.core.table.for_each_in(shard, |RowView { buffer, .. }| {
                if self.covers(buffer.location) {
                    inside.insert(buffer.id);
                }
            });
        }
        inside
    }

    /// Names the rows of `inside` by a map that holds them. Of a large map these are its pages, and
    /// what those of them name that are in memory.
    pub fn take_rows_of(&mut self, inside: &HashSet<BufferId>, holder: &Holder) {
        match &holder.map {
            Large::Mapped(map) => self.take_extents_of(inside, holder, map.extents()),
            Large::Paged(map) => {
                for part in map.pages() {
                    let Some(page) = part.page else { continue };
                    self.take_row_of(inside, holder, page, part.start);
                    if let Some(page) = self.core.pages.look(page) {
                        self.take_extents_of(inside, holder, &page.extents);
                    }
                }
            }
        }
    }

    fn take_extents_of(&mut self, inside: &HashSet<BufferId>, holder: &Holder, extents: &[Extent]) {
        for extent in extents {
            self.take_row_of(inside, holder, extent.buffer, extent.value_offset);
        }
    }

    fn take_row_of(
        &mut self,
        inside: &HashSet<BufferId>,
        holder: &Holder,
        id: BufferId,
        value_offset: u64,
    ) {
        if inside.contains(&id) && !self.seen.contains(&id) {
            let name = BufferName { value_offset, ..holder.name.clone() };
            self.take_row(id, name, holder.score);
        }
    }

    /// Takes the rows of `inside` that only pages on a device name. Whose they are is not asked of
    /// these, which would have to be read: they count as neither hot nor cold.
    pub fn take_rows_of_pages(&mut self, inside: &HashSet<BufferId>) {
        // In a fixed order: the simulator must not see that of a hash set.
        let mut rows: Vec<BufferId> = inside.difference(&self.seen).copied().collect();
        rows.sort_unstable();
        let score = if rows.is_empty() { 0.0 } else { sample_mean_score(self.core) };
        for id in rows {
            self.take_row(id, nobody(), score);
        }
    }

    /// The maps that an entry holds. Under the stripe lock; looked at, and dropped, outside it.
    pub fn holders_of(&self, entry: &mut Entry, dir: &mut DirStripe, into: &mut Vec<Holder>) {
        let score = entry.score(&self.core.dram, dir, self.now);
        let states = [Some(&entry.visible), entry.logged_state()];
        for state in states.into_iter().flatten() {
            let Some(map) = Large::of(&state.value) else { continue };
            let name = BufferName {
                bucket: entry.bucket,
                key: entry.key.clone(),
                version: state.version,
                value_offset: 0,
                table: true,
            };
            into.push(Holder { map, name, score });
        }
    }
}

/// A map and whose it is.
pub struct Holder {
    map: Large,
    name: BufferName,
    score: f32,
}

/// A map of buffers in the table.
pub enum Large {
    /// In memory.
    Mapped(Arc<Map>),
    /// In pages.
    Paged(Arc<PagedMap>),
}

impl Large {
    /// The map of a value, if it has one.
    pub fn of(value: &Value) -> Option<Large> {
        match value {
            Value::Mapped(map) => Some(Large::Mapped(map.clone())),
            Value::Paged(map) => Some(Large::Paged(map.clone())),
            Value::Absent | Value::Zeros | Value::Lone(_) => None,
        }
    }
}

/// The name of a row of the table of which nobody knows whose it is.
pub(super) fn nobody() -> BufferName {
    BufferName {
        bucket: BucketId(0),
        key: Arc::from([]),
        version: Version(0),
        value_offset: 0,
        table: true,
    }
}

/// The lone buffer of an entry, visible or logged, that this is true of, and its blob's version.
pub(super) fn lone_at(entry: &Entry, is: impl Fn(&Buffer) -> bool) -> Option<(Version, Buffer)> {
    let of = |state: &BlobState| {
        let lone = state.lone().filter(|lone| is(lone))?;
        Some((state.version, lone.clone()))
    };
    of(&entry.visible).or_else(|| entry.logged_state().and_then(of))
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;
    use crate::index::state::Checks;
    use crate::types::TierId;

    pub fn occupant(id: u64, len: u32) -> Occupant {
        Occupant {
            name: BufferName {
                bucket: BucketId(1),
                key: Arc::from(&b"key"[..]),
                version: Version(id),
                value_offset: 0,
                table: false,
            },
            buffer: Buffer {
                id: BufferId(id),
                location: Location::device(TierId(0), 4096),
                raw_len: len,
                stored_len: len,
                encoding: 0,
                logical_crc: 0,
                checks: Checks::One(0),
            },
            score: 0.0,
            is_rescued: false,
        }
    }
}
