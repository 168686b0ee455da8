//! The `sim` backend: operations complete late and in an order that the seed decides.

use std::sync::Arc;

use crate::io::sim::SimWorld;
use crate::io::sim_device::SimDevice;
use crate::io::sim_disk::{Barrier, WriteId};
use crate::io::threads::perform;
use crate::io::{Devices, Doorbell, IoDone, IoOp, Ring, Token, Wait};
use crate::types::TierId;

/// One operation in so many is slow: it is not completed for up to two to the power of so many turns.
/// Reads may be slower than all that happens to a segment from its last byte's death to its next use,
/// and flushes, more often, than all that its next use takes.
const SLOW_ONE_IN: u64 = 32;
const SLOW_FLUSH_ONE_IN: u64 = 8;
const SLOW_TURNS_LOG2: u64 = 9;
const SLOW_FLUSH_TURNS_LOG2: u64 = 12;
const SLOW_READ_TURNS_LOG2: u64 = 14;

/// A [`Ring`] of the simulated world. Each turn completes a random subset, possibly none, of the
/// pending operations that are not slow, in random order.
///
/// A write is on its way from the moment it is pushed: half of them are on the device at once and are
/// only told of late, so that a power cut finds writes nobody knows to be done. A flush covers no write
/// that was completed after it was pushed.
pub struct SimRing {
    world: Arc<SimWorld>,
    devices: Devices,
    pending: Vec<Pending>,
    turns: u64,
}

struct Pending {
    token: Token,
    op: IoOp,
    begun: Begun,
    /// It is slow until this turn.
    not_before: u64,
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
        SimRing { world, devices, pending: Vec::new(), turns: 0 }
    }

    fn device(&self, tier: TierId) -> Option<&SimDevice> {
        self.devices.get(tier.index()).and_then(|device| device.simulated())
    }

    fn begin(&self, op: &IoOp) -> Begun {
        match op {
            IoOp::Write { tier, offset, len, buf, .. } if self.world.random() & 1 == 0 => {
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

    /// How many of the pending operations may be completed; they come first.
    fn gather_due(&mut self) -> usize {
        self.pending.sort_by_key(|pending| pending.not_before > self.turns);
        self.pending.partition_point(|pending| pending.not_before <= self.turns)
    }

    /// Completes one of the first so many.
    fn complete_one_of(&mut self, count: usize) -> Option<IoDone> {
        if count == 0 {
            return None;
        }
        let pick = (self.world.random() % count as u64) as usize;
        let Pending { token, op, begun, .. } = self.pending.remove(pick);
        self.world.change_pending_io(-1);
        Some(match (begun, op) {
            (Begun::Write(id), IoOp::Write { tier, offset, len, buf, dsync })
                if let Some(device) = self.device(tier) =>
            {
                let result = device.end_write(id, offset, &buf.as_slice()[..len], dsync);
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
        let (one_in, most) = match op {
            IoOp::Read { .. } => (SLOW_ONE_IN, SLOW_READ_TURNS_LOG2),
            IoOp::Write { .. } => (SLOW_ONE_IN, SLOW_TURNS_LOG2),
            IoOp::Flush { .. } => (SLOW_FLUSH_ONE_IN, SLOW_FLUSH_TURNS_LOG2),
        };
        let slow = if self.world.random().is_multiple_of(one_in) {
            1 << (self.world.random() % (most + 1))
        } else {
            0
        };
        self.pending.push(Pending { token, op, begun, not_before: self.turns + slow });
    }

    /// Never sleeps: a waiting actor is simply called again in a later step.
    fn turn(&mut self, _wait: Wait, done: &mut Vec<IoDone>) {
        if self.pending.is_empty() {
            return;
        }
        self.turns += 1;
        let due = self.gather_due();
        let count = (self.world.random() % (due as u64 + 1)) as usize;
        for completed in 0..count {
            done.extend(self.complete_one_of(due - completed));
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
        while self.complete_one_of(self.pending.len()).is_some() {}
    }
}

/// Every actor is asked in every step that nobody else moves: there is nobody to wake.
struct SilentBell;

impl Doorbell for SilentBell {
    fn ring(&self) {}
}
