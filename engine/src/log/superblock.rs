//! The superblock: the root of trust of a tier. One block per slot, two slots per tier.
//!
//! A slot is never written while the other is the only good one: generation g goes to slot
//! g mod 2, and the next waits for the flush that covers it.

use super::FORMAT_MAJOR;
use super::codec::{DEVICE_OFFSET_END, Decoder, Encoder, check_seal, seal};
use super::places::{CHUNK_LEN, CUT_LEN, check_chunks};
pub use super::places::{CHUNKS_MAX, Chunk, Cut, LogStart, RootRef};
use super::supplement::{self, SUPPLEMENT_LEN};
pub use super::supplement::{COMPAT_SUPPLEMENT, Previous};
use crate::error::{Error, ErrorKind, Result, fail};
use crate::limits::{
    BLOCK, CHECK_BLOCK, EPOCH_MAX, SEGMENT_SIZE_MAX, SEGMENT_SIZE_MIN, SEQ_END, TIERS_MAX,
};
use crate::types::{BatchSeq, Epoch, TierId, TierKind, Uuid};

/// First bytes of a superblock.
pub const SUPERBLOCK_MAGIC: [u8; 8] = *b"isotherm";
/// Bytes of a superblock.
pub const SUPERBLOCK_LEN: usize = 4096;
/// Device offsets of the two slots. The first segment of every tier is reserved for them.
pub const SUPERBLOCK_SLOTS: [u64; 2] = [0, 65_536];
/// Most entries of the cut table.
pub const CUTS_MAX: usize = 64;
/// Incompatible features that this version can handle.
pub const INCOMPAT_KNOWN: u64 = INCOMPAT_RECORDS;
/// The log may hold kinds of records that version 1.0 does not know.
pub const INCOMPAT_RECORDS: u64 = 1;
/// Features that this version can write; a store with others is opened for reading only.
pub const RO_COMPAT_KNOWN: u64 = 0;

/// The bytes `01 02 03 04`, read as a little-endian field.
const ENDIAN_MARK: u32 = 0x0403_0201;
const CRC_AT: usize = SUPERBLOCK_LEN - 4;
const TIERS_AT: usize = 192;
const CUTS_AT: usize = TIERS_AT + 16 * TIERS_MAX;
const CHUNKS_AT: usize = CUTS_AT + CUT_LEN * CUTS_MAX;
const TIER_EPOCHS_AT: usize = CHUNKS_AT + CHUNK_LEN * CHUNKS_MAX;
const SUPPLEMENT_AT: usize = TIER_EPOCHS_AT + 4 * TIERS_MAX;
const _: () = assert!(SUPPLEMENT_AT + SUPPLEMENT_LEN <= CRC_AT && SUPERBLOCK_LEN == BLOCK);
const _: () = assert!(SUPERBLOCK_SLOTS[1] + (SUPERBLOCK_LEN as u64) <= SEGMENT_SIZE_MIN);

/// The feature words of a store.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Features {
    /// A version that does not know a bit may ignore it.
    pub compat: u64,
    /// A version that does not know a bit may read, not write.
    pub ro_compat: u64,
    /// A version that does not know a bit must not open the store.
    pub incompat: u64,
}

/// The superblock of one tier.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Superblock {
    /// Minor version of the format that wrote it.
    pub minor: u16,
    /// Feature words.
    pub features: Features,
    /// The store.
    pub store: Uuid,
    /// This tier's device.
    pub device: Uuid,
    /// This tier.
    pub tier: TierId,
    /// Its kind, never DRAM.
    pub tier_kind: TierKind,
    /// The devices of all tiers, in order.
    pub tiers: Vec<Uuid>,
    /// Bytes of this tier's device that the store uses.
    pub capacity: u64,
    /// Bytes of a segment of this tier.
    pub segment_size: u64,
    /// Seed of the hash that puts keys into stripes and partitions.
    pub hash_seed: u64,
    /// How often the store has been opened for writing.
    pub epoch: Epoch,
    /// Counts the superblocks of this tier, from 1; the larger of the two slots is valid.
    pub generation: u64,
    /// The durable watermark.
    pub watermark: BatchSeq,
    /// The store was closed, and nothing was written since.
    pub clean: bool,
    /// The first batch that a recovery reads.
    pub log_start: LogStart,
    /// Discarded batches, ascending by epoch.
    pub cuts: Vec<Cut>,
    /// Per tier, the epoch in which it was last there: an older superblock of it is an old copy.
    pub tier_epochs: Vec<Epoch>,
    /// The newest checkpoint, if there is one.
    pub checkpoint: Option<RootRef>,
    /// The checkpoint before it, which is whole too.
    pub previous: Option<Previous>,
    /// The newest epoch that the log's tier is known to have had; 0: nothing is known.
    pub begun: Epoch,
}

