//! Operations that run side by side in one queue, on different keys.

use std::collections::BTreeSet;

use isotherm::{
    Action, BlobName, Completion, Condition, ErrorKind, OpId, OpMemory, Operation, PutOptions,
};

use crate::blobs::Op;
use crate::caller::Caller;
use crate::change::{Change, bytes_of};
use crate::groups::Step;
use crate::kinds::Kind;
use crate::session::Session;

/// Operations of a burst at most.
const BURST_MAX: u64 = 10;

/// One of them, as the model does it.
enum Queued {
    Change { part: usize, key: Vec<u8>, change: Change },
    Get { part: usize, key: Vec<u8> },
    Copy { from: (usize, Vec<u8>), to: (usize, Vec<u8>), goes: bool },
    Batch(Vec<Step>),
    GetMany(Vec<(usize, Vec<u8>)>),
}

impl Caller {
    pub async fn burst(&mut self, session: &Session) {
        self.kinds.count(Kind::QueueOfSeveral);
        let queue = session.store.queue(BURST_MAX as usize).unwrap();
        let mut used = BTreeSet::new();
        let mut under_way: Vec<(OpId, Option<Queued>)> = Vec::new();
        for number in 0..2 + self.rng.below(BURST_MAX - 1) {
            let Some(queued) = self.draw_queued(&mut used) else { continue };
            let operation = self.operation(&queued).tagged(number);
            let id = queue.submit(operation).map_err(|refused| refused.error).unwrap();
            under_way.push((id, Some(queued)));
            if self.rng.one_in(10) {
                queue.cancel(id);
            }
        }
        let mut ended = Vec::new();
        while queue.outstanding() > 0 {
            session.wait_for(&queue, 1, &mut ended).await;
        }
        self.is_behind = true;
        for completion in ended {
            let queued = under_way.iter_mut().find(|(id, _)| *id == completion.id);
            let queued = queued.and_then(|(_, queued)| queued.take());
            self.finish_queued(queued.expect("a completion of its own"), completion);
        }
        self.is_behind = false;
        assert!(under_way.iter().all(|(_, queued)| queued.is_none()), "an operation never ended");
    }

    /// A key that no other of the burst has, of a bucket without a quota: side by side nobody knows who
    /// would exceed it.
    fn key_apart(&mut self, used: &mut BTreeSet<(usize, Vec<u8>)>) -> Option<(usize, Vec<u8>)> {
        let (part, key) = self.any_key();
        let is_free = !self.parts[part].is_limited() && used.insert((part, key.clone()));
        is_free.then_some((part, key))
    }

    fn draw_queued(&mut self, used: &mut BTreeSet<(usize, Vec<u8>)>) -> Option<Queued> {
        Some(match self.rng.below(12) {
            0..5 => {
                let (part, key) = self.key_apart(used)?;
                let change = match self.choose_change(part, &key) {
                    // No queue changes attributes.
                    Change::Attributes(_) => Change::Delete,
                    change => change,
                };
                self.remember(part, &key, Op::Queued(change.clone()));
                Queued::Change { part, key, change }
            }
            5..8 => {
                let (part, key) = self.key_apart(used)?;
                Queued::Get { part, key }
            }
            8 => {
                let (from, to) = (self.key_apart(used)?, self.key_apart(used)?);
                let goes = self.rng.one_in(2);
                self.remember_copy(&from, &to, goes);
                Queued::Copy { from, to, goes }
            }
            9 | 10 => {
                let mut steps = Vec::new();
                for _ in 0..2 {
                    let (part, key) = self.key_apart(used)?;
                    let (seed, len) = (self.rng.next(), self.rng.log_uniform(60_000));
                    let change = Change::Put { seed, len };
                    self.remember(part, &key, Op::Batch(change.clone()));
                    steps.push(Step { part, key, change, condition: Condition::None });
                }
                Queued::Batch(steps)
            }
            _ => Queued::GetMany(vec![self.key_apart(used)?, self.key_apart(used)?]),
        })
    }

