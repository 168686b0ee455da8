//! Handles: numbers that stand for objects, so that a wrong one is an error and never a wild pointer.
//!
//! A handle is 8 bits of kind, 24 of slot and 32 of generation. Its slot names the one handle that is
//! live there; whoever uses the object first enters the slot's gate, which counts in a lane of the
//! thread's own. So a look-up writes to no shared cache line, takes no lock and allocates nothing,
//! and whoever closes a handle waits until nobody uses the object any more.

use std::cell::UnsafeCell;
use std::hash::{BuildHasher, RandomState};
use std::ops::Deref;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use isotherm::gate::{Gate, Pass};
use isotherm::io::runtime::Runtime;
use isotherm::{Error, ErrorKind, Result};
use parking_lot::Mutex;

/// What stands for an object outside. Never 0.
pub(crate) type Handle = u64;

/// The kind of an object: in a handle, and in messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Kind {
    pub(crate) number: u8,
    pub(crate) name: &'static str,
}

const KIND_SHIFT: u32 = 56;
const SLOT_SHIFT: u32 = 32;
const SLOT_MASK: u64 = (1 << (KIND_SHIFT - SLOT_SHIFT)) - 1;

/// Slots made at a time: a slot takes 2 KiB, most of it lanes.
const CHUNK_LEN: usize = 64;
const CHUNKS_MAX: usize = 1024;
/// Handles open at a time, in the whole process.
pub(crate) const HANDLES_MAX: usize = CHUNK_LEN * CHUNKS_MAX;

/// Objects by handle.
pub(crate) struct Table<T> {
    chunks: [OnceLock<Box<[Slot<T>]>>; CHUNKS_MAX],
    free: Mutex<FreeSlots>,
    /// Where all generations begin: another in each process, so that its handles are strangers here.
    first_generation: OnceLock<u32>,
}

struct FreeSlots {
    numbers: Vec<u32>,
    /// Slots that have ever been in use.
    begun: usize,
}

struct Slot<T> {
    gate: Gate,
    /// The handle that stands for the object; 0 if there is none, or it is being closed.
    live: AtomicU64,
    /// The handle that the object is closed with; 0 if none.
    owner: AtomicU64,
    /// Of the next handle. Changes under the lock of the free slots.
    generation: AtomicU32,
    object: UnsafeCell<Option<T>>,
}

// SAFETY: `object` is written only by who has the slot to itself: before its handle is live, or after
// it has been retired and the gate has been left by all (`insert`, `remove`). Meanwhile it is shared.
unsafe impl<T: Send + Sync> Sync for Slot<T> {}

/// An object in use: it stays until this is dropped.
pub(crate) struct Pin<'a, T> {
    object: &'a T,
    _pass: Pass<'a>,
}

impl<T> Deref for Pin<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.object
    }
}

impl<T> Table<T> {
    pub(crate) const fn new() -> Table<T> {
        Table {
            chunks: [const { OnceLock::new() }; CHUNKS_MAX],
            free: Mutex::new(FreeSlots { numbers: Vec::new(), begun: 0 }),
            first_generation: OnceLock::new(),
        }
    }

    /// Gives an object a handle. `owner`: the handle that it is to be closed with, or 0.
    pub(crate) fn insert(&self, kind: Kind, owner: Handle, object: T) -> Result<Handle> {
        let number = self.take_slot()?;
        let slot = self.make_slot(number);
        let generation = slot.generation.load(Ordering::Relaxed);
        // SAFETY: the slot is out of the free list and no handle is live: it is this thread's alone.
        unsafe { *slot.object.get() = Some(object) };
        slot.owner.store(owner, Ordering::Relaxed);
        slot.gate.reopen();
        let handle = u64::from(kind.number) << KIND_SHIFT
            | u64::from(number) << SLOT_SHIFT
            | u64::from(generation);
        slot.live.store(handle, Ordering::SeqCst);
        Ok(handle)
    }

