//! Buffers known to be damaged: found once, told of once, and left where they are.
//!
//! Such a buffer stays live, so its segment is not freed while anything refers to it, and the organizer
//! does not try to move it again. Once it is gone (its blob was put anew or deleted, or its bytes were
//! written elsewhere from another copy) its segment is used again like any other: a place of a device is
//! not a place of its medium (flash and file systems move it, disks replace bad sectors when they are
//! written), so keeping it out of use would protect nothing, and what is written there is verified by
//! whoever reads it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::core::{BufferName, Core};
use crate::error::ErrorKind;
use crate::index::state::Buffer;
use crate::organizer::muster::{self, Dweller, Who};
use crate::tier::space::footprint;
use crate::types::{BufferId, Location, Place, SegmentId, TierId};

/// Buffers remembered: beyond that the number has told enough.
const DAMAGED_MAX: usize = 4096;

/// A buffer whose bytes on its device are not what they were. It was not moved, and reading it answers
/// an error until its blob is put again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedBuffer {
    /// Which.
    pub buffer: BufferId,
    /// The bucket of its blob, where that is known.
    pub bucket: Option<String>,
    /// The key of its blob, where that is known: several blobs may share it, and one is named.
    pub key: Option<Arc<[u8]>>,
    /// The tier.
    pub tier: TierId,
    /// Where it begins on the tier's device.
    pub device_offset: u64,
    /// Its bytes there.
    pub stored_len: u32,
    /// `Corrupt` if they do not match their checksums; else why they cannot be read.
    pub kind: ErrorKind,
}

#[derive(Clone)]
struct Entry {
    who: Who,
    found: DamagedBuffer,
}

/// See the module. Each buffer is known by its place.
#[derive(Default)]
pub struct Damage {
    entries: Mutex<BTreeMap<Location, Entry>>,
    known: AtomicUsize,
}

impl Damage {
    /// Remembers a buffer. False if it is known, or too many are.
    pub fn note(&self, core: &Core, name: &BufferName, buffer: &Buffer, kind: ErrorKind) -> bool {
        let Place::Device { tier, offset } = buffer.location.place() else { return false };
        let is_known = !name.key.is_empty();
        let bucket = core.buckets.by_id(name.bucket).filter(|_| is_known);
        let bucket = bucket.map(|bucket| String::from_utf8_lossy(&bucket.name()).into_owned());
        let who = match name.table {
            true => Who::Row { buffer: buffer.id },
            false => Who::Lone { hash: core.index.hash(name.bucket, &name.key) },
        };
        let found = DamagedBuffer {
            buffer: buffer.id,
            bucket,
            key: is_known.then(|| name.key.clone()),
            tier,
            device_offset: offset,
            stored_len: buffer.stored_len,
            kind,
        };
        self.insert(core, buffer.location, Entry { who, found })
    }

    fn insert(&self, core: &Core, at: Location, entry: Entry) -> bool {
        let known = self.entries.lock().get(&at).cloned();
        if let Some(known) = known
            && known.found.buffer == entry.found.buffer
        {
            return false;
        }
        if self.count() >= DAMAGED_MAX {
            self.prune(core);
        }
        let mut entries = self.entries.lock();
        if entries.len() >= DAMAGED_MAX {
            return false;
        }
        entries.insert(at, entry);
        self.known.store(entries.len(), Ordering::Relaxed);
        true
    }

    /// The buffer at this place is not damaged (any more).
    pub fn forget(&self, at: Location) {
        if self.count() == 0 {
            return;
        }
        let mut entries = self.entries.lock();
        entries.remove(&at);
        self.known.store(entries.len(), Ordering::Relaxed);
    }

    /// Whether this buffer is known to be damaged where it is.
    pub fn has(&self, id: BufferId, at: Location) -> bool {
        self.count() > 0
            && self.entries.lock().get(&at).is_some_and(|entry| entry.found.buffer == id)
    }

    /// How many are remembered. Some of them may be gone.
    pub fn count(&self) -> usize {
        self.known.load(Ordering::Relaxed)
    }

    /// Those that are still there, by place.
    pub fn list(&self, core: &Core) -> Vec<DamagedBuffer> {
        self.prune(core);
        self.entries.lock().values().map(|entry| entry.found.clone()).collect()
    }

    /// What those of a segment take of its live bytes: nothing can be done about these.
    pub fn live_bytes_in(&self, core: &Core, tier: TierId, segment: SegmentId) -> u64 {
        if self.count() == 0 {
            return 0;
        }
        let facts = core.space.tier(tier);
        let start = facts.offset_of(segment);
        let range =
            Location::device(tier, start)..Location::device(tier, start + facts.segment_size);
        let entries: Vec<Entry> =
            self.entries.lock().range(range).map(|(_, entry)| entry.clone()).collect();
        let there = entries.iter().filter(|entry| entry.is_there(core));
        there.map(|entry| footprint(entry.found.stored_len)).sum()
    }

    /// Forgets those that are gone.
    pub fn prune(&self, core: &Core) {
        if self.count() == 0 {
            return;
        }
        let all = self.entries.lock().clone();
        // Index and table are asked under no lock of this one.
        let gone: Vec<Location> =
            all.iter().filter(|(_, entry)| !entry.is_there(core)).map(|(at, _)| *at).collect();
        let mut entries = self.entries.lock();
        for at in gone {
            let is_same = entries.get(&at).map(|entry| entry.found.buffer)
                == all.get(&at).map(|entry| entry.found.buffer);
            if is_same {
                entries.remove(&at);
            }
        }
        self.known.store(entries.len(), Ordering::Relaxed);
    }
}

impl Entry {
    fn is_there(&self, core: &Core) -> bool {
        let location = Location::device(self.found.tier, self.found.device_offset);
        muster::find(core, &Dweller { location, who: self.who })
            .is_some_and(|(occupant, _)| occupant.buffer.id == self.found.buffer)
    }
}
