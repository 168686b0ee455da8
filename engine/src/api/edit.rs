//! What is done to a blob, and what that means for its bytes. Pure.

use std::ops::Range;

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
}

impl<'a> Edit<'a> {
    /// The bytes that come in.
    pub fn data(&self) -> &'a [u8] {
        match self {
            Edit::Replace(data) | Edit::PutAt(_, data) | Edit::Append(data) => data,
            Edit::Truncate(_) | Edit::Delete => &[],
        }
    }

    /// Whether the memory budget may refuse it: what makes room must always go on.
    pub(super) fn may_grow_index(&self) -> bool {
        !matches!(self, Edit::Truncate(_) | Edit::Delete)
    }

    /// Whether a missing blob is an error.
    pub fn wants_blob(&self) -> bool {
        matches!(self, Edit::Truncate(_) | Edit::Delete)
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
