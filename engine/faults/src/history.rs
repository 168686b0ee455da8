//! What was asked of a store and when, and what of it a crash may leave.

use std::sync::atomic::{AtomicU64, Ordering};

use xxhash_rust::xxh3::xxh3_64;

use crate::disk::Disk;

/// Length and hash of a value, or that there is none.
pub type Digest = Option<(u64, u64)>;

/// What stands for a value.
pub fn digest(value: Option<&[u8]>) -> Digest {
    value.map(|value| (value.len() as u64, xxh3_64(value)))
}

/// An instant, among all callers' and among what the disk saw.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Later instants have larger ones.
    pub tick: u64,
    /// How many events the disk had recorded.
    pub position: usize,
}

/// Tells moments.
pub struct Clock<'a> {
    ticks: AtomicU64,
    disk: &'a Disk,
}

impl<'a> Clock<'a> {
    /// Of a disk that records.
    pub fn new(disk: &'a Disk) -> Clock<'a> {
        Clock { ticks: AtomicU64::new(1), disk }
    }

    /// Now.
    pub fn now(&self) -> Moment {
        let tick = self.ticks.fetch_add(1, Ordering::SeqCst);
        Moment { tick, position: self.disk.position() }
    }
}

/// A call that was acknowledged.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Before it.
    pub began: Moment,
    /// After it.
    pub acknowledged: Moment,
}

/// A change of one blob or several, at once.
#[derive(Clone, Debug)]
pub struct Change {
    /// When.
    pub call: Call,
    /// At level Durable, and not Written.
    pub is_durable: bool,
    /// The blobs it changed, and the number of the state of each that it made.
    pub made: Vec<(usize, usize)>,
}

/// A blob that one caller alone changes, so that its states have an order.
#[derive(Clone)]
pub struct Blob {
    /// Its key.
    pub key: Vec<u8>,
    /// What it was, one state after the other; before the first it was not there.
    states: Vec<State>,
}

#[derive(Clone)]
struct State {
    content: Digest,
    /// What made it.
    change: usize,
}

/// Everything that callers did.
#[derive(Clone, Default)]
pub struct History {
    /// By number.
    pub blobs: Vec<Blob>,
    changes: Vec<Change>,
    /// Flushes of the store, and its closes.
    flushes: Vec<Call>,
}

/// What a judgement has compared.
#[derive(Clone, Copy, Default, Debug)]
pub struct Judged {
    /// Changes that had to be there: durable by themselves or by a flush.
    pub durable: u64,
    /// Others that were acknowledged and could be lost.
    pub volatile: u64,
    /// Of those, changes of which it is certain that they are there.
    pub volatile_found: u64,
}

impl Judged {
    /// Adds another judgement.
    pub fn add(&mut self, other: Judged) {
        self.durable += other.durable;
        self.volatile += other.volatile;
        self.volatile_found += other.volatile_found;
    }
}

/// States of a blob that look like what was found, the first and the last of them; 0 is none.
#[derive(Clone, Copy)]
struct Candidates {
    first: usize,
    last: usize,
}

impl History {
    /// Adds a blob; its number.
    pub fn add_blob(&mut self, key: Vec<u8>) -> usize {
        self.blobs.push(Blob { key, states: Vec::new() });
        self.blobs.len() - 1
    }

    /// Adds a change that made these of blobs, each at most once.
    pub fn add_change(&mut self, call: Call, is_durable: bool, contents: &[(usize, Digest)]) {
        let change = self.changes.len();
        let made = contents.iter().map(|&(blob, content)| {
            let states = &mut self.blobs[blob].states;
            states.push(State { content, change });
            (blob, states.len())
        });
        let made = made.collect();
        self.changes.push(Change { call, is_durable, made });
    }

    /// Adds a call that makes durable all that was acknowledged before it.
    pub fn add_flush(&mut self, call: Call) {
        self.flushes.push(call);
    }

