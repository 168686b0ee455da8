//! The words of the data model as types: ids, positions, versions, levels.
//!
//! Every id, offset and sequence that crosses a module is a newtype, so that a byte offset is
//! never taken for a segment number, nor a version (the order of one key) for a batch sequence
//! number (the order of the log).

use std::fmt;

/// A bucket, for the life of the store. Never reused, also not after a destroy.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BucketId(pub u32);

/// The order of changes of one key: open-epoch in the upper 24 bits, sequence in the lower 40.
///
/// Assigned under the key's stripe lock and never reused, so it orders delete and recreate too.
/// Versions order one key; [`BatchSeq`] orders the log. The two are never compared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Version(pub u64);

impl Version {
    const SEQUENCE_BITS: u32 = 40;

    /// The first version of an open-epoch.
    pub fn first_of(epoch: Epoch) -> Version {
        Version(u64::from(epoch.0) << Self::SEQUENCE_BITS)
    }

    /// The last version of an open-epoch.
    pub fn last_of(epoch: Epoch) -> Version {
        Version(Version::first_of(epoch).0 | ((1 << Self::SEQUENCE_BITS) - 1))
    }
}

/// One buffer, for the life of the store. A buffer made by a put of a single buffer carries the
/// number of that put's version; ids and versions come from one counter, so they never collide.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BufferId(pub u64);

/// How often the store has been opened for writing. Starts at 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Epoch(pub u32);

/// The position of a batch in the log's order. The first batch of a store is 1; 0 is "none".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct BatchSeq(pub u64);

impl BatchSeq {
    /// The batch that follows this one.
    pub fn next(self) -> BatchSeq {
        BatchSeq(self.0 + 1)
    }
}

/// A persistent tier, by its place in the configuration, fastest first. DRAM has no `TierId`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TierId(pub u8);

impl TierId {
    /// The tier's place in vectors of tiers.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A segment of one tier: its number times the tier's segment size is its byte offset.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SegmentId(pub u32);

/// A segment together with its tier.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TierSegment {
    /// The tier.
    pub tier: TierId,
    /// The segment on that tier.
    pub segment: SegmentId,
}

/// A slot of the DRAM arena: its byte offset in the arena divided by 64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SlotId(pub u32);

/// Where a buffer's stored bytes begin: a byte of a device, or a slot of the DRAM arena for a
/// buffer that no device holds yet.
///
/// Packed in 64 bits because the index holds one per buffer: 8 bits of tier (255 = DRAM), 56 of
/// byte offset or slot number. Ordered by tier and place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location(u64);

impl Location {
    const DRAM: u64 = 0xFF;
    const OFFSET_BITS: u32 = 56;
    const OFFSET_MASK: u64 = (1 << Self::OFFSET_BITS) - 1;

    /// A byte of a device.
    pub fn device(tier: TierId, offset: u64) -> Location {
        assert!(offset <= Self::OFFSET_MASK, "device offset {offset} exceeds 56 bits");
        assert!(u64::from(tier.0) != Self::DRAM, "tier 255 is reserved for DRAM");
        Location(u64::from(tier.0) << Self::OFFSET_BITS | offset)
    }

    /// A slot of the DRAM arena.
    pub fn dram(slot: SlotId) -> Location {
        Location(Self::DRAM << Self::OFFSET_BITS | u64::from(slot.0))
    }

    /// The place, unpacked.
    pub fn place(self) -> Place {
        let low = self.0 & Self::OFFSET_MASK;
        match self.0 >> Self::OFFSET_BITS {
            Self::DRAM => Place::Dram(SlotId(low as u32)),
            tier => Place::Device { tier: TierId(tier as u8), offset: low },
        }
    }

    /// The packed form, for the disk.
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// The inverse of [`to_bits`](Self::to_bits). Any value is a location; whether it lies on an
    /// existing tier is for the reader to check.
    pub fn from_bits(bits: u64) -> Location {
        Location(bits)
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place() {
            Place::Dram(slot) => write!(f, "dram:{}", slot.0),
            Place::Device { tier, offset } => write!(f, "tier{}:{offset:#x}", tier.0),
        }
    }
}

/// [`Location`], unpacked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Only in the DRAM arena: dirty, or a store without devices.
    Dram(SlotId),
    /// At a byte of a device.
    Device {
        /// The tier.
        tier: TierId,
        /// Byte offset in the tier's file.
        offset: u64,
    },
}

/// What has happened to the bytes when a put returns.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Durability {
    /// In the DRAM tier; written behind within the flush interval. Survives a clean close, and
    /// anything once a `flush` that followed has returned.
    Memory,
    /// The device write completed, log record included; not flushed. Survives a crash or
    /// `kill -9` of the process.
    #[default]
    Written,
    /// Data and log record are covered by completed flushes. Survives power loss.
    Durable,
}

/// The kind of a tier. The order is from fast to slow.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum TierKind {
    /// Main memory.
    Dram,
    /// Flash, or any device with cheap random reads.
    Nvme,
    /// Spinning disks, or any device that wants large sequential transfers.
    Hdd,
}

impl TierKind {
    /// `dram`, `nvme` or `hdd`.
    pub fn name(self) -> &'static str {
        match self {
            TierKind::Dram => "dram",
            TierKind::Nvme => "nvme",
            TierKind::Hdd => "hdd",
        }
    }
}

/// A random 128-bit identity of a store or a device.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Uuid(pub [u8; 16]);

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_round_trips_through_its_packed_form() {
        let on_device = Location::device(TierId(3), 0x12_3456_789a_bcde);
        assert_eq!(Location::from_bits(on_device.to_bits()), on_device);
        assert_eq!(
            on_device.place(),
            Place::Device { tier: TierId(3), offset: 0x12_3456_789a_bcde }
        );
        assert_eq!(Location::dram(SlotId(u32::MAX)).place(), Place::Dram(SlotId(u32::MAX)));
    }

    #[test]
    fn versions_of_a_later_epoch_are_larger_than_all_of_an_earlier_one() {
        let last_of_first = Version(Version::first_of(Epoch(2)).0 - 1);
        assert!(Version::first_of(Epoch(1)) < last_of_first);
        assert_eq!(Version::last_of(Epoch(1)), last_of_first);
        assert_eq!(Version::last_of(Epoch(crate::limits::EPOCH_MAX)), Version(u64::MAX));
        assert!(last_of_first < Version::first_of(Epoch(2)));
    }
}
