//! A caller: changes and reads keys of its own, and tells the oracle.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use isotherm::api::edit::Edit;
use isotherm::{
    Batch, Bucket, BucketOptions, Durability, Error, ErrorKind, PutOptions, Result, Scope, Store,
};

use crate::options::{Options, Weather};
use crate::oracle::{KeyId, Op, Oracle, Value};
use crate::rng::Rng;

/// Names of the buckets. A key is in the one that its number says.
pub const BUCKETS: [&str; 2] = ["first", "second"];
/// Sizes above this are drawn for one value in [`BIG_ONE_IN`].
const BIG: u64 = 40_000;
const BIG_ONE_IN: u64 = 8;
/// Keys of a batch.
const BATCH_MAX: u64 = 4;

/// What the callers of a store share.
pub struct Common {
    /// What must be there.
    pub oracle: RefCell<Oracle>,
    /// The names of the keys, by number.
    pub names: Vec<Vec<u8>>,
    /// Operations that were answered.
    pub operations: Cell<u64>,
    /// The devices are gone: nothing means anything any more.
    pub is_over: Cell<bool>,
}

impl Common {
    /// For the keys of all callers, in order.
    pub fn new(options: &Options) -> Common {
        let mut oracle = Oracle::default();
        let mut names = Vec::new();
        for number in 0..options.callers {
            for key in 0..options.keys {
                let name = format!("caller {number} key {key}");
                names.push(name.clone().into_bytes());
                oracle.add_key(name);
            }
        }
        let (operations, is_over) = (Cell::new(0), Cell::new(false));
        Common { oracle: RefCell::new(oracle), names, operations, is_over }
    }

    /// The buckets of a store, made where they are not there.
    pub async fn buckets(store: &Store) -> Result<Vec<Bucket>> {
        let mut buckets = Vec::new();
        for name in BUCKETS {
            match store.create_bucket_async(name, BucketOptions::default()).await {
                Err(error) if error.kind() == ErrorKind::BucketExists => {
                    buckets.push(store.open_bucket(name)?);
                }
                made => buckets.push(made?),
            }
        }
        Ok(buckets)
    }
}

/// See the module.
pub struct Caller {
    common: Rc<Common>,
    options: Rc<Options>,
    keys: Vec<KeyId>,
    rng: Rng,
}

/// How a change of one or several keys is to be called.
enum Call {
    Put(Arc<[u8]>),
    PutAt(u64, Arc<[u8]>),
    Append(Arc<[u8]>),
    Truncate(u64),
    Delete,
}

impl Call {
    fn edit(&self) -> Edit<'_> {
        match self {
            Call::Put(bytes) => Edit::Replace(bytes),
            Call::PutAt(at, bytes) => Edit::PutAt(*at, bytes),
            Call::Append(bytes) => Edit::Append(bytes),
            Call::Truncate(len) => Edit::Truncate(*len),
            Call::Delete => Edit::Delete,
        }
    }

    /// What a value becomes.
    fn applied(&self, before: &Value) -> Value {
        let mut bytes = before.as_deref().unwrap_or_default().to_vec();
        match self {
            Call::Put(new) => return Some(new.clone()),
            Call::Delete => return None,
            Call::PutAt(at, new) => {
                let at = *at as usize;
                bytes.resize(bytes.len().max(at + new.len()), 0);
                bytes[at..at + new.len()].copy_from_slice(new);
            }
            Call::Append(new) => bytes.extend_from_slice(new),
            Call::Truncate(len) => bytes.resize(*len as usize, 0),
        }
        Some(bytes.into())
    }
}

impl Caller {
    /// A caller with keys of its own.
    pub fn new(common: &Rc<Common>, options: &Rc<Options>, number: usize, rng: Rng) -> Caller {
        let keys = (number * options.keys..(number + 1) * options.keys).collect();
        Caller { common: common.clone(), options: options.clone(), keys, rng }
    }

    /// Works until it has done so many operations, or until the devices are gone.
    pub async fn run(&mut self, store: &Store, operations: u64) {
        let buckets = match Common::buckets(store).await {
            Ok(buckets) => buckets,
            Err(error) => return self.unexpected("opening the buckets", &error),
        };
        for _ in 0..operations {
            if self.common.is_over.get() || self.common.oracle.borrow().violation.is_some() {
                return;
            }
            self.step(store, &buckets).await;
            self.common.operations.set(self.common.operations.get() + 1);
        }
    }