/// Why a slot holds no usable superblock. A newer format outranks a good older slot: the store
/// has been upgraded, and what the older slot says is over.
enum SlotFault {
    NotOurs(Error),
    Damaged(Error),
    Newer(Error),
}

impl SlotFault {
    fn into_error(self) -> Error {
        match self {
            SlotFault::NotOurs(error) | SlotFault::Damaged(error) | SlotFault::Newer(error) => {
                error
            }
        }
    }
}

impl Superblock {
    /// The slot that the superblock of this generation goes to.
    pub fn slot_of(generation: u64) -> usize {
        usize::from(generation % 2 == 1)
    }

    /// Why the store may only be read, if so.
    pub fn read_only_reason(&self) -> Option<String> {
        let unknown = self.features.ro_compat & !RO_COMPAT_KNOWN;
        (unknown != 0).then(|| format!("unknown read-only-compatible features {unknown:#x}"))
    }

    /// The epoch in which a tier was last there.
    pub fn last_seen(&self, tier: usize) -> Epoch {
        self.tier_epochs.get(tier).copied().unwrap_or(self.epoch)
    }

    /// The checkpoints that may be whole, the best first, each as a superblock that names it as
    /// its newest: those of a tier's valid superblocks, given newest first.
    pub fn checkpoints_of(superblocks: &[Superblock]) -> Vec<Superblock> {
        let Some((newest, older)) = superblocks.split_first() else { return Vec::new() };
        let before = newest.previous.clone().map(|Previous { checkpoint, log_start }| Superblock {
            checkpoint,
            log_start,
            previous: None,
            ..newest.clone()
        });
        let mut found: Vec<Superblock> = Vec::new();
        for block in std::iter::once(newest.clone()).chain(before).chain(older.iter().cloned()) {
            let is_same = |other: &Superblock| {
                (&other.checkpoint, other.log_start) == (&block.checkpoint, block.log_start)
            };
            if !found.iter().any(is_same) {
                found.push(block);
            }
        }
        found
    }

    /// The checkpoint that it names, to be the one before the next.
    pub fn as_previous(&self) -> Previous {
        Previous { checkpoint: self.checkpoint.clone(), log_start: self.log_start }
    }

    /// The superblock after this one, which names a newer checkpoint.
    pub fn with_checkpoint(&self, root: RootRef, log_start: LogStart, w: BatchSeq) -> Superblock {
        Superblock {
            generation: self.generation + 1,
            watermark: w,
            previous: Some(self.as_previous()),
            checkpoint: Some(root),
            log_start,
            ..self.clone()
        }
    }

    /// The block to write to [`slot_of`](Self::slot_of) its generation.
    pub fn encode(&self) -> Result<Vec<u8>> {
        if let Err(fault) = self.validate() {
            fail!(Internal, "superblock not written: {fault}");
        }
        let mut block = Vec::with_capacity(SUPERBLOCK_LEN);
        let mut out = Encoder::new(&mut block);
        self.encode_head(&mut out);
        self.log_start.encode(&mut out);
        let no_chunks = Vec::new();
        let (root, chunks) = match &self.checkpoint {
            Some(root) => ((root.seq.0, root.len, root.crc), &root.chunks),
            None => ((0, 0, 0), &no_chunks),
        };
        out.u64(root.0);
        out.u64(root.1);
        out.u32(root.2);
        out.len32(chunks.len());
        out.len32(self.cuts.len());
        out.u32(self.log_start.chain);
        self.tiers.iter().for_each(|&tier| out.uuid(tier));
        out.zeros_to(CUTS_AT);
        self.cuts.iter().for_each(|cut| cut.encode(&mut out));
        out.zeros_to(CHUNKS_AT);
        chunks.iter().for_each(|chunk| chunk.encode(&mut out));
        out.zeros_to(TIER_EPOCHS_AT);
        self.tier_epochs.iter().for_each(|epoch| out.u32(epoch.0));
        out.zeros_to(SUPPLEMENT_AT);
        supplement::encode(&mut out, self.previous.as_ref(), self.begun);
        out.zeros_to(SUPERBLOCK_LEN);
        seal(&mut block, CRC_AT);
        Ok(block)
    }

