//! What is done to a blob, and what that means for its bytes. Pure.

use std::ops::Range;

use crate::api::attributes::AttributeChanges;
use crate::buckets::BucketState;
use crate::error::{Result, fail};
use crate::limits::VALUE_LEN_MAX;
use crate::types::Version;

/// What is done to a blob.
#[derive(Clone, Copy)]
pub enum Edit<'a> {
    /// This is the value.
    Replace(&'a [u8]),
    /// These bytes stand at this offset; the blob is made or extended as needed.
    PutAt(u64, &'a [u8]),
    /// These bytes follow the present ones.
    Append(&'a [u8]),
    /// The value has this length; new bytes are zeros.
    Truncate(u64),
    /// There is no blob any more.
    Delete,
    /// The value stays, the attributes change.
    Attributes(&'a AttributeChanges),
}

/// What must hold of a blob for a change of it to be made. Checked in the moment the change takes its
/// place among those of the key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    #[default]
    None,
    /// There is no such blob: put-if-absent.
    Absent,
    /// There is such a blob.
    Present,
    /// The blob has this version: put-if-version, compare and swap.
    Version(Version),
}

impl Condition {
    /// Whether it holds of a blob's version; `None`: there is no blob.
    pub fn check(self, bucket: &BucketState, key: &[u8], found: Option<Version>) -> Result<()> {
        let holds = match self {
            Condition::None => true,
            Condition::Absent => found.is_none(),
            Condition::Present => found.is_some(),
            Condition::Version(version) => found == Some(version),
        };
        if holds { Ok(()) } else { self.refuse(bucket, key, found) }
    }

    #[cold]
    fn refuse(self, bucket: &BucketState, key: &[u8], found: Option<Version>) -> Result<()> {
        let blob = format!(
            "blob {:?} of bucket {:?}",
            String::from_utf8_lossy(key),
            String::from_utf8_lossy(&bucket.name())
        );
        match (self, found) {
            (Condition::Version(wanted), Some(found)) => {
                fail!(VersionMismatch, "{blob} has version {}, not {}", found.0, wanted.0)
            }
            (_, Some(found)) => fail!(Exists, "{blob} is there, in version {}", found.0),
            (_, None) => fail!(NotFound, "there is no {blob}"),
        }
    }
}

impl<'a> Edit<'a> {
    /// The bytes that come in.
    pub fn data(&self) -> &'a [u8] {
        match self {
            Edit::Replace(data) | Edit::PutAt(_, data) | Edit::Append(data) => data,
            Edit::Truncate(_) | Edit::Delete | Edit::Attributes(_) => &[],
        }
    }

    /// Whether the memory budget may refuse it: what makes room must always go on.
    pub(super) fn may_grow_index(&self) -> bool {
        match self {
            Edit::Truncate(_) | Edit::Delete => false,
            Edit::Attributes(changes) => changes.may_add(),
            _ => true,
        }
    }

    /// Whether a missing blob is an error.
    pub fn wants_blob(&self) -> bool {
        matches!(self, Edit::Truncate(_) | Edit::Delete | Edit::Attributes(_))
    }

    /// The range of the value it replaces and the length it makes, given the present length.
    pub fn effect(&self, len: u64) -> Result<(Range<u64>, u64)> {
        let at = |offset: u64, data: &[u8]| match offset.checked_add(data.len() as u64) {
            Some(end) if end <= VALUE_LEN_MAX => Ok((offset..end, end.max(len))),
            _ => fail!(
                InvalidArgument,
                "offset {offset} plus {} bytes exceeds the largest value, {VALUE_LEN_MAX} bytes",
                data.len()
            ),
        };
        match *self {
            Edit::Replace(data) => Ok((0..len.max(data.len() as u64), data.len() as u64)),
            Edit::PutAt(offset, data) => at(offset, data),
            Edit::Append(data) => at(len, data),
            Edit::Truncate(new) if new > VALUE_LEN_MAX => {
                fail!(
                    InvalidArgument,
                    "length {new} exceeds the largest value, {VALUE_LEN_MAX} bytes"
                )
            }
            Edit::Truncate(new) => Ok((new.min(len)..len.max(new), new)),
            Edit::Delete => Ok((0..len, 0)),
            Edit::Attributes(_) => Ok((len..len, len)),
        }
    }
}

/// What a change made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The new version.
    pub version: Version,
    /// Where the bytes went.
    pub offset: u64,
}

/// The parts of a value that data at `offset` falls into, cut at buffer boundaries.
pub fn pieces(
    offset: u64,
    len: usize,
    buffer_size: u32,
) -> impl Iterator<Item = (u64, Range<usize>)> {
    let size = u64::from(buffer_size);
    let mut at = 0usize;
    std::iter::from_fn(move || {
        let start = offset + at as u64;
        let room = (size - start % size) as usize;
        let piece = at..(at + room).min(len);
        (at < len).then(|| {
            at = piece.end;
            (start, piece)
        })
    })
}