    /// The object of a handle, kept until the answer is dropped.
    #[inline]
    pub(crate) fn pin(&self, kind: Kind, handle: Handle) -> Result<Pin<'_, T>> {
        if let Some(slot) = self.slot(handle)
            && let Some(pass) = slot.gate.enter()
            && slot.live.load(Ordering::SeqCst) == handle
            && kind_number(handle) == kind.number
        {
            // SAFETY: the handle was live after the gate was entered, so `remove`, which retires it
            // and then waits for all who are inside, leaves the object alone until the pass is
            // dropped; the answer keeps both.
            if let Some(object) = unsafe { (*slot.object.get()).as_ref() } {
                return Ok(Pin { object, _pass: pass });
            }
        }
        Err(refuse(kind, handle))
    }

    /// Takes an object out, once nobody uses it any more. Its handle is none from the beginning.
    pub(crate) fn remove(&self, kind: Kind, handle: Handle) -> Result<Option<T>> {
        let slot = self.slot(handle).filter(|_| kind_number(handle) == kind.number);
        let Some(slot) = slot else { return Err(refuse(kind, handle)) };
        if slot.live.compare_exchange(handle, 0, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            return Err(refuse(kind, handle));
        }
        slot.gate.close();
        Runtime::os().block_on(slot.gate.wait_until_empty());
        // SAFETY: the handle was retired by this thread alone, the gate is closed, and all who had
        // entered have left: nobody else reaches the object.
        let object = unsafe { (*slot.object.get()).take() };
        self.give_back(slot_number(handle), slot);
        Ok(object)
    }

    /// The live handles that are to be closed with this one.
    pub(crate) fn owned_by(&self, owner: Handle) -> Vec<Handle> {
        let begun = self.free.lock().begun;
        let live = |number: usize| {
            let slot = self.slot((number as u64) << SLOT_SHIFT)?;
            let handle = slot.live.load(Ordering::SeqCst);
            let is_owned = handle != 0 && slot.owner.load(Ordering::SeqCst) == owner;
            // Unless the slot has changed hands in between.
            (is_owned && slot.live.load(Ordering::SeqCst) == handle).then_some(handle)
        };
        (0..begun).filter_map(live).collect()
    }

    #[inline]
    fn slot(&self, handle: Handle) -> Option<&Slot<T>> {
        let number = slot_number(handle);
        self.chunks.get(number / CHUNK_LEN)?.get()?.get(number % CHUNK_LEN)
    }

    fn take_slot(&self) -> Result<u32> {
        let mut free = self.free.lock();
        if let Some(number) = free.numbers.pop() {
            return Ok(number);
        }
        if free.begun == HANDLES_MAX {
            let message = format!("{HANDLES_MAX} handles are open in this process; close some");
            return Err(Error::new(ErrorKind::LimitExceeded, message));
        }
        free.begun += 1;
        Ok(free.begun as u32 - 1)
    }

    fn make_slot(&self, number: u32) -> &Slot<T> {
        let number = number as usize;
        let generation = self.first_generation();
        let slot = |_| Slot {
            gate: Gate::default(),
            live: AtomicU64::new(0),
            owner: AtomicU64::new(0),
            generation: AtomicU32::new(generation),
            object: UnsafeCell::new(None),
        };
        let chunk =
            self.chunks[number / CHUNK_LEN].get_or_init(|| (0..CHUNK_LEN).map(slot).collect());
        &chunk[number % CHUNK_LEN]
    }

    /// A slot whose generations have all been in use is never used again.
    fn give_back(&self, number: usize, slot: &Slot<T>) {
        let mut free = self.free.lock();
        let next = slot.generation.load(Ordering::Relaxed).wrapping_add(1);
        slot.generation.store(next, Ordering::Relaxed);
        if next != self.first_generation() {
            free.numbers.push(number as u32);
        }
    }

    fn first_generation(&self) -> u32 {
        *self.first_generation.get_or_init(|| RandomState::new().hash_one(HANDLES_MAX) as u32)
    }
}

#[inline]
fn kind_number(handle: Handle) -> u8 {
    (handle >> KIND_SHIFT) as u8
}

#[inline]
fn slot_number(handle: Handle) -> usize {
    (handle >> SLOT_SHIFT & SLOT_MASK) as usize
}

