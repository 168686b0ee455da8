//! One key of the index: what readers see, what the log holds, and who is changing it.
//!
//! The *visible* state is what a get answers. The *logged* state is what recovery would find:
//! checkpoints and the cleaner go by it, and it lives until its successor is as safe. They differ
//! while a Memory put waits to be written behind, and while a change is logged but not yet
//! acknowledged.
//!
//! Ownership: a lone buffer is held by the visible and the logged state of its one entry and by
//! nothing else; it dies when neither holds it. A buffer that becomes part of a map moves to the
//! table first ([`Entry::hand_over_lone`]). So no byte of a device is owned twice.

use std::sync::Arc;

use crate::index::budget::{heap_bytes, shared_bytes};
use crate::index::state::{BlobState, Buffer, Map, Value, whole};
use crate::index::table::BufferTable;
use crate::io::runtime::Nanos;
use crate::placement::heat::Heat;
use crate::plant::{Plant, planted};
use crate::tier::dram::{DirStripe, Dram};
use crate::tier::space::Space;
use crate::types::{BucketId, BufferId, Location, Version};

/// What the log holds of a key.
#[derive(Debug)]
pub enum Logged {
    /// The visible state.
    Same,
    /// Nothing: never logged, or its delete was.
    Absent(Version),
    /// Another one.
    Other(Box<BlobState>),
}

/// One key.
#[derive(Debug)]
pub struct Entry {
    /// Hash of bucket and key.
    pub hash: u64,
    /// The bucket.
    pub bucket: BucketId,
    /// The key, shared with the bucket's ordered map.
    pub key: Arc<[u8]>,
    /// What a get answers.
    pub visible: BlobState,
    /// What recovery would find.
    pub logged: Logged,
    /// An operation above Memory level is changing the key; others queue.
    pub claimed: bool,
    /// A write-behind of some version is under way: the entry stays until it is done.
    pub writing_behind: bool,
    /// Stands in a shard's queue of dirty keys.
    pub queued_dirty: bool,
    /// Decayed access score, without the uses in DRAM since [`score`](Self::score) was last asked.
    pub heat: Heat,
}

/// A key's place in the ordered map of its bucket: a B-tree whose nodes are two thirds full.
const ORDERED_BYTES: i64 = 28;

/// Most bytes of memory that a new entry takes where its table does not grow.
pub fn entry_bytes(key_len: usize) -> u64 {
    (size_of::<Entry>() as u64 + 1) * 8 / 7 + key_bytes(key_len) as u64
}

fn key_bytes(key_len: usize) -> i64 {
    shared_bytes(key_len) + ORDERED_BYTES
}

impl Entry {
    /// A key that is being claimed for the first time.
    pub fn new(hash: u64, bucket: BucketId, key: Arc<[u8]>) -> Entry {
        Entry {
            hash,
            bucket,
            key,
            visible: BlobState::absent(Version(0)),
            logged: Logged::Absent(Version(0)),
            claimed: false,
            writing_behind: false,
            queued_dirty: false,
            heat: Default::default(),
        }
    }

    /// Memory that hangs on the entry's row: its key, and what its states have for themselves. Maps
    /// count their own.
    pub fn memory_bytes(&self) -> i64 {
        key_bytes(self.key.len()) + self.states_bytes()
    }

    fn states_bytes(&self) -> i64 {
        let visible = self.visible.checks_bytes();
        match &self.logged {
            Logged::Same | Logged::Absent(_) => visible,
            Logged::Other(logged) => {
                // The checksums of one buffer in both states are shared.
                let lone = |state: &BlobState| state.lone().map(|lone| lone.id);
                let shared = lone(logged).is_some() && lone(logged) == lone(&self.visible);
                let checks = if shared { 0 } else { logged.checks_bytes() };
                visible + heap_bytes(size_of::<BlobState>()) + checks
            }
        }
    }

