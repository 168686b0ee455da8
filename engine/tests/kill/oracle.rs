//! What each key may hold, given what the writers have noted.

use std::collections::{BTreeMap, BTreeSet};

use isotherm::Durability;
use xxhash_rust::xxh3::Xxh3;

use crate::groups::{ABSENT, NAMES, TORN};
use crate::journal::{Event, Kind};
use crate::support::content::Content;

/// A key's state; nothing where there is no blob.
pub type State = Option<Content>;

/// The states that a key may be in after a kill: the last safe one, then what was changed since
/// and is not promised, in order.
#[derive(Clone, Debug)]
struct Key {
    states: Vec<State>,
    /// How many of them are acknowledged; the rest is under way.
    acknowledged: usize,
}

/// See the module.
#[derive(Default)]
pub struct Oracle {
    keys: BTreeMap<u64, Key>,
    /// Per thread: the key and level of the change under way.
    pending: BTreeMap<u64, (u64, Durability)>,
    /// Per thread that flushes: how many states of each key the flush covers.
    flushing: BTreeMap<u64, BTreeMap<u64, usize>>,
    /// What changes together only, by group.
    groups: BTreeMap<u64, Together>,
    /// Acknowledgements that promise something.
    pub promises: u64,
}

/// Of one group: what was acknowledged last, and whether the next is under way.
#[derive(Default)]
struct Together {
    stamp: u64,
    stamp_wanted: u64,
    /// `None`: the wandering blob has not been made.
    at: Option<u64>,
    wandering: bool,
}

impl Oracle {
    /// The keys whose state only the store can tell.
    pub fn uncertain(&self) -> BTreeSet<u64> {
        self.keys.iter().filter(|(_, key)| key.states.len() > 1).map(|(key, _)| *key).collect()
    }

    /// The only state a key may be in.
    pub fn certain(&self, key: u64) -> State {
        let found = self.keys.get(&key)?;
        assert_eq!(found.states.len(), 1, "key {key} is uncertain");
        found.states[0].clone()
    }

    pub fn keys(&self) -> impl Iterator<Item = u64> + '_ {
        self.keys.keys().copied()
    }

    /// Takes in what a writer noted. Afterwards nothing is under way.
    pub fn follow(&mut self, events: &[Event]) -> Result<(), String> {
        for event in events {
            self.take(event)?;
        }
        self.pending.clear();
        self.flushing.clear();
        for key in self.keys.values_mut() {
            key.acknowledged = key.states.len();
        }
        Ok(())
    }

    fn take(&mut self, event: &Event) -> Result<(), String> {
        match *event {
            Event::Found { key, value } => self.settle(key, value)?,
            Event::Intent { thread, key, level, kind } => {
                let known =
                    self.keys.entry(key).or_insert(Key { states: vec![None], acknowledged: 1 });
                let next = apply(known.states.last().cloned().flatten(), kind);
                known.states.push(next);
                self.pending.insert(thread, (key, level));
            }
            Event::Ack { thread, .. } => {
                let pending = self.pending.remove(&thread);
                let (key, level) = pending.ok_or("an acknowledgement of nothing")?;
                if let Some(key) = self.keys.get_mut(&key) {
                    key.acknowledged = key.states.len();
                    if level > Durability::Memory {
                        self.promises += 1;
                        key.forget_before(key.states.len());
                    }
                }
                if level > Durability::Memory {
                    self.uncover(key);
                }
            }
            Event::FlushIntent { thread } => {
                let covers =
                    self.keys.iter().map(|(key, found)| (*key, found.acknowledged)).collect();
                self.flushing.insert(thread, covers);
            }
            Event::FlushAck { thread } => {
                let covers = self.flushing.remove(&thread).ok_or("a flush that nobody began")?;
                self.promises += 1;
                for (key, acknowledged) in covers {
                    let Some(found) = self.keys.get_mut(&key) else { continue };
                    let dropped = found.forget_before(acknowledged);
                    // Other flushes under way counted the same states.
                    for other in self.flushing.values_mut() {
                        if let Some(count) = other.get_mut(&key) {
                            *count = count.saturating_sub(dropped).max(1);
                        }
                    }
                }
            }
            Event::Closed => {
                for key in self.keys.values_mut() {
                    key.forget_before(key.acknowledged);
                }
            }
            Event::GroupIntent { group, stamp } => self.group(group).stamp_wanted = stamp,
            Event::GroupAck { group, stamp } => {
                self.promises += 1;
                self.group(group).stamp = stamp;
            }
            Event::GroupFound { group, stamp } => self.group(group).settle_stamp(stamp)?,
            Event::WandererIntent { group } => self.group(group).wandering = true,
            Event::WandererAck { group, at } => {
                self.promises += 1;
                let group = self.group(group);
                (group.at, group.wandering) = (Some(at), false);
            }
            Event::WandererFound { group, at } => self.group(group).settle_place(at)?,
            Event::Opened | Event::Reported | Event::Stats { .. } => {}
        }
        Ok(())
    }

    fn group(&mut self, group: u64) -> &mut Together {
        self.groups.entry(group).or_default()
    }

    /// What the store has of a group, found by another open.
    pub fn settle_group(&mut self, group: u64, stamp: u64, at: u64) -> Result<(), String> {
        self.group(group).settle_stamp(stamp)?;
        self.group(group).settle_place(at)
    }

    /// What the store has of a streamed value, found by another open.
    pub fn settle_stream(&mut self, group: u64, stamp: u64) -> Result<(), String> {
        self.group(group).settle_stamp(stamp)
    }

    /// A later promise about the key is worth more than what a flush under way will say.
    fn uncover(&mut self, key: u64) {
        for covers in self.flushing.values_mut() {
            covers.remove(&key);
        }
    }

    /// The store has told what the key holds: that is safe from now on.
    pub fn settle(&mut self, key: u64, value: Option<(u64, u64)>) -> Result<(), String> {
        let known = self.keys.entry(key).or_insert(Key { states: vec![None], acknowledged: 1 });
        let matching = known.states.iter().rposition(|state| state.as_ref().map(digest) == value);
        let Some(at) = matching else {
            let possible: Vec<_> = known.states.iter().map(|s| s.as_ref().map(digest)).collect();
            return Err(format!(
                "key {key} holds {value:?} (length, hash), but may hold only one of {possible:?}: {:?}",
                known.states
            ));
        };
        let state = known.states.swap_remove(at);
        *known = Key { states: vec![state], acknowledged: 1 };
        Ok(())
    }
}

