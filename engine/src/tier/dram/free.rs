//! The free list of a chunk as one atomic word.
//!
//! Head of the list, count, class and a tag change together, so that a chunk whose slots are all
//! free can be taken away from its class by one compare-and-swap, and no pop that began before
//! can succeed after.

use super::class::Class;

const HEAD_BITS: u32 = 15;
const COUNT_BITS: u32 = 15;
const CLASS_BITS: u32 = 6;
const COUNT_SHIFT: u32 = HEAD_BITS;
const CLASS_SHIFT: u32 = COUNT_SHIFT + COUNT_BITS;
const DRAIN_SHIFT: u32 = CLASS_SHIFT + CLASS_BITS;
const TAG_SHIFT: u32 = DRAIN_SHIFT + 1;
const NONE: u64 = (1 << HEAD_BITS) - 1;

/// The word, unpacked by methods. Every change makes the 27-bit tag differ from its predecessor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct FreeList(pub(super) u64);

impl FreeList {
    fn build(self, head: u64, count: u64, class: u64, draining: bool) -> FreeList {
        let tag = (self.0 >> TAG_SHIFT).wrapping_add(1);
        FreeList(
            tag << TAG_SHIFT
                | u64::from(draining) << DRAIN_SHIFT
                | class << CLASS_SHIFT
                | count << COUNT_SHIFT
                | head,
        )
    }

    #[inline]
    pub(super) fn class(self) -> Option<Class> {
        Class::from_code((self.0 >> CLASS_SHIFT) as u32 & ((1 << CLASS_BITS) - 1))
    }

    fn class_code(self) -> u64 {
        (self.0 >> CLASS_SHIFT) & ((1 << CLASS_BITS) - 1)
    }

    /// Free slots.
    #[inline]
    pub(super) fn count(self) -> usize {
        (self.0 >> COUNT_SHIFT) as usize & ((1 << COUNT_BITS) - 1)
    }

    /// Whether the chunk is being emptied for another class: nothing is allocated from it.
    #[inline]
    pub(super) fn draining(self) -> bool {
        self.0 >> DRAIN_SHIFT & 1 == 1
    }

    /// The first free slot.
    #[inline]
    pub(super) fn head(self) -> Option<usize> {
        let head = self.0 & NONE;
        (head != NONE).then_some(head as usize)
    }

    /// Whether no slot is in use.
    pub(super) fn is_empty_chunk(self) -> bool {
        self.class().is_some_and(|class| self.count() == class.slots())
    }

    /// Without its head, whose link is `next` (`u32::MAX`: none).
    #[inline]
    pub(super) fn popped(self, next: u32) -> FreeList {
        let head = u64::from(next).min(NONE);
        self.build(head, self.count() as u64 - 1, self.class_code(), self.draining())
    }

    /// With one more slot in front.
    #[inline]
    pub(super) fn pushed(self, slot: usize) -> FreeList {
        self.build(slot as u64, self.count() as u64 + 1, self.class_code(), self.draining())
    }

    /// All slots free, in order, for a class.
    pub(super) fn assigned(self, class: Class) -> FreeList {
        self.build(0, class.slots() as u64, u64::from(class.code()), false)
    }

    /// Of no class.
    pub(super) fn unassigned(self) -> FreeList {
        self.build(NONE, 0, 0, false)
    }

    /// With the draining mark set or cleared.
    pub(super) fn with_draining(self, draining: bool) -> FreeList {
        self.build(self.0 & NONE, self.count() as u64, self.class_code(), draining)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_is_visible_in_the_word_even_if_it_undoes_the_last() {
        let class = Class::holding(64).unwrap();
        let full = FreeList(0).unassigned().assigned(class);
        assert_eq!((full.count(), full.head(), full.class()), (16384, Some(0), Some(class)));
        assert!(full.is_empty_chunk() && !full.draining());
        let popped = full.popped(1);
        assert_eq!((popped.count(), popped.head()), (16383, Some(1)));
        let back = popped.pushed(0);
        assert_eq!((back.count(), back.head()), (16384, Some(0)));
        assert_ne!(back, full);
        assert!(back.with_draining(true).draining());
        assert_eq!(popped.popped(u32::MAX).head(), None);
        assert_eq!(back.unassigned().class(), None);
    }
}
