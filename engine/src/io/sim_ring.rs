//! The `sim` backend: operations complete late and in an order that the seed decides.

use std::sync::Arc;

use crate::io::sim::SimWorld;
use crate::io::threads::perform;
use crate::io::{Devices, Doorbell, IoDone, IoOp, Ring, Token, Wait};

/// A [`Ring`] of the simulated world. Each turn performs a random subset, possibly none, of the
/// pending operations in random order: at that moment, so that a flush, like a real one, covers
/// all writes done before it was pushed, and perhaps others.
pub struct SimRing {
    world: Arc<SimWorld>,
    devices: Devices,
    pending: Vec<(Token, IoOp)>,
}

impl SimRing {
    /// A ring over these devices.
    pub fn new(world: Arc<SimWorld>, devices: Devices) -> SimRing {
        SimRing { world, devices, pending: Vec::new() }
    }

    fn perform_one(&mut self) -> Option<IoDone> {
        let count = self.pending.len();
        if count == 0 {
            return None;
        }
        let pick = (self.world.random() % count as u64) as usize;
        let (token, op) = self.pending.swap_remove(pick);
        self.world.change_pending_io(-1);
        Some(perform(&self.devices, token, op))
    }
}

impl Ring for SimRing {
    fn push(&mut self, token: Token, op: IoOp) {
        self.world.change_pending_io(1);
        self.pending.push((token, op));
    }

    /// Never sleeps: a waiting actor is simply called again in a later step.
    fn turn(&mut self, _wait: Wait, done: &mut Vec<IoDone>) {
        if self.pending.is_empty() {
            return;
        }
        let count = self.world.random() % (self.pending.len() as u64 + 1);
        for _ in 0..count {
            done.extend(self.perform_one());
        }
    }

    fn doorbell(&self) -> Arc<dyn Doorbell> {
        Arc::new(SilentBell)
    }

    fn in_flight(&self) -> usize {
        self.pending.len()
    }

    fn describe(&self) -> String {
        "sim".to_owned()
    }
}

impl Drop for SimRing {
    /// What was pushed is still done, as on the other backends.
    fn drop(&mut self) {
        while self.perform_one().is_some() {}
    }
}

/// Every actor is asked in every step that nobody else moves: there is nobody to wake.
struct SilentBell;

impl Doorbell for SilentBell {
    fn ring(&self) {}
}
