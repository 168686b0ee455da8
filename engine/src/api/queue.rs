//! A queue of asynchronous operations: submit from any thread, take completions on any thread, no
//! executor required.
//!
//! What DRAM answers is done while it is submitted. Everything else runs on a shard, whose ring
//! keeps thousands of reads in flight; so an operation goes on, and ends, whether or not anybody
//! waits for it.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::api::operation::{Completion, Done, OpId, OpMemory, Operation};
use crate::api::read::Reader;
use crate::api::serve;
use crate::core::{Core, Request};
use crate::error::{Error, ErrorKind, Result, fail};
use crate::io::wait::WaitList;
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
    /// Submitted and not yet ended.
    running: AtomicUsize,
    ended: Mutex<VecDeque<Completion>>,
    arrived: WaitList,
    /// Waiters want this many completions before they are woken; 0: nobody waits.
    wanted: AtomicUsize,
    cancelled: Mutex<HashSet<OpId>>,
    any_cancelled: AtomicBool,
    /// A shard will wake the waiters at the end of its turn.
    will_wake: AtomicBool,
}

/// The duty to complete one operation. Dropped without that, it completes it as `Closed`.
pub(super) struct Duty {
    shared: Arc<Shared>,
    id: OpId,
    user_data: u64,
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
            running: AtomicUsize::new(0),
            ended: Mutex::default(),
            arrived: WaitList::default(),
            wanted: AtomicUsize::new(0),
            cancelled: Mutex::default(),
            any_cancelled: AtomicBool::new(false),
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
        shared.running.fetch_add(1, Ordering::AcqRel);
        let id = OpId(shared.next_id.fetch_add(1, Ordering::Relaxed));
        let user_data = operation.user_data;
        self.start(operation, Duty { shared: shared.clone(), id, user_data, done: false });
        Ok(id)
    }

    fn start(&self, mut operation: Operation, duty: Duty) {
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
        let enough = self.shared.enough(min.min(max));
        match timeout {
            None => runtime.block_on(enough),
            Some(timeout) => {
                let deadline = runtime.now().after(timeout);
                let _in_time = runtime.block_on_until(deadline, enough);
            }
        }
        self.take(max, into)
    }

    /// Until there are `min` completions, or none is under way any more.
    #[doc(hidden)]
    pub async fn wait_async(&self, min: usize) {
        self.shared.enough(min).await;
    }

    /// Takes at most `max` completions without waiting. Returns how many.
    pub fn take(&self, max: usize, into: &mut Vec<Completion>) -> usize {
        let mut ended = self.shared.ended.lock();
        let count = ended.len().min(max);
        into.extend(ended.drain(..count));
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
        self.shared.cancelled.lock().insert(id);
        self.shared.any_cancelled.store(true, Ordering::Release);
    }
}

impl Drop for Queue {
    /// The memory of operations under way is in use until they end.
    fn drop(&mut self) {
        self.shared.core.runtime.block_on(self.shared.all_ended());
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

impl Shared {
    async fn enough(&self, min: usize) {
        loop {
            let ticket = self.arrived.ticket();
            self.wanted.store(min, Ordering::SeqCst);
            let there = self.ended.lock().len();
            if there >= min || self.running.load(Ordering::SeqCst) == 0 {
                self.wanted.store(0, Ordering::Relaxed);
                return;
            }
            ticket.await;
        }
    }

    async fn all_ended(&self) {
        loop {
            let ticket = self.arrived.ticket();
            self.wanted.store(usize::MAX, Ordering::SeqCst);
            if self.running.load(Ordering::SeqCst) == 0 {
                return;
            }
            ticket.await;
        }
    }
}

impl Duty {
    /// Whether somebody asked that the operation not begin.
    pub(super) fn is_cancelled(&self) -> bool {
        self.shared.any_cancelled.load(Ordering::Acquire)
            && self.shared.cancelled.lock().remove(&self.id)
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
        let completion = Completion { id: self.id, user_data: self.user_data, result, memory };
        self.shared.ended.lock().push_back(completion);
        self.shared.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Wakes for Shared {
    fn wake(&self) {
        // Before the looks below: what ends after them is for the next wake.
        self.will_wake.store(false, Ordering::SeqCst);
        let wanted = self.wanted.load(Ordering::SeqCst);
        if wanted > 0
            && (self.ended.lock().len() >= wanted || self.running.load(Ordering::SeqCst) == 0)
        {
            self.arrived.wake_all();
        }
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
