//! The checkpoints of a damaged store, on whatever tier: of each partition the newest image that can
//! be read, and the newest root.

use std::collections::BTreeSet;

use crate::error::{Result, fail};
use crate::limits::PARTITIONS;
use crate::log::checkpoint::{PartitionIdentity, PartitionView};
use crate::log::root::{PartitionRef, Root};
use crate::log::superblock::{RootRef, Superblock};
use crate::recover::History;
use crate::salvage::medium::Medium;
use crate::salvage::report::CheckpointFound;
use crate::salvage::state::State;
use crate::types::Version;

/// Where a root was found.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Newest,
    Older,
    Copy,
}

/// A root that can be read.
pub(super) struct Candidate {
    pub root: Root,
    source: Source,
    hash_seed: u64,
}

/// All roots that superblocks name and that can be believed, the best first: those of the log's tier,
/// which `superblocks` begin with, then copies.
pub(super) fn find(
    medium: &Medium,
    superblocks: &[Vec<Superblock>],
    history: &History,
    found: &mut CheckpointFound,
) -> Vec<Candidate> {
    let mut candidates: Vec<Candidate> = Vec::new();
    for (tier, blocks) in superblocks.iter().enumerate() {
        for (at, block) in Superblock::checkpoints_of(blocks).iter().enumerate() {
            let Some(named) = &block.checkpoint else { continue };
            let source = match (tier, at) {
                (0, 0) => Source::Newest,
                (0, _) => Source::Older,
                _ => Source::Copy,
            };
            match read_root(medium, named, history) {
                Ok(root) => {
                    let hash_seed = block.hash_seed;
                    candidates.push(Candidate { root, source, hash_seed });
                }
                Err(error) => found.faults.push(format!(
                    "the checkpoint of batch {} that tier {tier} names: {}",
                    named.seq.0,
                    error.message()
                )),
            }
        }
    }
    candidates.sort_by_key(|candidate| (std::cmp::Reverse(candidate.root.seq), candidate.source));
    // Images are found by the hash of keys: one store has one seed.
    let seed = candidates.first().map(|first| first.hash_seed);
    candidates.retain(|candidate| Some(candidate.hash_seed) == seed);
    candidates
}

fn read_root(medium: &Medium, named: &RootRef, history: &History) -> Result<Root> {
    let bytes = medium.read_chunks(&named.chunks)?;
    if Root::crc_of(&bytes)? != named.crc {
        fail!(Corrupt, "the root is not the one that the superblock names");
    }
    let root = Root::decode(&bytes, medium.store)?;
    let newest = root.partitions.iter().map(|part| part.cut).chain([root.seq]).max();
    if newest.is_none_or(|newest| newest > history.watermark) {
        fail!(Corrupt, "it is of batches that are not known to have been flushed");
    }
    let names: BTreeSet<&[u8]> = root.buckets.iter().map(|entry| &*entry.name).collect();
    if names.len() < root.buckets.len() {
        fail!(Corrupt, "two buckets have one name");
    }
    if root.next_version > Version::last_of(history.epoch) {
        fail!(Corrupt, "it says that version {} comes next", root.next_version.0);
    }
    Ok(root)
}

/// Loads the newest root, and of each partition the newest image that can be read.
pub(super) fn load(
    medium: &Medium,
    candidates: &[Candidate],
    state: &mut State,
    found: &mut CheckpointFound,
) {
    let Some(newest) = candidates.first() else { return };
    state.load_root(&newest.root, newest.hash_seed);
    for number in 0..PARTITIONS {
        let mut order: Vec<&Candidate> = candidates.iter().collect();
        order.sort_by_key(|it| std::cmp::Reverse(it.root.partitions[number].cut));
        let loaded = order.into_iter().find(|candidate| {
            let part = &candidate.root.partitions[number];
            let next_version = candidate.root.next_version;
            match load_image(medium, number, part, next_version, state) {
                Ok(()) => true,
                Err(error) => {
                    let message = error.message();
                    found.faults.push(format!(
                        "partition {number} of the checkpoint of batch {}: {message}",
                        candidate.root.seq.0
                    ));
                    false
                }
            }
        });
        match loaded.map(|candidate| candidate.source) {
            Some(Source::Newest) => found.newest += 1,
            Some(Source::Older) => found.older += 1,
            Some(Source::Copy) => found.copied += 1,
            None => found.lost.push(number as u16),
        }
    }
}

fn load_image(
    medium: &Medium,
    number: usize,
    part: &PartitionRef,
    next_version: Version,
    state: &mut State,
) -> Result<()> {
    if part.chunks.is_empty() {
        state.cuts[number] = part.cut;
        return Ok(());
    }
    let bytes = medium.read_chunks(&part.chunks)?;
    let identity =
        PartitionIdentity { store: medium.store, partition: number as u16, cut: part.cut };
    let view = PartitionView::decode(&bytes, &identity)?;
    if view.crc() != part.crc {
        fail!(Corrupt, "the image is not the one that the root names");
    }
    state.load_image(&view, next_version)
}
