//! Partition images and roots.

use super::random::Random;
use super::{refuses_every_flip, refuses_every_prefix};
use crate::error::{ErrorKind, Result};
use crate::limits::PARTITIONS;
use crate::log::attributes::Attributes;
use crate::log::checkpoint::{
    BlobEntry, BlobFacts, BlobMap, BufferEntry, PartitionEncoder, PartitionIdentity, PartitionView,
};
use crate::log::codec::seal;
use crate::log::record::BufferDef;
use crate::log::root::{ROOT_HEADER_LEN, Root};
use crate::types::{BatchSeq, BucketId, Version};

struct Blob {
    bucket: BucketId,
    key: Box<[u8]>,
    version: Version,
    len: u64,
    map: BlobMap,
    attributes: Option<Attributes>,
}

impl Blob {
    fn random(random: &mut Random) -> Blob {
        let (len, map) = match random.below(3) {
            0 => {
                let (len, pages) = random.pages(0);
                (len, BlobMap::Paged(pages))
            }
            _ => {
                let (len, extents, buffers) = random.map(0);
                (len, BlobMap::Inline { extents, buffers })
            }
        };
        let (bucket, key) = (BucketId(random.u32()), random.key());
        let attributes = random.attributes();
        Blob { bucket, key, version: Version(random.next()), len, map, attributes }
    }
}

/// A page, a buffer that pages name, or one that a map has.
fn buffer_entry(random: &mut Random, id: u64) -> BufferEntry {
    let def = random.buffer_def(id);
    match random.below(3) {
        0 => BufferEntry { def, named: 0, is_page: true },
        1 => {
            let def = BufferDef { checks: Vec::new(), ..def };
            BufferEntry { def, named: 1 + random.u32() / 4, is_page: false }
        }
        _ => BufferEntry { def, named: random.below(3) as u32, is_page: false },
    }
}

struct Partition {
    identity: PartitionIdentity,
    blobs: Vec<Blob>,
    buffers: Vec<BufferEntry>,
}

impl Partition {
    fn random(random: &mut Random, most: u64) -> Partition {
        let partition = random.below(PARTITIONS as u64) as u16;
        let cut = BatchSeq(random.next());
        Partition {
            identity: PartitionIdentity { store: random.uuid(), partition, cut },
            blobs: (0..random.below(most)).map(|_| Blob::random(random)).collect(),
            buffers: (0..random.below(most)).map(|id| buffer_entry(random, id)).collect(),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut encoder = PartitionEncoder::new(self.identity);
        assert!(encoder.is_empty());
        // In any order: the image sorts blobs before buffers.
        self.buffers.iter().for_each(|buffer| encoder.push_buffer(buffer).unwrap());
        for Blob { bucket, key, version, len, map, attributes } in &self.blobs {
            let (bucket, version, len, attributes) = (*bucket, *version, *len, attributes.as_ref());
            let facts = BlobFacts { bucket, key, version, len, attributes };
            match map {
                BlobMap::Inline { extents, buffers } => encoder.push_blob(&facts, extents, buffers),
                BlobMap::Paged(pages) => encoder.push_paged_blob(&facts, pages),
            }
            .unwrap();
        }
        let len = encoder.len();
        let image = encoder.finish();
        assert_eq!(image.len(), len);
        image
    }

    fn entries(&self) -> Vec<BlobEntry<'_>> {
        self.blobs
            .iter()
            .map(|blob| BlobEntry {
                bucket: blob.bucket,
                key: &blob.key,
                version: blob.version,
                len: blob.len,
                map: blob.map.clone(),
                attributes: blob.attributes.clone(),
            })
            .collect()
    }
}

/// Reads all of an image.
fn read<'a>(
    image: &'a [u8],
    identity: &PartitionIdentity,
) -> Result<(Vec<BlobEntry<'a>>, Vec<BufferEntry>)> {
    let view = PartitionView::decode(image, identity)?;
    Ok((view.blobs().collect::<Result<_>>()?, view.buffers().collect::<Result<_>>()?))
}

#[test]
fn partitions_round_trip() {
    let mut random = Random::new();
    for _ in 0..100 {
        let partition = Partition::random(&mut random, 60);
        let image = partition.encode();
        let (blobs, buffers) = read(&image, &partition.identity).unwrap();
        assert_eq!(blobs, partition.entries());
        assert_eq!(buffers, partition.buffers);
        let view = PartitionView::decode(&image, &partition.identity).unwrap();
        assert_eq!(view.crc().to_le_bytes(), image[76..80]);
        assert_eq!(view.blob_count() as usize, blobs.len());
        assert_eq!(view.buffer_count() as usize, buffers.len());
    }
}

