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

use crate::api::get;
use crate::api::held::{self, Cold, Held};
use crate::api::operation::{Action, Done, OpMemory, Operation};
use crate::api::queue::Duty;
use crate::api::read::{DeviceRange, admit, device_range, note_cold, verify_and_copy};
use crate::core::Core;
use crate::index::state::Buffer;
use crate::io::buffer::AlignedBuf;
use crate::io::gate::Permit;
use crate::io::runtime::Nanos;
use crate::io::uring::UringRing;
use crate::io::{Doorbell, IoDone, IoOp, Ring, Token, Wait};

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
    buffer: Buffer,
    range: DeviceRange,
    /// Bytes of the value that the caller gets.
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
        let DeviceRange { tier, offset, len, .. } = plan.range;
        let buf = core.pool.try_get(len).unwrap_or_else(|| AlignedBuf::alloc(len));
        note_cold(core, &plan.held, tier);
        let number = inner.next;
        inner.next += 1;
        inner.reads.insert(number, Read { operation, duty, plan });
        inner.ring.push(Token(number), IoOp::Read { tier, offset, len, buf });
        inner.ring.keep_busy();
        None
    }

    /// Looks after the ring: completes what is done, and sleeps as `wait` allows if nothing is. Hands
    /// back what is for a shard after all. `None`: there is nothing to look after, or another thread
    /// does.
    pub(super) fn drive(&self, core: &Core, wait: Wait) -> Option<Vec<(Operation, Duty)>> {
        let mut inner = self.inner.try_lock()?;
        if inner.reads.is_empty() {
            return None;
        }
        let mut done = std::mem::take(&mut inner.done);
        inner.ring.turn(wait, &mut done);
        let mut for_shards = Vec::new();
        for io in done.drain(..) {
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
        core.space.tier(plan.range.tier).counters.count_read(plan.range.len);
        let took = core.runtime.now().since(plan.begun);
        core.counters.device_read.record(took);
        let dst = &mut operation.memory.as_mut_slice()[..plan.copied];
        let is_good = match (io.result, io.buf) {
            (Ok(()), Some(bytes)) => plan.copy_out(&bytes.as_slice()[..plan.range.len], dst),
            _ => false,
        };
        if !is_good {
            // A shard reads it again before it is called corrupt.
            return Some((operation, duty));
        }
        let Plan { held, cold, copied, .. } = plan;
        if let Some(view) = held.view_of_lone() {
            admit(core, operation.bucket.state(), &held, &view, &[cold], dst);
        }
        operation.bucket.count_miss(copied, took);
        let offset = if let Action::GetAt(offset) = operation.action { offset } else { 0 };
        let done = Done { bytes: copied, offset, value_len: held.state.len, version: None };
        duty.complete_unannounced(operation.memory, Ok(done));
        None
    }
}

impl Plan {
    /// `None` if the operation is anything else, or fails: a shard will say how.
    fn of(core: &Core, operation: &mut Operation) -> Option<Plan> {
        let begun = core.runtime.now();
        core.check_open().ok()?;
        let Operation { bucket, key, action, memory, .. } = operation;
        let (offset, whole) = match action {
            Action::Get => (0, true),
            Action::GetAt(offset) => (*offset, false),
            _ => return None,
        };
        let grows = whole && matches!(memory, OpMemory::Owned(_));
        let room = memory.as_mut_slice().len() as u64;
        let end = if grows { u64::MAX } else { offset.saturating_add(room) };
        let held = held::hold(core, bucket.state(), key, offset..end)?;
        let value_len = held.state.len;
        let view = held.view_of_lone()?;
        if let (true, OpMemory::Owned(value)) = (grows, &mut *memory) {
            get::resize(core, value, value_len).ok()?;
        } else if whole && value_len > room {
            return None;
        }
        let range = offset.min(value_len)..end.min(value_len);
        let copied = (range.end - range.start) as usize;
        let dst = &mut memory.as_mut_slice()[..copied];
        let mut cold = held.copy_resident(&view, range, dst);
        let only = cold.pop().filter(|_| cold.is_empty())?;
        let (buffer, _) = held.locate(core, &view, &only.extent).ok()?;
        let range = device_range(&buffer, only.extent.buffer_offset, only.extent.len).ok()?;
        core.space.tier(range.tier).check_there().ok()?;
        let permit = core.reads.try_take(range.len)?;
        drop(view);
        Some(Plan { held, cold: only, buffer, range, copied, begun, _permit: permit })
    }

    /// False if the bytes do not match their checksums.
    fn copy_out(&self, bytes: &[u8], dst: &mut [u8]) -> bool {
        let from = self.cold.extent.buffer_offset;
        let dst = &mut dst[self.cold.target.clone()];
        verify_and_copy(&self.buffer, &self.range, bytes, from, dst).is_ok()
    }
}
