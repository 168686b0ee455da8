//! What an engine would run on here, found as an open finds it, without a store.

use std::sync::Arc;

use crate::error::Result;
use crate::io::buffer::BufferPool;
use crate::io::exec::{self, Body};
use crate::io::runtime::Runtime;
use crate::io::{Devices, uring};

pub use crate::io::uring_setup::Unavailable;

/// Whether the shards of a store would run on io_uring, and if not, why.
pub fn io_uring() -> std::result::Result<(), Unavailable> {
    let no_devices: Devices = Arc::new([]);
    uring::available(&no_devices)
}

/// What the organizer of a store would run on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OrganizerBackend {
    /// `glommio` or `threads`.
    pub name: &'static str,
    /// Why it is not `glommio`.
    pub reason: Option<String>,
}

/// Starts an organizer that has nothing to do, and says on what it ran.
pub fn organizer() -> Result<OrganizerBackend> {
    let (no_devices, no_memory): (Devices, _) = (Arc::new([]), BufferPool::new(0));
    let body: Body = Box::new(|_exec| Box::pin(async {}));
    let started = exec::start(&Runtime::os(), no_devices, no_memory, Arc::default(), body)?;
    started.handle.join();
    Ok(OrganizerBackend { name: started.backend, reason: started.fallback })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_organizer_runs_on_threads_only_with_a_reason() {
        let found = organizer().unwrap();
        assert_eq!(found.name == exec::GLOMMIO, found.reason.is_none(), "{found:?}");
    }
}
