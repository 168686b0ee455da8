//! Where the structures of a store lie on its devices, and which holds whose checksum: so that one of
//! them can be changed and everything above it made to fit again.

use std::collections::BTreeMap;

use isotherm::Result;
use isotherm::io::sim::SimWorld;
use isotherm::io::sim_disk::Disk;
use isotherm::log::batch::BatchView;
use isotherm::log::codec::seal;
use isotherm::log::root::Root;
use isotherm::log::superblock::{Chunk, LogStart, SUPERBLOCK_LEN, SUPERBLOCK_SLOTS, Superblock};
use isotherm::types::Place;

use super::{CHECKSUM_LEN, field, log_batch, partition, superblock};
use crate::small::{capacities, log_of};

/// Bytes of a partition's reference in a root before its chunks, bytes of a chunk, and where the
/// image's checksum stands in the reference.
const PARTITION_REF_LEN: usize = 24;
const CHUNK_LEN: usize = 16;
const PARTITION_CHECKSUM_AT: usize = 16;
/// Where a root has the chain of its log start; a superblock that and the checksum of its root, for
/// the newest checkpoint and for the one before; a batch its chain.
const ROOT_CHAIN_AT: usize = 104;
const SUPERBLOCK_CHAIN_AT: [usize; 2] = [188, 2620];
const SUPERBLOCK_ROOT_AT: [usize; 2] = [176, 2608];
const BATCH_CHAIN_AT: usize = 92;

/// Bytes that lie together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Piece {
    device: usize,
    offset: u64,
    len: usize,
}

/// One structure with a checksum of its own.
struct Part {
    pieces: Vec<Piece>,
    bytes: Vec<u8>,
    checksum_at: usize,
    /// Parts that come before this one, and where this one has their checksum.
    holds: Vec<(usize, usize)>,
}

/// The devices of a store, and its structures: each behind those whose checksum it has.
pub(super) struct Image {
    disks: Vec<Disk>,
    parts: Vec<Part>,
}

/// Bytes that go over those of a structure.
pub(super) struct Patch<'a> {
    /// Which structure.
    pub(super) part: usize,
    /// Where in it.
    pub(super) at: usize,
    /// What is written there.
    pub(super) bytes: &'a [u8],
}

impl Image {
    pub(super) fn of(disks: &[Disk]) -> Result<Image> {
        let mut image = Image { disks: disks.to_vec(), parts: Vec::new() };
        let mut blocks = Vec::new();
        for device in 0..disks.len() {
            for offset in SUPERBLOCK_SLOTS {
                let piece = Piece { device, offset, len: SUPERBLOCK_LEN };
                let bytes = read(disks, &[piece]);
                let block = Superblock::decode(&bytes)?;
                blocks.push((piece, bytes, block));
            }
        }
        let batches = image.add_log(&blocks[0].2, &blocks[1].2)?;
        let mut roots: Vec<(Vec<Chunk>, usize)> = Vec::new();
        for (piece, bytes, block) in &blocks {
            let previous = block.previous.as_ref();
            let named = [
                (block.checkpoint.as_ref(), Some(block.log_start)),
                (previous.and_then(|p| p.checkpoint.as_ref()), previous.map(|p| p.log_start)),
            ];
            let mut holds = Vec::new();
            for (which, (root, start)) in named.into_iter().enumerate() {
                holds.extend(chain_of(start, &batches, SUPERBLOCK_CHAIN_AT[which]));
                let Some(root) = root else { continue };
                let known = roots.iter().find(|(chunks, _)| *chunks == root.chunks);
                let part = match known.map(|(_, part)| *part) {
                    Some(part) => part,
                    None => image.add_root(&root.chunks, block, &batches)?,
                };
                roots.push((root.chunks.clone(), part));
                holds.push((part, SUPERBLOCK_ROOT_AT[which]));
            }
            image.add(vec![*piece], bytes.clone(), superblock::CHECKSUM_AT, holds);
        }
        Ok(image)
    }

    pub(super) fn len(&self) -> usize {
        self.parts.len()
    }

    /// Of every kind of structure the longest, by its magic.
    pub(super) fn examples(&self) -> BTreeMap<[u8; 8], usize> {
        let mut parts: Vec<_> = self.parts.iter().enumerate().collect();
        parts.sort_by_key(|(_, part)| part.bytes.len());
        parts.into_iter().map(|(number, part)| (field(&part.bytes, 0), number)).collect()
    }

    /// The bytes of every structure.
    pub(super) fn structures(&self) -> impl Iterator<Item = &[u8]> {
        self.parts.iter().map(|part| &part.bytes[..])
    }

