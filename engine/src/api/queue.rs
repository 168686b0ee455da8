//! A queue of asynchronous operations: submit from any thread, take completions on any thread, no
//! executor required.
//!
//! What DRAM answers is done while it is submitted. Everything else runs on a shard, whose ring
//! keeps thousands of reads in flight; so an operation goes on, and ends, whether or not anybody
//! waits for it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;
use xxhash_rust::xxh3::Xxh3DefaultBuilder;

use crate::api::completions::Completions;
use crate::api::operation::{Completion, Done, OpId, OpMemory, Operation};
use crate::api::read::Reader;
use crate::api::serve;
use crate::core::{Core, Request};
use crate::error::{Error, ErrorKind, Result, fail};
use crate::limits::QUEUE_DEPTH_MAX;
use crate::shard::{ShardContext, Wakes};

/// See the module. Dropping it waits for the operations under way.
pub struct Queue {
    shared: Arc<Shared>,
    depth: usize,
}

/// What operations under way share with their queue.
pub(super) struct Shared {
    pub(super) core: Arc<Core>,
    next_id: AtomicU64,
    /// Submitted and not yet taken by a wait.
    outstanding: AtomicUsize,
    completions: Completions,
    /// Operations that wait for their turn on a shard: whether somebody asked that they not begin.
    waiting: Mutex<HashMap<OpId, bool, Xxh3DefaultBuilder>>,
    /// A shard will wake the waiters at the end of its turn.
    will_wake: AtomicBool,
}

/// The duty to complete one operation. Dropped without that, it completes it as `Closed`.
pub(super) struct Duty {
    shared: Arc<Shared>,
    id: OpId,
    user_data: u64,
    waits_for_turn: bool,
    done: bool,
}

impl Queue {
    pub(crate) fn new(core: Arc<Core>, depth: usize) -> Result<Queue> {
        if depth == 0 || depth > QUEUE_DEPTH_MAX {
            fail!(InvalidArgument, "a queue holds 1 to {QUEUE_DEPTH_MAX} operations, not {depth}");
        }
        let shared = Shared {
            core,
            next_id: AtomicU64::new(1),
            outstanding: AtomicUsize::new(0),
            completions: Completions::default(),
            waiting: Mutex::default(),
            will_wake: AtomicBool::new(false),
        };
        Ok(Queue { shared: Arc::new(shared), depth })
    }

    /// Starts an operation. Waits for no device; only, shortly, while a shard's mailbox is full.
    ///
    /// Operations of one queue run side by side: whoever needs an order takes the completion of the
    /// first before the second is submitted.
    ///
    /// # Errors
    /// `Busy`, with the operation handed back, if `depth` operations are under way or their
    /// completions not taken. Every other error comes with the completion.
    pub fn submit(&self, operation: Operation) -> std::result::Result<OpId, Box<Refused>> {
        let shared = &self.shared;
        if shared.outstanding.fetch_add(1, Ordering::AcqRel) >= self.depth {
            shared.outstanding.fetch_sub(1, Ordering::AcqRel);
            let message = format!("{} operations are under way; take completions", self.depth);
            let error = Error::new(ErrorKind::Busy, message);
            return Err(Box::new(Refused { error, operation }));
        }
        shared.completions.begin();
        let id = OpId(shared.next_id.fetch_add(1, Ordering::Relaxed));
        let user_data = operation.user_data;
        let shared = shared.clone();
        self.start(operation, Duty { shared, id, user_data, waits_for_turn: false, done: false });
        Ok(id)
    }

    fn start(&self, mut operation: Operation, mut duty: Duty) {
        let core = &self.shared.core;
        if !Arc::ptr_eq(core, operation.bucket.core()) {
            let message = "the bucket is of another store than the queue";
            let error = Error::new(ErrorKind::InvalidArgument, message);
            return duty.complete(operation.memory, Err(error));
        }
        if let Some(result) = serve::at_once(&mut operation) {
            return duty.complete(operation.memory, result);
        }
        if core.shards.is_empty() {
            // Without devices there is nothing to wait for but other callers.
            let result = core.runtime.block_on(serve::run(&mut operation, Reader::Caller));
            return duty.complete(operation.memory, result);
        }
        let shard = core.shard_of(core.index.hash(operation.bucket.id(), &operation.key));
        duty.wait_for_turn();
        let task =
            Request::Run(Box::new(move |context| Box::pin(serve::serve(context, operation, duty))));
        core.runtime.block_on(core.shards[shard].push(task));
    }

