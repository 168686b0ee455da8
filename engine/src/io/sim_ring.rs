//! The `sim` backend: operations complete late and in an order that the seed decides.

use std::sync::Arc;

use crate::io::sim::SimWorld;
use crate::io::sim_device::SimDevice;
use crate::io::sim_disk::{Barrier, WriteId};
use crate::io::threads::perform;
use crate::io::{Devices, Doorbell, IoDone, IoOp, Ring, Token, Wait};
use crate::types::TierId;

/// A [`Ring`] of the simulated world. Each turn completes a random subset, possibly none, of the
/// pending operations in random order.
///
/// A write is on its way from the moment it is pushed: half of them are on the device at once and are
/// only told of late, so that a power cut finds writes nobody knows to be done. A flush covers no write
/// that was completed after it was pushed.
pub struct SimRing {
    world: Arc<SimWorld>,
    devices: Devices,
    pending: Vec<Pending>,
}

struct Pending {
    token: Token,
    op: IoOp,
    begun: Begun,
}

/// What the device has of an operation that is not completed.
enum Begun {
    Nothing,
    Write(WriteId),
    Flush(Barrier),
}

impl SimRing {
    /// A ring over these devices.
    pub fn new(world: Arc<SimWorld>, devices: Devices) -> SimRing {
        SimRing { world, devices, pending: Vec::new() }
    }

    fn device(&self, tier: TierId) -> Option<&SimDevice> {
        self.devices.get(tier.index()).and_then(|device| device.simulated())
    }

    fn begin(&self, op: &IoOp) -> Begun {
        match op {
            IoOp::Write { tier, offset, len, buf, dsync: false }
                if self.world.random() & 1 == 0 =>
            {
                let bytes = buf.as_slice().get(..*len);
                let begun = self.device(*tier).zip(bytes);
                let id = begun.and_then(|(device, bytes)| device.begin_write(*offset, bytes));
                id.map_or(Begun::Nothing, Begun::Write)
            }
            IoOp::Flush { tier } => self
                .device(*tier)
                .map_or(Begun::Nothing, |device| Begun::Flush(device.begin_flush())),
            _ => Begun::Nothing,
        }
    }

    fn complete_one(&mut self) -> Option<IoDone> {
        let count = self.pending.len();
        if count == 0 {
            return None;
        }
        let pick = (self.world.random() % count as u64) as usize;
        let Pending { token, op, begun } = self.pending.swap_remove(pick);
        self.world.change_pending_io(-1);
        Some(match (begun, op) {
            (Begun::Write(id), IoOp::Write { tier, offset, len, buf, .. })
                if let Some(device) = self.device(tier) =>
            {
                let result = device.end_write(id, offset, &buf.as_slice()[..len]);
                IoDone { token, buf: Some(buf), result }
            }
            (Begun::Flush(barrier), IoOp::Flush { tier })
                if let Some(device) = self.device(tier) =>
            {
                IoDone { token, buf: None, result: device.end_flush(&barrier) }
            }
            (_, op) => perform(&self.devices, token, op),
        })
    }
}

impl Ring for SimRing {
    fn push(&mut self, token: Token, op: IoOp) {
        self.world.change_pending_io(1);
        let begun = self.begin(&op);
        self.pending.push(Pending { token, op, begun });
    }

    /// Never sleeps: a waiting actor is simply called again in a later step.
    fn turn(&mut self, _wait: Wait, done: &mut Vec<IoDone>) {
        if self.pending.is_empty() {
            return;
        }
        let count = self.world.random() % (self.pending.len() as u64 + 1);
        for _ in 0..count {
            done.extend(self.complete_one());
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
        while self.complete_one().is_some() {}
    }
}

/// Every actor is asked in every step that nobody else moves: there is nobody to wake.
struct SilentBell;

impl Doorbell for SilentBell {
    fn ring(&self) {}
}