    /// Adds all of another caller.
    pub fn append(&mut self, other: History) {
        let (blobs, changes) = (self.blobs.len(), self.changes.len());
        self.blobs.extend(other.blobs.into_iter().map(|mut blob| {
            blob.states.iter_mut().for_each(|state| state.change += changes);
            blob
        }));
        self.changes.extend(other.changes.into_iter().map(|mut change| {
            change.made.iter_mut().for_each(|(blob, _)| *blob += blobs);
            change
        }));
        self.flushes.extend(other.flushes);
    }

    /// How many changes there are.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Positions at which something was acknowledged as durable.
    pub fn promises(&self) -> Vec<usize> {
        let changes = self.changes.iter().filter(|change| change.is_durable);
        changes.map(|change| change.call.acknowledged.position).collect()
    }

    /// Judges what was found of each blob after a crash that came when the disk had seen `boundary`
    /// events.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn judge(&self, boundary: usize, found: &[Digest]) -> Result<Judged, String> {
        let flushes = self.flushes.iter().filter(|call| call.acknowledged.position <= boundary);
        let flushed_tick = flushes.map(|call| call.began.tick).max().unwrap_or(0);
        let must = |change: &Change| {
            change.call.acknowledged.position <= boundary
                && (change.is_durable || change.call.acknowledged.tick < flushed_tick)
        };
        let mut candidates = Vec::with_capacity(found.len());
        for (blob, content) in self.blobs.iter().zip(found) {
            candidates.push(self.candidates(blob, boundary, *content, &must)?);
        }
        self.check_prefix(&candidates)?;
        self.check_batches(&candidates)?;
        Ok(self.count(boundary, &candidates, &must))
    }

    fn candidates(
        &self,
        blob: &Blob,
        boundary: usize,
        content: Digest,
        must: &dyn Fn(&Change) -> bool,
    ) -> Result<Candidates, String> {
        let change = |state: usize| &self.changes[blob.states[state - 1].change];
        let last = (1..=blob.states.len()).rev();
        let lowest = last.clone().find(|&state| must(change(state))).unwrap_or(0);
        let begun = |state: &usize| change(*state).call.began.position < boundary;
        // One that changes nothing may be acknowledged without a write of its own.
        let highest = last.clone().find(begun).unwrap_or(0).max(lowest);
        let looks_so = |state: &usize| match state {
            0 => content.is_none(),
            _ => blob.states[state - 1].content == content,
        };
        let first = (lowest..=highest).find(looks_so);
        let Some((first, last)) = first.zip((lowest..=highest).rev().find(looks_so)) else {
            let anywhere: Vec<usize> = (0..=blob.states.len()).filter(looks_so).collect();
            let key = String::from_utf8_lossy(&blob.key);
            let promise = (lowest > 0).then(|| change(lowest));
            return Err(format!(
                "{key} must be in one of the states {lowest}..={highest}, and looks like {anywhere:?}: \
                 {content:?}; the change that made {lowest}: {promise:?}"
            ));
        };
        Ok(Candidates { first, last })
    }

    /// Nothing is there that came after something that is not.
    fn check_prefix(&self, candidates: &[Candidates]) -> Result<(), String> {
        let made =
            |blob: usize, state: usize| &self.changes[self.blobs[blob].states[state - 1].change];
        let there = candidates.iter().enumerate().filter(|(_, found)| found.first > 0);
        let newest = there.max_by_key(|(blob, found)| made(*blob, found.first).call.began.tick);
        let Some((newest, state)) = newest.map(|(blob, found)| (blob, found.first)) else {
            return Ok(());
        };
        let newest_change = made(newest, state);
        for (blob, found) in candidates.iter().enumerate() {
            let states =
                (found.last + 1..=self.blobs[blob].states.len()).map(|state| made(blob, state));
            let mut missing = states
                .filter(|change| change.call.acknowledged.tick < newest_change.call.began.tick);
            if let Some(missing) = missing.next() {
                return Err(format!(
                    "no prefix: {newest_change:?} is there, and what was acknowledged before it began \
                     is not: {missing:?}"
                ));
            }
        }
        Ok(())
    }

    /// A change of several blobs is there in all of them or in none.
    fn check_batches(&self, candidates: &[Candidates]) -> Result<(), String> {
        for change in self.changes.iter().filter(|change| change.made.len() > 1) {
            let is_in = |&(blob, state): &(usize, usize)| candidates[blob].first >= state;
            let is_out = |&(blob, state): &(usize, usize)| candidates[blob].last < state;
            if change.made.iter().any(is_in) && change.made.iter().any(is_out) {
                return Err(format!("a batch is there in part: {change:?}"));
            }
        }
        Ok(())
    }

    fn count(
        &self,
        boundary: usize,
        candidates: &[Candidates],
        must: &dyn Fn(&Change) -> bool,
    ) -> Judged {
        let mut judged = Judged::default();
        for change in &self.changes {
            let is_there = |&(blob, state): &(usize, usize)| candidates[blob].first >= state;
            if must(change) {
                judged.durable += 1;
            } else if change.call.acknowledged.position <= boundary {
                judged.volatile += 1;
                judged.volatile_found += u64::from(change.made.iter().any(is_there));
            }
        }
        judged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(began: u64, acknowledged: u64) -> Call {
        let moment = |tick: u64| Moment { tick, position: tick as usize };
        Call { began: moment(began), acknowledged: moment(acknowledged) }
    }

    fn value(number: u64) -> Digest {
        Some((number, number))
    }

    /// Two blobs: a Durable change of the first, Written ones of both, a batch.
    fn history() -> History {
        let mut history = History::default();
        let (a, b) = (history.add_blob(b"a".into()), history.add_blob(b"b".into()));
        history.add_change(call(10, 20), true, &[(a, value(1))]);
        history.add_change(call(30, 40), false, &[(a, value(2))]);
        history.add_change(call(50, 60), false, &[(b, value(3))]);
        history.add_change(call(70, 80), false, &[(a, None), (b, value(4))]);
        history
    }

    #[test]
    fn a_durable_change_must_be_there_once_it_was_acknowledged() {
        let history = history();
        assert!(history.judge(20, &[value(1), None]).is_ok());
        assert!(history.judge(20, &[None, None]).is_err());
        assert!(history.judge(19, &[None, None]).is_ok());
        assert!(history.judge(100, &[value(1), None]).is_ok());
        assert!(history.judge(100, &[value(9), None]).is_err(), "a value that never was");
        assert!(history.judge(25, &[value(2), None]).is_err(), "of a change not begun");
    }

    #[test]
    fn a_change_that_needs_no_write_may_be_the_last() {
        let mut history = history();
        let at = Moment { tick: 82, position: 80 };
        history.add_change(Call { began: at, acknowledged: at }, true, &[(1, value(4))]);
        assert!(history.judge(80, &[None, value(4)]).is_ok());
        assert!(history.judge(80, &[None, value(3)]).is_err());
    }

    #[test]
    fn written_changes_are_a_prefix() {
        let history = history();
        assert!(history.judge(65, &[value(2), value(3)]).is_ok());
        assert!(history.judge(65, &[value(2), None]).is_ok());
        assert!(history.judge(65, &[value(1), value(3)]).is_err());
    }

    #[test]
    fn a_flush_makes_all_before_it_durable() {
        let mut history = history();
        history.add_flush(call(61, 65));
        assert!(history.judge(64, &[value(1), None]).is_ok());
        assert!(history.judge(65, &[value(1), None]).is_err());
        assert!(history.judge(65, &[value(2), value(3)]).is_ok());
    }

    #[test]
    fn a_batch_is_there_whole_or_not() {
        let history = history();
        assert!(history.judge(100, &[None, value(4)]).is_ok());
        assert!(history.judge(100, &[value(2), value(3)]).is_ok());
        assert!(history.judge(100, &[value(2), value(4)]).is_err());
        assert!(history.judge(75, &[None, value(3)]).is_err());
    }
}
