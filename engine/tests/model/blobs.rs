//! The model of one caller's blobs in one bucket.

use std::collections::{BTreeMap, HashMap, VecDeque};

use isotherm::{Bucket, BucketOptions, Condition, Durability, Version};

use crate::change::{Change, Growth};
use crate::marks::Marks;
use crate::support::content::Content;
use crate::support::rng::{Rng, mix};

/// Operations remembered per key, to be read when one goes wrong.
const HISTORY: usize = 12;

/// What is done to a key.
#[derive(Clone, Debug)]
#[allow(dead_code, reason = "all of it is printed when something is wrong")]
pub enum Op {
    Change {
        level: Option<Durability>,
        change: Change,
    },
    Get,
    GetInto {
        room: u64,
    },
    GetAt {
        at: u64,
        len: u64,
    },
    GetRanges(Vec<(u64, u64)>),
    Stat,
    Locate,
    Attributes,
    /// As part of a batch, or of several puts at once.
    Batch(Change),
    /// From here, or to here.
    Copy,
    Rename,
    /// Beside other operations of one queue.
    Queued(Change),
    WriterOpened(Condition),
    ReaderOpened,
    Cleared,
    Reopen,
}

/// A blob that must be there.
#[derive(Clone, Default)]
pub struct Blob {
    pub content: Content,
    /// Unknown after an append: the call does not tell.
    pub version: Option<Version>,
    pub marks: Marks,
}

/// One caller's part of a bucket.
pub struct Blobs {
    pub name: String,
    pub options: BucketOptions,
    pub bucket: Option<Bucket>,
    /// Whether nobody else has blobs there, so that it may be destroyed and its figures compared.
    pub private: bool,
    pub blobs: BTreeMap<Vec<u8>, Blob>,
    /// Every key this caller may use, hot ones first.
    pub universe: Vec<Vec<u8>>,
    /// The largest version seen of each key, also of deleted ones.
    newest: HashMap<Vec<u8>, Version>,
    history: HashMap<Vec<u8>, VecDeque<(u64, Op)>>,
}

impl Blobs {
    pub fn new(name: String, caller: u8, private: bool, keys: u64, rng: &mut Rng) -> Blobs {
        let universe = (0..keys).map(|number| key(caller, number, rng)).collect();
        Blobs {
            name,
            options: BucketOptions::default(),
            bucket: None,
            private,
            blobs: BTreeMap::new(),
            universe,
            newest: HashMap::new(),
            history: HashMap::new(),
        }
    }

    /// Whether the bucket has a quota.
    pub fn is_limited(&self) -> bool {
        self.options.quota_bytes.is_some() || self.options.quota_blobs.is_some()
    }

    /// Bytes of values, holes included, and blobs.
    pub fn used(&self) -> (u64, u64) {
        let bytes = self.blobs.values().map(|blob| blob.content.len()).sum();
        (bytes, self.blobs.len() as u64)
    }

    /// Whether growing so much exceeds a quota.
    pub fn exceeds(&self, growth: Growth) -> bool {
        self.exceeds_bytes(growth) || self.exceeds_blobs(growth)
    }

    pub fn exceeds_bytes(&self, growth: Growth) -> bool {
        let quota = self.options.quota_bytes;
        quota.is_some_and(|quota| is_beyond(quota, self.used().0, growth.bytes))
    }

    pub fn exceeds_blobs(&self, growth: Growth) -> bool {
        let quota = self.options.quota_blobs;
        quota.is_some_and(|quota| is_beyond(quota, self.used().1, growth.blobs))
    }

    /// Bytes of values, holes left out.
    pub fn written(&self) -> u64 {
        self.blobs.values().map(|blob| blob.content.written()).sum()
    }

    pub fn content(&self, key: &[u8]) -> Option<&Content> {
        self.blobs.get(key).map(|blob| &blob.content)
    }

    /// Notes a version of a key; panics if it is not larger than any before it.
    pub fn advance(&mut self, key: &[u8], version: Version) {
        let before = self.newest.insert(key.to_vec(), version);
        assert!(
            before.is_none_or(|before| before < version),
            "the version went from {before:?} to {version:?}: {}",
            self.describe(key)
        );
    }

    /// Notes the version of a key at rest; panics if it is one of the past. After a change that
    /// wrote nothing it may be either the old one or a new one.
    pub fn observe(&mut self, key: &[u8], version: Version) {
        let known = self.blobs.get(key).and_then(|blob| blob.version);
        match known {
            Some(known) => assert!(
                known == version,
                "the version is {version:?}, not {known:?}: {}",
                self.describe(key)
            ),
            None => {
                if self.newest.get(key) != Some(&version) {
                    self.advance(key, version);
                }
                if let Some(blob) = self.blobs.get_mut(key) {
                    blob.version = Some(version);
                }
            }
        }
    }

    pub fn remember(&mut self, number: u64, key: &[u8], op: Op) {
        let history = self.history.entry(key.to_vec()).or_default();
        if history.len() == HISTORY {
            history.pop_front();
        }
        history.push_back((number, op));
    }

    /// Of every key that has a history.
    pub fn remember_all(&mut self, number: u64, op: &Op) {
        let keys: Vec<Vec<u8>> = self.history.keys().cloned().collect();
        keys.iter().for_each(|key| self.remember(number, key, op.clone()));
    }

    /// The key and what was done to it of late.
    pub fn describe(&self, key: &[u8]) -> String {
        let empty = VecDeque::new();
        let history = self.history.get(key).unwrap_or(&empty);
        let ops: Vec<String> = history.iter().map(|(n, op)| format!("  {n}: {op:?}")).collect();
        format!(
            "bucket {}, key {:02x?}, its last operations:\n{}",
            self.name,
            short(key),
            ops.join("\n")
        )
    }
}

/// Where more is there already, nothing may be added.
fn is_beyond(quota: u64, used: u64, more: i64) -> bool {
    more > 0 && used + more as u64 > quota
}

fn short(key: &[u8]) -> &[u8] {
    &key[..key.len().min(24)]
}

/// The caller's number, a group, and bytes of any kind; a few are as long as a key may be.
fn key(caller: u8, number: u64, rng: &mut Rng) -> Vec<u8> {
    let mut key = vec![caller];
    if number == 0 {
        return key;
    }
    key.push((number % 7) as u8 * 0x2A);
    let len = match rng.below(16) {
        0 => 1022,
        1 => rng.below(1000),
        _ => rng.below(24),
    };
    key.extend((0..len).map(|at| mix(number << 16 | at) as u8));
    // Without its number a short key might be that of another.
    key.truncate(1022);
    key.extend((number as u16).to_be_bytes());
    key
}