    async fn step(&mut self, store: &Store, buckets: &[Bucket]) {
        let pick = self.rng.skewed(self.keys.len() as u64);
        let key = self.keys[pick as usize];
        match self.rng.below(100) {
            _ if self.common.oracle.borrow().is_uncertain(key) => self.read_any(buckets, key).await,
            0..55 => self.change(buckets, key).await,
            55..63 => self.batch(store, buckets).await,
            63..73 => self.copy(buckets, key).await,
            73..76 => self.flush(store).await,
            _ => self.read(buckets, key).await,
        }
    }

    // ---- changes --------------------------------------------------------------------------

    async fn change(&mut self, buckets: &[Bucket], key: KeyId) {
        let call = self.call(key);
        let level = self.level();
        let before = self.common.oracle.borrow().value(key);
        let needs_blob = matches!(call, Call::Truncate(_) | Call::Delete);
        if needs_blob && before.is_none() {
            return;
        }
        let op = self.begin(&[(key, call.applied(&before))], level);
        let name = self.name(key);
        let done = bucket(buckets, key).edit(&name, call.edit(), PutOptions::from(level)).await;
        self.end(&op, done.map(drop), "a change");
    }

    async fn batch(&mut self, store: &Store, buckets: &[Bucket]) {
        let level = self.rng.pick(&[Durability::Written, Durability::Durable]);
        let mut keys: Vec<KeyId> = Vec::new();
        for _ in 0..1 + self.rng.below(BATCH_MAX) {
            let key = self.keys[self.rng.below(self.keys.len() as u64) as usize];
            if !keys.contains(&key) && !self.common.oracle.borrow().is_uncertain(key) {
                keys.push(key);
            }
        }
        let mut batch = Batch::new();
        let mut changes = Vec::new();
        for key in keys {
            let before = self.common.oracle.borrow().value(key);
            let (name, bucket) = (self.name(key), bucket(buckets, key));
            let call = match self.call(key) {
                Call::Truncate(_) | Call::Delete if before.is_none() => continue,
                call => call,
            };
            changes.push((key, call.applied(&before)));
            match call {
                Call::Put(bytes) => batch.put(bucket, &name, bytes.to_vec()),
                Call::PutAt(at, bytes) => batch.put_at(bucket, &name, at, bytes.to_vec()),
                Call::Append(bytes) => batch.append(bucket, &name, bytes.to_vec()),
                Call::Truncate(len) => batch.truncate(bucket, &name, len),
                Call::Delete => batch.delete(bucket, &name),
            };
        }
        let op = self.begin(&changes, level);
        let done = store.commit_async(&batch, Some(level)).await;
        self.end(&op, done.map(drop), "a batch");
    }

    /// A copy, or a rename, to another key of this caller.
    async fn copy(&mut self, buckets: &[Bucket], key: KeyId) {
        let to = self.keys[self.rng.below(self.keys.len() as u64) as usize];
        let value = self.common.oracle.borrow().value(key);
        if to == key || value.is_none() || self.common.oracle.borrow().is_uncertain(to) {
            return;
        }
        let level = self.rng.pick(&[Durability::Written, Durability::Durable]);
        let goes = self.rng.one_in(2);
        let mut changes = vec![(to, value)];
        if goes {
            changes.push((key, None));
        }
        let op = self.begin(&changes, level);
        let (from_name, to_name) = (self.name(key), self.name(to));
        let (from, into, how) = (bucket(buckets, key), bucket(buckets, to), level.into());
        let done = if goes {
            from.rename_async(&from_name, into, &to_name, how).await
        } else {
            from.copy_async(&from_name, into, &to_name, how).await
        };
        self.end(&op, done.map(drop), "a copy");
    }

    async fn flush(&mut self, store: &Store) {
        let flush = self.common.oracle.borrow().begin_flush();
        let done = store.flush_async(Scope::Store).await;
        if self.common.is_over.get() {
            return;
        }
        match done {
            Ok(()) => self.common.oracle.borrow_mut().acknowledge_flush(&flush),
            Err(error) => self.unexpected("a flush", &error),
        }
    }

