//! Superblocks, segment headers, summaries and footers.

use super::random::Random;
use super::{refuses_every_flip, refuses_every_prefix};
use crate::error::ErrorKind;
use crate::log::codec::seal;
use crate::log::record::ENCODING_RAW;
use crate::log::segment::{
    Footer, SEGMENT_BLOCK_LEN, SegmentHeader, SegmentIdentity, SummaryEntry, encode_tail,
    summary_len, tail_len,
};
use crate::log::superblock::{COMPAT_SUPPLEMENT, RootRef, SUPERBLOCK_LEN, Superblock};
use crate::types::{BatchSeq, BucketId, BufferId, Epoch, TierKind, Version};

const SEGMENT_SIZE: u64 = 4 << 20;

#[test]
fn superblocks_round_trip() {
    let mut random = Random::new();
    for _ in 0..200 {
        let superblock = random.superblock();
        let block = superblock.encode().unwrap();
        assert_eq!(block.len(), SUPERBLOCK_LEN);
        assert_eq!(Superblock::decode(&block).unwrap(), superblock);
    }
}

#[test]
fn damaged_and_truncated_superblocks_are_refused() {
    let block = Random::new().superblock().encode().unwrap();
    refuses_every_flip(&block, Superblock::decode);
    refuses_every_prefix(&block, Superblock::decode);
    for fill in [0, 0xFF] {
        let error = Superblock::decode(&[fill; SUPERBLOCK_LEN]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Format);
    }
}

#[test]
fn foreign_formats_are_told_from_damage() {
    let block = Random::new().superblock().encode().unwrap();
    // endian mark, major, incompat, block size, check block
    for at in [8, 12, 32, 40, 44] {
        let mut forged = block.clone();
        forged[at] ^= 0x80;
        assert_eq!(Superblock::decode(&forged).unwrap_err().kind(), ErrorKind::Corrupt);
        seal(&mut forged, SUPERBLOCK_LEN - 4);
        assert_eq!(Superblock::decode(&forged).unwrap_err().kind(), ErrorKind::Format, "{at}");
    }
}

#[test]
fn forged_superblock_counts_are_refused() {
    let mut superblock = Random::new().superblock();
    superblock.features.compat |= COMPAT_SUPPLEMENT;
    let block = superblock.encode().unwrap();
    // tier, tier kind, tier count, clean; chunk count, cut count; those of the previous root, begun
    let places = [(80, 1), (81, 1), (82, 1), (83, 1), (180, 4), (184, 4), (2612, 4), (2616, 4)];
    for (at, width) in places {
        let mut forged = block.clone();
        forged[at..at + width].fill(0xFF);
        seal(&mut forged, SUPERBLOCK_LEN - 4);
        assert_eq!(Superblock::decode(&forged).unwrap_err().kind(), ErrorKind::Corrupt, "{at}");
    }
}

#[test]
fn a_superblock_that_cannot_be_read_back_is_not_written() {
    let good = Random::new().superblock();
    let dram = Superblock { tier_kind: TierKind::Dram, ..good.clone() };
    let young = Superblock { epoch: Epoch(0), ..good.clone() };
    let no_tiers = Superblock { tiers: vec![], ..good.clone() };
    for bad in [dram, young, no_tiers, Superblock { segment_size: 4097, ..good }] {
        assert_eq!(bad.encode().unwrap_err().kind(), ErrorKind::Internal);
    }
}

#[test]
fn superblocks_of_1_0_say_nothing_of_what_came_later() {
    let mut superblock = Random::new().superblock();
    superblock.features.compat |= COMPAT_SUPPLEMENT;
    superblock.begun = superblock.epoch;
    superblock.previous = Some(superblock.as_previous());
    let new = superblock.encode().unwrap();
    assert_eq!(Superblock::decode(&new).unwrap(), superblock);
    let silent = Superblock { previous: None, begun: Epoch(0), ..superblock };
    // Without the bit nothing there is read; with it, zeros are what a 1.0 engine leaves.
    let mut unannounced = new.clone();
    unannounced[16] &= !1;
    let mut zeros = new;
    zeros[2560..4092].fill(0);
    for (mut old, compat) in
        [(unannounced, silent.features.compat & !1), (zeros, silent.features.compat)]
    {
        seal(&mut old, SUPERBLOCK_LEN - 4);
        let mut expected = silent.clone();
        expected.features.compat = compat;
        assert_eq!(Superblock::decode(&old).unwrap(), expected);
    }
}

