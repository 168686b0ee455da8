use super::random::{Random, expect_of};
use crate::error::ErrorKind;
use crate::log::batch::{
    BATCH_ALIGN, BATCH_FIXED_LEN, BatchExpect, BatchFault, BatchIdentity, BatchItem, BatchView,
    decode_header, encode, layout, peek_header_len,
};
use crate::log::codec::seal;
use crate::log::record::{BufferDef, ENCODING_RAW, Extent, Record};
use crate::log::superblock::Cut;
use crate::types::{BatchSeq, BucketId, BufferId, Epoch, Location, Place, SlotId, Uuid, Version};

/// A put whose buffers all ride in the batch: its payloads, not yet placed.
fn put_of(id: u64, payloads: &[Vec<u8>]) -> Record {
    let mut len = 0;
    let mut extents = Vec::new();
    let mut buffers = Vec::new();
    for (bytes, id) in payloads.iter().zip(id..) {
        let size = bytes.len() as u32;
        extents.push(Extent {
            value_offset: len,
            len: size,
            buffer: BufferId(id),
            buffer_offset: 0,
        });
        len += u64::from(size);
        buffers.push(BufferDef {
            id: BufferId(id),
            raw_len: size,
            stored_len: size,
            location: Location::dram(SlotId(0)),
            encoding: ENCODING_RAW,
            logical_crc: crc32fast::hash(bytes),
            checks: BufferDef::checks_of(bytes),
        });
    }
    let key = b"key".as_slice().into();
    let (bucket, version) = (BucketId(1), Version(id));
    Record::Put { bucket, key, version, len, extents, buffers, attributes: None }
}

fn item_of<'a>(id: u64, payloads: &'a [Vec<u8>]) -> BatchItem<'a> {
    BatchItem {
        record: put_of(id, payloads),
        payloads: payloads.iter().enumerate().map(|(i, bytes)| (i, bytes.as_slice())).collect(),
    }
}

/// A batch of these records without payloads.
fn batch_of(records: Vec<Record>, identity: &BatchIdentity) -> Vec<u8> {
    let mut items: Vec<_> =
        records.into_iter().map(|record| BatchItem { record, payloads: vec![] }).collect();
    let layout = layout(&items, 64 << 20).unwrap();
    assert_eq!(layout.items(), items.len());
    let mut out = vec![0xAA; layout.total_len()];
    encode(&layout, &mut items, identity, &mut out).unwrap();
    out
}

/// Recomputes the header's checksum, as a forger would.
fn forge(batch: &mut [u8], at: usize, bytes: &[u8]) {
    let header_len = peek_header_len(batch).unwrap();
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    seal(&mut batch[..header_len], BATCH_FIXED_LEN - 4);
}

#[test]
fn batches_round_trip_with_their_payloads_where_the_records_say() {
    let mut random = Random::new();
    for _ in 0..50 {
        let mut identity = random.batch_identity();
        // Other records must not happen to point into this batch.
        identity.device_offset |= 1 << 52;
        let payloads: Vec<Vec<Vec<u8>>> = (0..random.below(20))
            .map(|_| {
                (0..1 + random.below(3))
                    .map(|_| {
                        let end = [64, 4096, 20_000][random.below(3) as usize];
                        let len = 1 + random.below(end) as usize;
                        random.bytes(len)
                    })
                    .collect()
            })
            .collect();
        let mut items: Vec<_> = (1u64..).zip(&payloads).map(|(i, p)| item_of(i * 8, p)).collect();
        for _ in 0..random.below(30) {
            items.push(BatchItem { record: random.any_record(), payloads: vec![] });
        }
        let layout = layout(&items, 64 << 20).unwrap();
        assert_eq!(layout.items(), items.len());
        let mut out = vec![0xAA; layout.total_len()];
        let crc = encode(&layout, &mut items, &identity, &mut out).unwrap();

        let view = decode_header(&out, &expect_of(&identity)).unwrap();
        assert_eq!(view.identity, identity);
        assert_eq!((view.shape, view.crc), (layout.shape(), crc));
        assert!(view.records().eq(items.iter().map(|item| &item.record)));
        check_payloads(&view, &payloads, &out);
        // The header alone suffices.
        let header_len = peek_header_len(&out[..4096]).unwrap();
        assert_eq!(decode_header(&out[..header_len], &expect_of(&identity)), Ok(view));
    }
}