    /// Takes completions: waits until there are `min`, or none is under way any more, or the time is
    /// over, and appends at most `max` to `into`. Returns how many.
    pub fn wait(
        &self,
        min: usize,
        max: usize,
        timeout: Option<Duration>,
        into: &mut Vec<Completion>,
    ) -> usize {
        let runtime = &self.shared.core.runtime;
        let Some(timeout) = timeout else {
            return runtime.block_on(self.wait_async(min, max, into));
        };
        let deadline = runtime.now().after(timeout);
        let waited = runtime.block_on_until(deadline, self.wait_async(min, max, into));
        waited.unwrap_or_else(|| self.take(max, into))
    }

    /// [`wait`](Self::wait), asynchronous. Given up, it has taken nothing.
    #[doc(hidden)]
    pub async fn wait_async(&self, min: usize, max: usize, into: &mut Vec<Completion>) -> usize {
        let count = self.shared.completions.wait(min.min(max), max, into).await;
        self.taken(count)
    }

    /// Takes at most `max` completions without waiting. Returns how many.
    pub fn take(&self, max: usize, into: &mut Vec<Completion>) -> usize {
        let count = self.shared.completions.take(max, into);
        self.taken(count)
    }

    fn taken(&self, count: usize) -> usize {
        self.shared.outstanding.fetch_sub(count, Ordering::AcqRel);
        count
    }

    /// Operations submitted whose completions have not been taken.
    pub fn outstanding(&self) -> usize {
        self.shared.outstanding.load(Ordering::Acquire)
    }

    /// Asks that an operation not begin. One that has begun, or ended, goes on to its completion
    /// as if nothing had been asked; one that has not completes as `Cancelled`.
    pub fn cancel(&self, id: OpId) {
        if let Some(cancelled) = self.shared.waiting.lock().get_mut(&id) {
            *cancelled = true;
        }
    }
}

impl Drop for Queue {
    /// The memory of operations under way is in use until they end.
    fn drop(&mut self) {
        let mut none = Vec::new();
        let all_ended = self.shared.completions.wait(usize::MAX, 0, &mut none);
        self.shared.core.runtime.block_on(all_ended);
    }
}

/// A refused submission: why, and the operation back.
pub struct Refused {
    /// Why.
    pub error: Error,
    /// As it was submitted.
    pub operation: Operation,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl fmt::Debug for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Refused {}

/// For those who do not want the operation back.
impl From<Box<Refused>> for Error {
    fn from(refused: Box<Refused>) -> Error {
        refused.error
    }
}

impl Duty {
    /// From now on until it [begins](Self::begin) the operation can be cancelled.
    fn wait_for_turn(&mut self) {
        self.waits_for_turn = true;
        self.shared.waiting.lock().insert(self.id, false);
    }

    /// The operation begins, unless somebody asked that it not: then it is false.
    pub(super) fn begin(&mut self) -> bool {
        let was_waiting = std::mem::take(&mut self.waits_for_turn);
        let cancelled = was_waiting.then(|| self.shared.waiting.lock().remove(&self.id));
        cancelled.flatten() != Some(true)
    }

    /// Ends the operation.
    pub(super) fn complete(mut self, memory: OpMemory, result: Result<Done>) {
        self.deliver(memory, result);
        self.shared.wake();
    }

    /// Ends the operation on a shard, which wakes waiters at the end of its turn.
    pub(super) fn complete_on(
        mut self,
        shard: &ShardContext,
        memory: OpMemory,
        result: Result<Done>,
    ) {
        self.deliver(memory, result);
        if !self.shared.will_wake.swap(true, Ordering::SeqCst) {
            shard.wake_later(self.shared.clone());
        }
    }

