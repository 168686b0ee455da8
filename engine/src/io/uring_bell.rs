//! The doorbell of a kernel ring: an eventfd whose read stays armed in the ring, behind a state
//! word that saves the system call while the owner is awake.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::io::Doorbell;

/// The owner runs, and will look at its mailbox before it sleeps.
const AWAKE: u32 = 0;
/// The owner is in the kernel, or about to enter it: only the eventfd wakes it.
const ASLEEP: u32 = 1;
/// Rung since the owner looked last.
const RUNG: u32 = 2;

/// See the module. All changes of the state are read-modify-writes, so whoever takes RUNG away
/// sees everything that every ringer did before it rang, also the ringers that found it RUNG.
pub(crate) struct EventBell {
    state: AtomicU32,
    event: File,
}

impl EventBell {
    pub(crate) fn new() -> io::Result<EventBell> {
        // Blocking mode: the ring would answer the read of a non-blocking descriptor with EAGAIN.
        // SAFETY: a call without pointers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is open and nobody else owns it.
        let event = unsafe { File::from_raw_fd(fd) };
        Ok(EventBell { state: AtomicU32::new(AWAKE), event })
    }

    pub(crate) fn descriptor(&self) -> RawFd {
        self.event.as_raw_fd()
    }

    /// The owner announces its sleep; false if it was rung and must not sleep.
    pub(crate) fn may_sleep(&self) -> bool {
        self.state.compare_exchange(AWAKE, ASLEEP, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// The owner is up and takes the ring, if there was one.
    pub(crate) fn wake_up(&self) {
        self.state.swap(AWAKE, Ordering::AcqRel);
    }

    /// Completes the armed read, whatever the state.
    pub(crate) fn signal(&self) {
        // The counter cannot overflow within the life of a ring; no other error is possible.
        let _ = (&self.event).write(&1u64.to_ne_bytes());
    }
}

impl Doorbell for EventBell {
    fn ring(&self) {
        if self.state.swap(RUNG, Ordering::AcqRel) == ASLEEP {
            self.signal();
        }
    }
}
