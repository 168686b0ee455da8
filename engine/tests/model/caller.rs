//! A caller: makes operations up, does them to the engine and to its model, compares.

use isotherm::api::edit::Edit;
use isotherm::limits::{BUFFER_SIZE_MAX, BUFFER_SIZE_MIN};
use isotherm::{Bucket, BucketOptions, Durability, ErrorKind, ScanRange, Scope};

use crate::blobs::{Blob, Blobs, Op};
use crate::session::{Session, failed};
use crate::support::content::{Content, fill};
use crate::support::rng::Rng;

/// Sizes above this are drawn for one value in [`BIG_ONE_IN`]: else nothing but big ones would
/// fit in the time there is.
const BIG: u64 = 128 << 10;
const BIG_ONE_IN: u64 = 16;

/// What a caller works with.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Largest value.
    pub value_max: u64,
    /// Bytes of values this caller keeps, about.
    pub live: u64,
    /// Keys per bucket.
    pub keys: u64,
}

/// One of the callers, across reopens.
pub struct Caller {
    id: u8,
    seed: u64,
    pub rng: Rng,
    pub plan: Plan,
    pub parts: Vec<Blobs>,
    number: u64,
    /// What `parts` hold together, refreshed now and then.
    live: u64,
    data: Vec<u8>,
    /// The operation under way.
    doing: Option<(usize, Op)>,
}

impl Drop for Caller {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "caller {}, seed {}, was at operation {}: {:?}",
                self.id, self.seed, self.number, self.doing
            );
        }
    }
}

impl Caller {
    pub fn new(id: u8, seed: u64, rng: &mut Rng, plan: Plan) -> Caller {
        let mut rng = rng.fork();
        let shared = Blobs::new("shared".to_owned(), id, false, plan.keys, &mut rng);
        let own = Blobs::new(format!("own-{id}"), id, true, plan.keys, &mut rng);
        Caller {
            id,
            seed,
            rng,
            plan,
            parts: vec![shared, own],
            number: 0,
            live: 0,
            data: Vec::new(),
            doing: None,
        }
    }

