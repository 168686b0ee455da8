//! Operations on several blobs: batches, copies, renames, gets as of one moment, and conditions.

use std::collections::BTreeSet;

use isotherm::{Batch, Condition, Durability, ErrorKind, Version};

use crate::blobs::{Blob, Op};
use crate::caller::Caller;
use crate::session::Session;
use crate::support::content::{Content, fill};

/// Steps of one batch at most, and bytes of one of its values.
const STEPS_MAX: u64 = 8;
const STEP_VALUE_MAX: u64 = 100 << 10;

/// A step of a batch, as the model does it.
struct Step {
    part: usize,
    key: Vec<u8>,
    change: Change,
    condition: Condition,
}

#[derive(Clone, Copy)]
enum Change {
    Put { seed: u64, len: u64 },
    PutAt { at: u64, seed: u64, len: u64 },
    Append { seed: u64, len: u64 },
    Truncate { len: u64 },
    Delete,
    Require,
}

impl Change {
    /// Whether it is about a blob that must be there.
    fn wants_blob(self) -> bool {
        matches!(self, Change::Truncate { .. } | Change::Delete)
    }
}

impl Caller {
    /// A condition that holds, or one that does not, of a blob as the model has it.
    pub fn condition(&mut self, part: usize, key: &[u8], holds: bool) -> Option<Condition> {
        let found = self.parts[part].blobs.get(key).map(|blob| blob.version);
        match (found, holds) {
            (None, true) => Some(Condition::Absent),
            (None, false) => {
                Some(self.rng.pick(&[Condition::Present, Condition::Version(Version(1))]))
            }
            (Some(None), true) => Some(Condition::Present),
            (Some(Some(version)), true) => {
                Some(self.rng.pick(&[Condition::Present, Condition::Version(version)]))
            }
            (Some(_), false) => Some(Condition::Absent),
        }
    }

    /// Whether a condition holds, as far as the model knows.
    fn failure(&self, step: &Step) -> Option<ErrorKind> {
        let found = self.parts[step.part].blobs.get(&step.key);
        match (step.condition, found) {
            (Condition::Absent, Some(_)) => Some(ErrorKind::Exists),
            (Condition::Present | Condition::Version(_), None) => Some(ErrorKind::NotFound),
            (Condition::Version(wanted), Some(blob)) if blob.version != Some(wanted) => {
                Some(ErrorKind::VersionMismatch)
            }
            _ => None,
        }
    }

    pub async fn batch(&mut self, session: &Session, level: Option<Durability>) {
        let steps = self.steps();
        let mut bytes: Vec<Vec<u8>> = Vec::new();
        for step in &steps {
            let (seed, len) = match step.change {
                Change::Put { seed, len }
                | Change::PutAt { seed, len, .. }
                | Change::Append { seed, len } => (seed, len),
                _ => (0, 0),
            };
            let mut data = vec![0; len as usize];
            fill(seed, 0, &mut data);
            bytes.push(data);
        }
        let mut batch = Batch::new();
        for (step, data) in steps.iter().zip(&bytes) {
            let (bucket, key) = (self.bucket(step.part), &step.key[..]);
            match step.change {
                Change::Put { .. } => batch.put(&bucket, key, &data[..]),
                Change::PutAt { at, .. } => batch.put_at(&bucket, key, at, &data[..]),
                Change::Append { .. } => batch.append(&bucket, key, &data[..]),
                Change::Truncate { len } => batch.truncate(&bucket, key, len),
                Change::Delete => batch.delete(&bucket, key),
                Change::Require => batch.require(&bucket, key, Condition::None),
            };
            batch.when(step.condition);
        }
        let condition = steps.iter().find_map(|step| self.failure(step));
        let missing = steps.iter().any(|step| {
            step.change.wants_blob() && !self.parts[step.part].blobs.contains_key(&step.key)
        });
        let expected = condition.or(missing.then_some(ErrorKind::NotFound));
        let done = session.commit(&batch, level).await;
        if let Some(kind) = expected {
            let found = done.as_ref().err().map(|error| error.kind());
            assert_eq!(
                found,
                Some(kind),
                "{done:?}: batch {} of caller",
                self.describe_steps(&steps)
            );
            return;
        }
        let versions = done.unwrap_or_else(|e| panic!("{e}: {}", self.describe_steps(&steps)));
        for (step, version) in steps.iter().zip(versions) {
            self.apply(step, version);
        }
    }

