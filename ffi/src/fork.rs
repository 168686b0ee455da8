//! A forked child has the parent's memory and none of its threads: every call there would wait for
//! ever, or write to the parent's devices. So every call there is refused.

use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use isotherm::{Error, ErrorKind};

static IS_CHILD: AtomicBool = AtomicBool::new(false);

/// Whether this process was forked from one that had opened a store.
#[inline]
pub(crate) fn is_child() -> bool {
    IS_CHILD.load(Ordering::Relaxed)
}

/// From now on children are told apart. Called before a store is opened.
pub(crate) fn watch() {
    static WATCHING: Once = Once::new();
    WATCHING.call_once(|| {
        // SAFETY: the handler does what a handler may do in a child: it stores to an atomic. It stays
        // in memory, since the library is never unloaded (`-z nodelete`).
        // Without memory for the handler, children are not told apart; nothing else depends on it.
        let _status = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    });
}

unsafe extern "C" fn in_child() {
    IS_CHILD.store(true, Ordering::Relaxed);
}

/// Why a call in a child is refused.
#[cold]
pub(crate) fn refused() -> Error {
    Error::new(
        ErrorKind::Forked,
        "this process was forked from one with an open store; call exec, or open stores after the fork",
    )
}
