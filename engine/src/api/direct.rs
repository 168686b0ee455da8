//! Cold gets of a queue that its waiters read themselves.
//!
//! A get of a lone buffer is one device read. Through a shard it costs two wakes of threads, each as
//! long as half a read of an NVMe device, and with few operations under way nothing hides them. So a
//! queue has a ring of its own for these gets, and whoever waits for completions, or takes them, looks
//! after it. Everything else goes to a shard: other operations, values of several buffers, what a
//! device did not read well at first, and what is submitted while another thread sleeps in the ring.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use xxhash_rust::xxh3::Xxh3DefaultBuilder;

use crate::api::admit::admit;
use crate::api::held::{self, Cold, Held};
use crate::api::operation::Operation;
use crate::api::queue::Duty;
use crate::api::read::{DeviceRange, Got, RingRead};
use crate::api::serve::{self, got_by};
use crate::core::Core;
use crate::io::buffer::AlignedBuf;
use crate::io::gate::Permit;
use crate::io::runtime::Nanos;
use crate::io::uring::UringRing;
use crate::io::{Doorbell, IoDone, IoOp, Ring, Token, Wait};
use crate::limits::SUBMIT_BATCH;

/// Most reads with the kernel at a time; others wait in the ring.
const DEPTH_MAX: u32 = 256;

/// See the module.
pub(super) struct Direct {
    inner: Mutex<Inner>,
    bell: Arc<dyn Doorbell>,
}

struct Inner {
    ring: UringRing,
    reads: HashMap<u64, Read, Xxh3DefaultBuilder>,
    next: u64,
    /// Done, and not completed yet.
    done: Vec<IoDone>,
}

/// A get under way.
struct Read {
    operation: Operation,
    duty: Duty,
    plan: Plan,
}

/// A get that is one device read.
struct Plan {
    held: Held,
    /// The piece of the caller's memory, and what goes there.
    cold: Cold,
    read: RingRead,
    /// Where in the value the get begins, and how many bytes the caller gets.
    offset: u64,
    copied: usize,
    begun: Nanos,
    _permit: Permit,
}

impl Direct {
    /// A ring for a queue of this depth, if this store has rings.
    pub(super) fn new(core: &Core, depth: usize) -> Option<Direct> {
        if !core.rings_for_callers.load(Ordering::Relaxed) {
            return None;
        }
        let depth = u32::try_from(depth).unwrap_or(DEPTH_MAX).min(DEPTH_MAX);
        // Without descriptors or memory for one, the shards do all.
        let ring = UringRing::shared(core.devices.clone(), depth, core.runtime.clone()).ok()?;
        let bell = ring.doorbell();
        let inner = Inner { ring, reads: HashMap::default(), next: 0, done: Vec::new() };
        Some(Direct { inner: Mutex::new(inner), bell })
    }

    /// Starts a get, or hands it back if it is none for this ring.
    pub(super) fn start(
        &self,
        core: &Core,
        mut operation: Operation,
        duty: Duty,
    ) -> Option<(Operation, Duty)> {
        // Another thread looks after the ring, perhaps for long.
        let Some(mut inner) = self.inner.try_lock() else { return Some((operation, duty)) };
        let Some(plan) = Plan::of(core, &mut operation) else { return Some((operation, duty)) };
        let DeviceRange { tier, offset, len, .. } = plan.read.range;
        let buf = core.pool.try_get(len).unwrap_or_else(|| AlignedBuf::alloc(len));
        let number = inner.next;
        inner.next += 1;
        inner.reads.insert(number, Read { operation, duty, plan });
        inner.ring.push(Token(number), IoOp::Read { tier, offset, len, buf });
        inner.ring.keep_busy();
        None
    }

    /// Looks after the ring: completes some of what is done, and sleeps as `wait` allows if nothing is.
    /// Hands back what is for a shard after all. `None`: there is nothing to look after, or another
    /// thread does.
    ///
    /// Devices answer in bursts. Few at a time, so that the next gets are under way while the rest of
    /// a burst is verified: at depth 32, bursts of 22 whole left the device idle for a tenth of the time.
    pub(super) fn drive(&self, core: &Core, wait: Wait) -> Option<Vec<(Operation, Duty)>> {
        let mut inner = self.inner.try_lock()?;
        if inner.reads.is_empty() {
            return None;
        }
        let mut done = std::mem::take(&mut inner.done);
        if done.is_empty() {
            inner.ring.turn(wait, &mut done);
        }
        let mut for_shards = Vec::new();
        for io in done.drain(..done.len().min(SUBMIT_BATCH)) {
            let Some(read) = inner.reads.remove(&io.token.0) else { continue };
            for_shards.extend(read.finish(core, io));
        }
        inner.done = done;
        Some(for_shards)
    }

    /// Makes a thread that sleeps in the ring look up.
    pub(super) fn ring_bell(&self) {
        self.bell.ring();
    }
}

impl Read {
    /// Verifies what was read, copies it out and completes the operation; else hands it back.
    fn finish(self, core: &Core, io: IoDone) -> Option<(Operation, Duty)> {
        let Read { mut operation, duty, plan } = self;
        core.space.tier(plan.read.range.tier).counters.count_read(plan.read.range.len);
        let took = core.runtime.now().since(plan.begun);
        core.counters.device_read.record(took);
        let dst = &mut operation.memory.as_mut_slice()[..plan.copied];
        let target = &mut dst[plan.cold.target.clone()];
        let is_good = match (io.result, io.buf) {
            (Ok(()), Some(bytes)) => plan.read.copy_out(&bytes, target).is_ok(),
            _ => false,
        };
        if !is_good {
            // A shard reads it again before it is called corrupt.
            return Some((operation, duty));
        }
        let Plan { held, cold, offset, copied, .. } = plan;
        if let Some(view) = held.view_of_lone() {
            admit(core, operation.bucket.state(), &held, &view, &[cold], dst);
        }
        operation.bucket.count_miss(copied, took);
        let got = Got { copied, value_len: held.state.len };
        duty.complete_unannounced(operation.memory, Ok(got_by(offset, got)));
        None
    }
}

impl Plan {
    /// `None` if the operation is anything else, or fails: a shard will say how.
    fn of(core: &Core, operation: &mut Operation) -> Option<Plan> {
        let begun = core.runtime.now();
        core.check_open().ok()?;
        let Operation { bucket, key, action, memory, .. } = operation;
        let (offset, target) = serve::target(action, memory)?;
        let end = target.end(offset);
        let held = held::hold(core, bucket.state(), key, offset..end)?;
        let view = held.view_of_lone()?;
        let value_len = held.state.len;
        let range = offset.min(value_len)..end.min(value_len);
        let copied = (range.end - range.start) as usize;
        let dst = &mut target.fit(core, value_len).ok()?[..copied];
        let mut cold = held.copy_resident(&view, range, dst);
        let only = cold.pop().filter(|_| cold.is_empty())?;
        let read = RingRead::of(core, &held, &view, &only).ok()?;
        core.space.tier(read.range.tier).check_there().ok()?;
        let permit = core.reads.try_take(read.range.len)?;
        drop(view);
        Some(Plan { held, cold: only, read, offset, copied, begun, _permit: permit })
    }
}
