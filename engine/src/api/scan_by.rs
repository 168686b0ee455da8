//! Listing blobs by an attribute: those that have it, in the order of its values.
//!
//! Attributes stand in memory, in no order. So a page is made by one pass over all keys of the
//! bucket, which keeps the best it meets: memory for a page, and time for a look at each key.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};
use std::ops::{Bound, RangeBounds};

use crate::api::Bucket;
use crate::error::{Result, fail};
use crate::log::attributes::{AttributeValue, check_attribute_name};
use crate::types::Version;

/// Most blobs of a page: with the longest keys and texts they take 8 MiB.
const PAGE_MAX: usize = 4096;
/// Keys looked at between two looks at the list of keys.
const KEYS_AT_ONCE: usize = 256;

/// A direction of a scan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Smallest values first; of equal ones, smallest keys.
    #[default]
    Ascending,
    /// The reverse.
    Descending,
}

/// A blob that a scan by an attribute has met.
#[derive(Clone, Debug, PartialEq)]
pub struct AttributeItem {
    /// Its key.
    pub key: Box<[u8]>,
    /// The value of the attribute.
    pub value: AttributeValue,
    /// Length of the blob's value.
    pub len: u64,
    /// The blob's version.
    pub version: Version,
}

/// A scan by an attribute under way. There is no snapshot: a blob that has the attribute throughout,
/// and always of the same value, is seen exactly once.
pub struct AttributeCursor {
    bucket: Bucket,
    name: String,
    range: (Bound<AttributeValue>, Bound<AttributeValue>),
    order: Order,
    last: Option<Ranked>,
    page: VecDeque<AttributeItem>,
    done: bool,
}

impl Bucket {
    /// Lists the blobs that have an attribute with a value in a range, in the order of the values:
    /// numbers by what they are worth, then texts. `..` is all of them.
    ///
    /// A page of up to 4096 blobs costs one pass over all keys of the bucket; values of blobs are not
    /// read.
    pub fn scan_by(
        &self,
        attribute: &str,
        range: impl RangeBounds<AttributeValue>,
        order: Order,
    ) -> Result<AttributeCursor> {
        if let Err(fault) = check_attribute_name(attribute) {
            fail!(InvalidArgument, "{fault}");
        }
        Ok(AttributeCursor {
            bucket: self.clone(),
            name: attribute.to_owned(),
            range: (range.start_bound().cloned(), range.end_bound().cloned()),
            order,
            last: None,
            page: VecDeque::new(),
            done: false,
        })
    }

    /// What a scan by an attribute says of a blob that has it.
    fn item_by(&self, key: &[u8], attribute: &str) -> Option<AttributeItem> {
        let hash = self.core().index.hash(self.id(), key);
        let state = {
            let mut stripe = self.core().index.lock(hash);
            let entry = stripe.get(hash, self.id(), key)?;
            (entry.visible.len, entry.visible.version, entry.visible.attributes.clone()?)
        };
        let (len, version, attributes) = state;
        let value = attributes.get(attribute)?;
        Some(AttributeItem { key: key.into(), value, len, version })
    }
}

impl AttributeCursor {
    /// The next blobs, at most `max` and 4096; empty at the end.
    pub fn next_page(&mut self, max: usize) -> Result<Vec<AttributeItem>> {
        let max = max.min(PAGE_MAX);
        if self.done || max == 0 {
            return Ok(Vec::new());
        }
        let best = self.best(max)?.into_sorted_vec();
        self.done = best.len() < max;
        self.last = best.last().cloned().or(self.last.take());
        Ok(best.into_iter().map(|ranked| ranked.item).collect())
    }

    /// The first `max` of those that come after the last one.
    fn best(&self, max: usize) -> Result<BinaryHeap<Ranked>> {
        let mut best = BinaryHeap::new();
        let mut from = Bound::Unbounded;
        loop {
            let keys = self.bucket.keys(as_slice(&from), Bound::Unbounded, KEYS_AT_ONCE)?;
            let found = keys.iter().filter_map(|key| self.bucket.item_by(key, &self.name));
            for item in found.filter(|item| self.has(&item.value)) {
                let ranked = Ranked { item, order: self.order };
                if self.last.as_ref().is_none_or(|last| ranked > *last) {
                    best.push(ranked);
                }
                if best.len() > max {
                    best.pop();
                }
            }
            match keys.last() {
                Some(last) if keys.len() == KEYS_AT_ONCE => from = Bound::Excluded(last.clone()),
                _ => return Ok(best),
            }
        }
    }

    fn has(&self, value: &AttributeValue) -> bool {
        let (from, to) = &self.range;
        let starts = match from {
            Bound::Included(from) => value.order(from).is_ge(),
            Bound::Excluded(from) => value.order(from).is_gt(),
            Bound::Unbounded => true,
        };
        starts
            && match to {
                Bound::Included(to) => value.order(to).is_le(),
                Bound::Excluded(to) => value.order(to).is_lt(),
                Bound::Unbounded => true,
            }
    }
}

fn as_slice(bound: &Bound<std::sync::Arc<[u8]>>) -> Bound<&[u8]> {
    match bound {
        Bound::Included(key) => Bound::Included(key),
        Bound::Excluded(key) => Bound::Excluded(key),
        Bound::Unbounded => Bound::Unbounded,
    }
}

impl Iterator for AttributeCursor {
    type Item = Result<AttributeItem>;

    fn next(&mut self) -> Option<Result<AttributeItem>> {
        if self.page.is_empty() {
            match self.next_page(PAGE_MAX) {
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

/// A blob that is compared in the order of the scan.
#[derive(Clone)]
struct Ranked {
    item: AttributeItem,
    order: Order,
}

impl Ord for Ranked {
    fn cmp(&self, other: &Ranked) -> Ordering {
        let by_value = self.item.value.order(&other.item.value);
        let ascending = by_value.then_with(|| self.item.key.cmp(&other.item.key));
        match self.order {
            Order::Ascending => ascending,
            Order::Descending => ascending.reverse(),
        }
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Ranked) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Ranked) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ranked {}