    fn operation(&mut self, queued: &Queued) -> Operation {
        let level = self.level();
        let options = PutOptions { durability: level, ..PutOptions::default() };
        match queued {
            Queued::Change { part, key, change } => {
                let bucket = self.bucket(*part);
                let (seed, len) = change.seed_and_len();
                let action = match change {
                    Change::Put { .. } => Action::Put,
                    Change::PutAt { at, .. } => Action::PutAt(*at),
                    Change::Append { .. } => Action::Append,
                    Change::Truncate { len } => Action::Truncate(*len),
                    Change::Delete => Action::Delete,
                    Change::PutRanges(ranges) => {
                        let bytes = ranges.iter().map(|r| (r.at, bytes_of(r.seed, r.len)));
                        let operation = Operation::put_ranges(&bucket, key, bytes.collect());
                        return operation.with(options);
                    }
                    _ => unreachable!("no queued change: {change:?}"),
                };
                let memory = OpMemory::Owned(bytes_of(seed, len));
                Operation::new(&bucket, key, action, memory).with(options)
            }
            Queued::Get { part, key } => Operation::get(&self.bucket(*part), key),
            Queued::Copy { from, to, goes } => {
                let bucket = self.bucket(from.0);
                let name = BlobName::new(&self.bucket(to.0), &to.1);
                match goes {
                    true => Operation::rename(&bucket, &from.1, name).with(options),
                    false => Operation::copy(&bucket, &from.1, name).with(options),
                }
            }
            Queued::Batch(steps) => {
                Operation::commit(&self.bucket(0), self.batch_of(steps)).with(options)
            }
            Queued::GetMany(names) => {
                let blobs: Vec<BlobName> = names
                    .iter()
                    .map(|(part, key)| BlobName::new(&self.bucket(*part), key))
                    .collect();
                Operation::get_many(&self.bucket(0), blobs)
            }
        }
    }

    fn finish_queued(&mut self, queued: Queued, completion: Completion) {
        let Completion { result, memory, .. } = completion;
        if result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Cancelled) {
            // Nothing has changed: later reads find what the model has.
            return self.kinds.count(Kind::QueuedCancelled);
        }
        match queued {
            Queued::Change { part, key, change } => {
                self.kinds.count(match change {
                    Change::PutRanges(_) => Kind::QueuedRanges,
                    _ => Kind::QueuedChange,
                });
                let is_append = matches!(change, Change::Append { .. });
                let done = result.map(|done| (done.version, is_append.then_some(done.offset)));
                self.finish_change(part, &key, &change, Condition::None, done);
            }
            Queued::Get { part, key } => {
                self.kinds.count(Kind::QueuedGet);
                let value = result.map(|done| {
                    let OpMemory::Owned(value) = memory else { panic!("no value handed back") };
                    assert_eq!((done.bytes, done.value_len), (value.len(), value.len() as u64));
                    value
                });
                self.compare_values(&[(part, key)], vec![value]);
            }
            Queued::Copy { from, to, goes } => {
                self.kinds.count(Kind::QueuedCopyOrRename);
                let done = result.map(|done| done.version.expect("a copy makes a version"));
                self.finish_copy(&from, &to, goes, done);
            }
            Queued::Batch(steps) => {
                self.kinds.count(Kind::QueuedBatch);
                let done = result.map(|_| {
                    let OpMemory::Versions(versions) = memory else { panic!("no versions") };
                    versions.to_vec()
                });
                self.finish_batch(&steps, done);
            }
            Queued::GetMany(names) => {
                self.kinds.count(Kind::QueuedGetMany);
                result.unwrap();
                let OpMemory::Values(values) = memory else { panic!("no values handed back") };
                self.compare_values(&names, values.into_iter().collect());
            }
        }
    }
}
