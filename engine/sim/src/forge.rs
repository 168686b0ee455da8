//! Forged structures: what a store has on its devices is taken apart, changed in one place and put
//! back with checksums that are right, so that nothing but what it says is wrong with it.
//!
//! Batches of the log chain to each other: those behind a forged one are sealed anew. A checkpoint
//! hangs on the superblock by checksums: image, root and superblock are written anew, and nothing is
//! left to fall back on.

use isotherm::io::sim::SimWorld;
use isotherm::io::sim_disk::Disk;
use isotherm::log::batch::{
    BATCH_FIXED_LEN, BatchIdentity, BatchItem, BatchView, encode, layout, peek_header_len,
};
use isotherm::log::checkpoint::{PARTITION_HEADER_LEN, PartitionIdentity, PartitionView};
use isotherm::log::codec::seal;
use isotherm::log::record::{Record, RecordKind};
use isotherm::log::root::{ROOT_HEADER_LEN, Root};
use isotherm::log::superblock::{
    Chunk, LogStart, RootRef, SUPERBLOCK_LEN, SUPERBLOCK_SLOTS, Superblock,
};
use isotherm::log::tail::LogTail;
use isotherm::types::{BatchSeq, Location, Place, SegmentId, TierId, TierSegment};
use isotherm::{Error, ErrorKind, Result};

use crate::small::log_of;

const BLOCK: usize = 4096;
/// Where the checksums of the structures stand in them.
const BATCH_CRC_AT: usize = BATCH_FIXED_LEN - 4;
const ROOT_CRC_AT: usize = ROOT_HEADER_LEN - 4;
const IMAGE_CRC_AT: usize = PARTITION_HEADER_LEN - 4;
const SUPERBLOCK_CRC_AT: usize = SUPERBLOCK_LEN - 4;
/// Where a batch names the checksum of its predecessor.
const BATCH_CHAIN_AT: usize = 92;

/// A batch as it stands on its device.
pub struct StoredBatch {
    /// Where it begins.
    pub offset: u64,
    /// Its header, records included.
    pub header: Vec<u8>,
    /// What it says.
    pub view: BatchView,
}

/// A partition of the checkpoint.
pub struct StoredImage {
    /// Its number.
    pub partition: usize,
    /// What identifies it.
    pub identity: PartitionIdentity,
    /// The image.
    pub bytes: Vec<u8>,
}

/// A store taken apart.
pub struct Stored {
    /// Its devices.
    pub disks: Vec<Disk>,
    /// Of each tier the newest superblock.
    pub superblocks: Vec<Superblock>,
    /// The log from its start on.
    pub batches: Vec<StoredBatch>,
    /// The log's end.
    pub tail: LogTail,
    /// The checkpoint's root.
    pub root: Root,
    /// Its partitions, as far as they are not empty.
    pub images: Vec<StoredImage>,
}

/// A record, and the bytes of those of its buffers that are to ride in its batch.
pub struct Forged {
    /// The record.
    pub record: Record,
    /// Which of its buffers, and their bytes.
    pub payloads: Vec<(usize, Vec<u8>)>,
}

impl From<Record> for Forged {
    fn from(record: Record) -> Forged {
        Forged { record, payloads: Vec::new() }
    }
}

/// A record in a batch: its bytes in the header.
pub type RecordRange = std::ops::Range<usize>;

impl StoredBatch {
    /// Where the records stand in the header, in order.
    pub fn ranges(&self) -> Vec<RecordRange> {
        let mut at = BATCH_FIXED_LEN;
        let mut ranges = Vec::new();
        while at < self.header.len() {
            let len = u32::from_le_bytes(field(&self.header, at + 4)) as usize;
            ranges.push(at..at + len);
            at += len;
        }
        ranges
    }
}

/// A field of a structure.
pub fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

fn read(disk: &Disk, offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    disk.read(offset, &mut bytes);
    bytes
}

fn read_chunks(disks: &[Disk], chunks: &[Chunk]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for chunk in chunks {
        if let Place::Device { tier, offset } = chunk.location.place() {
            bytes.extend(read(&disks[tier.index()], offset, chunk.len as usize));
        }
    }
    bytes
}

fn newest_superblock(disk: &Disk) -> Result<Superblock> {
    let slots = SUPERBLOCK_SLOTS.map(|at| read(disk, at, SUPERBLOCK_LEN));
    Superblock::newest(slots.each_ref().map(Vec::as_slice))
}