    fn deliver(&mut self, memory: OpMemory, result: Result<Done>) {
        self.done = true;
        // Of one that never had its turn, nothing stays.
        self.begin();
        let completion = Completion { id: self.id, user_data: self.user_data, result, memory };
        self.shared.completions.end(completion);
    }
}

impl Wakes for Shared {
    fn wake(&self) {
        // Before the look at who waits: what ends after it is for the next wake.
        self.will_wake.store(false, Ordering::SeqCst);
        self.completions.wake();
    }
}

impl Drop for Duty {
    fn drop(&mut self) {
        if !self.done {
            let closed = Error::new(ErrorKind::Closed, "the store closed before the operation");
            self.deliver(OpMemory::None, Err(closed));
            self.shared.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use super::*;
    use crate::testing::{SimStore, config, poll};

    /// Lets the world go on until the wait ends.
    fn finish(sim: &SimStore, wait: &mut Pin<Box<impl Future<Output = usize>>>) -> usize {
        for _ in 0..100_000 {
            if let std::task::Poll::Ready(count) = poll(wait) {
                return count;
            }
            sim.world.step();
        }
        panic!("the wait did not end");
    }

    #[test]
    fn several_who_wait_share_the_completions_and_none_goes_away_empty() {
        for seed in 0..20 {
            let sim = SimStore::new(seed, config(2));
            let bucket = sim.bucket("b");
            let queue = sim.store.queue(8).unwrap();
            for n in 0..6_u8 {
                queue.submit(Operation::put(&bucket, &[n], vec![n; 100])).unwrap();
            }
            let mut parts: [Vec<Completion>; 3] = Default::default();
            let [a, b, c] = &mut parts;
            let mut two = Box::pin(queue.wait_async(2, 2, a));
            let mut one = Box::pin(queue.wait_async(1, 1, b));
            let mut three = Box::pin(queue.wait_async(3, 3, c));
            assert!(poll(&mut two).is_pending() && poll(&mut three).is_pending());
            assert_eq!(finish(&sim, &mut one), 1);
            assert_eq!(finish(&sim, &mut three), 3);
            assert_eq!(finish(&sim, &mut two), 2);
            drop((one, two, three));
            let mut ids: Vec<OpId> = parts.iter().flatten().map(|done| done.id).collect();
            ids.sort_unstable();
            ids.dedup();
            assert_eq!((ids.len(), queue.outstanding()), (6, 0), "seed {seed}");
            drop(queue);
            sim.store.close().unwrap();
        }
    }

    #[test]
    fn an_operation_cancelled_before_its_turn_does_not_begin_and_no_number_is_kept() {
        let sim = SimStore::new(1, config(1));
        let bucket = sim.bucket("b");
        let queue = sim.store.queue(8).unwrap();
        let [first, second] =
            [b"a", b"b"].map(|key| queue.submit(Operation::put(&bucket, key, vec![1; 9])).unwrap());
        queue.cancel(second);
        let mut ended = Vec::new();
        queue.wait(2, 2, None, &mut ended);
        ended.sort_by_key(|done| done.id);
        assert!(ended[0].id == first && ended[0].result.is_ok());
        let refused = ended[1].result.as_ref().map_err(|error| error.kind());
        assert_eq!(refused, Err(ErrorKind::Cancelled));
        assert!(bucket.exists(b"a").unwrap() && !bucket.exists(b"b").unwrap());
        // Too late, or never heard of: nothing happens, and nothing stays.
        [first, second, OpId(1 << 40)].into_iter().for_each(|id| queue.cancel(id));
        queue.submit(Operation::get(&bucket, b"a")).unwrap();
        queue.wait(1, 1, None, &mut ended);
        assert!(ended[2].result.is_ok());
        assert!(queue.shared.waiting.lock().is_empty());
        drop(queue);
        sim.store.close().unwrap();
    }
}
