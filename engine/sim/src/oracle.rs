//! What each blob may hold, given what was begun and what was acknowledged at which level.
//!
//! Every key belongs to one caller, so its changes have an order: its steps. A store that comes back
//! from a crash shows one of them for each key, and
//!
//! * none older than the last that was promised for such a crash (its *floor*),
//! * all keys of one change on the same side of it,
//! * a prefix of the one order of all changes: whoever shows a change shows all that were acknowledged,
//!   at Written level or above, before it began.

mod judge;

use std::collections::VecDeque;
use std::sync::Arc;

use isotherm::Durability;

/// What there is to know of a blob.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Blob {
    /// Its value.
    pub bytes: Arc<[u8]>,
    /// Its attribute, if it has one.
    pub rank: Option<i64>,
}

/// What a key holds; none where there is no blob.
pub type Value = Option<Blob>;

/// Changes of a key that are remembered for a message.
const TRAIL: usize = 12;

/// A key, by number.
pub type KeyId = usize;

/// What a key was found to hold.
#[derive(Clone, Debug)]
pub enum Found {
    /// This.
    Value(Value),
    /// Nobody can tell: the store says why.
    Error(String),
}

/// How a store ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Its process was killed: the devices keep what they have.
    Kill,
    /// The power failed: the devices keep what was flushed, and some of the rest.
    PowerCut,
}

/// A change under way.
#[derive(Clone, Debug)]
pub struct Op {
    number: u64,
    keys: Vec<KeyId>,
}

/// A flush under way: how far it reaches for each key.
pub struct Flush(Vec<usize>);

/// A read under way of a key that may be changed meanwhile: what it held when the read began, or might
/// have held.
pub struct Reading {
    key: KeyId,
    held: Vec<Value>,
    end: usize,
}

struct Step {
    op: u64,
    began: u64,
    acknowledged: Option<u64>,
    level: Durability,
    value: Value,
}

/// The steps of a key. Positions count from the first there ever was.
struct Key {
    name: String,
    steps: Vec<Step>,
    /// Steps forgotten: none of them may come back.
    forgotten: usize,
    /// The oldest step that may be found after the process was killed.
    kill_floor: usize,
    /// The oldest step that may be found after a power cut.
    power_floor: usize,
    /// The last changes of it, also forgotten ones, to be read when something is wrong.
    trail: VecDeque<String>,
    /// A change of it failed halfway: what it holds now, only a reopened store can tell.
    uncertain: bool,
}

impl Key {
    fn end(&self) -> usize {
        self.forgotten + self.steps.len()
    }

    fn step(&self, at: usize) -> &Step {
        &self.steps[at - self.forgotten]
    }

    /// The newest acknowledged step.
    fn acknowledged(&self) -> usize {
        let last = self.steps.iter().rposition(|step| step.acknowledged.is_some());
        self.forgotten + last.unwrap_or(0)
    }

    fn floor(&self, end: End) -> usize {
        match end {
            End::Kill => self.kill_floor,
            End::PowerCut => self.power_floor,
        }
    }

    fn note(&mut self, what: String) {
        if self.trail.len() == TRAIL {
            self.trail.pop_front();
        }
        self.trail.push_back(what);
    }

    fn raise(&mut self, floor: usize) {
        self.power_floor = self.power_floor.max(floor);
        self.kill_floor = self.kill_floor.max(self.power_floor);
        let surplus = self.power_floor - self.forgotten;
        self.steps.drain(..surplus);
        self.forgotten += surplus;
    }
}

/// See the module.
#[derive(Default)]
pub struct Oracle {
    keys: Vec<Key>,
    clock: u64,
    /// Changes acknowledged at a level that promises something.
    pub promises: u64,
    /// The first thing that was wrong.
    pub violation: Option<String>,
}

