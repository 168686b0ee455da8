//! Ordered listing by prefix and range, with a cursor that resumes after its last key.

use std::collections::VecDeque;
use std::ops::Bound;

use crate::api::Bucket;
use crate::error::Result;
use crate::index::ordered::end_of_prefix;
use crate::types::Version;

/// Keys fetched at a time by the iterator.
const PAGE: usize = 256;

/// Which keys a scan visits, in ascending order of bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanRange {
    from: Bound<Vec<u8>>,
    to: Bound<Vec<u8>>,
}

impl ScanRange {
    /// All keys.
    pub fn all() -> ScanRange {
        ScanRange { from: Bound::Unbounded, to: Bound::Unbounded }
    }

    /// Keys that begin with these bytes.
    pub fn prefix(prefix: impl AsRef<[u8]>) -> ScanRange {
        let prefix = prefix.as_ref();
        let to = end_of_prefix(prefix).map_or(Bound::Unbounded, Bound::Excluded);
        ScanRange { from: Bound::Included(prefix.to_vec()), to }
    }

    /// Keys from `start` on, before `end`.
    pub fn range(start: impl AsRef<[u8]>, end: impl AsRef<[u8]>) -> ScanRange {
        ScanRange {
            from: Bound::Included(start.as_ref().to_vec()),
            to: Bound::Excluded(end.as_ref().to_vec()),
        }
    }

    /// Keys from `start` on.
    pub fn starting(start: impl AsRef<[u8]>) -> ScanRange {
        ScanRange { from: Bound::Included(start.as_ref().to_vec()), to: Bound::Unbounded }
    }

    /// The same range, continued after a key: what of it lies beyond the key.
    pub fn after(self, key: impl AsRef<[u8]>) -> ScanRange {
        let key = key.as_ref();
        let is_before = match &self.from {
            Bound::Included(from) => key < from.as_slice(),
            Bound::Excluded(from) => key <= from.as_slice(),
            Bound::Unbounded => false,
        };
        let from = if is_before { self.from } else { Bound::Excluded(key.to_vec()) };
        ScanRange { from, to: self.to }
    }
}

/// A blob that a scan has met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanItem {
    /// Its key.
    pub key: Box<[u8]>,
    /// Length of its value when it was met.
    pub len: u64,
    /// Its version when it was met.
    pub version: Version,
}

/// A scan under way. A key present throughout is seen exactly once; there is no snapshot.
pub struct Cursor {
    bucket: Bucket,
    range: ScanRange,
    page: VecDeque<ScanItem>,
    done: bool,
}

impl Cursor {
    pub(crate) fn new(bucket: Bucket, range: ScanRange) -> Cursor {
        Cursor { bucket, range, page: VecDeque::new(), done: false }
    }

    /// The next blobs, at most `max`; empty at the end.
    pub fn next_page(&mut self, max: usize) -> Result<Vec<ScanItem>> {
        let mut items = Vec::new();
        while items.is_empty() && !self.done && max > 0 {
            let keys =
                self.bucket.keys(as_slice(&self.range.from), as_slice(&self.range.to), max)?;
            self.done = keys.len() < max;
            if let Some(last) = keys.last() {
                self.range.from = Bound::Excluded(last.to_vec());
            }
            items.extend(keys.iter().filter_map(|key| self.bucket.item(key)));
        }
        Ok(items)
    }
}

fn as_slice(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    match bound {
        Bound::Included(key) => Bound::Included(key),
        Bound::Excluded(key) => Bound::Excluded(key),
        Bound::Unbounded => Bound::Unbounded,
    }
}

impl Iterator for Cursor {
    type Item = Result<ScanItem>;

    fn next(&mut self) -> Option<Result<ScanItem>> {
        if self.page.is_empty() {
            match self.next_page(PAGE) {
                Ok(items) => self.page.extend(items),
                Err(error) => {
                    self.done = true;
                    return Some(Err(error));
                }
            }
        }
        self.page.pop_front().map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_continued_after_a_key_before_it_stays_what_it_is() {
        let prefix = ScanRange::prefix("b");
        assert_eq!(prefix.clone().after("a"), prefix);
        let later = prefix.clone().after("bb");
        assert_eq!(later.from, Bound::Excluded(b"bb".to_vec()));
        assert_eq!((later.clone().after("ba"), later.clone().after("bb")), (later.clone(), later));
        // Its first key itself is passed over.
        assert_eq!(prefix.clone().after("b").from, Bound::Excluded(b"b".to_vec()));
        assert_eq!(prefix.clone().after("c").to, prefix.to);
        assert_eq!(ScanRange::all().after("a").from, Bound::Excluded(b"a".to_vec()));
        assert_eq!(ScanRange::starting("b").after("a"), ScanRange::starting("b"));
    }
}