    fn encode_head(&self, out: &mut Encoder<'_>) {
        out.bytes(&SUPERBLOCK_MAGIC);
        out.u32(ENDIAN_MARK);
        out.u16(FORMAT_MAJOR);
        out.u16(self.minor);
        out.u64(self.features.compat);
        out.u64(self.features.ro_compat);
        out.u64(self.features.incompat);
        out.len32(BLOCK);
        out.len32(CHECK_BLOCK);
        out.uuid(self.store);
        out.uuid(self.device);
        out.u8(self.tier.0);
        out.u8(kind_number(self.tier_kind));
        out.u8(self.tiers.len() as u8); // validated: at most 16
        out.u8(u8::from(self.clean));
        out.u32(self.epoch.0);
        out.u64(self.capacity);
        out.u64(self.segment_size);
        out.u64(self.hash_seed);
        out.u64(self.generation);
        out.u64(self.watermark.0);
    }

    /// Reads one slot. [`ErrorKind::Format`]: not ours, or a newer format;
    /// [`ErrorKind::Corrupt`]: damaged.
    pub fn decode(block: &[u8]) -> Result<Superblock> {
        Superblock::decode_slot(block).map_err(SlotFault::into_error)
    }

    /// The valid superblock of a tier, from its two slots.
    ///
    /// One slot may be damaged: a crash tears the one being written. Before an epoch writes its
    /// first batch, both slots name it; should one not, recovery refuses the batches of the epoch.
    pub fn newest(slots: [&[u8]; 2]) -> Result<Superblock> {
        match slots.map(Superblock::decode_slot) {
            [Err(SlotFault::Newer(error)), _] | [_, Err(SlotFault::Newer(error))] => Err(error),
            [Ok(first), Ok(second)] => Superblock::newer(first, second),
            [Ok(only), Err(_)] | [Err(_), Ok(only)] => Ok(only),
            // A damaged slot was ours; the other tells less.
            [Err(SlotFault::Damaged(error)), _] | [_, Err(SlotFault::Damaged(error))] => Err(error),
            [Err(SlotFault::NotOurs(error)), _] => Err(error),
        }
    }

    fn newer(first: Superblock, second: Superblock) -> Result<Superblock> {
        if (first.store, first.device) != (second.store, second.device) {
            fail!(Corrupt, "the two superblocks are of different stores or devices");
        }
        match first.generation.cmp(&second.generation) {
            std::cmp::Ordering::Less => Ok(second),
            std::cmp::Ordering::Greater => Ok(first),
            std::cmp::Ordering::Equal if first == second => Ok(first),
            std::cmp::Ordering::Equal => Err(Error::new(
                ErrorKind::Corrupt,
                format!("two different superblocks of generation {}", first.generation),
            )),
        }
    }

    fn decode_slot(block: &[u8]) -> std::result::Result<Superblock, SlotFault> {
        let damaged = |message: String| SlotFault::Damaged(Error::new(ErrorKind::Corrupt, message));
        let Some(block) = block.get(..SUPERBLOCK_LEN) else {
            let message = format!("superblock: {} of {SUPERBLOCK_LEN} bytes", block.len());
            return Err(damaged(message));
        };
        if !block.starts_with(&SUPERBLOCK_MAGIC) {
            let message = "not an isotherm store: the superblock's magic is missing";
            return Err(SlotFault::NotOurs(Error::new(ErrorKind::Format, message)));
        }
        check_seal("superblock", block, CRC_AT).map_err(SlotFault::Damaged)?;
        let superblock = decode_checked(block).map_err(|error| match error.kind() {
            ErrorKind::Format => SlotFault::Newer(error),
            _ => SlotFault::Damaged(error),
        })?;
        superblock.validate().map_err(|fault| damaged(format!("superblock: {fault}")))?;
        Ok(superblock)
    }

