//! The tiers of a damaged store, as far as they are there. Nothing here can write.

use std::sync::Arc;

use crate::error::{Error, Result, fail};
use crate::io::Device;
use crate::io::buffer::AlignedBuf;
use crate::limits::BLOCK;
use crate::log::reader::read_persistently;
use crate::log::superblock::Chunk;
use crate::types::{Location, Place, TierId, Uuid};

/// A tier that is to be salvaged.
pub struct SalvageTier {
    /// Its file, or why there is none.
    pub device: std::result::Result<Arc<dyn Device>, String>,
    /// Bytes that the store uses of it.
    pub capacity: u64,
    /// Bytes of a segment.
    pub segment_size: u64,
}

/// All tiers of a store.
pub(super) struct Medium {
    /// The store.
    pub store: Uuid,
    /// The identities that its tiers have.
    pub devices: Arc<[Uuid]>,
    /// The tiers, by number.
    pub tiers: Vec<SalvageTier>,
}

impl Medium {
    /// The device of a tier.
    pub fn device(&self, tier: TierId) -> Result<&dyn Device> {
        match self.tiers.get(tier.index()).map(|tier| &tier.device) {
            Some(Ok(device)) => Ok(&**device),
            Some(Err(why)) => fail!(TierMissing, "tier {} is lost: {why}", tier.0),
            None => fail!(Corrupt, "there is no tier {}", tier.0),
        }
    }

    /// The length of a tier's file, if it is there and has been cut short.
    pub fn cut_to_bytes(&self, tier: TierId) -> Option<u64> {
        let len = self.device(tier).ok()?.len();
        (len < self.tiers[tier.index()].capacity).then_some(len)
    }

    /// How many segments a tier has; 0 if there is no such tier.
    pub fn segments(&self, tier: TierId) -> u32 {
        let count =
            self.tiers.get(tier.index()).map_or(0, |tier| tier.capacity / tier.segment_size);
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Whether so many bytes at this place lie in one segment, and not in that of the superblocks.
    fn is_place(&self, tier: TierId, offset: u64, len: u32) -> bool {
        let Some(facts) = self.tiers.get(tier.index()) else { return false };
        let segment = offset / facts.segment_size;
        (1..u64::from(self.segments(tier))).contains(&segment)
            && offset % facts.segment_size + u64::from(len) <= facts.segment_size
    }

    /// Bytes of a device, from any byte on.
    pub fn read(&self, tier: TierId, offset: u64, len: usize) -> Result<Vec<u8>> {
        let device = self.device(tier)?;
        let start = offset - offset % BLOCK as u64;
        let skip = (offset - start) as usize;
        let blocks = (skip + len).next_multiple_of(BLOCK);
        if start.saturating_add(blocks as u64) > device.len() {
            let path = device.path().display();
            fail!(Corrupt, "{path} has been cut to {} bytes", device.len());
        }
        let mut buf = AlignedBuf::alloc(blocks);
        read_persistently(device, start, &mut buf.as_mut_slice()[..blocks]).map_err(|error| {
            Error::from_io(format!("read at {start} of {}", device.path().display()), &error)
        })?;
        Ok(buf.as_slice()[skip..skip + len].to_vec())
    }

    /// Bytes that lie in one segment.
    pub fn read_place(&self, location: Location, len: u32) -> Result<Vec<u8>> {
        match location.place() {
            Place::Device { tier, offset } if self.is_place(tier, offset, len) => {
                self.read(tier, offset, len as usize)
            }
            _ => fail!(Corrupt, "{location:?} is no place of this store"),
        }
    }

    /// A structure in pieces. Each piece is read before room is made for the next.
    pub fn read_chunks(&self, chunks: &[Chunk]) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        for chunk in chunks {
            bytes.extend(self.read_place(chunk.location, chunk.len)?);
        }
        Ok(bytes)
    }
}
