//! Operations on several blobs: batches, copies, renames, puts of many, gets as of one moment.

use std::collections::BTreeSet;

use isotherm::{Batch, Condition, Durability, ErrorKind, Result, Version};

use crate::blobs::Op;
use crate::caller::{Caller, OWN};
use crate::change::{Change, Growth, bytes_of};
use crate::kinds::Kind;
use crate::marks::MarkChanges;
use crate::session::Session;
use crate::support::content::Content;

/// Steps of one batch at most, and bytes of one of its values.
const STEPS_MAX: u64 = 8;
const STEP_VALUE_MAX: u64 = 100 << 10;

/// A step of a batch, as the model does it.
pub struct Step {
    pub part: usize,
    pub key: Vec<u8>,
    pub change: Change,
    pub condition: Condition,
}

impl Caller {
    pub async fn batch(&mut self, session: &Session, level: Option<Durability>) {
        let steps = self.steps();
        let batch = self.batch_of(&steps);
        let done = session.commit(&batch, level).await;
        self.kinds.count(Kind::Batch);
        self.finish_batch(&steps, done);
    }

    /// The same for the engine.
    pub fn batch_of(&self, steps: &[Step]) -> Batch<'static> {
        let mut batch = Batch::new();
        for Step { part, key, change, condition } in steps {
            let (bucket, (seed, len)) = (self.bucket(*part), change.seed_and_len());
            let data = bytes_of(seed, len);
            match change {
                Change::Put { .. } => batch.put(&bucket, key, data),
                Change::PutAt { at, .. } => batch.put_at(&bucket, key, *at, data),
                Change::Append { .. } => batch.append(&bucket, key, data),
                Change::Truncate { len } => batch.truncate(&bucket, key, *len),
                Change::Delete => batch.delete(&bucket, key),
                Change::Attributes(changes) => {
                    batch.set_attributes(&bucket, key, changes.for_engine())
                }
                Change::Require => batch.require(&bucket, key, Condition::None),
                Change::PutRanges(_) | Change::Value(_) => unreachable!("no step: {change:?}"),
            };
            batch.when(*condition);
        }
        batch
    }

    /// Compares how a batch ended, and takes it in.
    pub fn finish_batch(&mut self, steps: &[Step], done: Result<Vec<Version>>) {
        let found = done.as_ref().map_err(|error| error.kind()).err();
        let expected = self.refusal_of(steps);
        assert!(found == expected, "{done:?}, not {expected:?}: {}", self.describe_steps(steps));
        match expected {
            None => {}
            Some(ErrorKind::QuotaExceeded) => self.kinds.count(Kind::BatchRefusedByQuota),
            Some(_) => self.kinds.count(Kind::BatchRefusedByCondition),
        }
        let Ok(versions) = done else {
            return steps.iter().for_each(|step| self.compare_after_refusal(step.part, &step.key));
        };
        let parts: BTreeSet<usize> = steps.iter().map(|step| step.part).collect();
        if parts.len() > 1 {
            self.kinds.count(Kind::BatchAcrossBuckets);
        }
        for (step, version) in steps.iter().zip(versions) {
            self.parts[step.part].apply(&step.key, &step.change, Some(version));
        }
    }

    /// The first condition that fails, else a missing blob, else a quota.
    fn refusal_of(&self, steps: &[Step]) -> Option<ErrorKind> {
        let condition =
            steps.iter().find_map(|step| self.parts[step.part].failure(&step.key, step.condition));
        let missing = || {
            let missing = |step: &Step| {
                self.parts[step.part].refusal_by_blob(&step.key, &step.change, Condition::None)
            };
            steps.iter().find_map(missing)
        };
        let quota = || {
            let mut grown = Growth::default();
            let own = steps.iter().filter(|step| step.part == OWN);
            own.for_each(|step| grown.add(self.parts[OWN].growth(&step.key, &step.change)));
            self.parts[OWN].exceeds(grown).then_some(ErrorKind::QuotaExceeded)
        };
        condition.or_else(missing).or_else(quota)
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
            self.settle_version(part, &key);
            let change = self.step_on(part, &key);
            let holds = !(spoil && number == 0);
            let condition = match holds && !self.rng.one_in(3) {
                true => Condition::None,
                false => self.condition(part, &key, holds),
            };
            self.remember(part, &key, Op::Batch(change.clone()));
            steps.push(Step { part, key, change, condition });
        }
        steps
    }

    fn step_on(&mut self, part: usize, key: &[u8]) -> Change {
        let len = self.parts[part].content(key).map_or(0, Content::len);
        let exists = self.parts[part].blobs.contains_key(key);
        let (seed, size) = (self.rng.next(), self.rng.log_uniform(STEP_VALUE_MAX));
        match self.rng.below(12) {
            4 | 5 => Change::PutAt { at: self.rng.below(len), seed, len: size },
            6 if len < self.plan.value_max => Change::Append { seed, len: size },
            7 if exists => Change::Truncate { len: self.rng.below(len) },
            8 if exists => Change::Delete,
            9 => Change::Require,
            10 if exists || self.rng.one_in(8) => {
                Change::Attributes(MarkChanges::draw(&mut self.rng))
            }
            _ => Change::Put { seed, len: size },
        }
    }

    /// Several puts in one call.
    pub async fn put_many(&mut self, session: &Session, level: Option<Durability>) {
        let mut seen = BTreeSet::new();
        let mut steps = Vec::new();
        for _ in 0..1 + self.rng.below(STEPS_MAX) {
            let (part, key) = self.any_key();
            let (seed, len) = (self.rng.next(), self.rng.log_uniform(STEP_VALUE_MAX));
            if seen.insert((part, key.clone())) {
                let (change, condition) = (Change::Put { seed, len }, Condition::None);
                self.remember(part, &key, Op::Batch(change.clone()));
                steps.push(Step { part, key, change, condition });
            }
        }
        let buckets: Vec<_> = steps.iter().map(|step| self.bucket(step.part)).collect();
        let values: Vec<Vec<u8>> = (steps.iter().map(|step| step.change.seed_and_len()))
            .map(|(seed, len)| bytes_of(seed, len))
            .collect();
        let blobs = buckets.iter().zip(&steps).zip(&values);
        let blobs: Vec<_> =
            blobs.map(|((bucket, step), value)| (bucket, &step.key[..], &value[..])).collect();
        let done = session.put_many(&blobs, level).await;
        self.kinds.count(Kind::PutMany);
        self.finish_batch(&steps, done);
    }

    /// Copies or renames a blob, within its bucket or into the other one.
    pub async fn copy(&mut self, session: &Session, goes: bool, level: Option<Durability>) {
        let (from, to) = (self.any_key(), self.any_key());
        if from == to {
            return;
        }
        self.remember_copy(&from, &to, goes);
        let (bucket, target) = (self.bucket(from.0), self.bucket(to.0));
        let done = session.copy((&bucket, &from.1), (&target, &to.1), goes, level).await;
        self.finish_copy(&from, &to, goes, done);
    }

    pub fn remember_copy(&mut self, from: &(usize, Vec<u8>), to: &(usize, Vec<u8>), goes: bool) {
        let op = if goes { Op::Rename } else { Op::Copy };
        self.remember(from.0, &from.1, op.clone());
        self.remember(to.0, &to.1, op);
    }

    /// Compares how a copy or a rename ended, and takes it in.
    pub fn finish_copy(
        &mut self,
        (from, key): &(usize, Vec<u8>),
        (to, to_key): &(usize, Vec<u8>),
        goes: bool,
        done: Result<Version>,
    ) {
        let Some(blob) = self.parts[*from].blobs.get(key).cloned() else {
            return self.require_failed(*from, key, &done, ErrorKind::NotFound);
        };
        let value = Change::Value(blob.content.clone());
        let mut growth = self.parts[*to].growth(to_key, &value);
        if goes && from == to {
            growth.add(self.parts[*to].growth(key, &Change::Delete));
        }
        if self.parts[*to].exceeds(growth) {
            self.kinds.count(Kind::CopyRefusedByQuota);
            self.require_failed(*to, to_key, &done, ErrorKind::QuotaExceeded);
            self.compare_after_refusal(*from, key);
            return self.compare_after_refusal(*to, to_key);
        }
        let version = done.unwrap_or_else(|e| panic!("{e}: {}", self.describe(*from, key)));
        self.kinds.count(match (goes, from == to) {
            (false, true) => Kind::Copy,
            (false, false) => Kind::CopyAcrossBuckets,
            (true, true) => Kind::Rename,
            (true, false) => Kind::RenameAcrossBuckets,
        });
        self.parts[*to].advance(to_key, version);
        let copy = crate::blobs::Blob { version: Some(version), ..blob };
        self.parts[*to].blobs.insert(to_key.clone(), copy);
        if goes {
            self.parts[*from].blobs.remove(key);
        }
    }

    /// Gets several blobs as of one moment.
    pub async fn get_many(&mut self, session: &Session) {
        self.kinds.count(Kind::GetMany);
        let names: Vec<(usize, Vec<u8>)> =
            (0..1 + self.rng.below(6)).map(|_| self.any_key()).collect();
        let buckets: Vec<_> = names.iter().map(|(part, _)| self.bucket(*part)).collect();
        let blobs: Vec<_> =
            buckets.iter().zip(&names).map(|(bucket, (_, key))| (bucket, &key[..])).collect();
        let values = session.get_many(&blobs).await.unwrap();
        self.compare_values(&names, values);
    }

    pub fn compare_values(&self, names: &[(usize, Vec<u8>)], values: Vec<Result<Vec<u8>>>) {
        assert_eq!(names.len(), values.len());
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

    fn describe_steps(&self, steps: &[Step]) -> String {
        let one = |step: &Step| {
            let Step { change, condition, .. } = step;
            format!("{change:?} under {condition:?}: {}\n", self.describe(step.part, &step.key))
        };
        steps.iter().map(one).collect()
    }
}
