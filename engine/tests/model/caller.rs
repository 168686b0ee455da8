//! A caller: makes operations up, does them to the engine and to its model, compares.
//!
//! `choose` makes up those on one blob, `changes` and `reads` do them; `groups` has those on several
//! blobs, `streams` values piece by piece, `bursts` what runs side by side in a queue, `listings` scans,
//! `wholes` what is done to whole buckets and to the store.

use isotherm::{Bucket, Durability, ErrorKind, ScanRange};

use crate::blobs::{Blobs, Op};
use crate::kinds::{Kind, Kinds};
use crate::session::Session;
use crate::streams::Streams;
use crate::support::rng::Rng;

/// The parts of a caller: blobs in a bucket where others have some too, and in one of its own.
pub const SHARED: usize = 0;
pub const OWN: usize = 1;

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
    pub id: u8,
    seed: u64,
    pub rng: Rng,
    pub plan: Plan,
    pub parts: Vec<Blobs>,
    /// Values that are being written and read piece by piece, while all else goes on.
    pub streams: Streams,
    pub kinds: Kinds,
    number: u64,
    /// What `parts` hold together, refreshed now and then.
    pub live: u64,
    /// Memory for values, used again and again.
    pub data: Vec<u8>,
    /// Operations have ended that the model does not have yet.
    pub is_behind: bool,
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
            streams: Streams::default(),
            kinds: Kinds::default(),
            number: 0,
            live: 0,
            data: Vec::new(),
            is_behind: false,
            doing: None,
        }
    }

    /// Makes sure that the buckets are there, and that after a reopen everything else is.
    pub async fn enter(&mut self, session: &Session) {
        if self.number > 0 {
            self.kinds.count(Kind::Reopen);
        }
        for number in [SHARED, OWN] {
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
            let options = bucket.bucket_stat().unwrap().options;
            assert_eq!(options, self.parts[number].options, "options of bucket {name}");
            self.parts[number].bucket = Some(bucket);
            self.remember_all(number, &Op::Reopen);
            self.compare_listing(number, ScanRange::all(), 1000, |_| true);
            let keys: Vec<Vec<u8>> = self.parts[number].blobs.keys().cloned().collect();
            keys.iter().for_each(|key| self.attributes(number, key));
        }
    }

    /// Lets go of the store's handles, so that it can close.
    pub fn leave(&mut self) {
        self.streams = Streams::default();
        self.parts.iter_mut().for_each(|part| part.bucket = None);
    }

    pub async fn run(&mut self, session: &Session, operations: u64) {
        for _ in 0..operations {
            self.step(session).await;
        }
    }

    /// Reads every value, whole.
    pub async fn compare_all(&mut self, session: &Session) {
        for part in [SHARED, OWN] {
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
        if self.rng.one_in(200) {
            return self.whole(session, part).await;
        }
        if self.rng.one_in(60) {
            return self.list(session, part);
        }
        if self.rng.one_in(16) {
            return self.stream(session).await;
        }
        if self.rng.one_in(30) {
            return self.burst(session).await;
        }
        if self.rng.one_in(12) {
            return self.group(session).await;
        }
        let (key, op) = self.choose(part);
        self.remember(part, &key, op.clone());
        self.doing = Some((part, op.clone()));
        match op {
            Op::Change { level, change } => self.change(session, part, &key, level, change).await,
            Op::Get => self.get(session, part, &key).await,
            Op::GetInto { room } => self.get_into(session, part, &key, room).await,
            Op::GetAt { at, len } => self.get_at(session, part, &key, at, len).await,
            Op::GetRanges(ranges) => self.get_ranges(session, part, &key, &ranges).await,
            Op::Stat => self.stat(part, &key),
            Op::Locate => self.locate(part, &key),
            Op::Attributes => self.attributes(part, &key),
            _ => unreachable!("{op:?} is no operation on one blob"),
        }
    }

    async fn group(&mut self, session: &Session) {
        let level = self.rng.pick(&[None, Some(Durability::Memory), Some(Durability::Durable)]);
        match self.rng.below(9) {
            0..4 => self.batch(session, level).await,
            4 | 5 => self.copy(session, false, level).await,
            6 => self.copy(session, true, level).await,
            7 => self.put_many(session, level).await,
            _ => self.get_many(session).await,
        }
    }

    // ---- what the others share ------------------------------------------------------------

    pub fn remember(&mut self, part: usize, key: &[u8], op: Op) {
        self.parts[part].remember(self.number, key, op);
    }

    pub fn remember_all(&mut self, part: usize, op: &Op) {
        self.parts[part].remember_all(self.number, op);
    }

    pub fn any_key(&mut self) -> (usize, Vec<u8>) {
        let part = self.rng.below(2) as usize;
        (part, self.key_of(part))
    }

    /// Hot ones more often.
    pub fn key_of(&mut self, part: usize) -> Vec<u8> {
        let keys = self.parts[part].universe.len() as u64;
        self.parts[part].universe[self.rng.skewed(keys) as usize].clone()
    }

    pub fn bucket(&self, part: usize) -> Bucket {
        self.parts[part].bucket.clone().unwrap()
    }

    pub fn describe(&self, part: usize, key: &[u8]) -> String {
        self.parts[part].describe(key)
    }
}
