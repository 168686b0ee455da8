//! Device bytes that nothing in the index names yet.

use std::sync::Arc;

use crate::tier::space::Space;
use crate::types::Location;

/// Bytes that a writer has placed: live, so that nobody reuses their segment, and dead when this
/// is dropped: a change that is given up, at whatever point, gives them back.
pub struct WrittenBytes {
    /// Gone once the index keeps the bytes.
    space: Option<Arc<Space>>,
    location: Location,
    stored_len: u32,
}

impl WrittenBytes {
    /// Takes charge of bytes that are live already.
    pub fn new(space: &Arc<Space>, location: Location, stored_len: u32) -> WrittenBytes {
        WrittenBytes { space: Some(space.clone()), location, stored_len }
    }

    /// The index names them from now on, and says when they die.
    pub fn keep(mut self) {
        self.space = None;
    }
}

impl Drop for WrittenBytes {
    fn drop(&mut self) {
        if let Some(space) = self.space.take() {
            space.bytes_dead(self.location, self.stored_len);
        }
    }
}
