//! The two structures of a checkpoint: a partition's image and the root.

use isotherm::Result;
use isotherm::log::checkpoint::{
    BlobEntry, BlobFacts, BlobMap, PARTITION_HEADER_LEN, PartitionEncoder, PartitionIdentity,
    PartitionView,
};
use isotherm::log::root::{ROOT_HEADER_LEN, ROOT_MAGIC, Root};
use isotherm::types::BatchSeq;
use isotherm::types::Uuid;

use super::{field, repaired, require_same};

pub(super) const IMAGE_CHECKSUM_AT: usize = PARTITION_HEADER_LEN - 4;
pub(super) const ROOT_CHECKSUM_AT: usize = ROOT_HEADER_LEN - 4;

/// An image or a root that decodes is written again as it was.
pub fn checkpoint(bytes: &[u8]) {
    if bytes.starts_with(&ROOT_MAGIC) { root(bytes) } else { image(bytes) }
}

fn root(bytes: &[u8]) {
    let store = Uuid(field(bytes, 16));
    let as_it_is = Root::decode(bytes, store);
    let Some(bytes) = repaired(bytes, ROOT_CHECKSUM_AT) else { return };
    let Ok(root) = Root::decode(&bytes, store) else {
        assert!(as_it_is.is_err());
        return;
    };
    assert!(Root::decode(&bytes, Uuid(store.0.map(|byte| !byte))).is_err());
    match root.encode() {
        Ok(written) => require_same("root", &written, &bytes),
        Err(error) => panic!("a root that was read cannot be written: {error}"),
    }
}

fn image(bytes: &[u8]) {
    let identity = PartitionIdentity {
        store: Uuid(field(bytes, 16)),
        partition: u16::from_le_bytes(field(bytes, 12)),
        cut: BatchSeq(u64::from_le_bytes(field(bytes, 32))),
    };
    let as_it_is = PartitionView::decode(bytes, &identity).is_ok();
    let Some(bytes) = repaired(bytes, IMAGE_CHECKSUM_AT) else { return };
    let Ok(view) = PartitionView::decode(&bytes, &identity) else {
        assert!(!as_it_is);
        return;
    };
    // A reader makes room for them before it looks at one.
    assert!(view.blob_count() as usize <= bytes.len());
    assert!(view.buffer_count() as usize <= bytes.len());
    let other = PartitionIdentity { partition: !identity.partition, ..identity };
    assert!(PartitionView::decode(&bytes, &other).is_err());
    let Ok(blobs) = view.blobs().collect::<Result<Vec<_>>>() else { return };
    let Ok(buffers) = view.buffers().collect::<Result<Vec<_>>>() else { return };
    assert_eq!((view.blob_count() as usize, view.buffer_count() as usize), {
        (blobs.len(), buffers.len())
    });
    let mut encoder = PartitionEncoder::new(identity);
    let pushed = blobs
        .iter()
        .try_for_each(|blob| push(&mut encoder, blob))
        .and_then(|()| buffers.iter().try_for_each(|buffer| encoder.push_buffer(buffer)));
    match pushed {
        Ok(()) => require_same("image", &encoder.finish(), &bytes),
        Err(error) => panic!("an image that was read cannot be written: {error}"),
    }
}

/// Writes what was read of a blob.
pub fn push(encoder: &mut PartitionEncoder, blob: &BlobEntry<'_>) -> Result<()> {
    let facts = BlobFacts {
        bucket: blob.bucket,
        key: blob.key,
        version: blob.version,
        len: blob.len,
        attributes: blob.attributes.as_ref(),
    };
    match &blob.map {
        BlobMap::Inline { extents, buffers } => encoder.push_blob(&facts, extents, buffers),
        BlobMap::Paged(pages) => encoder.push_paged_blob(&facts, pages),
    }
}
