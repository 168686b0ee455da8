//! Superblocks on devices: written, read, and held against what is expected of a tier.

use crate::config::ResolvedConfig;
use crate::engine::Identity;
use crate::error::{Error, Result, fail};
use crate::io::Device;
use crate::io::buffer::AlignedBuf;
use crate::log::superblock::{SUPERBLOCK_LEN, SUPERBLOCK_SLOTS, Superblock};

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

pub(super) fn flush(device: &dyn Device) -> Result<()> {
    device
        .flush()
        .map_err(|error| Error::from_io(format!("flush of {}", device.path().display()), &error))
}

/// The valid superblocks of a device, newest first.
pub(super) fn load_superblocks(device: &dyn Device) -> Result<Vec<Superblock>> {
    let mut slots = [[0u8; SUPERBLOCK_LEN]; 2];
    for (slot, offset) in slots.iter_mut().zip(SUPERBLOCK_SLOTS) {
        let mut buf = AlignedBuf::alloc(SUPERBLOCK_LEN);
        if let Err(error) = device.read_at(offset, &mut buf.as_mut_slice()[..SUPERBLOCK_LEN]) {
            return Err(Error::from_io(
                format!("superblock of {}", device.path().display()),
                &error,
            ));
        }
        slot.copy_from_slice(&buf.as_slice()[..SUPERBLOCK_LEN]);
    }
    let place = |error: Error| {
        Error::new(error.kind(), format!("{}: {}", device.path().display(), error.message()))
    };
    let newest = Superblock::newest([&slots[0], &slots[1]]).map_err(place)?;
    let older = slots.iter().filter_map(|slot| Superblock::decode(slot).ok());
    let older = older.filter(|block| block.generation < newest.generation).collect::<Vec<_>>();
    Ok(std::iter::once(newest).chain(older).collect())
}

/// Checks that a tier's superblock is that of this store and of this tier.
pub(super) fn check_superblock(
    superblock: &Superblock,
    config: &ResolvedConfig,
    identity: &Identity,
    number: usize,
    device: &dyn Device,
) -> Result<()> {
    let place = device.path().display();
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
