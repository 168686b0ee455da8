//! Superblocks on devices: written, read, and held against what is expected of a tier.

use std::fmt::Display;

use crate::config::ResolvedConfig;
use crate::engine::Identity;
use crate::error::{Error, Result, fail};
use crate::io::Device;
use crate::io::buffer::AlignedBuf;
use crate::limits::SEQ_END;
use crate::log::reader::read_persistently;
use crate::log::superblock::{SUPERBLOCK_LEN, SUPERBLOCK_SLOTS, Superblock};
use crate::plant::{Plant, planted};

pub(super) fn write_block(device: &dyn Device, offset: u64, bytes: &[u8]) -> Result<()> {
    let mut buf = AlignedBuf::alloc(bytes.len());
    buf.as_mut_slice()[..bytes.len()].copy_from_slice(bytes);
    device.write_at(offset, &buf.as_slice()[..bytes.len()]).map_err(|error| {
        Error::from_io(
            format!("write of {} bytes at {offset} of {}", bytes.len(), device.path().display()),
            &error,
        )
    })
}

pub(super) fn store_superblock(device: &dyn Device, superblock: &Superblock) -> Result<()> {
    let offset = SUPERBLOCK_SLOTS[Superblock::slot_of(superblock.generation)];
    write_block(device, offset, &superblock.encode()?)?;
    flush(device)
}

/// Makes this the superblock of the next generation.
pub(super) fn store_next(device: &dyn Device, superblock: &mut Superblock) -> Result<()> {
    superblock.generation += 1;
    store_superblock(device, superblock)
}

pub(super) fn flush(device: &dyn Device) -> Result<()> {
    if planted(Plant::OpenWithoutFlush) {
        return Ok(());
    }
    device
        .flush()
        .map_err(|error| Error::from_io(format!("flush of {}", device.path().display()), &error))
}

/// The valid superblocks of a device, newest first. A slot that cannot be read is a damaged one,
/// as long as the other is good.
pub(super) fn load_superblocks(device: &dyn Device) -> Result<Vec<Superblock>> {
    let read = SUPERBLOCK_SLOTS.map(|offset| read_slot(device, offset));
    let slots = read.each_ref().map(|slot| slot.as_ref().map_or(&[][..], AlignedBuf::as_slice));
    let newest = match Superblock::newest(slots) {
        Ok(newest) => newest,
        Err(error) => {
            let place = format!("{}: {}", device.path().display(), error.message());
            let unread = read.into_iter().find_map(|slot| slot.err());
            return Err(unread.unwrap_or(Error::new(error.kind(), place)));
        }
    };
    let older = slots.iter().filter_map(|slot| Superblock::decode(slot).ok());
    let older = older.filter(|block| block.generation < newest.generation).collect::<Vec<_>>();
    Ok(std::iter::once(newest).chain(older).collect())
}

fn read_slot(device: &dyn Device, offset: u64) -> Result<AlignedBuf> {
    let mut buf = AlignedBuf::alloc(SUPERBLOCK_LEN);
    let read = read_persistently(device, offset, &mut buf.as_mut_slice()[..SUPERBLOCK_LEN]);
    read.map(|()| buf).map_err(|error| {
        Error::from_io(format!("superblock of {}", device.path().display()), &error)
    })
}

/// Checks that a superblock, found at `place`, is that of this store and of this tier.
pub(crate) fn check_identity(
    superblock: &Superblock,
    identity: &Identity,
    number: usize,
    place: &dyn Display,
) -> Result<()> {
    if superblock.store != identity.store {
        fail!(
            TierMissing,
            "{place} belongs to store {}, this is store {}",
            superblock.store,
            identity.store
        );
    }
    if superblock.device != identity.devices[number] || superblock.tier.index() != number {
        fail!(
            TierMissing,
            "{place} is tier {} (device {}) of this store, tier {number} (device {}) is expected there; were files exchanged?",
            superblock.tier.0,
            superblock.device,
            identity.devices[number]
        );
    }
    if superblock.tiers != *identity.devices {
        fail!(
            TierMissing,
            "{place} belongs to a store of tiers {:?}, this one has {:?}",
            superblock.tiers,
            identity.devices
        );
    }
    Ok(())
}

/// Checks that a tier's superblock is that of this store and of this tier, and that it can be.
pub(super) fn check_superblock(
    superblock: &Superblock,
    config: &ResolvedConfig,
    identity: &Identity,
    number: usize,
    device: &dyn Device,
) -> Result<()> {
    let place = device.path().display();
    check_identity(superblock, identity, number, &place)?;
    if superblock.generation >= SEQ_END / 2 {
        fail!(
            Corrupt,
            "{place} says that its superblock was written {} times",
            superblock.generation
        );
    }
    let tier = &config.devices[number];
    if superblock.capacity != tier.capacity || superblock.segment_size != tier.segment_size {
        fail!(
            Format,
            "{place} was made with {} bytes in segments of {}, the manifest says {} in {}",
            superblock.capacity,
            superblock.segment_size,
            tier.capacity,
            tier.segment_size
        );
    }
    if device.len() < tier.capacity {
        fail!(TierMissing, "{place} has {} bytes, the store needs {}", device.len(), tier.capacity);
    }
    Ok(())
}
