//! A queue of asynchronous operations: submit from any thread, take completions on any thread, no
//! executor required.
//!
//! What DRAM answers is done while it is submitted. A cold get of one buffer is a read in the queue's
//! own ring, which those look after who wait for completions or take them. Everything else runs on a
//! shard, whose ring keeps thousands of reads in flight, and ends whether or not anybody waits for it.

use std::fmt;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;
use xxhash_rust::xxh3::Xxh3DefaultBuilder;

use crate::api::completions::{Completions, Waiter};
use crate::api::direct::Direct;
use crate::api::future;
use crate::api::operation::{Action, Completion, Done, OpId, OpMemory, Operation};
use crate::api::read::Reader;
use crate::api::serve;
use crate::core::{Core, Request};
use crate::error::{Error, ErrorKind, Result, fail};
use crate::io::Wait;
use crate::io::exec::LocalFuture;
use crate::io::wait::Sender;
use crate::limits::QUEUE_DEPTH_MAX;
use crate::shard::{ShardContext, Wakes};

/// See the module. Dropping it waits for the operations under way.
pub struct Queue {
    shared: Arc<Shared>,
}

/// What operations under way share with their queue.
pub(super) struct Shared {
    pub(super) core: Arc<Core>,
    depth: usize,
    next_id: AtomicU64,
    /// Its queue is dropped: nothing begins any more.
    dropped: AtomicBool,
    /// Submitted and not yet taken by a wait.
    outstanding: AtomicUsize,
    completions: Completions,
    /// Operations that wait for their turn on a shard: whether somebody asked that they not begin.
    waiting: Mutex<HashMap<OpId, bool, Xxh3DefaultBuilder>>,
    /// A shard will wake the waiters at the end of its turn.
    will_wake: AtomicBool,
    /// Made with the first operation that can use it; none where there is no io_uring.
    direct: OnceLock<Option<Direct>>,
}

/// The duty to complete one operation. Dropped without that, it completes it as `Closed`.
pub(super) struct Duty {
    shared: Arc<Shared>,
    pub(super) id: OpId,
    user_data: u64,
    waits_for_turn: bool,
    done: bool,
    /// Where the completion goes, if not to the waiters.
    reply: Option<Sender<Completion>>,
}

/// What became of an operation on the submitting thread.
pub(super) enum Begun {
    Ended,
    /// It is to go to this shard.
    OnShard(usize, Request),
}

impl Queue {
    pub(crate) fn new(core: Arc<Core>, depth: usize) -> Result<Queue> {
        if depth == 0 || depth > QUEUE_DEPTH_MAX {
            fail!(InvalidArgument, "a queue holds 1 to {QUEUE_DEPTH_MAX} operations, not {depth}");
        }
        let shared = Shared {
            core,
            depth,
            next_id: AtomicU64::new(1),
            dropped: AtomicBool::new(false),
            outstanding: AtomicUsize::new(0),
            completions: Completions::default(),
            waiting: Mutex::default(),
            will_wake: AtomicBool::new(false),
            direct: OnceLock::new(),
        };
        Ok(Queue { shared: Arc::new(shared) })
    }

    /// Starts an operation. Waits for no device; only, shortly, while a shard's mailbox is full. Of cold
    /// gets up to seven may begin with the next call on the queue only, if eight are under way.
    ///
    /// Operations of one queue run side by side: whoever needs an order takes the completion of the
    /// first before the second is submitted.
    ///
    /// # Errors
    /// `Busy`, with the operation handed back, if `depth` operations are under way or their
    /// completions not taken. Every other error comes with the completion.
    pub fn submit(&self, operation: Operation) -> std::result::Result<OpId, Box<Refused>> {
        if let Err(error) = self.shared.enter() {
            return Err(Box::new(Refused { error, operation }));
        }
        let duty = self.shared.duty(&operation, None);
        let id = duty.id;
        if let Begun::OnShard(shard, task) = begin(operation, duty) {
            self.shared.push(shard, task);
        }
        Ok(id)
    }

