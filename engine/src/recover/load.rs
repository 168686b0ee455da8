//! Loading a checkpoint: the root, and the images of the partitions into index and table.

use std::collections::BTreeSet;

use crate::error::{Error, Result, fail};
use crate::index::Index;
use crate::index::table::{RowView, from_record};
use crate::io::buffer::AlignedBuf;
use crate::limits::{BLOCK, PARTITIONS};
use crate::log::checkpoint::{BlobMap, BufferEntry, PartitionIdentity, PartitionView};
use crate::log::reader::read_persistently;
use crate::log::record::BufferDef;
use crate::log::root::{PartitionRef, Root};
use crate::log::superblock::{Chunk, RootRef, Superblock};
use crate::recover::Target;
use crate::recover::replay::{Blob, Content, Replay, load_buffer, lone_of};
use crate::recover::sound::{self, Issued};
use crate::shard::checkpoint::segment_of;
use crate::tier::space::Space;
use crate::types::{BatchSeq, BucketId, Epoch, Place, TierSegment};

/// What the root says, and where the images are.
pub(super) fn root<'a>(
    target: &Target<'a>,
    superblock: &Superblock,
    newest: Epoch,
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
    sound::check_root(&root, superblock, newest)?;
    replay.issued = Some(Issued::below(&root));
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
    let check_buffer = |def: &BufferDef| {
        let issued = replay.issued.as_ref();
        issued.map_or(Ok(()), |issued| issued.check_buffer(def.id))
    };
    for blob in view.blobs() {
        let blob = blob?;
        replay.issued.iter().try_for_each(|issued| issued.check_version(blob.version))?;
        let hash = target.index.hash(blob.bucket, blob.key);
        if Index::partition(hash) != number {
            fail!(Corrupt, "a blob of another partition stands in partition {number}");
        }
        let value = match blob.map {
            BlobMap::Paged(pages) => Content::Paged(pages),
            BlobMap::Inline { extents, buffers } => {
                buffers.iter().try_for_each(check_buffer)?;
                match lone_of(&extents, &buffers, blob.len) {
                    Some(lone) => Content::Lone(lone),
                    None => {
                        buffers.iter().try_for_each(|def| load_buffer(target.table, def))?;
                        Content::of(extents)
                    }
                }
            }
        };
        let (version, len, attributes) = (blob.version, blob.len, replay.share(&blob.attributes));
        let blob_of = Blob { version, len, value, attributes };
        if replay.put(hash, blob.bucket, blob.key, blob_of) {
            fail!(Corrupt, "a blob of bucket {} stands twice in partition {number}", blob.bucket.0);
        }
    }
    for entry in view.buffers() {
        let BufferEntry { def, named, is_page } = entry?;
        check_buffer(&def)?;
        if target.table.shard_of(def.id) != number {
            fail!(Corrupt, "buffer {} of another partition stands in partition {number}", def.id.0);
        }
        if !target.table.load_row(RowView { buffer: &from_record(&def), named, is_page }) {
            fail!(Corrupt, "buffer {} stands twice in the checkpoint", def.id.0);
        }
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
    // Before anything is made as large as they say.
    sound::check_chunks(target.space, chunks)?;
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
