//! A bound on bytes in flight, where one holder needs several buffers at once.
//!
//! Taking buffers one by one from a bounded pool lets holders of some wait for more for ever. A
//! permit covers all that its holder will take, and whoever already has one only tries.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::io::wait::WaitList;

struct Inner {
    used: Mutex<usize>,
    limit: usize,
    freed: WaitList,
}

/// See the module.
pub struct ByteGate(Arc<Inner>);

/// Bytes that may be in flight until it is dropped.
pub struct Permit {
    gate: Arc<Inner>,
    bytes: usize,
}

impl ByteGate {
    /// A gate for `limit` bytes.
    pub fn new(limit: usize) -> ByteGate {
        ByteGate(Arc::new(Inner { used: Mutex::new(0), limit, freed: WaitList::default() }))
    }

    /// A permit, if there is room. One larger than the gate is given when nothing else is out.
    pub fn try_take(&self, bytes: usize) -> Option<Permit> {
        let mut used = self.0.used.lock();
        if *used > 0 && *used + bytes > self.0.limit {
            return None;
        }
        *used += bytes;
        Some(Permit { gate: self.0.clone(), bytes })
    }

    /// Waits for a permit. Not for whoever has one already.
    pub async fn take(&self, bytes: usize) -> Permit {
        loop {
            let freed = self.0.freed.ticket();
            if let Some(permit) = self.try_take(bytes) {
                return permit;
            }
            freed.await;
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *self.gate.used.lock() -= self.bytes;
        self.gate.freed.wake_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_bounded_and_an_oversized_one_is_given_alone() {
        let gate = ByteGate::new(100);
        let first = gate.try_take(60);
        assert!(first.is_some() && gate.try_take(60).is_none());
        drop(first);
        let huge = gate.try_take(1000);
        assert!(huge.is_some() && gate.try_take(1).is_none());
    }
}