    /// Changes the states, and counts the memory they take then.
    fn change<T>(&mut self, table: &BufferTable, work: impl FnOnce(&mut Entry) -> T) -> T {
        let before = self.states_bytes();
        let result = work(self);
        table.count_memory(self.states_bytes() - before);
        result
    }

    /// Recovery: this is the state, and logged.
    pub fn load(&mut self, state: BlobState, table: &BufferTable) {
        self.change(table, |entry| {
            entry.visible = state;
            entry.logged = Logged::Same;
        });
    }

    /// Whether the visible state is newer than the logged one.
    pub fn is_dirty(&self) -> bool {
        match &self.logged {
            Logged::Same => false,
            // A tombstone over nothing needs no record: recovery finds nothing either.
            Logged::Absent(version) => self.visible.exists() && self.visible.version > *version,
            // The other way round while a change is logged and not acknowledged.
            Logged::Other(_)
                if !self.visible.exists() && planted(Plant::DeleteNotWrittenBehind) =>
            {
                false
            }
            Logged::Other(state) => self.visible.version > state.version,
        }
    }

    /// Whether nothing is known or going on here any more.
    pub fn is_vacant(&self) -> bool {
        !self.visible.exists()
            && !matches!(self.logged, Logged::Other(_))
            && !self.claimed
            && !self.writing_behind
            && !self.queued_dirty
    }

    /// The version that the log holds.
    pub fn logged_version(&self) -> Version {
        match &self.logged {
            Logged::Same => self.visible.version,
            Logged::Absent(version) => *version,
            Logged::Other(state) => state.version,
        }
    }

    /// The state that the log holds, if it is that of a blob.
    pub fn logged_state(&self) -> Option<&BlobState> {
        let state = match &self.logged {
            Logged::Same => &self.visible,
            Logged::Absent(_) => return None,
            Logged::Other(state) => state,
        };
        state.exists().then_some(state)
    }

    fn holds_lone(&self, id: BufferId, location: Location) -> bool {
        let holds = |state: &BlobState| {
            state.lone().is_some_and(|lone| lone.id == id && lone.location == location)
        };
        holds(&self.visible) || matches!(&self.logged, Logged::Other(state) if holds(state))
    }

    /// The lone buffer at this place, in whichever state holds it.
    pub fn find_lone(&self, id: BufferId) -> Option<&Buffer> {
        let of = |state: &'_ BlobState| -> bool { state.lone().is_some_and(|lone| lone.id == id) };
        if of(&self.visible) {
            return self.visible.lone();
        }
        match &self.logged {
            Logged::Other(state) if of(state) => state.lone(),
            _ => None,
        }
    }

    /// Makes a change visible that the log does not hold yet (Memory level).
    #[must_use = "drop what was replaced outside the stripe lock"]
    pub fn set_visible(&mut self, state: BlobState, table: &BufferTable) -> BlobState {
        assert!(state.version > self.visible.version, "versions of a key must grow");
        let old = self.change(table, |entry| {
            let old = std::mem::replace(&mut entry.visible, state);
            if matches!(entry.logged, Logged::Same) {
                entry.logged = match old.exists() {
                    true => Logged::Other(Box::new(old.clone())),
                    false => Logged::Absent(old.version),
                };
            }
            old
        });
        self.release(&old, table.space());
        old
    }

    /// Records what the log holds now. Readers still see the visible state.
    #[must_use = "drop what was replaced outside the stripe lock"]
    pub fn set_logged(&mut self, state: BlobState, table: &BufferTable) -> Option<BlobState> {
        assert!(state.version > self.logged_version(), "the log of a key must grow");
        let new = match state.exists() {
            true => Logged::Other(Box::new(state)),
            false => Logged::Absent(state.version),
        };
        match self.change(table, |entry| std::mem::replace(&mut entry.logged, new)) {
            Logged::Other(old) => {
                self.release(&old, table.space());
                Some(*old)
            }
            // The old logged state is still visible: `publish` will release it.
            Logged::Same | Logged::Absent(_) => None,
        }
    }

