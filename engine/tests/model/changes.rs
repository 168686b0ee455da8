//! Changes of one blob, done and compared.

use isotherm::{Condition, Durability, ErrorKind, PutOptions, Result, Version};

use crate::caller::{Caller, OWN};
use crate::change::{Change, Growth, bytes_of};
use crate::kinds::Kind;
use crate::session::Session;
use crate::support::content::{Content, fill};

/// What a change told: the version that it made, and where its bytes went.
pub type Told = (Option<Version>, Option<u64>);

impl Caller {
    /// A condition that holds, or one that does not, of a blob as the model has it.
    pub fn condition(&mut self, part: usize, key: &[u8], holds: bool) -> Condition {
        let found = self.parts[part].blobs.get(key).map(|blob| blob.version);
        match (found, holds) {
            (None, true) => Condition::Absent,
            (None, false) => self.rng.pick(&[Condition::Present, Condition::Version(Version(1))]),
            (Some(None), true) => Condition::Present,
            (Some(Some(version)), true) => {
                self.rng.pick(&[Condition::Present, Condition::Version(version)])
            }
            (Some(Some(_)), false) => {
                self.rng.pick(&[Condition::Absent, Condition::Version(Version(1))])
            }
            (Some(None), false) => Condition::Absent,
        }
    }

    /// Mostly none.
    pub fn any_condition(&mut self, part: usize, key: &[u8]) -> Condition {
        let holds = !self.rng.one_in(4);
        match self.rng.one_in(8) {
            true => self.condition(part, key, holds),
            false => Condition::None,
        }
    }

    pub async fn change(
        &mut self,
        session: &Session,
        part: usize,
        key: &[u8],
        level: Option<Durability>,
        change: Change,
    ) {
        let bucket = self.bucket(part);
        let condition = self.any_condition(part, key);
        let options = PutOptions { durability: level, condition };
        let done = match &change {
            Change::PutRanges(ranges) => {
                let bytes: Vec<(u64, Vec<u8>)> = ranges
                    .iter()
                    .map(|range| (range.at, bytes_of(range.seed, range.len)))
                    .collect();
                session.put_ranges(&bucket, key, &bytes, options).await.map(only_version)
            }
            Change::Attributes(changes) => {
                let changes = changes.for_engine();
                session.set_attributes(&bucket, key, &changes, options).await.map(only_version)
            }
            edit => {
                let (seed, len) = edit.seed_and_len();
                let mut data = std::mem::take(&mut self.data);
                data.resize(len as usize, 0);
                fill(seed, 0, &mut data);
                let edit = edit.edit(&data).unwrap();
                let done = session.edit(&bucket, key, edit, options).await;
                self.data = data;
                done
            }
        };
        self.finish_change(part, key, &change, condition, done);
    }

    /// Compares how a change ended, and takes it in.
    pub fn finish_change(
        &mut self,
        part: usize,
        key: &[u8],
        change: &Change,
        condition: Condition,
        done: Result<Told>,
    ) {
        let expected = self.parts[part].refusal(key, change, condition);
        let found = done.as_ref().map_err(|error| error.kind()).err();
        assert!(
            found == expected,
            "{change:?} under {condition:?}: {done:?}, expected {expected:?}, quotas {:?} of {:?}: {}",
            self.parts[part].options,
            self.parts[part].used(),
            self.describe(part, key)
        );
        let Ok((version, offset)) = done else {
            self.count_refusal(part, key, change, condition);
            return self.compare_after_refusal(part, key);
        };
        if condition != Condition::None {
            self.kinds.count(Kind::ChangeWithCondition);
        }
        let end = self.parts[part].content(key).map_or(0, Content::len);
        if let (Change::Append { .. }, Some(offset)) = (change, offset) {
            assert_eq!(offset, end, "the offset of an append: {}", self.describe(part, key));
        }
        self.count_change(part, key, change);
        self.parts[part].apply(key, change, version);
    }

    fn count_change(&mut self, part: usize, key: &[u8], change: &Change) {
        if self.parts[part].blobs.get(key).is_some_and(|blob| change.is_idle(blob)) {
            self.kinds.count(Kind::ChangeOfNothing);
        }
        self.kinds.count(match change {
            Change::Put { .. } => Kind::Put,
            Change::PutAt { .. } => Kind::PutAt,
            Change::Append { .. } => Kind::Append,
            Change::Truncate { .. } => Kind::Truncate,
            Change::Delete => Kind::Delete,
            Change::PutRanges(_) => Kind::PutRanges,
            Change::Attributes(_) => Kind::SetAttributes,
            Change::Value(_) => Kind::StreamCommit,
            Change::Require => unreachable!("a step of batches alone"),
        });
    }

    fn count_refusal(&mut self, part: usize, key: &[u8], change: &Change, condition: Condition) {
        let blobs = &self.parts[part];
        let by_condition = blobs.failure(key, condition).is_some();
        let growth = blobs.growth(key, change);
        let is_stream = matches!(change, Change::Value(_));
        if by_condition {
            let stream_or_not = [Kind::ChangeRefusedByCondition, Kind::StreamRefusedByCondition];
            self.kinds.count(stream_or_not[usize::from(is_stream)]);
        } else if blobs.refusal_by_blob(key, change, condition).is_none() {
            self.count_quota(part, growth, is_stream);
        }
    }

    fn count_quota(&mut self, part: usize, growth: Growth, is_stream: bool) {
        if is_stream {
            self.kinds.count(Kind::StreamRefusedByQuota);
        }
        if self.parts[part].exceeds_bytes(growth) {
            self.kinds.count(Kind::ChangeRefusedByQuotaOfBytes);
        }
        if self.parts[part].exceeds_blobs(growth) {
            self.kinds.count(Kind::ChangeRefusedByQuotaOfBlobs);
        }
    }

    /// Nothing has changed: not the blob, and not what its bucket is said to hold.
    pub fn compare_after_refusal(&mut self, part: usize, key: &[u8]) {
        self.stat(part, key);
        if part == OWN && !self.is_behind {
            let stat = self.bucket(part).bucket_stat().unwrap();
            let used = self.parts[part].used();
            assert_eq!((stat.bytes, stat.blobs), used, "{}", self.describe(part, key));
        }
    }

    /// Has the model know the version of a blob, where the last change did not tell it.
    pub fn settle_version(&mut self, part: usize, key: &[u8]) {
        let is_unknown = self.parts[part].blobs.get(key).is_some_and(|blob| blob.version.is_none());
        if is_unknown {
            self.stat(part, key);
        }
    }

    /// Whether a result is this failure, said of a key.
    #[track_caller]
    pub fn require_failed<T: std::fmt::Debug>(
        &self,
        part: usize,
        key: &[u8],
        result: &Result<T>,
        kind: ErrorKind,
    ) {
        let found = result.as_ref().err().map(|error| error.kind());
        assert_eq!(found, Some(kind), "{result:?}: {}", self.describe(part, key));
    }
}

fn only_version(version: Version) -> Told {
    (Some(version), None)
}