impl Stored {
    /// Takes the store on these devices apart.
    pub fn read(disks: &[Disk]) -> Result<Stored> {
        let superblocks = disks.iter().map(newest_superblock).collect::<Result<Vec<_>>>()?;
        let newest = &superblocks[0];
        let (batches, tail) = read_log(&disks[0], newest)?;
        let Some(root_ref) = &newest.checkpoint else {
            return Err(Error::new(ErrorKind::Internal, "the store has no checkpoint"));
        };
        let root = Root::decode(&read_chunks(disks, &root_ref.chunks), newest.store)?;
        let there = root.partitions.iter().enumerate().filter(|(_, part)| part.len > 0);
        let image = |(partition, part): (usize, &isotherm::log::root::PartitionRef)| StoredImage {
            partition,
            identity: PartitionIdentity {
                store: newest.store,
                partition: partition as u16,
                cut: part.cut,
            },
            bytes: read_chunks(disks, &part.chunks),
        };
        let images = there.map(image).collect();
        Ok(Stored { disks: disks.to_vec(), superblocks, batches, tail, root, images })
    }

    /// The store with another header of one batch.
    pub fn with_header(&self, at: usize, header: &[u8]) -> Vec<Disk> {
        let mut disks = self.disks.clone();
        let mut chain = self.write_header(&mut disks[0], at, header.to_vec());
        for later in at + 1..self.batches.len() {
            let mut header = self.batches[later].header.clone();
            header[BATCH_CHAIN_AT..BATCH_CHAIN_AT + 4].copy_from_slice(&chain.to_le_bytes());
            chain = self.write_header(&mut disks[0], later, header);
        }
        disks
    }

    /// Writes a header, sealed over the length that it says it has. Its checksum.
    fn write_header(&self, disk: &mut Disk, at: usize, mut header: Vec<u8>) -> u32 {
        let offset = self.batches[at].offset;
        if let Ok(len) = peek_header_len(&header)
            && len <= self.superblocks[0].segment_size as usize
        {
            let known = header.len().min(len);
            header.truncate(known);
            header.extend(read(disk, offset + known as u64, len - known));
        }
        let crc = seal(&mut header, BATCH_CRC_AT);
        disk.damage(offset, &header);
        crc
    }

    /// The store with records behind its last one, flushed: the batch after them says so.
    pub fn with_batch(&self, records: Vec<Forged>) -> Result<Vec<Disk>> {
        self.with_batch_that(records, |_| ())
    }

    /// The same, not known to have been flushed: what they name must be there, or they do not count.
    pub fn with_late_batch(&self, records: &[Forged]) -> Result<Vec<Disk>> {
        let mut disks = self.disks.clone();
        self.append(&mut disks[0], &mut self.tail.clone(), records, &|_| ())?;
        Ok(disks)
    }

    /// The store with records behind its last one, in two batches that say something else of
    /// themselves.
    pub fn with_batch_that(
        &self,
        records: Vec<Forged>,
        forge: impl Fn(&mut BatchIdentity),
    ) -> Result<Vec<Disk>> {
        let mut disks = self.disks.clone();
        let mut tail = self.tail.clone();
        self.append(&mut disks[0], &mut tail, &records, &forge)?;
        self.append(&mut disks[0], &mut tail, &[Record::Marker.into()], &forge)?;
        Ok(disks)
    }

    fn append(
        &self,
        disk: &mut Disk,
        tail: &mut LogTail,
        records: &[Forged],
        forge: &impl Fn(&mut BatchIdentity),
    ) -> Result<()> {
        let newest = &self.superblocks[0];
        let mut identity = BatchIdentity {
            store: newest.store,
            device: newest.device,
            epoch: newest.epoch,
            stream: 0,
            seq: tail.next_seq,
            watermark: tail.last_seq(),
            chain: tail.chain,
            segment: tail.segment,
            generation: tail.generation,
            device_offset: u64::from(tail.segment.segment.0) * newest.segment_size + tail.used,
            next: tail.ahead.map(|ahead| (ahead.segment, ahead.generation)),
            wall_clock: 0,
        };
        forge(&mut identity);
        let items = records.iter().map(|Forged { record, payloads }| BatchItem {
            record: record.clone(),
            payloads: payloads.iter().map(|(at, bytes)| (*at, &bytes[..])).collect(),
        });
        let mut items: Vec<BatchItem<'_>> = items.collect();
        let layout = layout(&items, tail.room(newest.segment_size) as usize)?;
        let mut bytes = vec![0; layout.total_len()];
        let crc = encode(&layout, &mut items, &identity, &mut bytes)?;
        disk.damage(identity.device_offset, &bytes);
        tail.advance(bytes.len() as u64, crc);
        Ok(())
    }