    /// An operation as a future, for any executor. It begins when it is first polled. Dropped before
    /// its turn has come, it is [cancelled](Self::cancel); dropped later, it goes on to its end.
    /// Where `depth` operations are under way it completes as `Busy`, with the memory handed back.
    ///
    /// The future may outlive the queue: what has not begun then completes as `Closed`.
    pub fn run(&self, operation: Operation) -> impl Future<Output = Completion> + Send + use<> {
        future::run(self.shared.clone(), operation)
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
        let Shared { core, completions, .. } = &*self.shared;
        let deadline = timeout.map(|timeout| core.runtime.now().after(timeout));
        let min = min.min(max);
        if let Some(count) = completions.take_if(min, max, into) {
            return self.taken(count);
        }
        let _waiter = Waiter::new(completions, min);
        let count = loop {
            let changed = completions.changed();
            if let Some(count) = completions.take_if(min, max, into) {
                break count;
            }
            if deadline.is_some_and(|deadline| core.runtime.now() >= deadline) {
                break completions.take(max, into);
            }
            if self.shared.drive(Wait::Until(deadline)) {
                continue;
            }
            match deadline {
                Some(deadline) => drop(core.runtime.block_on_until(deadline, changed)),
                None => core.runtime.block_on(changed),
            }
        };
        // Who waits yet may have to look after the ring from now on.
        completions.stir(1);
        self.taken(count)
    }

    /// [`wait`](Self::wait), asynchronous, for the simulator. Given up, it has taken nothing.
    #[doc(hidden)]
    pub async fn wait_async(&self, min: usize, max: usize, into: &mut Vec<Completion>) -> usize {
        // Nobody would look after a ring of the queue's: its reads would never end.
        let may_have_ring = self.shared.core.rings_for_callers.load(Ordering::Relaxed);
        assert!(!may_have_ring, "the queue may have a ring of its own: call `wait`");
        let count = self.shared.completions.wait(min.min(max), max, into).await;
        self.taken(count)
    }

    /// Takes at most `max` completions without waiting. Returns how many. There may be more: cold gets
    /// complete a few at a time, so that others can be submitted meanwhile.
    pub fn take(&self, max: usize, into: &mut Vec<Completion>) -> usize {
        self.shared.drive(Wait::No);
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
        self.shared.cancel(id);
    }
}

impl Shared {
    /// The queue's own ring, if it has one by now.
    fn direct(&self) -> Option<&Direct> {
        self.direct.get().and_then(Option::as_ref)
    }

    /// Starts a get in the queue's own ring, or hands it back.
    fn start_direct(
        self: &Arc<Self>,
        operation: Operation,
        duty: Duty,
    ) -> Option<(Operation, Duty)> {
        let is_get = matches!(operation.action, Action::Get | Action::GetAt(_));
        // A future has nobody who looks after the ring.
        if !is_get || duty.reply.is_some() {
            return Some((operation, duty));
        }
        match self.direct.get_or_init(|| Direct::new(&self.core, self.depth)) {
            Some(direct) => {
                let back = direct.start(&self.core, operation, duty);
                if back.is_none() {
                    // Somebody who waits elsewhere has to look after the ring.
                    self.completions.stir(0);
                }
                back
            }
            None => Some((operation, duty)),
        }
    }

    /// Looks after the queue's own ring. False if there is nothing to look after, or another thread
    /// does.
    fn drive(&self, wait: Wait) -> bool {
        let Some(for_shards) = self.direct().and_then(|direct| direct.drive(&self.core, wait))
        else {
            return false;
        };
        for (operation, duty) in for_shards {
            let (shard, task) = on_shard(&self.core, operation, duty);
            self.push(shard, task);
        }
        self.wake();
        true
    }

    fn push(&self, shard: usize, task: Request) {
        self.core.runtime.block_on(self.core.shards[shard].push(task));
    }

    /// Counts one more operation, if there is room for it. A [`duty`](Self::duty) must follow.
    pub(super) fn enter(&self) -> Result<()> {
        if self.outstanding.fetch_add(1, Ordering::AcqRel) >= self.depth {
            self.outstanding.fetch_sub(1, Ordering::AcqRel);
            fail!(Busy, "{} operations are under way; take completions", self.depth);
        }
        // Who drops the queue sets the flag, then waits for all that are counted here.
        self.completions.begin();
        if self.dropped.load(Ordering::SeqCst) {
            self.leave();
            fail!(Closed, "the queue was dropped before the operation began");
        }
        Ok(())
    }