fn check_payloads(view: &BatchView, payloads: &[Vec<Vec<u8>>], out: &[u8]) {
    let mut used = vec![(0, view.shape.payload_offset as usize)];
    for (record, payloads) in view.records().zip(payloads) {
        for (def, payload) in record.buffers().iter().zip(payloads) {
            let Place::Device { tier, offset } = def.location.place() else { panic!("DRAM") };
            assert_eq!(tier, view.identity.segment.tier);
            let at = (offset - view.identity.device_offset) as usize;
            assert_eq!(&out[at..at + payload.len()], payload);
            assert!(at.is_multiple_of(if payload.len() >= 4096 { 4096 } else { 8 }));
            let blocks = (at + payload.len() - 1) / 4096 - at / 4096 + 1;
            assert_eq!(blocks, payload.len().div_ceil(4096), "a payload straddles a boundary");
            used.push((at, at + payload.len()));
        }
    }
    used.sort();
    assert!(used.windows(2).all(|pair| pair[0].1 <= pair[1].0), "payloads overlap");
    used.push((out.len(), out.len()));
    for pair in used.windows(2).skip(1) {
        assert!(out[pair[0].1..pair[1].0].iter().all(|&byte| byte == 0), "padding is not zero");
    }
}

#[test]
fn layout_takes_what_fits_and_no_more() {
    let payloads = vec![vec![7; 4096]];
    let items: Vec<_> = (1..=100).map(|i| item_of(i * 8, &payloads)).collect();
    for blocks in 0..110 {
        let max = blocks * 4096;
        let fitting = layout(&items, max).unwrap();
        assert!(fitting.items() == 0 || fitting.total_len() <= max);
        if fitting.items() < items.len() {
            let more = layout(&items[..fitting.items() + 1], usize::MAX).unwrap();
            assert!(more.total_len() > max, "another item would have fitted into {max}");
        }
    }
}

#[test]
fn an_item_that_cannot_be_read_back_is_not_written() {
    let mut random = Random::new();
    let identity = random.batch_identity();
    let wrong_len = vec![vec![1; 100]];
    let mut item = item_of(8, &wrong_len);
    item.payloads[0].1 = &wrong_len[0][..99];
    assert_eq!(layout(&[item], 1 << 20).unwrap_err().kind(), ErrorKind::Internal);

    let unplaced = BatchItem { record: put_of(8, &wrong_len), payloads: vec![] };
    let mut items = [unplaced];
    let layout = layout(&items, 1 << 20).unwrap();
    let mut out = vec![0; layout.total_len()];
    let error = encode(&layout, &mut items, &identity, &mut out).unwrap_err();
    assert!(error.message().contains("DRAM"), "{error}");
    let identity = BatchIdentity { watermark: identity.seq, ..identity };
    assert!(encode(&layout, &mut items, &identity, &mut out).is_err());
    assert!(encode(&layout, &mut items, &identity, &mut [0; 4096][..100]).is_err());
}