    /// The store with other images and another root, where nothing else was.
    pub fn with_checkpoint(
        &self,
        images: &[(usize, Vec<u8>)],
        forge_root: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Vec<Disk>> {
        let mut disks = self.disks.clone();
        let newest = &self.superblocks[0];
        // The last segment: the tier is filled from the front.
        let mut at =
            newest.capacity / newest.segment_size * newest.segment_size - newest.segment_size;
        let mut place = |bytes: &[u8], disk: &mut Disk| {
            disk.damage(at, bytes);
            let chunk =
                Chunk { location: Location::device(TierId(0), at), len: bytes.len() as u32 };
            at += bytes.len().next_multiple_of(BLOCK) as u64;
            vec![chunk]
        };
        let mut root = self.root.clone();
        for (partition, image) in images {
            let mut image = image.clone();
            let crc = seal(&mut image, IMAGE_CRC_AT);
            let part = &mut root.partitions[*partition];
            part.chunks = place(&image, &mut disks[0]);
            (part.len, part.crc) = (image.len() as u64, crc);
        }
        let mut root = root.encode()?;
        forge_root(&mut root);
        let crc = seal(&mut root, ROOT_CRC_AT);
        let chunks = place(&root, &mut disks[0]);
        let len = root.len() as u64;
        let checkpoint = Some(RootRef { seq: self.root.seq, len, crc, chunks });
        let superblock = Superblock { checkpoint, previous: None, ..newest.clone() };
        write_only(&mut disks[0], &superblock.encode()?);
        Ok(disks)
    }

    /// The store with another superblock of one tier, and no second one of it.
    pub fn with_superblock(&self, tier: usize, block: &[u8]) -> Vec<Disk> {
        let mut disks = self.disks.clone();
        write_only(&mut disks[tier], block);
        disks
    }

    /// How far the log and the checkpoint have been made durable.
    pub fn last_seq(&self) -> BatchSeq {
        self.tail.last_seq()
    }

    /// Whether the records of a batch are newer than everything in the checkpoint.
    pub fn is_effective(&self, batch: &StoredBatch) -> bool {
        let seq = batch.view.identity.seq;
        seq > self.root.seq && self.root.partitions.iter().all(|part| part.cut < seq)
    }

    /// Every record in the log of this kind: its batch, its place in the header, what it says.
    pub fn records_of(&self, kind: RecordKind) -> Vec<(usize, RecordRange, Record)> {
        let mut found = Vec::new();
        for (at, batch) in self.batches.iter().enumerate() {
            let records = batch.ranges().into_iter().zip(batch.view.records());
            let of_kind = records.filter(|(_, record)| record.kind() == kind);
            found.extend(of_kind.map(|(range, record)| (at, range, record.clone())));
        }
        found
    }

    /// Opens an image.
    pub fn view<'a>(&self, image: &'a StoredImage) -> Result<PartitionView<'a>> {
        PartitionView::decode(&image.bytes, &image.identity)
    }

    /// The start of the log, somewhere else.
    pub fn log_start_at(&self, segment: u32, used: u64) -> LogStart {
        let newest = &self.superblocks[0];
        LogStart {
            segment: TierSegment { tier: TierId(0), segment: SegmentId(segment) },
            offset: u64::from(segment) * newest.segment_size + used,
            ..newest.log_start
        }
    }
}

/// Writes a superblock, sealed, into the slot of the generation that it says; the other slot has none.
fn write_only(disk: &mut Disk, block: &[u8]) {
    let mut block = block.to_vec();
    seal(&mut block, SUPERBLOCK_CRC_AT);
    let generation = u64::from_le_bytes(field(&block, 112));
    SUPERBLOCK_SLOTS.iter().for_each(|at| disk.damage(*at, &[0; SUPERBLOCK_LEN]));
    disk.damage(SUPERBLOCK_SLOTS[Superblock::slot_of(generation)], &block);
}

fn read_log(disk: &Disk, newest: &Superblock) -> Result<(Vec<StoredBatch>, LogTail)> {
    let log = log_of(&SimWorld::new(3), newest, newest.log_start, disk, newest.capacity)?;
    let batches = log.batches.into_iter().zip(log.offsets).map(|(view, offset)| StoredBatch {
        offset,
        header: read(disk, offset, view.shape.header_len as usize),
        view,
    });
    Ok((batches.collect(), log.tail))
}