    /// The devices with patches. `repaired`: every checksum is made right, also those that other
    /// structures have of a changed one. Otherwise no checksum is touched.
    pub(super) fn patched(&self, patches: &[Patch<'_>], repaired: bool) -> Vec<Disk> {
        let mut disks = self.disks.clone();
        let mut checksums: BTreeMap<usize, [u8; CHECKSUM_LEN]> = BTreeMap::new();
        for (number, part) in self.parts.iter().enumerate() {
            let mut bytes = part.bytes.clone();
            for (held, at) in &part.holds {
                if let Some(checksum) = checksums.get(held) {
                    bytes[*at..*at + CHECKSUM_LEN].copy_from_slice(checksum);
                }
            }
            for patch in patches.iter().filter(|patch| patch.part == number) {
                let (at, len) = (patch.at % bytes.len(), patch.bytes.len());
                let end = bytes.len().min(at + len);
                bytes[at..end].copy_from_slice(&patch.bytes[..end - at]);
            }
            let checksum = part.checksum_at..part.checksum_at + CHECKSUM_LEN;
            bytes[checksum.clone()].copy_from_slice(&part.bytes[checksum.clone()]);
            if bytes == part.bytes {
                continue;
            }
            if repaired {
                seal(&mut bytes, part.checksum_at);
                checksums.insert(number, field(&bytes, part.checksum_at));
            }
            write(&mut disks, &part.pieces, &bytes);
        }
        disks
    }

    fn add(
        &mut self,
        pieces: Vec<Piece>,
        bytes: Vec<u8>,
        checksum_at: usize,
        holds: Vec<(usize, usize)>,
    ) -> usize {
        self.parts.push(Part { pieces, bytes, checksum_at, holds });
        self.parts.len() - 1
    }

    /// Adds the headers of the log's batches, from the first that the older of the two superblocks
    /// needs. By sequence number, which part each is.
    fn add_log(&mut self, one: &Superblock, other: &Superblock) -> Result<BTreeMap<u64, usize>> {
        let (older, newest) =
            if one.generation < other.generation { (one, other) } else { (other, one) };
        let start = older.previous.as_ref().map_or(older.log_start, |previous| previous.log_start);
        let device = newest.tier.index();
        let (world, disk) = (SimWorld::new(8), &self.disks[device]);
        let log = log_of(&world, newest, start, disk, capacities()[device])?;
        let mut batches = BTreeMap::new();
        let mut before = None;
        for (BatchView { identity, shape, .. }, offset) in log.batches.iter().zip(&log.offsets) {
            let piece = Piece { device, offset: *offset, len: shape.header_len as usize };
            let bytes = read(&self.disks, &[piece]);
            let holds = before.into_iter().map(|before| (before, BATCH_CHAIN_AT)).collect();
            let part = self.add(vec![piece], bytes, log_batch::CHECKSUM_AT, holds);
            before = Some(part);
            batches.insert(identity.seq.0, part);
        }
        Ok(batches)
    }

    /// Adds a root, and the images that it names and no other root has named.
    fn add_root(
        &mut self,
        chunks: &[Chunk],
        block: &Superblock,
        batches: &BTreeMap<u64, usize>,
    ) -> Result<usize> {
        let pieces = pieces_of(chunks);
        let bytes = read(&self.disks, &pieces);
        let root = Root::decode(&bytes, block.store)?;
        let refs_len = |chunks: &[Chunk]| PARTITION_REF_LEN + CHUNK_LEN * chunks.len();
        let mut at =
            bytes.len() - root.partitions.iter().map(|p| refs_len(&p.chunks)).sum::<usize>();
        let mut holds: Vec<_> =
            chain_of(Some(root.log_start), batches, ROOT_CHAIN_AT).into_iter().collect();
        for partition in &root.partitions {
            if !partition.chunks.is_empty() {
                let pieces = pieces_of(&partition.chunks);
                let known = self.parts.iter().position(|part| part.pieces == pieces);
                let image = known.unwrap_or_else(|| {
                    let bytes = read(&self.disks, &pieces);
                    self.add(pieces, bytes, partition::IMAGE_CHECKSUM_AT, Vec::new())
                });
                holds.push((image, at + PARTITION_CHECKSUM_AT));
            }
            at += refs_len(&partition.chunks);
        }
        Ok(self.add(pieces, bytes, partition::ROOT_CHECKSUM_AT, holds))
    }
}

/// The batch before the log's start, and where its checksum stands.
fn chain_of(
    start: Option<LogStart>,
    batches: &BTreeMap<u64, usize>,
    at: usize,
) -> Option<(usize, usize)> {
    let before = start?.seq.0.checked_sub(1)?;
    batches.get(&before).map(|part| (*part, at))
}

fn pieces_of(chunks: &[Chunk]) -> Vec<Piece> {
    let piece = |chunk: &Chunk| match chunk.location.place() {
        Place::Device { tier, offset } => {
            Some(Piece { device: tier.index(), offset, len: chunk.len as usize })
        }
        Place::Dram(_) => None,
    };
    chunks.iter().filter_map(piece).collect()
}

fn read(disks: &[Disk], pieces: &[Piece]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in pieces {
        let start = bytes.len();
        bytes.resize(start + piece.len, 0);
        disks[piece.device].read(piece.offset, &mut bytes[start..]);
    }
    bytes
}

fn write(disks: &mut [Disk], pieces: &[Piece], bytes: &[u8]) {
    let mut at = 0;
    for piece in pieces {
        disks[piece.device].damage(piece.offset, &bytes[at..at + piece.len]);
        at += piece.len;
    }
}
