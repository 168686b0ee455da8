//! Making a new store: superblocks, and the header of the first log segment.

use crate::config::ResolvedConfig;
use crate::engine::superblocks::{load_superblocks, store_superblock, write_block};
use crate::engine::{Identity, LOG_TIER};
use crate::error::{Error, Result};
use crate::io::buffer::AlignedBuf;
use crate::io::runtime::Runtime;
use crate::io::{Device, Devices};
use crate::limits::BLOCK;
use crate::log::FORMAT_MINOR;
use crate::log::record::SegmentKind;
use crate::log::segment::{SegmentHeader, SegmentIdentity};
use crate::log::superblock::{
    COMPAT_SUPPLEMENT, Features, INCOMPAT_RECORDS, LogStart, SUPERBLOCK_LEN, SUPERBLOCK_SLOTS,
    Superblock,
};
use crate::types::{BatchSeq, Epoch, SegmentId, TierId, TierSegment, Uuid};

/// Writes the superblocks of a new store. Nothing is flushed twice; nothing exists before.
pub fn format(
    runtime: &Runtime,
    devices: &Devices,
    config: &ResolvedConfig,
    identity: &Identity,
) -> Result<()> {
    let seed = runtime.random_identity()?;
    let hash_seed = u64::from_le_bytes([
        seed[0], seed[1], seed[2], seed[3], seed[4], seed[5], seed[6], seed[7],
    ]);
    for (number, tier) in config.devices.iter().enumerate() {
        let segment_size = config.devices[LOG_TIER.index()].segment_size;
        let superblock = Superblock {
            minor: FORMAT_MINOR,
            features: Features {
                compat: COMPAT_SUPPLEMENT,
                ro_compat: 0,
                incompat: INCOMPAT_RECORDS,
            },
            store: identity.store,
            device: identity.devices[number],
            tier: TierId(number as u8),
            tier_kind: tier.kind,
            tiers: identity.devices.to_vec(),
            capacity: tier.capacity,
            segment_size: tier.segment_size,
            hash_seed,
            epoch: Epoch(1),
            generation: 1,
            watermark: BatchSeq(0),
            clean: true,
            log_start: first_log_start(segment_size),
            cuts: Vec::new(),
            tier_epochs: vec![Epoch(1); config.devices.len()],
            checkpoint: None,
            previous: None,
            begun: Epoch(1),
        };
        // Others may fill the file system: these writes must not be those that find it full.
        allocate(&*devices[number], 0, SUPERBLOCK_SLOTS[1] + SUPERBLOCK_LEN as u64)?;
        if number == LOG_TIER.index() {
            allocate(&*devices[number], segment_size, segment_size)?;
            write_first_log_header(&*devices[number], identity, segment_size, runtime)?;
        }
        store_superblock(&*devices[number], &superblock)?;
    }
    Ok(())
}

fn allocate(device: &dyn Device, from: u64, len: u64) -> Result<()> {
    let what = || format!("space for the log and the superblocks of {}", device.path().display());
    device.allocate(from, len).map_err(|error| Error::from_io(what(), &error))
}

/// Whether the superblock of a tier's file, or the log's first header, which is written before it,
/// is that of this device.
pub fn is_formatted_as(device: &dyn Device, identity: Uuid, segment_size: u64) -> bool {
    if load_superblocks(device).is_ok_and(|found| found[0].device == identity) {
        return true;
    }
    let mut header = AlignedBuf::alloc(BLOCK);
    device.read_at(segment_size, header.as_mut_slice()).is_ok()
        && SegmentHeader::decode(header.as_slice(), None)
            .is_ok_and(|header| header.identity.device == identity)
}

fn first_log_start(segment_size: u64) -> LogStart {
    let segment = TierSegment { tier: LOG_TIER, segment: SegmentId(1) };
    LogStart {
        segment,
        generation: 1,
        offset: segment_size + BLOCK as u64,
        seq: BatchSeq(1),
        chain: 0,
    }
}

fn write_first_log_header(
    device: &dyn Device,
    identity: &Identity,
    segment_size: u64,
    runtime: &Runtime,
) -> Result<()> {
    let start = first_log_start(segment_size);
    let header = SegmentHeader {
        identity: SegmentIdentity {
            store: identity.store,
            device: identity.devices[LOG_TIER.index()],
            segment: start.segment,
            generation: start.generation,
        },
        kind: SegmentKind::Log,
        epoch: Epoch(1),
        writer: 0,
        wall_clock: runtime.wall_clock_s(),
    };
    write_block(device, segment_size, &header.encode()?)
}