impl Oracle {
    /// A new key, without a blob.
    pub fn add_key(&mut self, name: String) -> KeyId {
        let steps = vec![first_step(None)];
        self.keys.push(Key {
            name,
            steps,
            forgotten: 0,
            kill_floor: 0,
            power_floor: 0,
            trail: VecDeque::new(),
            uncertain: false,
        });
        self.keys.len() - 1
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// What a get must answer now.
    pub fn value(&self, key: KeyId) -> Value {
        self.keys[key].steps.last().and_then(|step| step.value.clone())
    }

    /// Whether a failed change has left the key in doubt.
    pub fn is_uncertain(&self, key: KeyId) -> bool {
        self.keys[key].uncertain
    }

    /// A read begins of a key that anybody may change; none of a key in doubt.
    pub fn begin_read(&self, key: KeyId) -> Option<Reading> {
        let known = &self.keys[key];
        let held = &known.steps[known.acknowledged() - known.forgotten..];
        let held = held.iter().map(|step| step.value.clone()).collect();
        (!known.uncertain).then_some(Reading { key, held, end: known.end() })
    }

    /// Whether it may have found this.
    pub fn may_read(&self, reading: &Reading, bytes: Option<&[u8]>) -> bool {
        let known = &self.keys[reading.key];
        // Else a step may have come and gone.
        let all_known = !known.uncertain && known.forgotten <= reading.end;
        let since = known.steps.iter().map(|step| &step.value);
        let mut held = reading.held.iter().chain(since);
        let is_it = |value: &Value| value.as_ref().map(|blob| &*blob.bytes) == bytes;
        !all_known || held.any(is_it)
    }

    /// Notes something wrong.
    pub fn blame(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    /// A change of some keys begins: they will hold these.
    pub fn begin(&mut self, changes: &[(KeyId, Value)], level: Durability) -> Op {
        let began = self.tick();
        for (key, value) in changes {
            let (value, acknowledged) = (value.clone(), None);
            self.keys[*key].note(format!("change {began}, {level:?}, to {}", brief(&value)));
            self.keys[*key].steps.push(Step { op: began, began, acknowledged, level, value });
        }
        Op { number: began, keys: changes.iter().map(|(key, _)| *key).collect() }
    }

    /// It was acknowledged.
    pub fn acknowledge(&mut self, op: &Op) {
        let now = self.tick();
        for key in &op.keys {
            let key = &mut self.keys[*key];
            let at = key.end() - 1;
            let Some(step) = key.steps.last_mut().filter(|step| step.op == op.number) else {
                continue;
            };
            step.acknowledged = Some(now);
            match step.level {
                Durability::Memory => continue,
                Durability::Written => key.kill_floor = at,
                Durability::Durable => key.raise(at),
            }
            self.promises += 1;
        }
    }

    /// It was refused, and has changed nothing.
    pub fn refuse(&mut self, op: &Op) {
        for key in &op.keys {
            let steps = &mut self.keys[*key].steps;
            if steps.last().is_some_and(|step| step.op == op.number) {
                steps.pop();
            }
        }
    }

    /// It failed: it has changed all or nothing.
    pub fn doubt(&mut self, op: &Op) {
        for key in &op.keys {
            self.keys[*key].uncertain = true;
        }
    }

    /// A flush begins.
    pub fn begin_flush(&self) -> Flush {
        Flush(self.keys.iter().map(Key::acknowledged).collect())
    }

    /// A flush was acknowledged.
    pub fn acknowledge_flush(&mut self, flush: &Flush) {
        self.promises += 1;
        for (key, reach) in self.keys.iter_mut().zip(&flush.0) {
            key.raise(*reach);
        }
    }

    /// What was found is what there is, and it is durable: a store has opened.
    pub fn settle(&mut self, found: &[Found]) {
        for (key, found) in self.keys.iter_mut().zip(found) {
            let Found::Value(value) = found else { continue };
            let next = key.end();
            key.steps.push(first_step(value.clone()));
            key.note(format!("opened with {}", brief(value)));
            key.uncertain = false;
            key.raise(next);
        }
    }

    /// A copy that knows only what was found: for a store that is opened, left alone, and lost again.
    pub fn settled(&self, found: &[Found]) -> Oracle {
        let mut oracle = Oracle::default();
        for key in &self.keys {
            oracle.add_key(key.name.clone());
        }
        oracle.settle(found);
        oracle
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }
}

fn first_step(value: Value) -> Step {
    Step { op: 0, began: 0, acknowledged: Some(0), level: Durability::Durable, value }
}

/// A blob's length, first bytes and rank.
fn brief(value: &Value) -> String {
    match value {
        None => "no blob".to_owned(),
        Some(Blob { bytes, rank }) => {
            let first = &bytes[..bytes.len().min(8)];
            format!("{} bytes {first:02x?} of rank {rank:?}", bytes.len())
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn value(byte: u8) -> Value {
        Some(Blob { bytes: Arc::from(vec![byte; 4]), rank: None })
    }

    fn found(values: &[Value]) -> Vec<Found> {
        values.iter().cloned().map(Found::Value).collect()
    }

    fn with_keys(count: usize) -> Oracle {
        let mut oracle = Oracle::default();
        for number in 0..count {
            oracle.add_key(format!("key {number}"));
        }
        oracle
    }

    fn put(oracle: &mut Oracle, key: KeyId, byte: u8, level: Durability) {
        let op = oracle.begin(&[(key, value(byte))], level);
        oracle.acknowledge(&op);
    }

    #[test]
    fn each_level_is_owed_what_it_promises() {
        for (level, kill, cut) in [
            (Durability::Memory, true, true),
            (Durability::Written, false, true),
            (Durability::Durable, false, false),
        ] {
            let mut oracle = with_keys(1);
            put(&mut oracle, 0, 1, level);
            assert_eq!(oracle.check(&found(&[None]), End::Kill).is_ok(), kill, "{level:?}");
            assert_eq!(oracle.check(&found(&[None]), End::PowerCut).is_ok(), cut, "{level:?}");
            assert!(oracle.check(&found(&[value(1)]), End::PowerCut).is_ok());
            assert!(oracle.check(&found(&[value(2)]), End::PowerCut).is_err());
        }
    }

    #[test]
    fn a_flush_covers_what_was_acknowledged_when_it_began() {
        let mut oracle = with_keys(1);
        put(&mut oracle, 0, 1, Durability::Memory);
        let flush = oracle.begin_flush();
        put(&mut oracle, 0, 2, Durability::Memory);
        oracle.acknowledge_flush(&flush);
        assert!(oracle.check(&found(&[None]), End::PowerCut).is_err());
        assert!(oracle.check(&found(&[value(1)]), End::PowerCut).is_ok());
        assert!(oracle.check(&found(&[value(2)]), End::PowerCut).is_ok());
    }

    #[test]
    fn what_is_there_without_what_came_before_it_is_no_prefix() {
        let mut oracle = with_keys(2);
        put(&mut oracle, 0, 1, Durability::Written);
        put(&mut oracle, 1, 2, Durability::Written);
        assert!(oracle.check(&found(&[None, value(2)]), End::PowerCut).is_err());
        assert!(oracle.check(&found(&[value(1), None]), End::PowerCut).is_ok());
        assert!(oracle.check(&found(&[None, None]), End::PowerCut).is_ok());
    }

    #[test]
    fn half_a_change_is_found_also_where_one_key_went_on() {
        let mut oracle = with_keys(2);
        let op = oracle.begin(&[(0, value(1)), (1, value(2))], Durability::Written);
        assert!(oracle.check(&found(&[value(1), None]), End::PowerCut).is_err());
        assert!(oracle.check(&found(&[None, None]), End::PowerCut).is_ok());
        oracle.acknowledge(&op);
        put(&mut oracle, 0, 3, Durability::Memory);
        assert!(oracle.check(&found(&[value(3), None]), End::PowerCut).is_err());
        assert!(oracle.check(&found(&[value(3), value(2)]), End::PowerCut).is_ok());
    }

    #[test]
    fn a_refused_change_must_not_show_and_a_failed_one_may() {
        let mut oracle = with_keys(1);
        let op = oracle.begin(&[(0, value(1))], Durability::Durable);
        oracle.refuse(&op);
        assert!(oracle.check(&found(&[value(1)]), End::PowerCut).is_err());
        let op = oracle.begin(&[(0, value(2))], Durability::Durable);
        oracle.doubt(&op);
        assert!(oracle.check(&found(&[value(2)]), End::PowerCut).is_ok());
        assert!(oracle.check(&found(&[None]), End::PowerCut).is_ok());
        assert!(oracle.is_uncertain(0));
    }

    #[test]
    fn damage_may_hide_a_blob_behind_an_error_and_not_behind_none() {
        let mut oracle = with_keys(1);
        put(&mut oracle, 0, 1, Durability::Durable);
        assert!(oracle.check_damaged(&[Found::Error("rot".into())]).is_ok());
        assert!(oracle.check_damaged(&found(&[value(1)])).is_ok());
        assert!(oracle.check_damaged(&found(&[None])).is_err());
    }
}