    fn begin(&self, changes: &[(KeyId, Value)], level: Durability) -> Op {
        self.common.oracle.borrow_mut().begin(changes, level)
    }

    fn end(&self, op: &Op, done: Result<()>, what: &str) {
        if self.common.is_over.get() {
            return;
        }
        match done {
            Ok(()) => self.common.oracle.borrow_mut().acknowledge(op),
            Err(error) if error.kind() == ErrorKind::NoSpace => {
                match self.options.weather {
                    // A device that says so halfway leaves it open what it has done.
                    Weather::NoSpace => self.common.oracle.borrow_mut().doubt(op),
                    _ => self.common.oracle.borrow_mut().refuse(op),
                }
            }
            Err(error) => {
                self.common.oracle.borrow_mut().doubt(op);
                self.unexpected(what, &error);
            }
        }
    }

    /// No operation fails in fair weather.
    fn unexpected(&self, what: &str, error: &Error) {
        let over = self.common.is_over.get();
        if !over && self.options.weather == Weather::Fair {
            let what = format!("{what} failed with nothing wrong: {:?}: {error}", error.kind());
            self.common.oracle.borrow_mut().blame(what);
        }
    }

    // ---- reads ----------------------------------------------------------------------------

    async fn read(&mut self, buckets: &[Bucket], key: KeyId) {
        let expected = self.common.oracle.borrow().value(key);
        let got = get(bucket(buckets, key), &self.name(key)).await;
        match got {
            Ok(value) if value == expected || self.common.is_over.get() => {}
            Ok(value) => {
                let lens = (value.map(|v| v.len()), expected.map(|v| v.len()));
                let what = format!("a get of key {key} answers wrongly: {lens:?} bytes");
                self.common.oracle.borrow_mut().blame(what);
            }
            Err(error) => self.unexpected("a get", &error),
        }
    }

    /// Of a key in doubt: whatever it holds, the call ends.
    async fn read_any(&mut self, buckets: &[Bucket], key: KeyId) {
        // Both answers are right.
        let _ = get(bucket(buckets, key), &self.name(key)).await;
    }

    // ---- what to do -----------------------------------------------------------------------

    fn call(&mut self, key: KeyId) -> Call {
        let len = self.common.oracle.borrow().value(key).map_or(0, |value| value.len() as u64);
        match self.rng.below(20) {
            0..10 => Call::Put(self.bytes()),
            10..13 => {
                let at = self.rng.below(len + len / 8 + 2);
                Call::PutAt(at, self.bytes())
            }
            13..15 if len < 2 * self.options.value_max => Call::Append(self.bytes()),
            15..17 => Call::Truncate(self.rng.below(len + len / 8 + 2)),
            17..19 => Call::Delete,
            _ => Call::Put(self.bytes()),
        }
    }

    fn bytes(&mut self) -> Arc<[u8]> {
        let max = self.options.value_max;
        let mut len = self.rng.log_uniform(max);
        if len > BIG && !self.rng.one_in(BIG_ONE_IN) {
            len = self.rng.log_uniform(BIG);
        }
        let mut word = self.rng.next();
        let mut bytes = Vec::with_capacity(len as usize + 8);
        while bytes.len() < len as usize {
            bytes.extend_from_slice(&word.to_le_bytes());
            word = word.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
        }
        bytes.truncate(len as usize);
        bytes.into()
    }

    fn level(&mut self) -> Durability {
        if self.options.lazy && !self.rng.one_in(8) {
            return Durability::Memory;
        }
        self.rng.pick(&[
            Durability::Memory,
            Durability::Written,
            Durability::Written,
            Durability::Durable,
        ])
    }

    fn name(&self, key: KeyId) -> Vec<u8> {
        self.common.names[key].clone()
    }
}

/// The bucket of a key.
pub fn bucket(buckets: &[Bucket], key: KeyId) -> &Bucket {
    &buckets[key % buckets.len()]
}

/// A key's value; none where there is no blob.
pub async fn get(bucket: &Bucket, name: &[u8]) -> Result<Value> {
    match bucket.get_async(name).await {
        Ok(bytes) => Ok(Some(bytes.into())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
