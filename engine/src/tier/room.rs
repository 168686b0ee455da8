//! Device space set aside for bytes that are still to come.

use std::sync::Arc;

use crate::tier::space::Space;

/// Counts against the tiers until it is dropped: once the bytes are live, or never will be.
pub struct Room {
    space: Arc<Space>,
    bytes: u64,
}

impl Room {
    /// Takes charge of bytes that are set aside already.
    pub fn new(space: &Arc<Space>, bytes: u64) -> Room {
        Room { space: space.clone(), bytes }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.space.unreserve(self.bytes);
    }
}
