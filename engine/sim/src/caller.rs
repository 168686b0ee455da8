//! A caller: changes and reads keys of its own, and tells the oracle.

use std::rc::Rc;
use std::sync::Arc;

use isotherm::{
    Batch, BlobReader, BlobWriter, Bucket, BucketOptions, Durability, Error, ErrorKind, PutOptions,
    Result, Scope, Store,
};

use crate::calls::{self, Call};
use crate::common::{Common, SHARED, bucket_name};
use crate::onlooker;
use crate::options::{Levels, Options, Weather};
use crate::oracle::{KeyId, Op, Value};
use crate::reads::Way;
use crate::rng::Rng;

/// Keys of a batch.
const BATCH_MAX: u64 = 4;
/// Bytes that are read at a time.
const PIECE_MAX: u64 = 200_000;
/// Who has opened a reader begins to read at one look in so many.
const LINGER_ONE_IN: u64 = 6;
/// Pieces of a stream.
const PIECES_MAX: u64 = 6;

/// See the module.
pub struct Caller {
    common: Rc<Common>,
    options: Rc<Options>,
    number: usize,
    keys: Vec<KeyId>,
    rng: Rng,
}

/// A value that comes piece by piece.
struct Stream {
    key: KeyId,
    level: Durability,
    writer: BlobWriter,
    bytes: Vec<u8>,
    pieces: u64,
}

/// A version that is read piece by piece.
struct Reading {
    reader: BlobReader,
    expected: Arc<[u8]>,
    position: usize,
}

/// What a caller has of a store.
struct Session<'a> {
    store: &'a Store,
    buckets: Vec<Bucket>,
    stream: Option<Stream>,
    reading: Option<Reading>,
}

impl Caller {
    /// A caller with keys of its own.
    pub fn new(common: &Rc<Common>, options: &Rc<Options>, number: usize, rng: Rng) -> Caller {
        let keys = (number * options.keys..(number + 1) * options.keys).collect();
        Caller { common: common.clone(), options: options.clone(), number, keys, rng }
    }

    /// Works until it has done so many operations, or until the devices are gone.
    pub async fn run(&mut self, store: &Store, operations: u64) {
        let buckets = match self.common.buckets(store).await {
            Ok(buckets) => buckets,
            Err(error) => return self.unexpected("opening the buckets", &error),
        };
        let mut session = Session { store, buckets, stream: None, reading: None };
        for _ in 0..operations {
            if self.common.is_over.get() || self.common.oracle.borrow().violation.is_some() {
                return;
            }
            self.step(&mut session).await;
            self.common.operations.set(self.common.operations.get() + 1);
        }
    }

    async fn step(&mut self, session: &mut Session<'_>) {
        let pick = self.rng.skewed(self.keys.len() as u64);
        let key = self.keys[pick as usize];
        match self.rng.below(200) {
            _ if self.is_uncertain(key) => self.read_any(session, key).await,
            0..100 => self.change(session, key).await,
            100..116 => self.batch(session).await,
            116..136 => self.copy(session, key).await,
            136..142 if self.options.levels != Levels::Plain || self.rng.one_in(16) => {
                self.flush(session).await;
            }
            142..156 => self.stream(session, key).await,
            156..158 => self.whole(session).await,
            158..170 => self.read_on(session, key).await,
            170 => self.compact(session).await,
            171..186 => self.look(session).await,
            _ => self.read(session, key).await,
        }
    }

    fn is_uncertain(&self, key: KeyId) -> bool {
        self.common.oracle.borrow().is_uncertain(key)
    }

    fn value(&self, key: KeyId) -> Value {
        self.common.oracle.borrow().value(key)
    }

    // ---- changes --------------------------------------------------------------------------

    async fn change(&mut self, session: &Session<'_>, key: KeyId) {
        let call = self.call(key);
        let level = self.level();
        let before = self.value(key);
        if call.needs_blob() && before.is_none() {
            return;
        }
        let op = self.begin(&[(key, call.applied(&before))], level);
        let bucket = self.common.bucket(&session.buckets, key);
        let done = call.make(bucket, &self.common.names[key], PutOptions::from(level)).await;
        self.end(&op, done, "a change");
    }

