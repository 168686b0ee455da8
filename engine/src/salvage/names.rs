//! What the buckets of a damaged store are called, none like another.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::limits::BUCKET_NAME_LEN_MAX;
use crate::salvage::report::LostBlob;
use crate::salvage::state::{Bucket, State};
use crate::types::{BatchSeq, BucketId};

/// The buckets whose names stand. Nothing that is lost explains two of one name that are both known.
pub(super) fn current_buckets(state: &State, last_missing: BatchSeq) -> BTreeSet<BucketId> {
    let known = || state.buckets.iter().filter(|(_, bucket)| bucket.known_at >= last_missing);
    let mut names: BTreeMap<&[u8], usize> = BTreeMap::new();
    for (_, bucket) in known() {
        *names.entry(&bucket.name).or_default() += 1;
    }
    let is_alone = |bucket: &Bucket| names.get(&*bucket.name) == Some(&1);
    let current = known().filter(|(_, bucket)| !bucket.is_disputed && is_alone(bucket));
    current.map(|(id, _)| *id).collect()
}

/// A name for each bucket that is known, or that a blob stands in. Of two of one name the one whose name
/// stands has it; all others, and those without a name, get their numbers.
pub(super) fn names_of(state: &State, current: &BTreeSet<BucketId>) -> BTreeMap<BucketId, String> {
    let mut order: Vec<_> = state.buckets.iter().collect();
    order.sort_by_key(|(id, bucket)| (!current.contains(id), Reverse((bucket.known_at, **id))));
    let mut counts: BTreeMap<&[u8], usize> = BTreeMap::new();
    for (_, bucket) in &order {
        *counts.entry(&bucket.name).or_default() += 1;
    }
    let mut names = BTreeMap::new();
    let mut taken: BTreeSet<String> = BTreeSet::new();
    for (id, bucket) in order {
        let name = String::from_utf8_lossy(&bucket.name).into_owned();
        let is_alone = counts.get(&*bucket.name) == Some(&1);
        let has_it = (current.contains(id) || is_alone) && !taken.contains(&name);
        let name = if has_it { name } else { numbered(&name, *id, &taken) };
        taken.insert(name.clone());
        names.insert(*id, name);
    }
    for id in state.blobs.keys().chain(state.lost.keys()) {
        if !names.contains_key(id) {
            let name = numbered("nameless", *id, &taken);
            taken.insert(name.clone());
            names.insert(*id, name);
        }
    }
    names
}

/// A name with the bucket's number that nobody has, as long as names may be.
fn numbered(name: &str, id: BucketId, taken: &BTreeSet<String>) -> String {
    let mut suffix = format!(" (bucket {})", id.0);
    loop {
        let room = BUCKET_NAME_LEN_MAX - suffix.len();
        let fits =
            name.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= room);
        let numbered = format!("{}{suffix}", &name[..fits.last().unwrap_or(0)]);
        if !taken.contains(&numbered) {
            return numbered;
        }
        suffix.push('\'');
    }
}

/// The blobs that are known to be lost, with the names of their buckets.
pub(super) fn lost_of(state: &State, names: &BTreeMap<BucketId, String>) -> Vec<LostBlob> {
    let all = state.lost.iter().flat_map(|(id, keys)| {
        let bucket = names.get(id).cloned().unwrap_or_default();
        keys.iter().map(move |(key, why)| LostBlob {
            bucket: bucket.clone(),
            key: key.clone(),
            why: why.clone(),
        })
    });
    all.collect()
}