    /// What is wrong with the values, if anything.
    fn validate(&self) -> std::result::Result<(), String> {
        let Superblock { tiers, tier, segment_size, capacity, cuts, tier_epochs, .. } = self;
        if tiers.is_empty() || tiers.len() > TIERS_MAX {
            return Err(format!("{} tiers, not 1..={TIERS_MAX}", tiers.len()));
        }
        if tiers.get(tier.index()) != Some(&self.device) {
            return Err(format!("tier {} of {} is not this device", tier.0, tiers.len()));
        }
        if (1..tiers.len()).any(|index| tiers[..index].contains(&tiers[index])) {
            return Err("one device stands for two tiers".into());
        }
        if self.tier_kind == TierKind::Dram {
            return Err("a DRAM tier has no superblock".into());
        }
        if !(SEGMENT_SIZE_MIN..=SEGMENT_SIZE_MAX).contains(segment_size)
            || !segment_size.is_multiple_of(BLOCK as u64)
        {
            return Err(format!("a segment size of {segment_size}"));
        }
        if capacity < segment_size || *capacity > DEVICE_OFFSET_END {
            return Err(format!("a capacity of {capacity}"));
        }
        if !(1..=EPOCH_MAX).contains(&self.epoch.0) || !(1..SEQ_END).contains(&self.generation) {
            return Err(format!("epoch {}, generation {}", self.epoch.0, self.generation));
        }
        let seqs = [self.watermark, self.log_start.seq].into_iter();
        if let Some(seq) = seqs.chain(cuts.iter().map(|cut| cut.seq)).find(|seq| seq.0 >= SEQ_END) {
            return Err(format!("batch {} is beyond all there can be", seq.0));
        }
        if cuts.len() > CUTS_MAX {
            return Err(format!("{} cuts, {CUTS_MAX} at most", cuts.len()));
        }
        if tier_epochs.len() != tiers.len() || tier_epochs.iter().any(|seen| *seen > self.epoch) {
            return Err(format!("tiers were last there in {tier_epochs:?}"));
        }
        if cuts.windows(2).any(|pair| pair[0].epoch >= pair[1].epoch)
            || cuts.last().is_some_and(|cut| cut.epoch >= self.epoch)
        {
            return Err("the cut table is not ascending and below the epoch".into());
        }
        let is_announced = self.features.compat & COMPAT_SUPPLEMENT != 0;
        if !is_announced && (self.previous.is_some() || self.begun.0 != 0)
            || self.begun > self.epoch
        {
            return Err(format!("epoch {} of {} has begun", self.begun.0, self.epoch.0));
        }
        self.previous.as_ref().map_or(Ok(()), Previous::validate)?;
        match &self.checkpoint {
            Some(root) if root.chunks.is_empty() => Err("a checkpoint without a place".into()),
            Some(root) => check_chunks(&root.chunks, root.len),
            None => Ok(()),
        }
    }
}

fn kind_number(kind: TierKind) -> u8 {
    match kind {
        TierKind::Dram => 0,
        TierKind::Nvme => 1,
        TierKind::Hdd => 2,
    }
}

/// Reads the fields of a block whose magic and checksum are right.
fn decode_checked(block: &[u8]) -> Result<Superblock> {
    let mut input = Decoder::new("superblock", &block[..CRC_AT]);
    input.bytes(SUPERBLOCK_MAGIC.len(), "magic")?;
    let (minor, features) = decode_format(&mut input)?;
    let store = input.uuid("store")?;
    let device = input.uuid("device")?;
    let tier = input.tier("tier")?;
    let tier_kind = match input.u8("tier_kind")? {
        1 => TierKind::Nvme,
        2 => TierKind::Hdd,
        kind => return Err(input.corrupt(format!("tier kind {kind} is unknown"))),
    };
    let tier_count = usize::from(input.u8("tier_count")?);
    let clean = match input.u8("clean")? {
        flag @ 0..=1 => flag == 1,
        flag => return Err(input.corrupt(format!("clean is {flag}"))),
    };
    let epoch = Epoch(input.u32("epoch")?);
    let capacity = input.u64("capacity")?;
    let segment_size = input.u64("segment_size")?;
    let hash_seed = input.u64("hash_seed")?;
    let generation = input.u64("generation")?;
    let watermark = BatchSeq(input.u64("watermark")?);
    let (log_start, checkpoint, tiers, cuts, tier_epochs) = decode_tables(&mut input, tier_count)?;
    let (previous, begun) = match features.compat & COMPAT_SUPPLEMENT {
        0 => (None, Epoch(0)),
        _ => supplement::decode(&mut input)?,
    };
    Ok(Superblock {
        minor,
        features,
        store,
        device,
        tier,
        tier_kind,
        tiers,
        capacity,
        segment_size,
        hash_seed,
        epoch,
        generation,
        watermark,
        clean,
        log_start,
        cuts,
        tier_epochs,
        checkpoint,
        previous,
        begun,
    })
}

