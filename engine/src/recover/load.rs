//! Loading a checkpoint: the root, and the images of the partitions into index and table.

use std::collections::BTreeSet;

use crate::error::{Error, Result, fail};
use crate::index::Index;
use crate::index::table::{RowView, from_record};
use crate::io::buffer::AlignedBuf;
use crate::limits::{BLOCK, PARTITIONS};
use crate::log::checkpoint::{BlobMap, BufferEntry, PartitionIdentity, PartitionView};
use crate::log::reader::read_persistently;
use crate::log::root::{PartitionRef, Root};
use crate::log::superblock::{Chunk, RootRef, Superblock};
use crate::recover::Target;
use crate::recover::replay::{Blob, Content, Replay, lone_of};
use crate::shard::checkpoint::segment_of;
use crate::tier::space::Space;
use crate::types::{BatchSeq, BucketId, Place, TierSegment};

/// What the root says, and where the images are.
pub(super) fn root<'a>(
    target: &Target<'a>,
    superblock: &Superblock,
) -> Result<(Replay<'a>, Vec<PartitionRef>)> {
    let empty = PartitionRef { cut: BatchSeq(0), len: 0, crc: 0, chunks: Vec::new() };
    let mut replay = Replay::new(target, vec![empty; PARTITIONS]);
    let Some(root_ref) = &superblock.checkpoint else {
        let images = replay.partitions.clone();
        return Ok((replay, images));
    };
    let root = read_root(target, superblock, root_ref)?;
    if root.partitions.len() != PARTITIONS {
        let count = root.partitions.len();
        fail!(Format, "a checkpoint of {count} partitions, this version has {PARTITIONS}");
    }
    replay.kept = segments_named(target.space, &root, root_ref)?;
    replay.root_seq = root.seq;
    replay.next_generation = root.next_generation;
    replay.buckets_used = BucketId(root.next_bucket.0.saturating_sub(1));
    replay.segments =
        root.segments.iter().map(|entry| (entry.segment, (entry.generation, entry.kind))).collect();
    replay.buckets =
        root.buckets.into_iter().map(|entry| (entry.bucket, (entry.name, entry.options))).collect();
    replay.partitions = root.partitions.clone();
    Ok((replay, root.partitions))
}

/// Loads one image.
pub(super) fn partition(
    target: &Target<'_>,
    superblock: &Superblock,
    replay: &Replay<'_>,
    number: usize,
    part: &PartitionRef,
) -> Result<()> {
    if part.chunks.is_empty() {
        return Ok(());
    }
    let bytes = read_chunks(target, &part.chunks, part.len)?;
    let identity =
        PartitionIdentity { store: superblock.store, partition: number as u16, cut: part.cut };
    let view = PartitionView::decode(&bytes, &identity)?;
    if view.crc() != part.crc {
        fail!(Corrupt, "partition {number} of the checkpoint is not the one that the root names");
    }
    target.index.reserve(number, view.blob_count() as usize);
    for blob in view.blobs() {
        let blob = blob?;
        let hash = target.index.hash(blob.bucket, blob.key);
        if Index::partition(hash) != number {
            fail!(Corrupt, "a blob of another partition stands in partition {number}");
        }
        let value = match blob.map {
            BlobMap::Paged(pages) => Content::Paged(pages),
            BlobMap::Inline { extents, buffers } => match lone_of(&extents, &buffers, blob.len) {
                Some(lone) => Content::Lone(lone),
                None => {
                    buffers.iter().for_each(|def| target.table.load(from_record(def)));
                    Content::of(extents)
                }
            },
        };
        let (version, len, attributes) = (blob.version, blob.len, replay.share(&blob.attributes));
        replay.put(hash, blob.bucket, blob.key, Blob { version, len, value, attributes });
    }
    for entry in view.buffers() {
        let BufferEntry { def, named, is_page } = entry?;
        target.table.load_row(RowView { buffer: &from_record(&def), named, is_page });
    }
    Ok(())
}

/// Reads and verifies the root that a superblock names.
pub(super) fn read_root(
    target: &Target<'_>,
    superblock: &Superblock,
    root_ref: &RootRef,
) -> Result<Root> {
    let bytes = read_chunks(target, &root_ref.chunks, root_ref.len)?;
    if Root::crc_of(&bytes)? != root_ref.crc {
        fail!(Corrupt, "the checkpoint root is not the one that the superblock names");
    }
    Root::decode(&bytes, superblock.store)
}

/// Bytes that lie in chunks.
fn read_chunks(target: &Target<'_>, chunks: &[Chunk], len: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
    for chunk in chunks {
        let Place::Device { tier, offset } = chunk.location.place() else {
            fail!(Corrupt, "a checkpoint chunk lies in DRAM");
        };
        let Some(device) = target.devices.get(tier.index()) else {
            fail!(Corrupt, "a checkpoint chunk lies on tier {}, which does not exist", tier.0);
        };
        // Exactly the chunk: images are small, and there are hundreds.
        let blocks = (chunk.len as usize).next_multiple_of(BLOCK);
        let mut buf = AlignedBuf::alloc(blocks);
        let read = read_persistently(&**device, offset, &mut buf.as_mut_slice()[..blocks]);
        read.map_err(|error| {
            Error::from_io(format!("checkpoint chunk at {offset} of tier {}", tier.0), &error)
        })?;
        bytes.extend_from_slice(&buf.as_slice()[..chunk.len as usize]);
    }
    if bytes.len() as u64 != len {
        fail!(Corrupt, "a checkpoint of {len} bytes has {} in its chunks", bytes.len());
    }
    Ok(bytes)
}

/// The metadata segments that a root and its images lie in.
pub(super) fn segments_named(
    space: &Space,
    root: &Root,
    root_ref: &RootRef,
) -> Result<BTreeSet<TierSegment>> {
    let images = root.partitions.iter().flat_map(|part| &part.chunks);
    let places = images.chain(&root_ref.chunks).map(|chunk| match segment_of(space, chunk) {
        Some(at) => Ok(at),
        None => fail!(
            Corrupt,
            "a checkpoint chunk lies at {:?}, which is no place of this store",
            chunk.location
        ),
    });
    places.collect()
}