    async fn batch(&mut self, session: &Session<'_>) {
        let level = self.logged_level();
        let mut keys: Vec<KeyId> = Vec::new();
        for _ in 0..1 + self.rng.below(BATCH_MAX) {
            let key = self.any_key();
            if !keys.contains(&key) && !self.is_uncertain(key) {
                keys.push(key);
            }
        }
        let mut batch = Batch::new();
        let mut changes = Vec::new();
        for key in keys {
            let (before, call) = (self.value(key), self.call(key));
            let bucket = self.common.bucket(&session.buckets, key);
            let is_possible = before.is_some() || !call.needs_blob();
            if is_possible && call.add_to(&mut batch, bucket, &self.common.names[key]) {
                changes.push((key, call.applied(&before)));
            }
        }
        let op = self.begin(&changes, level);
        let done = session.store.commit_async(&batch, Some(level)).await;
        self.end(&op, done.map(drop), "a batch");
    }

    /// A copy, or a rename, to another key of this caller.
    async fn copy(&mut self, session: &Session<'_>, key: KeyId) {
        let to = self.any_key();
        let value = self.value(key);
        if to == key || value.is_none() || self.is_uncertain(to) {
            return;
        }
        let level = self.logged_level();
        let goes = self.rng.one_in(2);
        let mut changes = vec![(to, value)];
        if goes {
            changes.push((key, None));
        }
        let op = self.begin(&changes, level);
        let bucket = |key| self.common.bucket(&session.buckets, key);
        let (from, into) = (bucket(key), bucket(to));
        let (name, to_name) = (&self.common.names[key], &self.common.names[to]);
        let done = if goes {
            from.rename_async(name, into, to_name, level.into()).await
        } else {
            from.copy_async(name, into, to_name, level.into()).await
        };
        self.end(&op, done.map(drop), "a copy");
    }

    /// Begins a stream, goes on with it, commits it or gives it up. Other changes come between.
    async fn stream(&mut self, session: &mut Session<'_>, key: KeyId) {
        let Some(mut stream) = session.stream.take() else {
            let level = self.logged_level();
            let bucket = self.common.bucket(&session.buckets, key);
            match bucket.writer(&self.common.names[key], level.into()) {
                Ok(writer) => {
                    let bytes = Vec::new();
                    session.stream = Some(Stream { key, level, writer, bytes, pieces: 0 });
                }
                Err(error) => self.unexpected("opening a stream", &error),
            }
            return;
        };
        if stream.pieces < PIECES_MAX && !self.rng.one_in(3) {
            let len = self.options.value_len(&mut self.rng);
            let piece = calls::bytes(&mut self.rng, len);
            match stream.writer.append_async(&piece).await {
                Ok(()) => {
                    stream.bytes.extend_from_slice(&piece);
                    stream.pieces += 1;
                    session.stream = Some(stream);
                }
                Err(error) if error.kind() == ErrorKind::NoSpace => {}
                Err(error) => self.unexpected("an append to a stream", &error),
            }
            return;
        }
        if self.rng.one_in(4) || self.is_uncertain(stream.key) {
            return stream.writer.abort();
        }
        let value = Call::Put(stream.bytes.into()).applied(&self.value(stream.key));
        let op = self.begin(&[(stream.key, value)], stream.level);
        let done = stream.writer.commit_async().await;
        self.end(&op, done.map(drop), "the commit of a stream");
    }

    /// What is done to the whole bucket of this caller.
    async fn whole(&mut self, session: &mut Session<'_>) {
        let own = SHARED + self.number;
        let name = bucket_name(own);
        let keys: Vec<KeyId> = self.common.keys_of(own).collect();
        if keys.iter().any(|key| self.is_uncertain(*key)) {
            return;
        }
        let buffer_size = self.rng.one_in(2).then_some(64 << 10);
        let options = BucketOptions { buffer_size, ..BucketOptions::default() };
        let what_to_do = self.rng.below(3);
        if what_to_do == 0 {
            let done = session.store.set_bucket_options_async(&name, options).await;
            return done.unwrap_or_else(|error| self.unexpected("new options of a bucket", &error));
        }
        let none: Vec<(KeyId, Value)> = keys.into_iter().map(|key| (key, None)).collect();
        let op = self.begin(&none, Durability::Written);
        if what_to_do == 1 {
            let done = session.store.clear_bucket_async(&name).await;
            return self.end(&op, done, "a clear");
        }
        session.stream = None;
        let done = session.store.destroy_bucket_async(&name).await;
        self.end(&op, done, "a destroy");
        match self.common.buckets(session.store).await {
            Ok(buckets) => session.buckets = buckets,
            Err(error) => self.unexpected("making a bucket anew", &error),
        }
    }

    /// Has the organizer move what is left in half empty segments, and the log's end go on.
    async fn compact(&mut self, session: &Session<'_>) {
        if let Err(error) = session.store.compact_async().await {
            self.unexpected("a compaction", &error);
        }
    }