#[test]
fn the_checkpoints_of_a_tier_are_the_newest_the_one_before_and_that_of_the_older_slot() {
    let mut random = Random::new();
    let mut first = random.superblock();
    first.features.compat |= COMPAT_SUPPLEMENT;
    let (chunks, len) = random.chunks(4);
    let root = |seq| RootRef { seq: BatchSeq(seq), len, crc: 1, chunks: chunks.clone() };
    let second = first.with_checkpoint(root(1), random.log_start(), BatchSeq(5));
    let third = second.with_checkpoint(root(2), random.log_start(), BatchSeq(6));
    let named = |slots: &[Superblock]| {
        let found = Superblock::checkpoints_of(slots);
        found.iter().map(Superblock::as_previous).collect::<Vec<_>>()
    };
    let all = [third.as_previous(), second.as_previous(), first.as_previous()];
    assert_eq!(named(&[third.clone(), second.clone()]), all[..2]);
    assert_eq!(named(&[third.clone(), first.clone()]), all);
    assert_eq!(named(std::slice::from_ref(&third)), all[..2]);
    let of_1_0 = Superblock { previous: None, ..third };
    assert_eq!(named(&[of_1_0, second]), all[..2]);
}

#[test]
fn the_newer_of_two_slots_counts() {
    let older = Superblock { generation: 6, ..Random::new().superblock() };
    let newer = Superblock { generation: 7, clean: !older.clean, ..older.clone() };
    let (old, new) = (older.encode().unwrap(), newer.encode().unwrap());
    assert_eq!((Superblock::slot_of(6), Superblock::slot_of(7)), (0, 1));
    assert_eq!(Superblock::newest([&old, &new]).unwrap(), newer);
    assert_eq!(Superblock::newest([&new, &old]).unwrap(), newer);
    assert_eq!(Superblock::newest([&old, &old]).unwrap(), older);
    // Torn, or never written.
    let mut torn = new.clone();
    torn[2000..].fill(0);
    for bad in [&torn, &vec![0; SUPERBLOCK_LEN]] {
        assert_eq!(Superblock::newest([&old, bad]).unwrap(), older);
        assert_eq!(Superblock::newest([bad, &old]).unwrap(), older);
    }
    let kind = |slots| Superblock::newest(slots).unwrap_err().kind();
    assert_eq!(kind([&torn, &torn]), ErrorKind::Corrupt);
    assert_eq!(kind([&torn, &[0; SUPERBLOCK_LEN]]), ErrorKind::Corrupt);
    assert_eq!(kind([&[0; SUPERBLOCK_LEN], &[1; SUPERBLOCK_LEN]]), ErrorKind::Format);
}