    fn steps(&mut self) -> Vec<Step> {
        let count = 1 + self.rng.below(STEPS_MAX);
        let spoil = self.rng.one_in(8);
        let mut seen = BTreeSet::new();
        let mut steps = Vec::new();
        for number in 0..count {
            let (part, key) = self.any_key();
            if !seen.insert((part, key.clone())) {
                continue;
            }
            let len = self.parts[part].content(&key).map_or(0, Content::len);
            let exists = self.parts[part].blobs.contains_key(&key);
            let (seed, size) = (self.rng.next(), self.rng.log_uniform(STEP_VALUE_MAX));
            let change = match self.rng.below(10) {
                0..4 => Change::Put { seed, len: size },
                4 | 5 => Change::PutAt { at: self.rng.below(len), seed, len: size.max(1) },
                6 if len < self.plan.value_max => Change::Append { seed, len: size.max(1) },
                7 if exists => Change::Truncate { len: self.rng.below(len) },
                8 if exists => Change::Delete,
                9 => Change::Require,
                _ => Change::Put { seed, len: size },
            };
            let holds = !(spoil && number == 0);
            let condition = match holds && !self.rng.one_in(3) {
                true => None,
                false => self.condition(part, &key, holds),
            };
            let condition = condition.unwrap_or_default();
            self.remember(part, &key, Op::Batch);
            steps.push(Step { part, key, change, condition });
        }
        steps
    }

    fn apply(&mut self, step: &Step, version: Version) {
        let part = &mut self.parts[step.part];
        let before = part.blobs.get(&step.key).map(|blob| blob.content.len());
        let idle = match step.change {
            Change::Require => true,
            Change::Truncate { len } => before == Some(len),
            _ => false,
        };
        if idle {
            // Where the log did not have the state yet, it has it now, as a newer version.
            if let (Change::Truncate { .. }, Some(blob)) =
                (step.change, part.blobs.get_mut(&step.key))
            {
                blob.version = None;
            }
            return;
        }
        part.advance(&step.key, version);
        if let Change::Delete = step.change {
            part.blobs.remove(&step.key);
            return;
        }
        let fresh = || Blob { content: Content::default(), version: None };
        let blob = part.blobs.entry(step.key.clone()).or_insert_with(fresh);
        blob.version = Some(version);
        let end = blob.content.len();
        match step.change {
            Change::Put { seed, len } => blob.content = Content::of(seed, len),
            Change::PutAt { at, seed, len } => blob.content.write(at, seed, len),
            Change::Append { seed, len } => blob.content.write(end, seed, len),
            Change::Truncate { len } => blob.content.truncate(len),
            Change::Delete | Change::Require => {}
        }
    }

    /// Copies or renames a blob, within its bucket or into the other one.
    pub async fn rename(&mut self, session: &Session, goes: bool, level: Option<Durability>) {
        let ((from, key), (to, to_key)) = (self.any_key(), self.any_key());
        if (from, &key) == (to, &to_key) {
            return;
        }
        let op = if goes { Op::Rename } else { Op::Copy };
        self.remember(from, &key, op);
        self.remember(to, &to_key, op);
        let (bucket, target) = (self.bucket(from), self.bucket(to));
        let done = session.copy((&bucket, &key), (&target, &to_key), goes, level).await;
        let Some(content) = self.parts[from].content(&key).cloned() else {
            let found = done.as_ref().err().map(|error| error.kind());
            assert_eq!(found, Some(ErrorKind::NotFound), "{}", self.describe(from, &key));
            return;
        };
        let version = done.unwrap_or_else(|e| panic!("{e}: {}", self.describe(from, &key)));
        self.parts[to].advance(&to_key, version);
        self.parts[to].blobs.insert(to_key, Blob { content, version: Some(version) });
        if goes {
            self.parts[from].blobs.remove(&key);
        }
    }

    /// Gets several blobs as of one moment.
    pub async fn get_many(&mut self, session: &Session) {
        let names: Vec<(usize, Vec<u8>)> =
            (0..1 + self.rng.below(6)).map(|_| self.any_key()).collect();
        let buckets: Vec<_> = names.iter().map(|(part, _)| self.bucket(*part)).collect();
        let blobs: Vec<_> =
            buckets.iter().zip(&names).map(|(bucket, (_, key))| (bucket, &key[..])).collect();
        let values = session.get_many(&blobs).await.unwrap();
        for ((part, key), value) in names.iter().zip(values) {
            match (self.parts[*part].content(key).map(Content::len), value) {
                (None, Err(error)) => assert_eq!(error.kind(), ErrorKind::NotFound),
                (Some(len), Ok(value)) => {
                    assert_eq!(value.len() as u64, len, "{}", self.describe(*part, key));
                    self.require_bytes(*part, key, 0, &value);
                }
                (len, value) => {
                    panic!("{value:?} for {len:?} bytes: {}", self.describe(*part, key))
                }
            }
        }
    }

    fn any_key(&mut self) -> (usize, Vec<u8>) {
        let part = self.rng.below(2) as usize;
        let keys = self.parts[part].universe.len() as u64;
        (part, self.parts[part].universe[self.rng.skewed(keys) as usize].clone())
    }

    fn describe_steps(&self, steps: &[Step]) -> String {
        steps.iter().map(|step| self.describe(step.part, &step.key) + "\n").collect()
    }
}