fn decode_format(input: &mut Decoder<'_>) -> Result<(u16, Features)> {
    let endian = input.u32("endian_mark")?;
    let major = input.u16("major")?;
    let minor = input.u16("minor")?;
    let compat = input.u64("compat")?;
    let ro_compat = input.u64("ro_compat")?;
    let incompat = input.u64("incompat")?;
    let block = input.u32("block_size")?;
    let check_block = input.u32("check_block")?;
    let unknown = incompat & !INCOMPAT_KNOWN;
    let message = if endian != ENDIAN_MARK {
        format!("endian mark is {endian:#010x}")
    } else if major != FORMAT_MAJOR {
        format!("format {major}.{minor}, this version reads {FORMAT_MAJOR}")
    } else if unknown != 0 {
        format!("incompatible features {unknown:#x} are unknown to this version")
    } else if block as usize != BLOCK || check_block as usize != CHECK_BLOCK {
        format!("blocks of {block} and check blocks of {check_block} bytes are unsupported")
    } else {
        return Ok((minor, Features { compat, ro_compat, incompat }));
    };
    Err(input.error(ErrorKind::Format, message))
}

type Tables = (LogStart, Option<RootRef>, Vec<Uuid>, Vec<Cut>, Vec<Epoch>);

fn decode_tables(input: &mut Decoder<'_>, tier_count: usize) -> Result<Tables> {
    // The chain checksum of the log start stands behind the counts.
    let start_at = input.bytes(LogStart::LEN, "log_start")?;
    let root_seq = BatchSeq(input.u64("root.seq")?);
    let root_len = input.u64("root.len")?;
    let root_crc = input.u32("root.crc")?;
    let chunk_count = input.u32("root.chunk_count")? as usize;
    let cut_count = input.u32("cut_count")? as usize;
    let chain = input.u32("log_start.chain")?;
    let log_start = LogStart::decode(&mut Decoder::new("superblock log_start", start_at), chain)?;
    if tier_count > TIERS_MAX || cut_count > CUTS_MAX || chunk_count > CHUNKS_MAX {
        let message = format!("{tier_count} tiers, {cut_count} cuts, {chunk_count} chunks");
        return Err(input.corrupt(message));
    }
    let tiers = (0..tier_count).map(|_| input.uuid("tiers")).collect::<Result<_>>()?;
    input.zeros(CUTS_AT - input.position(), "unused tiers")?;
    let cuts = (0..cut_count).map(|_| Cut::decode(input)).collect::<Result<_>>()?;
    input.zeros(CHUNKS_AT - input.position(), "unused cuts")?;
    let chunks = (0..chunk_count).map(|_| Chunk::decode(input)).collect::<Result<Vec<_>>>()?;
    input.zeros(TIER_EPOCHS_AT - input.position(), "unused chunks")?;
    let tier_epochs: Vec<Epoch> =
        (0..tier_count).map(|_| input.u32("tier_epochs").map(Epoch)).collect::<Result<_>>()?;
    input.zeros(SUPPLEMENT_AT - input.position(), "unused tier epochs")?;
    if chunks.is_empty() && (root_seq, root_len, root_crc) != (BatchSeq(0), 0, 0) {
        return Err(input.corrupt("a checkpoint without a place"));
    }
    let checkpoint = (!chunks.is_empty()).then_some(RootRef {
        seq: root_seq,
        len: root_len,
        crc: root_crc,
        chunks,
    });
    Ok((log_start, checkpoint, tiers, cuts, tier_epochs))
}