#[test]
fn slots_that_contradict_each_other_are_refused() {
    let mut random = Random::new();
    let one = Superblock { generation: 7, ..random.superblock() };
    let same_generation = Superblock { clean: !one.clean, ..one.clone() };
    let foreign = Superblock { store: random.uuid(), generation: 8, ..one.clone() };
    let block = one.encode().unwrap();
    for other in [same_generation, foreign] {
        let other = other.encode().unwrap();
        let error = Superblock::newest([&block, &other]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
}

#[test]
fn an_upgraded_store_is_refused_though_the_older_slot_is_good() {
    let block = Random::new().superblock().encode().unwrap();
    let mut upgraded = block.clone();
    upgraded[12] = 2;
    seal(&mut upgraded, SUPERBLOCK_LEN - 4);
    for slots in [[&block[..], &upgraded[..]], [&upgraded[..], &block[..]]] {
        assert_eq!(Superblock::newest(slots).unwrap_err().kind(), ErrorKind::Format);
    }
}

fn identity(random: &mut Random) -> SegmentIdentity {
    SegmentIdentity {
        store: random.uuid(),
        device: random.uuid(),
        segment: random.segment(),
        generation: random.u32(),
    }
}

fn header(random: &mut Random) -> SegmentHeader {
    SegmentHeader {
        identity: identity(random),
        kind: random.segment_kind(),
        epoch: Epoch(random.u32()),
        writer: random.u32(),
        wall_clock: random.next(),
    }
}

#[test]
fn segment_headers_round_trip_and_know_their_place() {
    let mut random = Random::new();
    for _ in 0..200 {
        let header = header(&mut random);
        let block = header.encode().unwrap();
        assert_eq!(block.len(), SEGMENT_BLOCK_LEN);
        assert_eq!(SegmentHeader::decode(&block, Some(&header.identity)).unwrap(), header);
        assert_eq!(SegmentHeader::decode(&block, None).unwrap(), header);
        let mut other = header.identity;
        other.generation ^= 1;
        let error = SegmentHeader::decode(&block, Some(&other)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
}

#[test]
fn damaged_and_truncated_segment_headers_are_refused() {
    let block = header(&mut Random::new()).encode().unwrap();
    refuses_every_flip(&block, |bytes| SegmentHeader::decode(bytes, None));
    refuses_every_prefix(&block, |bytes| SegmentHeader::decode(bytes, None));
}

fn entries(random: &mut Random) -> Vec<SummaryEntry<Box<[u8]>>> {
    (0..random.below(200))
        .map(|_| {
            let len = 1 + random.below(100_000) as u32;
            SummaryEntry {
                buffer: BufferId(random.next()),
                bucket: BucketId(random.u32()),
                key: random.key(),
                version: Version(random.next()),
                value_offset: random.next(),
                offset: 4096 + random.below(3 << 20) as u32,
                stored_len: len,
                raw_len: len,
                logical_crc: random.u32(),
                encoding: ENCODING_RAW,
                table: random.below(2) == 0,
            }
        })
        .collect()
}

fn borrowed(entry: &SummaryEntry<Box<[u8]>>) -> SummaryEntry<&[u8]> {
    let SummaryEntry { buffer, bucket, ref key, version, value_offset, .. } = *entry;
    let SummaryEntry { offset, stored_len, raw_len, logical_crc, encoding, table, .. } = *entry;
    SummaryEntry {
        buffer,
        bucket,
        key,
        version,
        value_offset,
        offset,
        stored_len,
        raw_len,
        logical_crc,
        encoding,
        table,
    }
}

#[test]
fn summaries_round_trip() {
    let mut random = Random::new();
    for _ in 0..50 {
        let (identity, entries) = (identity(&mut random), entries(&mut random));
        let tail = encode_tail(&entries, &identity, Epoch(3), SEGMENT_SIZE).unwrap();
        assert_eq!(tail.len(), tail_len(summary_len(&entries)));
        let (summary, block) = tail.split_at(tail.len() - SEGMENT_BLOCK_LEN);
        let footer = Footer::decode(block, Some(&identity), SEGMENT_SIZE).unwrap();
        assert_eq!(u64::from(footer.summary_offset), SEGMENT_SIZE - tail.len() as u64);
        let read: Vec<_> = footer.entries(summary).unwrap().map(Result::unwrap).collect();
        assert_eq!(read, entries.iter().map(borrowed).collect::<Vec<_>>());
    }
}

#[test]
fn damaged_and_truncated_tails_are_refused() {
    let mut random = Random::new();
    let (identity, entries) = (identity(&mut random), entries(&mut random)[..].to_vec());
    let entries = &entries[..entries.len().min(4)];
    let tail = encode_tail(entries, &identity, Epoch(3), SEGMENT_SIZE).unwrap();
    let (summary, block) = tail.split_at(tail.len() - SEGMENT_BLOCK_LEN);
    let read = |bytes: &[u8]| Footer::decode(bytes, Some(&identity), SEGMENT_SIZE);
    refuses_every_flip(block, read);
    refuses_every_prefix(block, read);
    let footer = read(block).unwrap();
    let summary = &summary[..footer.summary_len as usize];
    refuses_every_flip(summary, |bytes| footer.entries(bytes).map(drop));
    refuses_every_prefix(summary, |bytes| footer.entries(bytes).map(drop));
    let wrong_size = Footer::decode(block, Some(&identity), 2 * SEGMENT_SIZE);
    assert_eq!(wrong_size.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn forged_footers_are_refused() {
    let mut random = Random::new();
    let identity = identity(&mut random);
    let tail = encode_tail(&entries(&mut random), &identity, Epoch(3), SEGMENT_SIZE).unwrap();
    let (summary, block) = tail.split_at(tail.len() - SEGMENT_BLOCK_LEN);
    // summary_offset, summary_len, count
    for at in [60, 64, 68] {
        let mut forged = block.to_vec();
        forged[at..at + 4].fill(0xFF);
        seal(&mut forged, SEGMENT_BLOCK_LEN - 4);
        let read = Footer::decode(&forged, None, SEGMENT_SIZE)
            .and_then(|footer| footer.entries(summary)?.collect::<Result<Vec<_>, _>>());
        assert_eq!(read.unwrap_err().kind(), ErrorKind::Corrupt, "{at}");
    }
}
