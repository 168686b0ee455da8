//! The header of a batch with its records.

use isotherm::log::batch::{
    BATCH_FIXED_LEN, BatchExpect, BatchFault, BatchItem, BatchView, decode_header, encode, layout,
    peek_header_len,
};
use isotherm::types::Uuid;
use isotherm::types::{Epoch, SegmentId, TierId, TierSegment};

use super::{field, repaired, require_same};

pub(super) const CHECKSUM_AT: usize = BATCH_FIXED_LEN - 4;
const TOTAL_LEN_AT: usize = 100;

/// What a reader that finds these bytes where they were written knows of them.
pub(super) fn expectation(bytes: &[u8]) -> BatchExpect<'static> {
    let [tier] = field(bytes, 88);
    let segment = SegmentId(u32::from_le_bytes(field(bytes, 80)));
    BatchExpect {
        store: Uuid(field(bytes, 16)),
        device: Uuid(field(bytes, 32)),
        segment: TierSegment { tier: TierId(tier), segment },
        generation: u32::from_le_bytes(field(bytes, 84)),
        device_offset: u64::from_le_bytes(field(bytes, 72)),
        seq: None,
        chain: None,
        epochs: Epoch(0)..=Epoch(u32::MAX),
        cuts: &[],
    }
}

/// A header that decodes is written again as it was, and is refused at any other place.
pub fn log_batch(bytes: &[u8]) {
    let expect = expectation(bytes);
    let as_it_is = decode_header(bytes, &expect);
    let Ok(len) = peek_header_len(bytes) else {
        assert!(as_it_is.is_err());
        return;
    };
    let Some(header) = bytes.get(..len) else {
        assert!(matches!(as_it_is, Err(BatchFault::Truncated { .. })));
        return;
    };
    let Some(header) = repaired(header, CHECKSUM_AT) else { return };
    match decode_header(&header, &expect) {
        Ok(view) => require_round_trip(&header, &view, &expect),
        Err(BatchFault::BadContent(_)) => assert!(as_it_is.is_err()),
        Err(fault) => panic!("with the right checksum, where it was written: {fault}"),
    }
}

fn require_round_trip(header: &[u8], view: &BatchView, expect: &BatchExpect<'_>) {
    let elsewhere = BatchExpect { generation: !expect.generation, ..expect.clone() };
    assert!(matches!(decode_header(header, &elsewhere), Err(BatchFault::WrongPlace(_))));
    let record = |record: &isotherm::log::record::Record| {
        assert_eq!(record.validate(), Ok(()));
        BatchItem { record: record.clone(), payloads: Vec::new() }
    };
    let mut items: Vec<BatchItem<'_>> = view.records().map(record).collect();
    let written = layout(&items, usize::MAX).and_then(|layout| {
        let mut out = vec![0; layout.total_len()];
        encode(&layout, &mut items, &view.identity, &mut out)?;
        Ok(out)
    });
    let mut written = match written {
        Ok(written) => written,
        Err(error) => panic!("a batch that was read cannot be written: {error}"),
    };
    // Written again it has no payloads.
    written.truncate(header.len());
    let mut read = header.to_vec();
    for field in [TOTAL_LEN_AT, CHECKSUM_AT] {
        written[field..field + 4].fill(0);
        read[field..field + 4].fill(0);
    }
    require_same("batch", &written, &read);
}
