//! The state word of a slot: who may do what with its bytes.
//!
//! | state    | bytes                               | leaves by                                     |
//! |----------|-------------------------------------|-----------------------------------------------|
//! | Free     | nobody's                            | `alloc`                                       |
//! | Filling  | written by the one who allocated it | publish, admit, discard                       |
//! | Clean    | immutable, a copy of a device's     | release or evict, under the stripe lock       |
//! | Dirty    | immutable, nowhere else             | `mark_clean`; release, under the stripe lock  |
//! | Retired  | immutable, in no head, but pinned   | the last unpin                                |
//! | Head     | a head record of the directory      | release or evict, under the stripe lock       |
//!
//! The generation grows with each `alloc` and is never reset, so that (slot, generation) names
//! one use of the slot. Pins are taken in Clean and Dirty only, by compare-and-swap on the whole
//! word: a slot with pins is neither evicted nor freed.

/// What a slot holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum State {
    Free = 0,
    Filling = 1,
    Clean = 2,
    Dirty = 3,
    Retired = 4,
    Head = 5,
}

/// The state word, unpacked by methods: generation 32 bits, pins 24, counted 1, frequency 2, state 3.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Word(pub(super) u64);

impl Word {
    const STATE_MASK: u64 = 7;
    const FREQUENCY_SHIFT: u32 = 3;
    const FREQUENCY_MASK: u64 = 3 << Self::FREQUENCY_SHIFT;
    /// Nobody has used the slot since its uses were last counted. A reader of a hot slot writes
    /// only to clear it.
    const COUNTED: u64 = 1 << 5;
    const PINS_SHIFT: u32 = 8;
    /// One pin.
    pub(super) const PIN: u64 = 1 << Self::PINS_SHIFT;
    /// Most pins of one slot. More threads and in-flight requests than this cannot exist within
    /// the engine's bounds; a pin beyond it is refused, never wrapped.
    pub(super) const PINS_MAX: u32 = (1 << 24) - 1;
    /// The frequency does not grow beyond this, so hot slots are not written by their readers.
    pub(super) const FREQUENCY_MAX: u32 = 3;

    /// A word without pins. What made it is no use of it.
    pub(super) fn new(generation: u32, state: State, frequency: u32) -> Word {
        debug_assert!(frequency <= Self::FREQUENCY_MAX);
        Word(
            u64::from(generation) << 32
                | u64::from(frequency) << Self::FREQUENCY_SHIFT
                | Self::COUNTED
                | state as u64,
        )
    }

    #[inline]
    pub(super) fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[inline]
    pub(super) fn pins(self) -> u32 {
        (self.0 >> Self::PINS_SHIFT) as u32 & Self::PINS_MAX
    }

    #[inline]
    pub(super) fn frequency(self) -> u32 {
        ((self.0 & Self::FREQUENCY_MASK) >> Self::FREQUENCY_SHIFT) as u32
    }

    #[inline]
    pub(super) fn state(self) -> State {
        match self.0 & Self::STATE_MASK {
            0 => State::Free,
            1 => State::Filling,
            2 => State::Clean,
            3 => State::Dirty,
            4 => State::Retired,
            5 => State::Head,
            // Words are written by this file only; memory that rots is beyond help.
            other => unreachable!("slot state {other}"),
        }
    }

    /// Whether the bytes are immutable and named by a head.
    #[inline]
    pub(super) fn is_resident(self) -> bool {
        matches!(self.state(), State::Clean | State::Dirty)
    }

    /// Whether a sweep may take it.
    #[inline]
    pub(super) fn is_evictable(self) -> bool {
        self.state() == State::Clean && self.pins() == 0
    }

    #[inline]
    pub(super) fn with_state(self, state: State) -> Word {
        Word(self.0 & !Self::STATE_MASK | state as u64)
    }

    /// Whether one access more changes nothing.
    #[inline]
    pub(super) fn is_hottest(self) -> bool {
        self.0 & (Self::FREQUENCY_MASK | Self::COUNTED) == Self::FREQUENCY_MASK
    }

    /// One access more.
    #[inline]
    pub(super) fn warmer(self) -> Word {
        let frequency = (self.frequency() + 1).min(Self::FREQUENCY_MAX);
        let others = self.0 & !(Self::FREQUENCY_MASK | Self::COUNTED);
        Word(others | u64::from(frequency) << Self::FREQUENCY_SHIFT)
    }

    /// Whether it was used since its uses were last counted.
    pub(super) fn is_used(self) -> bool {
        self.0 & Self::COUNTED == 0
    }

    /// Its uses are counted.
    pub(super) fn counted(self) -> Word {
        Word(self.0 | Self::COUNTED)
    }

    /// One pass of the clock's hand.
    #[inline]
    pub(super) fn cooler(self) -> Word {
        let frequency = self.frequency().saturating_sub(1);
        Word(self.0 & !Self::FREQUENCY_MASK | u64::from(frequency) << Self::FREQUENCY_SHIFT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_a_word_do_not_touch_each_other() {
        let states =
            [State::Free, State::Filling, State::Clean, State::Dirty, State::Retired, State::Head];
        for state in states {
            let word = Word(Word::new(u32::MAX, state, 2).0 + 5 * Word::PIN);
            assert_eq!(
                (word.generation(), word.pins(), word.frequency(), word.state()),
                (u32::MAX, 5, 2, state)
            );
            let other = word.with_state(State::Dirty).warmer();
            assert_eq!((other.generation(), other.pins(), other.frequency()), (u32::MAX, 5, 3));
            assert_eq!(other.warmer(), other, "the frequency saturates");
            assert!(other.is_hottest() && other.is_used() && !word.is_used());
            let counted = other.counted();
            assert_eq!((counted.is_hottest(), counted.is_used()), (false, false));
            assert_eq!((counted.warmer(), counted.frequency(), counted.pins()), (other, 3, 5));
            assert_eq!(word.cooler().cooler().cooler().frequency(), 0);
        }
        let full = Word(Word::new(1, State::Clean, 3).0 + u64::from(Word::PINS_MAX) * Word::PIN);
        assert_eq!((full.pins(), full.generation()), (Word::PINS_MAX, 1));
    }
}