impl Together {
    fn settle_stamp(&mut self, found: u64) -> Result<(), String> {
        let (least, most) = (self.stamp, self.stamp_wanted.max(self.stamp));
        if found == TORN {
            return Err(format!("half of a batch shows, of stamp {least} to {most}"));
        }
        if !(least..=most).contains(&found) {
            return Err(format!("a group has stamp {found}, not {least} to {most}"));
        }
        (self.stamp, self.stamp_wanted) = (found, found);
        Ok(())
    }

    fn settle_place(&mut self, found: u64) -> Result<(), String> {
        let next = self.at.map_or(0, |at| (at + 1) % NAMES);
        let may = [self.at.unwrap_or(ABSENT), if self.wandering { next } else { TORN }];
        if found == TORN || !may.contains(&found) {
            return Err(format!("a renamed blob is at {found:#x}, not at one of {may:x?}"));
        }
        (self.at, self.wandering) = ((found != ABSENT).then_some(found), false);
        Ok(())
    }
}

impl Key {
    /// States before this one's predecessor cannot be met any more. Returns how many went.
    fn forget_before(&mut self, count: usize) -> usize {
        let dropped = count.saturating_sub(1);
        self.states.drain(..dropped);
        self.acknowledged = self.acknowledged.saturating_sub(dropped).max(1);
        dropped
    }
}

fn apply(before: State, kind: Kind) -> State {
    let mut content = before.unwrap_or_default();
    match kind {
        Kind::Put { seed, len } => content = Content::of(seed, len),
        Kind::PutAt { at, seed, len } => content.write(at, seed, len),
        Kind::Append { seed, len } => content.write(content.len(), seed, len),
        Kind::Truncate { len } => content.truncate(len),
        Kind::Delete => return None,
    }
    Some(content)
}

/// Length and hash of what a key holds.
pub fn digest(content: &Content) -> (u64, u64) {
    let mut hasher = Xxh3::new();
    let mut scratch = vec![0; 64 << 10];
    let mut at = 0;
    while at < content.len() {
        let part = scratch.len().min((content.len() - at) as usize);
        content.read(at, &mut scratch[..part]);
        hasher.update(&scratch[..part]);
        at += part as u64;
    }
    (content.len(), hasher.digest())
}
