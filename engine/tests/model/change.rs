//! What a change of one blob is, whether it is refused, and what it makes of the model.

use isotherm::api::edit::Edit;
use isotherm::{Condition, ErrorKind, Version};

use crate::blobs::{Blob, Blobs};
use crate::marks::MarkChanges;
use crate::support::content::{Content, fill};

/// What is done to a blob.
#[derive(Clone, Debug)]
pub enum Change {
    Put {
        seed: u64,
        len: u64,
    },
    PutAt {
        at: u64,
        seed: u64,
        len: u64,
    },
    Append {
        seed: u64,
        len: u64,
    },
    Truncate {
        len: u64,
    },
    Delete,
    PutRanges(Vec<Range>),
    Attributes(MarkChanges),
    /// What a copy, or the commit of a stream, makes of its target.
    Value(Content),
    /// Only the condition counts.
    Require,
}

/// Bytes of a put of several ranges.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    pub at: u64,
    pub seed: u64,
    pub len: u64,
}

/// How much larger a bucket becomes.
#[derive(Clone, Copy, Default, Debug)]
pub struct Growth {
    pub bytes: i64,
    pub blobs: i64,
}

impl Growth {
    pub fn add(&mut self, other: Growth) {
        self.bytes += other.bytes;
        self.blobs += other.blobs;
    }
}

/// The first bytes of the stream of a seed.
pub fn bytes_of(seed: u64, len: u64) -> Vec<u8> {
    let mut data = vec![0; len as usize];
    fill(seed, 0, &mut data);
    data
}

impl Change {
    /// The bytes that come in at one place.
    pub fn seed_and_len(&self) -> (u64, u64) {
        match self {
            Change::Put { seed, len }
            | Change::PutAt { seed, len, .. }
            | Change::Append { seed, len } => (*seed, *len),
            _ => (0, 0),
        }
    }

    /// The same for the engine, of these bytes. `None`: there is another call for it.
    pub fn edit<'a>(&self, data: &'a [u8]) -> Option<Edit<'a>> {
        Some(match self {
            Change::Put { .. } => Edit::Replace(data),
            Change::PutAt { at, .. } => Edit::PutAt(*at, data),
            Change::Append { .. } => Edit::Append(data),
            Change::Truncate { len } => Edit::Truncate(*len),
            Change::Delete => Edit::Delete,
            _ => return None,
        })
    }

    /// Whether it is about a blob that must be there.
    fn wants_blob(&self) -> bool {
        matches!(self, Change::Truncate { .. } | Change::Delete | Change::Attributes(_))
    }

    /// Whether it leaves a blob as it is.
    pub fn is_idle(&self, blob: &Blob) -> bool {
        let now = blob.content.len();
        match self {
            Change::PutAt { at, len: 0, .. } => *at <= now,
            Change::Append { len: 0, .. } | Change::Require => true,
            Change::Truncate { len } => *len == now,
            Change::PutRanges(ranges) => {
                ranges.iter().all(|range| range.len == 0 && range.at <= now)
            }
            Change::Attributes(changes) => changes.apply_to(&blob.marks) == blob.marks,
            _ => false,
        }
    }

    /// The length of the value after it; `None`: there is no blob then.
    fn len_after(&self, now: Option<u64>) -> Option<u64> {
        let len = now.unwrap_or(0);
        match self {
            Change::Put { len, .. } | Change::Truncate { len } => Some(*len),
            Change::PutAt { at, len: more, .. } => Some(len.max(at + more)),
            Change::Append { len: more, .. } => Some(len + more),
            Change::PutRanges(ranges) => {
                Some(ranges.iter().map(|range| range.at + range.len).fold(len, u64::max))
            }
            Change::Value(content) => Some(content.len()),
            Change::Attributes(_) | Change::Require => now,
            Change::Delete => None,
        }
    }

    fn apply_to(&self, blob: &mut Blob) {
        let content = &mut blob.content;
        match self {
            Change::Put { seed, len } => *content = Content::of(*seed, *len),
            Change::PutAt { at, seed, len } => content.write(*at, *seed, *len),
            Change::Append { seed, len } => content.write(content.len(), *seed, *len),
            Change::Truncate { len } => content.truncate(*len),
            Change::PutRanges(ranges) => {
                ranges.iter().for_each(|range| content.write(range.at, range.seed, range.len));
            }
            Change::Attributes(changes) => blob.marks = changes.apply_to(&blob.marks),
            Change::Value(value) => *content = value.clone(),
            Change::Delete | Change::Require => {}
        }
    }
}

impl Blobs {
    /// Whether a condition fails, and how. The version of a blob that it names must be known.
    pub fn failure(&self, key: &[u8], condition: Condition) -> Option<ErrorKind> {
        match (condition, self.blobs.get(key)) {
            (Condition::Absent, Some(_)) => Some(ErrorKind::Exists),
            (Condition::Present | Condition::Version(_), None) => Some(ErrorKind::NotFound),
            (Condition::Version(wanted), Some(blob)) if blob.version != Some(wanted) => {
                Some(ErrorKind::VersionMismatch)
            }
            _ => None,
        }
    }

    /// Why a change is refused that has nothing to do with how much there is.
    pub fn refusal_by_blob(
        &self,
        key: &[u8],
        change: &Change,
        condition: Condition,
    ) -> Option<ErrorKind> {
        let is_missing = change.wants_blob() && !self.blobs.contains_key(key);
        self.failure(key, condition).or(is_missing.then_some(ErrorKind::NotFound))
    }

    /// Why a change is refused, if it is.
    pub fn refusal(&self, key: &[u8], change: &Change, condition: Condition) -> Option<ErrorKind> {
        let by_quota =
            || self.exceeds(self.growth(key, change)).then_some(ErrorKind::QuotaExceeded);
        self.refusal_by_blob(key, change, condition).or_else(by_quota)
    }

    pub fn growth(&self, key: &[u8], change: &Change) -> Growth {
        let now = self.content(key).map(Content::len);
        let then = change.len_after(now);
        Growth {
            bytes: then.unwrap_or(0) as i64 - now.unwrap_or(0) as i64,
            blobs: i64::from(then.is_some()) - i64::from(now.is_some()),
        }
    }

    /// Takes in a change that was made. The version is the one that the call told, if it did.
    pub fn apply(&mut self, key: &[u8], change: &Change, version: Option<Version>) {
        match self.blobs.get_mut(key) {
            Some(blob) if change.is_idle(blob) => match change {
                Change::Require => {
                    version.into_iter().for_each(|version| self.observe(key, version));
                }
                // Nothing is written, unless what is there had not reached the log: the blob may keep
                // its version.
                _ => blob.version = None,
            },
            None if matches!(change, Change::Require) => {}
            _ => self.apply_anew(key, change, version),
        }
    }

    fn apply_anew(&mut self, key: &[u8], change: &Change, version: Option<Version>) {
        version.into_iter().for_each(|version| self.advance(key, version));
        if let Change::Delete = change {
            self.blobs.remove(key);
            return;
        }
        let blob = self.blobs.entry(key.to_vec()).or_default();
        blob.version = version;
        change.apply_to(blob);
    }
}
