//! The slots that one step of a get holds.

use super::arena::Arena;
use super::pin::RawPin;
use super::record::{RawRange, ZERO_SLOT};

/// Slots pinned at a time. A get of a large value holds no more, so that it does not keep the
/// arena from being swept; at 1 MiB each, the cost of a step vanishes behind its copies.
pub(super) const BATCH: usize = 8;

/// Up to [`BATCH`] pieces of a value, pinned until drop. Lives on the stack.
pub(super) struct Batch<'a> {
    arena: &'a Arena,
    pieces: [Option<Piece>; BATCH],
    count: usize,
    bytes: usize,
}

#[derive(Clone, Copy)]
struct Piece {
    /// `None` reads as zeros.
    pin: Option<RawPin>,
    from: usize,
    len: usize,
}

impl<'a> Batch<'a> {
    pub(super) fn new(arena: &'a Arena) -> Batch<'a> {
        Batch { arena, pieces: [None; BATCH], count: 0, bytes: 0 }
    }

    /// Pins `len` bytes at `from` of a range's slot. `false` if the range is outdated.
    pub(super) fn add(&mut self, range: &RawRange, from: usize, len: usize) -> bool {
        let pin = if range.slot == ZERO_SLOT {
            None
        } else {
            let Some(pin) = self.arena.try_pin(range.slot, Some(range.generation)) else {
                return false;
            };
            let room = self.arena.pinned_bytes(&pin).len();
            if from.checked_add(len).is_none_or(|end| end > room) {
                self.arena.unpin(pin);
                return false;
            }
            Some(pin)
        };
        self.pieces[self.count] = Some(Piece { pin, from, len });
        self.count += 1;
        self.bytes += len;
        true
    }

    /// Bytes of all pieces.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Copies the pieces one after the other; returns how many bytes that were.
    pub(super) fn copy_to(&self, dst: &mut [u8]) -> usize {
        let mut done = 0;
        for piece in self.pieces[..self.count].iter().flatten() {
            let to = &mut dst[done..done + piece.len];
            match &piece.pin {
                Some(pin) => {
                    let bytes = self.arena.pinned_bytes(pin);
                    to.copy_from_slice(&bytes[piece.from..piece.from + piece.len]);
                }
                None => to.fill(0),
            }
            done += piece.len;
        }
        done
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        for piece in self.pieces[..self.count].iter().flatten() {
            if let Some(pin) = piece.pin {
                self.arena.unpin(pin);
            }
        }
    }
}