#[test]
fn every_flipped_bit_of_a_header_is_refused() {
    let mut random = Random::new();
    let identity = random.batch_identity();
    let records = Record::KINDS.iter().map(|&kind| random.record(kind)).collect();
    let mut batch = batch_of(records, &identity);
    let header_len = peek_header_len(&batch).unwrap();
    for bit in 0..header_len * 8 {
        batch[bit / 8] ^= 1 << (bit % 8);
        let fault = decode_header(&batch, &expect_of(&identity)).expect_err("accepted");
        assert!(fault.may_be_torn(), "bit {bit}: {fault}");
        batch[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn every_prefix_of_a_header_is_refused() {
    let mut random = Random::new();
    let identity = random.batch_identity();
    let records = (0..20).map(|_| random.any_record()).collect();
    let batch = batch_of(records, &identity);
    for len in 0..peek_header_len(&batch).unwrap() {
        let fault = decode_header(&batch[..len], &expect_of(&identity)).expect_err("accepted");
        assert!(matches!(fault, BatchFault::Truncated { .. }), "{len}: {fault}");
    }
}

#[test]
fn each_breach_of_identity_has_its_fault() {
    let mut random = Random::new();
    let identity = random.batch_identity();
    let batch = batch_of(vec![Record::Marker], &identity);
    let fault = |change: &dyn Fn(&mut BatchExpect<'static>)| {
        let mut expect = expect_of(&identity);
        change(&mut expect);
        decode_header(&batch, &expect).err()
    };
    let (epoch, seq) = (identity.epoch, identity.seq);
    assert_eq!(fault(&|_| ()), None);
    assert_eq!(
        fault(&|expect| expect.store = Uuid([1; 16])),
        Some(BatchFault::ForeignStore(identity.store))
    );
    let misplaced: [&dyn Fn(&mut BatchExpect<'static>); 4] = [
        &|expect| expect.device = Uuid([1; 16]),
        &|expect| expect.segment.segment.0 ^= 1,
        &|expect| expect.generation ^= 1,
        &|expect| expect.device_offset ^= 4096,
    ];
    for change in misplaced {
        assert!(matches!(fault(change), Some(BatchFault::WrongPlace(_))));
    }
    let later = Epoch(epoch.0 + 1);
    let stale = Some(BatchFault::StaleEpoch { epoch, seq });
    assert_eq!(fault(&|expect| expect.epochs = later..=later), stale);
    let cuts = vec![Cut { epoch, seq: BatchSeq(seq.0 - 1) }].leak();
    assert_eq!(fault(&|expect| expect.cuts = cuts), stale);
    let kept = vec![Cut { epoch, seq }].leak();
    assert_eq!(fault(&|expect| expect.cuts = kept), None);
    assert_eq!(
        fault(&|expect| expect.epochs = Epoch(0)..=Epoch(epoch.0 - 1)),
        Some(BatchFault::FutureEpoch { epoch, seq })
    );
    let broken = [Some(BatchSeq(seq.0 + 1)), Some(BatchSeq(seq.0 - 1))];
    for due in broken {
        assert!(matches!(fault(&|expect| expect.seq = due), Some(BatchFault::BadChain(_))));
    }
    let chain = Some(identity.chain ^ 1);
    assert!(matches!(fault(&|expect| expect.chain = chain), Some(BatchFault::BadChain(_))));
    assert_eq!(fault(&|expect| (expect.seq, expect.chain) = (None, None)), None);
}

#[test]
fn no_batch_is_told_from_never_written() {
    let expect = expect_of(&Random::new().batch_identity());
    let fault = |bytes: &[u8]| decode_header(bytes, &expect).expect_err("no batch");
    assert_eq!(fault(&[0; 4096]), BatchFault::NotABatch { blank: true });
    assert_eq!(fault(&[1; 4096]), BatchFault::NotABatch { blank: false });
    let mut late = [0; BATCH_ALIGN];
    late[4000] = 1;
    assert_eq!(fault(&late), BatchFault::NotABatch { blank: false });
}

#[test]
fn forged_lengths_and_counts_are_refused() {
    let mut random = Random::new();
    let identity = random.batch_identity();
    let batch = batch_of(vec![Record::Marker], &identity);
    // payload_offset, total_len, record_count, watermark
    for (at, width) in [(96, 4), (100, 4), (104, 4), (64, 8)] {
        for fill in [0xFF, 0x00] {
            let mut forged = batch.clone();
            forge(&mut forged, at, &vec![fill; width]);
            let verdict = decode_header(&forged, &expect_of(&identity));
            if (at, fill) == (64, 0) {
                assert!(verdict.is_ok(), "a watermark of 0 is fine");
            } else {
                assert!(matches!(verdict, Err(BatchFault::BadContent(_))), "{at}: {verdict:?}");
            }
        }
    }
    for header_len in [0, 159, u32::MAX] {
        let mut forged = batch.clone();
        forged[12..16].copy_from_slice(&header_len.to_le_bytes());
        assert!(matches!(peek_header_len(&forged), Err(BatchFault::BadChecksum(_))));
    }
}

#[test]
fn an_intact_batch_of_another_format_is_never_a_torn_one() {
    let mut random = Random::new();
    let identity = random.batch_identity();
    let batch = batch_of(vec![Record::Marker], &identity);
    // major, stream, flags, the kind of the record
    for at in [8, 52, 54, BATCH_FIXED_LEN] {
        let mut forged = batch.clone();
        forge(&mut forged, at, &99u16.to_le_bytes());
        let fault = decode_header(&forged, &expect_of(&identity)).expect_err("accepted");
        assert!(!fault.may_be_torn());
        assert_eq!(fault.to_error("here").kind(), ErrorKind::Format);
    }
}

#[test]
fn a_batch_of_another_format_that_was_not_written_here_is_no_batch() {
    let mut random = Random::new();
    let identity = random.batch_identity();
    let mut foreign = batch_of(vec![Record::Marker], &identity);
    forge(&mut foreign, 8, &99u16.to_le_bytes());
    let elsewhere: [&dyn Fn(&mut BatchExpect<'static>); 6] = [
        &|expect| expect.store = Uuid([1; 16]),
        &|expect| expect.device = Uuid([1; 16]),
        &|expect| expect.segment.tier.0 ^= 1,
        &|expect| expect.segment.segment.0 ^= 1,
        &|expect| expect.generation ^= 1,
        &|expect| expect.device_offset ^= 4096,
    ];
    for change in elsewhere {
        let mut expect = expect_of(&identity);
        change(&mut expect);
        let fault = decode_header(&foreign, &expect).expect_err("accepted");
        assert!(fault.may_be_torn(), "{fault}");
    }
}

#[test]
fn a_buffer_across_the_batch_header_is_refused() {
    let mut random = Random::new();
    let identity = random.batch_identity();
    let mut record = put_of(8, &[vec![1; 100]]);
    record.buffers_mut()[0].location =
        Location::device(identity.segment.tier, identity.device_offset + 64);
    let batch = batch_of(vec![record], &identity);
    let fault = decode_header(&batch, &expect_of(&identity)).expect_err("accepted");
    assert!(matches!(fault, BatchFault::BadContent(_)), "{fault}");
}