/// Says what is wrong with a handle, as far as it can be told.
#[cold]
fn refuse(kind: Kind, handle: Handle) -> Error {
    let name = kind.name;
    let message = if handle == 0 {
        format!("handle 0 is no {name}; pass one that a call has handed out")
    } else if kind_number(handle) == kind.number {
        format!("handle {handle:#x} is no open {name}: it is closed, or was never handed out here")
    } else {
        format!("handle {handle:#x} is no {name}: it is of another kind, or none at all")
    };
    Error::new(ErrorKind::BadHandle, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    const CAT: Kind = Kind { number: 1, name: "cat" };
    const DOG: Kind = Kind { number: 2, name: "dog" };

    fn kind_of<T>(answer: Result<T>) -> ErrorKind {
        answer.err().unwrap().kind()
    }

    #[test]
    fn a_handle_finds_its_object_until_it_is_closed_and_never_again() {
        let table = Table::new();
        let cat = table.insert(CAT, 0, "tom").unwrap();
        assert_eq!(*table.pin(CAT, cat).unwrap(), "tom");
        assert_eq!(kind_of(table.pin(DOG, cat)), ErrorKind::BadHandle);
        assert_eq!(kind_of(table.remove(DOG, cat)), ErrorKind::BadHandle);
        assert_eq!(table.remove(CAT, cat).unwrap(), Some("tom"));
        let next = table.insert(CAT, 0, "kit").unwrap();
        assert_eq!(slot_number(next), slot_number(cat));
        assert_eq!(kind_of(table.pin(CAT, cat)), ErrorKind::BadHandle);
        assert_eq!(kind_of(table.remove(CAT, cat)), ErrorKind::BadHandle);
        assert_eq!(*table.pin(CAT, next).unwrap(), "kit");
    }

    #[test]
    fn forged_handles_are_refused() {
        let table = Table::new();
        let cat = table.insert(CAT, 0, 1).unwrap();
        let flipped = (0..64).map(|bit| cat ^ 1 << bit);
        for forged in flipped.chain([0, 1, u64::MAX, u64::MAX - 1]) {
            assert_eq!(kind_of(table.pin(CAT, forged)), ErrorKind::BadHandle, "{forged:#x}");
        }
    }

    #[test]
    fn a_slot_that_has_used_all_its_generations_is_not_used_again() {
        let table = Table::new();
        let first = table.insert(CAT, 0, 1).unwrap();
        table.slot(first).unwrap().generation.fetch_sub(1, Ordering::Relaxed);
        table.remove(CAT, first).unwrap();
        let second = table.insert(CAT, 0, 2).unwrap();
        assert_ne!(slot_number(first), slot_number(second));
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes too many steps for Miri")]
    fn handles_are_bounded_and_closing_one_makes_room() {
        let table = Table::new();
        let handles: Vec<Handle> =
            (0..HANDLES_MAX).map(|n| table.insert(CAT, 7, n).unwrap()).collect();
        assert_eq!(kind_of(table.insert(CAT, 0, 0)), ErrorKind::LimitExceeded);
        table.remove(CAT, handles[9]).unwrap();
        let again = table.insert(DOG, 0, 0).unwrap();
        assert_eq!(slot_number(again), 9);
        assert_eq!(table.owned_by(7).len(), HANDLES_MAX - 1);
    }

    #[test]
    fn an_object_stays_while_another_thread_uses_it() {
        struct Counted<'a>(&'a AtomicUsize);
        impl Drop for Counted<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        let alive = AtomicUsize::new(0);
        let table = Table::new();
        for _ in 0..if cfg!(miri) { 3 } else { 200 } {
            alive.fetch_add(1, Ordering::SeqCst);
            let handle = table.insert(CAT, 0, Counted(&alive)).unwrap();
            thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        while let Ok(pin) = table.pin(CAT, handle) {
                            assert_eq!(pin.0.load(Ordering::SeqCst), 1);
                        }
                    });
                }
                thread::yield_now();
                let closed = [0, 1].map(|_| table.remove(CAT, handle).is_ok());
                assert_eq!(closed, [true, false]);
            });
            assert_eq!(alive.load(Ordering::SeqCst), 0);
        }
    }
}