    /// One that goes to no waiter has ended.
    fn leave(&self) {
        self.outstanding.fetch_sub(1, Ordering::AcqRel);
        self.completions.end_elsewhere();
        self.wake();
    }

    /// The duty to complete an operation that was let in.
    pub(super) fn duty(
        self: &Arc<Self>,
        operation: &Operation,
        reply: Option<Sender<Completion>>,
    ) -> Duty {
        let id = OpId(self.next_id.fetch_add(1, Ordering::Relaxed));
        let (shared, user_data) = (self.clone(), operation.user_data);
        Duty { shared, id, user_data, waits_for_turn: false, done: false, reply }
    }

    pub(super) fn cancel(&self, id: OpId) {
        if let Some(cancelled) = self.waiting.lock().get_mut(&id) {
            *cancelled = true;
        }
    }
}

/// Does what can be done at once.
pub(super) fn begin(mut operation: Operation, duty: Duty) -> Begun {
    let core = duty.shared.core.clone();
    if !Arc::ptr_eq(&core, operation.bucket.core()) {
        let message = "the bucket is of another store than the queue";
        let error = Error::new(ErrorKind::InvalidArgument, message);
        duty.complete(operation.memory, Err(error));
        return Begun::Ended;
    }
    if let Some(result) = serve::at_once(&mut operation) {
        duty.complete(operation.memory, result);
        return Begun::Ended;
    }
    if core.shards.is_empty() {
        // Without devices there is nothing to wait for but other callers.
        let result = core.runtime.block_on(serve::run(&mut operation, Reader::Caller));
        duty.complete(operation.memory, result);
        return Begun::Ended;
    }
    let shared = duty.shared.clone();
    let Some((operation, duty)) = shared.start_direct(operation, duty) else {
        return Begun::Ended;
    };
    let (shard, task) = on_shard(&core, operation, duty);
    Begun::OnShard(shard, task)
}

/// The shard for an operation, and what it is to do.
fn on_shard(core: &Core, operation: Operation, mut duty: Duty) -> (usize, Request) {
    let shard = core.shard_of(core.index.hash(operation.bucket.id(), &operation.key));
    duty.wait_for_turn();
    let task = move |context| serve_boxed(context, operation, duty);
    (shard, Request::Run(Box::new(task)))
}

fn serve_boxed(
    context: Rc<ShardContext>,
    operation: Operation,
    duty: Duty,
) -> LocalFuture<'static, ()> {
    Box::pin(serve::serve(context, operation, duty))
}

impl Drop for Queue {
    /// The memory of operations under way is in use until they end.
    fn drop(&mut self) {
        self.shared.dropped.store(true, Ordering::SeqCst);
        while self.shared.drive(Wait::Until(None)) {}
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

    /// Ends the operation. Whoever calls it owes a wake of those who wait.
    pub(super) fn complete_unannounced(mut self, memory: OpMemory, result: Result<Done>) {
        self.deliver(memory, result);
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
        let Some(reply) = self.reply.take() else { return self.shared.completions.end(completion) };
        self.shared.outstanding.fetch_sub(1, Ordering::AcqRel);
        reply.send(completion);
        self.shared.completions.end_elsewhere();
    }
}

impl Wakes for Shared {
    fn wake(&self) {
        // Before the look at who waits: what ends after it is for the next wake.
        self.will_wake.store(false, Ordering::SeqCst);
        if self.completions.wake()
            && let Some(direct) = self.direct()
        {
            direct.ring_bell();
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
    fn a_future_dropped_before_its_turn_leaves_no_trace() {
        let sim = SimStore::new(1, config(1));
        let bucket = sim.bucket("b");
        let queue = sim.store.queue(8).unwrap();
        let mut dropped = Box::pin(queue.run(Operation::put(&bucket, b"a", vec![1; 9])));
        assert!(poll(&mut dropped).is_pending());
        drop(dropped);
        let kept = sim.wait(queue.run(Operation::put(&bucket, b"b", vec![1; 9])));
        assert!(kept.result.is_ok());
        assert!(bucket.exists(b"b").unwrap() && !bucket.exists(b"a").unwrap());
        assert_eq!(queue.outstanding(), 0);
        assert!(queue.shared.waiting.lock().is_empty());
        drop(queue);
        sim.store.close().unwrap();
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