    async fn flush(&mut self, session: &Session<'_>) {
        let flush = self.common.oracle.borrow().begin_flush();
        let done = session.store.flush_async(Scope::Store).await;
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

    async fn read(&mut self, session: &Session<'_>, key: KeyId) {
        let expected = self.value(key);
        let bucket = self.common.bucket(&session.buckets, key);
        let way = Way::draw(&mut self.rng);
        match way.read(session.store, bucket, &self.common.names[key]).await {
            Ok(value) if value == expected || self.common.is_over.get() => {}
            Ok(value) => {
                let brief = |value: Value| value.map(|blob| (blob.bytes.len(), blob.rank));
                let (value, expected) = (brief(value), brief(expected));
                let what =
                    format!("a get of key {key}: bytes and rank {value:?}, not {expected:?}");
                self.common.oracle.borrow_mut().blame(what);
            }
            Err(error) => self.unexpected("a get", &error),
        }
    }

    /// Opens a reader, or reads on what it has open, whatever has become of the blob meanwhile.
    async fn read_on(&mut self, session: &mut Session<'_>, key: KeyId) {
        let Some(mut reading) = session.reading.take() else {
            let Some(blob) = self.value(key) else { return };
            let bucket = self.common.bucket(&session.buckets, key);
            match bucket.reader(&self.common.names[key]) {
                Ok(reader) => {
                    session.reading = Some(Reading { reader, expected: blob.bytes, position: 0 });
                }
                Err(error) => self.unexpected("opening a reader", &error),
            }
            return;
        };
        // Meanwhile all around it is overwritten, moved, and used again.
        if reading.position == 0 && !self.rng.one_in(LINGER_ONE_IN) {
            session.reading = Some(reading);
            return;
        }
        let mut piece = vec![0; 1 + self.rng.below(PIECE_MAX) as usize];
        let count = match reading.reader.read_into_async(&mut piece).await {
            Ok(count) => count,
            Err(error) => return self.unexpected("a reader", &error),
        };
        let left = &reading.expected[reading.position..];
        if !left.starts_with(&piece[..count]) || (count == 0) != left.is_empty() {
            let what = format!("a reader shows {count} other bytes at {}", reading.position);
            return self.common.oracle.borrow_mut().blame(what);
        }
        reading.position += count;
        session.reading = (count > 0).then_some(reading);
    }

    /// Of a key that another caller may be changing.
    async fn look(&mut self, session: &Session<'_>) {
        let caller = self.rng.below(self.options.callers as u64) as usize;
        let key = caller * self.options.keys + self.rng.skewed(self.options.keys as u64) as usize;
        let number = self.common.bucket_of(key);
        if number >= SHARED {
            return;
        }
        match onlooker::look(&self.common, &session.buckets[number], key).await {
            Ok(None) => {}
            Ok(Some(what)) => self.common.oracle.borrow_mut().blame(what),
            Err(error) => self.unexpected("a get", &error),
        }
    }

    /// Of a key in doubt: whatever it holds, the call ends.
    async fn read_any(&mut self, session: &Session<'_>, key: KeyId) {
        // Both answers are right.
        let bucket = self.common.bucket(&session.buckets, key);
        let _ = calls::get(bucket, &self.common.names[key]).await;
    }

    // ---- what to do -----------------------------------------------------------------------

    fn any_key(&mut self) -> KeyId {
        self.keys[self.rng.below(self.keys.len() as u64) as usize]
    }

    fn call(&mut self, key: KeyId) -> Call {
        let len = self.value(key).map_or(0, |blob| blob.bytes.len() as u64);
        Call::draw(&mut self.rng, len, &self.options)
    }

    fn level(&mut self) -> Durability {
        match self.options.levels {
            Levels::Lazy if !self.rng.one_in(8) => return Durability::Memory,
            Levels::Eager if !self.rng.one_in(8) => return Durability::Durable,
            Levels::Plain if !self.rng.one_in(64) => return Durability::Written,
            Levels::Mixed | Levels::Lazy | Levels::Eager | Levels::Plain => {}
        }
        self.rng.pick(&[
            Durability::Memory,
            Durability::Written,
            Durability::Written,
            Durability::Durable,
        ])
    }

    /// The level of what is always logged.
    fn logged_level(&mut self) -> Durability {
        match self.options.levels {
            Levels::Plain if !self.rng.one_in(64) => Durability::Written,
            _ => self.rng.pick(&[Durability::Written, Durability::Durable]),
        }
    }
}
