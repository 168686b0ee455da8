//! Size classes: into which slots a chunk is cut.

use crate::limits::SLOT_UNIT;

/// A chunk: the unit that is faulted, assigned to a size class, and moved between classes.
pub(super) const CHUNK: usize = 1 << 20;
/// Slot units in a chunk, and so the most slots it can hold.
pub(super) const CHUNK_UNITS: usize = CHUNK / SLOT_UNIT;

/// Slot sizes in units of 64 bytes. Up to 8 KiB in four steps per doubling (fewer below 256 B,
/// where the unit is the step); above as a chunk divided by whole numbers, since a step that does
/// not divide the chunk would waste the chunk's end.
const UNITS: [u16; Class::COUNT] = [
    1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 146,
    170, 204, 256, 292, 341, 409, 512, 585, 682, 819, 1024, 1170, 1365, 1638, 2048, 2340, 2730,
    3276, 4096, 5461, 8192, 16384,
];

/// For lengths up to 8 KiB: the class, by units.
const SMALL_UNITS: usize = 128;
const SMALL: [u8; SMALL_UNITS + 1] = {
    let mut table = [0; SMALL_UNITS + 1];
    let mut class = 0;
    let mut units = 1;
    while units <= SMALL_UNITS {
        while (UNITS[class] as usize) < units {
            class += 1;
        }
        table[units] = class as u8;
        units += 1;
    }
    table
};

/// ceil(2^32 / units): turns the division by a slot's size into a multiplication, exact for
/// dividends below 2^14 because the error stays below 2^14 / 2^32 < 1 / units.
const RECIPROCAL: [u64; Class::COUNT] = {
    let mut table = [0; Class::COUNT];
    let mut class = 0;
    while class < Class::COUNT {
        table[class] = (1u64 << 32).div_ceil(UNITS[class] as u64);
        class += 1;
    }
    table
};

/// Slots in a chunk: a division that every look at a slot would make.
const SLOTS: [u16; Class::COUNT] = {
    let mut table = [0; Class::COUNT];
    let mut class = 0;
    while class < Class::COUNT {
        table[class] = (CHUNK_UNITS / UNITS[class] as usize) as u16;
        class += 1;
    }
    table
};

/// One of the slot sizes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Class(u8);

impl Class {
    /// How many there are. Must stay below 63: six bits, and 0 stands for "no class".
    pub(super) const COUNT: usize = 47;

    /// The smallest class whose slots hold `len` bytes; none for 0 and beyond a chunk.
    #[inline]
    pub(super) fn holding(len: usize) -> Option<Class> {
        let units = len.div_ceil(SLOT_UNIT);
        match units {
            0 => None,
            1..=SMALL_UNITS => Some(Class(SMALL[units])),
            _ if units <= CHUNK_UNITS => {
                Some(Class(UNITS.partition_point(|&have| usize::from(have) < units) as u8))
            }
            _ => None,
        }
    }

    /// The inverse of [`code`](Self::code).
    #[inline]
    pub(super) fn from_code(code: u32) -> Option<Class> {
        (1..=Self::COUNT as u32).contains(&code).then(|| Class(code as u8 - 1))
    }

    /// A number other than 0.
    #[inline]
    pub(super) fn code(self) -> u32 {
        u32::from(self.0) + 1
    }

    /// The classes above, ascending.
    pub(super) fn larger(self) -> impl Iterator<Item = Class> {
        (self.0 + 1..Self::COUNT as u8).map(Class)
    }

    /// Its place in arrays.
    #[inline]
    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }

    /// Size of a slot in units of 64 bytes.
    #[inline]
    pub(super) fn units(self) -> usize {
        usize::from(UNITS[self.index()])
    }

    /// Size of a slot in bytes.
    #[inline]
    pub(super) fn bytes(self) -> usize {
        self.units() * SLOT_UNIT
    }

    /// Slots in a chunk of this class.
    #[inline]
    pub(super) fn slots(self) -> usize {
        usize::from(SLOTS[self.index()])
    }

    /// The number of the slot that begins at, or covers, a unit of the chunk.
    #[inline]
    pub(super) fn slot_at_unit(self, unit: usize) -> usize {
        ((unit as u64 * RECIPROCAL[self.index()]) >> 32) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "takes too many steps for Miri")]
    fn every_length_gets_the_smallest_class_that_holds_it() {
        for len in (1..=CHUNK).step_by(37).chain([CHUNK]) {
            let class = Class::holding(len).unwrap();
            assert!(class.bytes() >= len);
            assert!(class.index() == 0 || usize::from(UNITS[class.index() - 1]) * 64 < len);
            assert_eq!(Class::from_code(class.code()), Some(class));
        }
        assert_eq!(Class::holding(0), None);
        assert_eq!(Class::holding(CHUNK + 1), None);
        assert_eq!(Class::from_code(0), None);
    }

    #[test]
    fn a_chunk_of_any_class_is_used_almost_whole_and_steps_are_small() {
        for (index, pair) in UNITS.windows(2).enumerate() {
            let class = Class(index as u8);
            assert!(class.slots() * class.units() * 100 >= CHUNK_UNITS * 98, "{class:?}");
            if pair[0] >= 4 && class.slots() > 8 {
                assert!(f64::from(pair[1]) / f64::from(pair[0]) <= 1.27, "{pair:?}");
            }
        }
    }

    #[test]
    fn the_reciprocal_divides_exactly() {
        for index in 0..Class::COUNT {
            let class = Class(index as u8);
            for unit in 0..CHUNK_UNITS {
                assert_eq!(class.slot_at_unit(unit), unit / class.units());
            }
        }
    }
}