    /// Makes the logged state the visible one.
    #[must_use = "drop what was replaced outside the stripe lock"]
    pub fn publish(&mut self, table: &BufferTable) -> BlobState {
        let old = self.change(table, |entry| {
            let new = match std::mem::replace(&mut entry.logged, Logged::Same) {
                Logged::Same => entry.visible.clone(),
                Logged::Absent(version) => BlobState::absent(version),
                Logged::Other(state) => *state,
            };
            std::mem::replace(&mut entry.visible, new)
        });
        self.release(&old, table.space());
        old
    }

    /// The entry has been taken out of the index, or is cleared: its lone buffers are dead.
    pub fn bury(&self, space: &Space) {
        if let Some(lone) = self.visible.lone() {
            space.buffer_died(lone);
        }
        if let Logged::Other(state) = &self.logged
            && let Some(lone) = state.lone()
            && !self
                .visible
                .lone()
                .is_some_and(|seen| seen.id == lone.id && seen.location == lone.location)
        {
            space.buffer_died(lone);
        }
    }

    /// The heat's score now, with the uses of the key's slots in DRAM since the last look.
    pub fn score(&mut self, dram: &Dram, dir: &mut DirStripe, now: Nanos) -> f32 {
        match dram.take_uses(dir, self.hash, self.bucket, &self.key) {
            0 => {}
            uses => self.heat = self.heat.touched_times(uses, now),
        }
        self.heat.score(now)
    }

    /// Whether nobody is at work on the key.
    pub fn is_idle(&self) -> bool {
        !self.claimed && !self.writing_behind && !self.queued_dirty
    }

    /// The blob has gone with all others of its bucket. Who is at work on the key finds it as of
    /// this version.
    #[must_use = "drop what was replaced outside the stripe lock"]
    pub fn clear(&mut self, version: Version, table: &BufferTable) -> (BlobState, Logged) {
        self.bury(table.space());
        self.change(table, |entry| {
            let visible = std::mem::replace(&mut entry.visible, BlobState::absent(version));
            (visible, std::mem::replace(&mut entry.logged, Logged::Same))
        })
    }

    /// A lone buffer that neither state holds any more is dead.
    fn release(&self, old: &BlobState, space: &Space) {
        if let Some(lone) = old.lone()
            && !self.holds_lone(lone.id, lone.location)
        {
            space.buffer_died(lone);
        }
    }

    /// Moves a lone buffer's bytes to another place, wherever the buffer still is at `from`.
    pub fn relocate_lone(
        &mut self,
        id: BufferId,
        from: Location,
        to: Location,
        space: &Space,
    ) -> bool {
        let mut old = None;
        let mut swap = |state: &mut BlobState| {
            if let Value::Lone(lone) = &mut state.value
                && (lone.id == id && lone.location == from || planted(Plant::MoveNotCompared))
            {
                old = Some(lone.clone());
                lone.location = to;
            }
        };
        swap(&mut self.visible);
        if let Logged::Other(state) = &mut self.logged {
            swap(state);
        }
        if let Some(old) = &old {
            space.buffer_died(old);
        }
        old.is_some()
    }

    /// Hands a lone buffer over to the table: every state of this entry that held it names it by
    /// id from now on.
    pub fn hand_over_lone(&mut self, id: BufferId, table: &Arc<BufferTable>) {
        let Some(lone) = self.find_lone(id).cloned() else { return };
        table.define(lone.clone());
        let convert = |state: &mut BlobState| {
            if state.lone().is_some_and(|held| held.id == id && held.location == lone.location) {
                state.value = Value::Mapped(Arc::new(Map::new(vec![whole(&lone)], table)));
            }
        };
        self.change(table, |entry| {
            convert(&mut entry.visible);
            if let Logged::Other(state) = &mut entry.logged {
                convert(state);
            }
        });
    }
}
