//! The lock and the atomics of the rooms whose interleavings are explored one by one: `io/wait.rs`,
//! `gate.rs`, `mailbox.rs`, `api/completions.rs`.
//!
//! In a build with `--cfg loom` they are loom's, and only the tests named `loom_` run.

#[cfg(not(loom))]
pub(crate) use parking_lot::Mutex;
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
#[cfg(loom)]
pub(crate) use modelled::Mutex;

/// Says to loom what sequentially consistent accesses on both sides of it say to everybody else:
/// it takes them for acquiring and releasing ones.
#[inline]
pub(crate) fn sequenced() {
    #[cfg(loom)]
    loom::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
}

#[cfg(loom)]
mod modelled {
    use loom::sync::MutexGuard;

    /// Loom's lock with the words of the other one.
    #[derive(Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Mutex<T> {
            Mutex(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            match self.0.lock() {
                Ok(guard) => guard,
                Err(poisoned) => poisoned.into_inner(),
            }
        }
    }
}
