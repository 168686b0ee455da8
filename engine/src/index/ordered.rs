//! The keys of a bucket in order, for listing and scans.
//!
//! Touched only when a key appears or vanishes, inside the key's stripe-lock section. A cursor
//! resumes after its last key, so a key present throughout a scan is seen exactly once.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::RwLock;

/// One bucket's keys.
#[derive(Default)]
pub struct OrderedKeys {
    keys: RwLock<BTreeSet<Arc<[u8]>>>,
}

impl OrderedKeys {
    /// A key has appeared.
    pub fn insert(&self, key: Arc<[u8]>) {
        self.keys.write().insert(key);
    }

    /// Recovery: these keys, in any order.
    pub fn load(&self, mut keys: Vec<Arc<[u8]>>) {
        keys.sort_unstable();
        *self.keys.write() = keys.into_iter().collect();
    }

    /// A key has vanished.
    pub fn remove(&self, key: &[u8]) {
        self.keys.write().remove(key);
    }

    /// Keys in the bucket.
    pub fn len(&self) -> usize {
        self.keys.read().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// At most `limit` keys from `from` on, before `to`.
    pub fn page(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Vec<Arc<[u8]>> {
        if let (
            Bound::Included(low) | Bound::Excluded(low),
            Bound::Included(high) | Bound::Excluded(high),
        ) = (from, to)
            && (low > high
                || (low == high && !matches!((from, to), (Bound::Included(_), Bound::Included(_)))))
        {
            return Vec::new(); // BTreeSet::range panics on an empty range.
        }
        self.keys.read().range::<[u8], _>((from, to)).take(limit).cloned().collect()
    }
}

/// The smallest key that does not begin with `prefix` and is larger than every key that does;
/// `None` if there is no such key.
pub fn end_of_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != 0xFF)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_begins_after_the_last_key_and_ends_before_the_bound() {
        let keys = OrderedKeys::default();
        for key in ["a", "b", "b1", "c"] {
            keys.insert(key.as_bytes().into());
        }
        let page = keys.page(Bound::Excluded(b"a"), Bound::Excluded(b"c"), 10);
        assert_eq!(page.iter().map(|key| &key[..]).collect::<Vec<_>>(), [b"b".as_slice(), b"b1"]);
        assert!(keys.page(Bound::Excluded(b"z"), Bound::Excluded(b"c"), 10).is_empty());
        assert!(keys.page(Bound::Excluded(b"c"), Bound::Excluded(b"c"), 10).is_empty());
    }

    #[test]
    fn the_end_of_a_prefix_skips_trailing_ff_bytes() {
        assert_eq!(end_of_prefix(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(end_of_prefix(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(end_of_prefix(b"\xff"), None);
        assert_eq!(end_of_prefix(b""), None);
    }
}
