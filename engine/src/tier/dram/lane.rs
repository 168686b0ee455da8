//! Lanes: a few places to spread what every thread would otherwise write to.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many. More threads than this share.
pub(super) const LANES: usize = 8;

/// A value on cache lines of its own (two: the prefetcher fetches pairs).
#[derive(Default)]
#[repr(align(128))]
pub(super) struct Padded<T>(pub(super) T);

/// The lane of the calling thread.
#[inline]
pub(super) fn lane() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static LANE: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    LANE.with(|lane| {
        if lane.get() == usize::MAX {
            lane.set(NEXT.fetch_add(1, Ordering::Relaxed) % LANES);
        }
        lane.get()
    })
}