#[test]
fn damaged_truncated_and_extended_partitions_are_refused() {
    let mut random = Random::new();
    let partition = Partition::random(&mut random, 6);
    let image = partition.encode();
    refuses_every_flip(&image, |bytes| PartitionView::decode(bytes, &partition.identity).map(drop));
    refuses_every_prefix(&image, |bytes| {
        PartitionView::decode(bytes, &partition.identity).map(drop)
    });
    let mut longer = image.clone();
    longer.extend_from_slice(&[0; 8]);
    assert!(PartitionView::decode(&longer, &partition.identity).is_err());
}

#[test]
fn a_partition_of_another_store_number_or_cut_is_refused() {
    let mut random = Random::new();
    let partition = Partition::random(&mut random, 4);
    let image = partition.encode();
    let PartitionIdentity { store, partition, cut } = partition.identity;
    for other in [
        PartitionIdentity { store: random.uuid(), partition, cut },
        PartitionIdentity { store, partition: partition ^ 1, cut },
        PartitionIdentity { store, partition, cut: BatchSeq(cut.0 ^ 1) },
    ] {
        let error = PartitionView::decode(&image, &other).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
}

#[test]
fn forged_partition_counts_end_in_an_error_not_in_memory() {
    let mut random = Random::new();
    let partition = Partition::random(&mut random, 6);
    let image = partition.encode();
    // total_len, table_offset, blob_count, buffer_count
    for (at, width) in [(40, 8), (48, 8), (56, 4), (60, 4)] {
        let mut forged = image.clone();
        forged[at..at + width].fill(0xFF);
        seal(&mut forged, 76);
        let error = read(&forged, &partition.identity).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "byte {at}");
    }
}

#[test]
fn resealed_damage_to_entries_never_panics() {
    let mut random = Random::new();
    let partition = Partition::random(&mut random, 20);
    let image = partition.encode();
    for _ in 0..2000 {
        let mut forged = image.clone();
        for _ in 0..1 + random.below(3) {
            let at = random.below(forged.len() as u64) as usize;
            forged[at] = random.next() as u8;
        }
        seal(&mut forged, 76);
        drop(read(&forged, &partition.identity));
    }
}

#[test]
fn roots_round_trip() {
    let mut random = Random::new();
    for _ in 0..50 {
        let root = random.root();
        let bytes = root.encode().unwrap();
        assert_eq!(Root::decode(&bytes, root.store).unwrap(), root);
        let crc = Root::crc_of(&bytes).unwrap();
        assert_eq!(crc.to_le_bytes(), bytes[ROOT_HEADER_LEN - 4..ROOT_HEADER_LEN]);
        assert_eq!(Root::decode(&bytes, random.uuid()).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}

#[test]
fn damaged_truncated_and_extended_roots_are_refused() {
    let root = Random::new().root();
    let bytes = root.encode().unwrap();
    refuses_every_flip(&bytes, |bytes| Root::decode(bytes, root.store));
    refuses_every_prefix(&bytes, |bytes| Root::decode(bytes, root.store));
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(Root::decode(&longer, root.store).is_err());
}

#[test]
fn forged_root_counts_are_refused_before_allocating() {
    let root = Random::new().root();
    let bytes = root.encode().unwrap();
    // bucket_count, segment_count, partition_count, total_len
    for (at, width) in [(52, 4), (56, 4), (60, 4), (96, 8)] {
        let mut forged = bytes.clone();
        forged[at..at + width].fill(0xFF);
        seal(&mut forged, ROOT_HEADER_LEN - 4);
        let error = Root::decode(&forged, root.store).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "byte {at}");
    }
}

#[test]
fn a_root_that_cannot_be_read_back_is_not_written() {
    let good = Random::new().root();
    let few = Root { partitions: good.partitions[1..].to_vec(), ..good.clone() };
    let unordered = Root {
        segments: good.segments.iter().chain(&good.segments).copied().collect(),
        ..good.clone()
    };
    assert_eq!(few.encode().unwrap_err().kind(), ErrorKind::Internal);
    if !good.segments.is_empty() {
        assert_eq!(unordered.encode().unwrap_err().kind(), ErrorKind::Internal);
    }
}