    /// Makes sure that the buckets are there, and that after a reopen everything else is.
    pub async fn enter(&mut self, session: &Session) {
        for number in 0..self.parts.len() {
            let name = self.parts[number].name.clone();
            let bucket = match session.store.open_bucket(&name) {
                Ok(bucket) => bucket,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::BucketNotFound);
                    assert!(self.parts[number].blobs.is_empty(), "bucket {name} is lost");
                    let made = session.create_bucket(&name, self.parts[number].options).await;
                    match made {
                        Err(error) if error.kind() == ErrorKind::BucketExists => {
                            session.store.open_bucket(&name).unwrap()
                        }
                        made => made.unwrap(),
                    }
                }
            };
            self.parts[number].bucket = Some(bucket);
            self.parts[number].remember_reopen(self.number);
            self.compare_listing(number, ScanRange::all(), 1000, |_| true);
        }
    }

    /// Lets go of the store's handles, so that it can close.
    pub fn leave(&mut self) {
        self.parts.iter_mut().for_each(|part| part.bucket = None);
    }

    pub async fn run(&mut self, session: &Session, operations: u64) {
        for _ in 0..operations {
            self.step(session).await;
        }
    }

    /// Reads every value, whole.
    pub async fn compare_all(&mut self, session: &Session) {
        for part in 0..self.parts.len() {
            let keys: Vec<Vec<u8>> = self.parts[part].blobs.keys().cloned().collect();
            for key in keys {
                self.get(session, part, &key).await;
            }
        }
    }

    async fn step(&mut self, session: &Session) {
        self.number += 1;
        if self.number % 256 == 1 {
            self.live = self.parts.iter().map(Blobs::written).sum();
        }
        self.doing = None;
        let part = self.rng.below(2) as usize;
        if self.rng.one_in(4000) {
            return self.recreate(session).await;
        }
        if self.rng.one_in(1500) {
            let name = self.parts[part].name.clone();
            let scope = if self.rng.one_in(2) { Scope::Store } else { Scope::Bucket(&name) };
            return session.flush(scope).await.unwrap();
        }
        if self.rng.one_in(100) {
            return self.list(session, part);
        }
        if self.rng.one_in(12) {
            return self.group(session).await;
        }
        let (key, op) = self.choose(part);
        self.parts[part].remember(self.number, &key, op);
        self.doing = Some((part, op));
        match op {
            Op::Get => self.get(session, part, &key).await,
            Op::GetInto { room } => self.get_into(session, part, &key, room).await,
            Op::GetAt { at, len } => self.get_at(session, part, &key, at, len).await,
            Op::Stat => self.stat(part, &key),
            Op::Locate => self.locate(part, &key),
            _ => self.change(session, part, &key, op).await,
        }
    }

    async fn group(&mut self, session: &Session) {
        let level = self.rng.pick(&[None, Some(Durability::Memory), Some(Durability::Durable)]);
        match self.rng.below(8) {
            0..4 => self.batch(session, level).await,
            4 | 5 => self.rename(session, false, level).await,
            6 => self.rename(session, true, level).await,
            _ => self.get_many(session).await,
        }
    }

    pub fn remember(&mut self, part: usize, key: &[u8], op: Op) {
        self.parts[part].remember(self.number, key, op);
    }

    // ---- what to do -----------------------------------------------------------------------

    fn choose(&mut self, part: usize) -> (Vec<u8>, Op) {
        let full = self.live > self.plan.live;
        let keys = self.parts[part].universe.len() as u64;
        let level = self.rng.pick(&[
            None,
            Some(Durability::Memory),
            Some(Durability::Memory),
            Some(Durability::Memory),
            Some(Durability::Written),
            Some(Durability::Written),
            Some(Durability::Written),
            Some(Durability::Durable),
        ]);
        if full && self.rng.one_in(4) {
            // Any key, also a cold one: they hold most of the bytes.
            let key = self.parts[part].universe[self.rng.below(keys) as usize].clone();
            return (key, Op::Delete { level });
        }
        let key = self.parts[part].universe[self.rng.skewed(keys) as usize].clone();
        let len = self.parts[part].content(&key).map_or(0, Content::len);
        let seed = self.rng.next();
        let op = match self.rng.below(100) {
            0..18 => Op::Put { level, seed, len: self.size(full) },
            18..28 => {
                let size = self.size(full);
                let at = self.offset(len).min(self.plan.value_max - size);
                Op::PutAt { level, at, seed, len: size }
            }
            28..36 => {
                let size = self.size(full).min(self.plan.value_max.saturating_sub(len));
                Op::Append { level, seed, len: size }
            }
            36..40 => Op::Truncate { level, len: self.offset(len).min(self.plan.value_max) },
            40..45 => Op::Delete { level },
            45..67 => Op::Get,
            67..75 => {
                let spare = self.rng.log_uniform(4096);
                let room = if self.rng.one_in(4) { self.rng.below(len) } else { len + spare };
                Op::GetInto { room }
            }
            75..92 => Op::GetAt { at: self.offset(len), len: self.rng.log_uniform(256 << 10) },
            92..97 => Op::Stat,
            _ => Op::Locate,
        };
        (key, op)
    }

    fn size(&mut self, full: bool) -> u64 {
        let size = self.rng.log_uniform(self.plan.value_max);
        if size > BIG && (full || !self.rng.one_in(BIG_ONE_IN)) {
            return self.rng.log_uniform(BIG);
        }
        size
    }

    /// Mostly within a value of this length, at times at its end or beyond.
    fn offset(&mut self, len: u64) -> u64 {
        match self.rng.below(16) {
            0 => len,
            1 => len + self.rng.log_uniform(4 << 20),
            2 => self.rng.below(len) / 4096 * 4096,
            _ => self.rng.below(len),
        }
    }

    // ---- changes --------------------------------------------------------------------------

    async fn change(&mut self, session: &Session, part: usize, key: &[u8], op: Op) {
        let bucket = self.bucket(part);
        let exists = self.parts[part].blobs.contains_key(key);
        let mut data = std::mem::take(&mut self.data);
        let mut filled = |seed, len: u64| {
            data.resize(len as usize, 0);
            fill(seed, 0, &mut data);
        };
        match op {
            Op::Put { seed, len, .. }
            | Op::PutAt { seed, len, .. }
            | Op::Append { seed, len, .. } => {
                filled(seed, len);
            }
            _ => {}
        }
        let (edit, level) = match op {
            Op::Put { level, .. } => (Edit::Replace(&data), level),
            Op::PutAt { level, at, .. } => (Edit::PutAt(at, &data), level),
            Op::Append { level, .. } => (Edit::Append(&data), level),
            Op::Truncate { level, len } => (Edit::Truncate(len), level),
            Op::Delete { level } => (Edit::Delete, level),
            _ => unreachable!("{op:?} is no change"),
        };
        let holds = !self.rng.one_in(4);
        let condition = match self.rng.one_in(8) {
            true => self.condition(part, key, holds),
            false => None,
        };
        let done = session.edit(&bucket, key, edit, level, condition.unwrap_or_default()).await;
        self.data = data;
        if condition.is_some() && !holds {
            assert!(done.is_err(), "{condition:?}, {done:?}: {}", self.describe(part, key));
            return;
        }
        if !exists && matches!(op, Op::Truncate { .. } | Op::Delete { .. }) {
            assert!(failed(&done, ErrorKind::NotFound), "{done:?}: {}", self.describe(part, key));
            return;
        }
        let Ok((version, offset)) = done else {
            panic!("{done:?}: {}\nstats: {:#?}", self.describe(part, key), session.store.stats());
        };
        let part = &mut self.parts[part];
        let before = part.blobs.get(key).map(|blob| (blob.content.len(), blob.version));
        // Nothing is written: the blob may keep its version.
        let idle = match (op, before) {
            (Op::PutAt { at, len: 0, .. }, Some((len, _))) => at <= len,
            (Op::Append { len: 0, .. }, Some(_)) => true,
            (Op::Truncate { len: new, .. }, Some((len, _))) => new == len,
            _ => false,
        };
        let version = version.filter(|_| !idle);
        if let Some(version) = version {
            part.advance(key, version);
        }
        if let Op::Delete { .. } = op {
            part.blobs.remove(key);
            return;
        }
        let blob =
            part.blobs.entry(key.to_vec()).or_insert(Blob { content: Content::default(), version });
        blob.version = version;
        let end = blob.content.len();
        match op {
            Op::Put { seed, len, .. } => blob.content = Content::of(seed, len),
            Op::PutAt { at, seed, len, .. } => blob.content.write(at, seed, len),
            Op::Append { seed, len, .. } => {
                blob.content.write(end, seed, len);
                assert_eq!(offset, Some(end), "the offset of an append: {}", part.describe(key));
            }
            Op::Truncate { len, .. } => blob.content.truncate(len),
            _ => {}
        }
    }

    /// Destroys this caller's own bucket and makes it anew, with other options.
    async fn recreate(&mut self, session: &Session) {
        let buffer =
            BUFFER_SIZE_MIN << self.rng.below((BUFFER_SIZE_MAX / BUFFER_SIZE_MIN).ilog2().into());
        let options = BucketOptions {
            durability: self.rng.pick(&[None, Some(Durability::Memory), Some(Durability::Written)]),
            buffer_size: self.rng.pick(&[None, Some(buffer as u32)]),
            ..BucketOptions::default()
        };
        let number = 1;
        let name = self.parts[number].name.clone();
        let old = self.bucket(number);
        let again = session.create_bucket(&name, options).await;
        assert!(failed(&again.map(drop), ErrorKind::BucketExists));
        session.destroy_bucket(&name).await.unwrap();
        assert!(failed(&session.store.open_bucket(&name).map(drop), ErrorKind::BucketNotFound));
        let key = &self.parts[number].universe[0];
        assert!(old.exists(key).is_err(), "a handle of a destroyed bucket answers");
        assert!(session.store.list_buckets().unwrap().iter().all(|info| info.name != name));
        let made = session.create_bucket(&name, options).await.unwrap();
        let part = &mut self.parts[number];
        part.options = options;
        part.blobs.clear();
        part.bucket = Some(made);
    }

    // ---- reads ----------------------------------------------------------------------------

    async fn get(&mut self, session: &Session, part: usize, key: &[u8]) {
        let got = session.get(&self.bucket(part), key).await;
        let Some(content) = self.parts[part].content(key) else {
            assert!(
                failed(&got, ErrorKind::NotFound),
                "got {:?} for no blob: {}",
                got.map(|value| value.len()),
                self.describe(part, key)
            );
            return;
        };
        let value = match got {
            Ok(value) => value,
            Err(error) => panic!("get: {error}: {}", self.describe(part, key)),
        };
        assert_eq!(value.len() as u64, content.len(), "length: {}", self.describe(part, key));
        self.require_bytes(part, key, 0, &value);
    }

    async fn get_into(&mut self, session: &Session, part: usize, key: &[u8], room: u64) {
        let mut data = std::mem::take(&mut self.data);
        data.resize(room as usize, 0);
        let got = session.get_into(&self.bucket(part), key, &mut data).await;
        match self.parts[part].content(key).map(Content::len) {
            None => {
                assert!(failed(&got, ErrorKind::NotFound), "{got:?}: {}", self.describe(part, key));
            }
            Some(len) if len > room => {
                let told = got.as_ref().is_err_and(|error| error.needed() == Some(len));
                let small = failed(&got, ErrorKind::BufferTooSmall);
                assert!(told && small, "{got:?} of {len}: {}", self.describe(part, key));
            }
            Some(len) => {
                let right = got.as_ref().is_ok_and(|copied| *copied as u64 == len);
                assert!(right, "{got:?} of {len}: {}", self.describe(part, key));
                self.require_bytes(part, key, 0, &data[..len as usize]);
            }
        }
        self.data = data;
    }

    async fn get_at(&mut self, session: &Session, part: usize, key: &[u8], at: u64, len: u64) {
        let mut data = std::mem::take(&mut self.data);
        data.resize(len as usize, 0);
        let got = session.get_at(&self.bucket(part), key, at, &mut data).await;
        match self.parts[part].content(key).map(Content::len) {
            None => {
                assert!(failed(&got, ErrorKind::NotFound), "{got:?}: {}", self.describe(part, key));
            }
            Some(whole) => {
                let expected = len.min(whole.saturating_sub(at));
                let right = got.as_ref().is_ok_and(|copied| *copied as u64 == expected);
                assert!(right, "{got:?}, not {expected}: {}", self.describe(part, key));
                self.require_bytes(part, key, at, &data[..expected as usize]);
            }
        }
        self.data = data;
    }

    fn stat(&mut self, part: usize, key: &[u8]) {
        let bucket = self.bucket(part);
        let stat = bucket.stat(key);
        assert_eq!(bucket.exists(key).unwrap(), stat.is_ok(), "{}", self.describe(part, key));
        match self.parts[part].content(key).map(Content::len) {
            None => {
                assert!(
                    failed(&stat, ErrorKind::NotFound),
                    "{stat:?}: {}",
                    self.describe(part, key)
                );
            }
            Some(len) => {
                let right = stat.as_ref().is_ok_and(|stat| stat.len == len);
                assert!(right, "{stat:?} of {len}: {}", self.describe(part, key));
                self.parts[part].observe(key, stat.unwrap().version);
            }
        }
    }

    /// Where the slices lie: in order, apart, within the value, together all that is no hole.
    fn locate(&mut self, part: usize, key: &[u8]) {
        let places = self.bucket(part).locate(key);
        let Some(content) = self.parts[part].content(key) else {
            let kind = places.as_ref().map_err(|error| error.kind()).err();
            assert_eq!(kind, Some(ErrorKind::NotFound), "{}", self.describe(part, key));
            return;
        };
        let places = places.unwrap_or_else(|e| panic!("locate: {e}: {}", self.describe(part, key)));
        let mut end = 0;
        let mut covered = 0;
        for place in &places {
            let apart = place.value_offset >= end && place.len > 0;
            assert!(apart, "{places:?}: {}", self.describe(part, key));
            let somewhere = place.tier.is_some() || place.in_dram;
            assert!(somewhere, "a slice lies nowhere: {place:?}: {}", self.describe(part, key));
            end = place.value_offset + place.len;
            covered += place.len;
        }
        let right = end <= content.len() && covered >= content.written();
        assert!(right, "{places:?} of {content:?}: {}", self.describe(part, key));
    }

    pub fn require_bytes(&self, part: usize, key: &[u8], at: u64, bytes: &[u8]) {
        let Some(content) = self.parts[part].content(key) else { return };
        if let Err(difference) = content.check(at, bytes) {
            let places = self.bucket(part).locate(key);
            panic!("{difference}\nlies at {places:#?}\n{}", self.describe(part, key));
        }
    }

    // ---- listings -------------------------------------------------------------------------

    fn list(&mut self, session: &Session, part: usize) {
        let page = 1 + self.rng.log_uniform(500) as usize;
        match self.rng.below(8) {
            0 => self.compare_listing(part, ScanRange::all(), page, |_| true),
            1 => self.compare_buckets(session),
            2 => self.compare_listing(part, ScanRange::prefix([self.id]), page, |_| true),
            3 | 4 => {
                let prefix = [self.id, self.rng.below(7) as u8 * 0x2A];
                let range = ScanRange::prefix(prefix);
                self.compare_listing(part, range, page, |key| key.starts_with(&prefix));
            }
            _ => {
                let universe = &self.parts[part].universe;
                let from = universe[self.rng.below(universe.len() as u64) as usize].clone();
                let to = universe[self.rng.below(universe.len() as u64) as usize].clone();
                let inside = |key: &[u8]| *key >= *from && *key < *to;
                self.compare_listing(part, ScanRange::range(&from, &to), page, inside);
            }
        }
    }

    /// A scan by pages of this size against the model. Others' keys come and go meanwhile.
    fn compare_listing(
        &mut self,
        part: usize,
        range: ScanRange,
        page: usize,
        inside: impl Fn(&[u8]) -> bool,
    ) {
        let mut cursor = self.bucket(part).scan(range.clone());
        let mut found = Vec::new();
        loop {
            let items = cursor.next_page(page).unwrap();
            assert!(items.len() <= page, "a page of {} when asked for {page}", items.len());
            if items.is_empty() {
                break;
            }
            found.extend(items);
        }
        let name = &self.parts[part].name;
        let ascending = found.windows(2).all(|pair| pair[0].key < pair[1].key);
        assert!(ascending, "scan of {name} over {range:?}: out of order or twice");
        found.retain(|item| item.key[0] == self.id);
        let model: Vec<(&[u8], u64)> = (self.parts[part].blobs.iter())
            .filter(|(key, _)| inside(key))
            .map(|(key, blob)| (&key[..], blob.content.len()))
            .collect();
        let listed: Vec<(&[u8], u64)> = found.iter().map(|item| (&*item.key, item.len)).collect();
        if listed != model {
            let wrong = listed.iter().find(|item| !model.contains(item));
            let missing = model.iter().find(|item| !listed.contains(item));
            let about = missing.or(wrong).map(|(key, _)| self.describe(part, key));
            panic!(
                "scan of {name} over {range:?} has {} blobs, not {}; missing {missing:?}, wrong {wrong:?}: {}",
                listed.len(),
                model.len(),
                about.unwrap_or_default()
            );
        }
        for item in found {
            self.parts[part].observe(&item.key, item.version);
        }
    }

    fn compare_buckets(&mut self, session: &Session) {
        let listed = session.store.list_buckets().unwrap();
        assert!(listed.windows(2).all(|pair| pair[0].name < pair[1].name), "{listed:?}");
        for part in &self.parts {
            let info = listed.iter().find(|info| info.name == part.name);
            let Some(info) = info else { panic!("bucket {} is not listed", part.name) };
            if part.private {
                let bytes: u64 = part.blobs.values().map(|blob| blob.content.len()).sum();
                let count = part.blobs.len() as u64;
                assert_eq!((info.blobs, info.bytes), (count, bytes), "bucket {}", part.name);
            }
        }
    }

    pub fn bucket(&self, part: usize) -> Bucket {
        self.parts[part].bucket.clone().unwrap()
    }

    pub fn describe(&self, part: usize, key: &[u8]) -> String {
        self.parts[part].describe(key)
    }
}
