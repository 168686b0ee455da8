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
    pub fn load(&self, keys: Vec<Arc<[u8]>>) {
        *self.keys.write() = sorted(keys).into_iter().collect();
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

/// Sorts many keys. Comparing two costs two cache misses; most pairs are told apart by the eight
/// bytes behind what all keys have in common, which lie beside each other.
fn sorted(keys: Vec<Arc<[u8]>>) -> Vec<Arc<[u8]>> {
    let common = keys.first().map_or(0, |first| {
        keys.iter().fold(first.len(), |common, key| {
            let alike = first[..common].iter().zip(key.iter()).take_while(|(a, b)| a == b);
            alike.count()
        })
    });
    let mut headed: Vec<_> = keys.into_iter().map(|key| (head(&key[common..]), key)).collect();
    headed.sort_unstable();
    headed.into_iter().map(|(_, key)| key).collect()
}

/// The first eight bytes as a number that sorts like them. A shorter key is filled up with zeros: if
/// that makes two heads equal, the keys decide.
fn head(key: &[u8]) -> u64 {
    let mut head = [0; 8];
    let len = key.len().min(8);
    head[..len].copy_from_slice(&key[..len]);
    u64::from_be_bytes(head)
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
    fn loaded_keys_are_in_order_whatever_they_have_in_common() {
        let mut random = 5u64;
        let mut next = |bound: u64| {
            random = crate::io::runtime::splitmix64(random);
            random % bound
        };
        for prefix in [&b""[..], b"p", b"a long prefix of all of them"] {
            let mut made: Vec<Arc<[u8]>> = vec![prefix.into()];
            for _ in 0..2000 {
                // Few byte values and lengths around eight: many heads are alike.
                let tail = (0..next(12)).map(|_| [0, 1, 255][next(3) as usize]);
                made.push(prefix.iter().copied().chain(tail.collect::<Vec<u8>>()).collect());
            }
            let expected: BTreeSet<_> = made.iter().cloned().collect();
            assert!(sorted(made.clone()).is_sorted());
            let keys = OrderedKeys::default();
            keys.load(made);
            assert_eq!(*keys.keys.read(), expected);
        }
        assert!(sorted(Vec::new()).is_empty());
    }

    #[test]
    fn the_end_of_a_prefix_skips_trailing_ff_bytes() {
        assert_eq!(end_of_prefix(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(end_of_prefix(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(end_of_prefix(b"\xff"), None);
        assert_eq!(end_of_prefix(b""), None);
    }
}
