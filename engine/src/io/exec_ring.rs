//! The organizer's executor over a [`Ring`]: the plain-thread backend, and the simulator's.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::{self, Error};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::error::Result;
use crate::io::buffer::{AlignedBuf, BufferPool};
use crate::io::exec::{Body, Class, Exec, ExecCounters, LocalFuture, memory};
use crate::io::runtime::{Actor, ActorHandle, Runtime, Turn};
use crate::io::sim_ring::SimRing;
use crate::io::tasks::{Spawner, TaskSet};
use crate::io::threads::ThreadsRing;
use crate::io::timers::Timers;
use crate::io::wait::{Sender, oneshot};
use crate::io::{Devices, IoDone, IoOp, Ring, Token, Wait};
use crate::types::TierId;

/// Blocking calls that the organizer keeps going at a time.
const WORKERS_MAX: usize = 4;

/// Runs the organizer's body as an actor named `isotherm-org`: on a thread with worker threads for
/// its I/O, or as a participant of the simulation. The actor ends when the body's future does;
/// tasks that still exist then are dropped.
pub fn spawn(
    runtime: &Runtime,
    devices: Devices,
    pool: Arc<BufferPool>,
    counters: Arc<ExecCounters>,
    body: Body,
) -> Result<ActorHandle> {
    let of_actor = runtime.clone();
    let factory = move || -> Box<dyn Actor> {
        let ring: Box<dyn Ring> = match &of_actor {
            Runtime::Sim(world) => Box::new(SimRing::new(world.clone(), devices)),
            Runtime::Os(_) => Box::new(ThreadsRing::new(devices, WORKERS_MAX, of_actor.clone())),
        };
        let backend = backend(&of_actor);
        Box::new(RingActor::new(of_actor, ring, pool, counters, backend, body))
    };
    runtime.spawn("isotherm-org", Box::new(factory))
}

/// What it is called on this runtime.
pub fn backend(runtime: &Runtime) -> &'static str {
    match runtime {
        Runtime::Sim(_) => "sim",
        Runtime::Os(_) => "threads",
    }
}

/// The actor that drives the body's tasks, its ring and its timers.
struct RingActor {
    // Dropped first: the tasks' buffers are in the ring, which its drop waits for.
    tasks: TaskSet,
    exec: Rc<RingExec>,
    body_ended: Rc<Cell<bool>>,
    done: Vec<IoDone>,
}

/// What the body sees. Both classes share one queue: on one thread that does no computing to
/// speak of, the devices decide who is served first.
struct RingExec {
    runtime: Runtime,
    ring: RefCell<Box<dyn Ring>>,
    waiting: RefCell<HashMap<u64, Sender<IoDone>>>,
    next_token: Cell<u64>,
    spawner: Spawner,
    timers: Timers,
    pool: Arc<BufferPool>,
    counters: Arc<ExecCounters>,
    backend: &'static str,
}

impl RingActor {
    fn new(
        runtime: Runtime,
        ring: Box<dyn Ring>,
        pool: Arc<BufferPool>,
        counters: Arc<ExecCounters>,
        backend: &'static str,
        body: Body,
    ) -> RingActor {
        let tasks = TaskSet::new(ring.doorbell());
        let exec = Rc::new(RingExec {
            timers: Timers::new(runtime.clone()),
            runtime,
            ring: RefCell::new(ring),
            waiting: RefCell::default(),
            next_token: Cell::new(0),
            spawner: tasks.spawner(),
            pool,
            counters,
            backend,
        });
        let body_ended = Rc::new(Cell::new(false));
        let (future, ended) = (body(exec.clone()), body_ended.clone());
        tasks.spawner().spawn(Box::pin(async move {
            future.await;
            ended.set(true);
        }));
        RingActor { tasks, exec, body_ended, done: Vec::new() }
    }
}

impl Actor for RingActor {
    fn turn(&mut self, may_sleep: bool) -> Turn {
        let wait = match may_sleep && !self.tasks.has_ready() {
            true => Wait::Until(self.exec.timers.next()),
            false => Wait::No,
        };
        self.exec.ring.borrow_mut().turn(wait, &mut self.done);
        let delivered = !self.done.is_empty();
        for done in self.done.drain(..) {
            let waiter = self.exec.waiting.borrow_mut().remove(&done.token.0);
            if let Some(waiter) = waiter {
                waiter.send(done);
            }
        }
        let fired = self.exec.timers.fire();
        let ran = self.tasks.run();
        if self.body_ended.get() {
            Turn::Finished
        } else if delivered || fired || ran {
            Turn::Progress
        } else {
            Turn::Idle(self.exec.timers.next())
        }
    }
}

impl RingExec {
    async fn perform(&self, op: IoOp) -> io::Result<IoDone> {
        let token = self.next_token.get();
        self.next_token.set(token + 1);
        let (sender, receiver) = oneshot();
        self.waiting.borrow_mut().insert(token, sender);
        self.ring.borrow_mut().push(Token(token), op);
        receiver.await.map_err(|_| Error::other("the organizer's ring is gone"))
    }
}

/// The buffer of a successful transfer.
fn buffer_of(done: IoDone) -> io::Result<AlignedBuf> {
    done.result?;
    done.buf.ok_or_else(|| Error::other("a transfer came back without its buffer"))
}

impl Exec for RingExec {
    fn spawn(&self, _class: Class, task: LocalFuture<'static, ()>) {
        self.spawner.spawn(task);
    }

    fn sleep(&self, duration: Duration) -> LocalFuture<'_, ()> {
        Box::pin(self.timers.sleep_until(self.runtime.now().after(duration)))
    }

    fn yield_now(&self) -> LocalFuture<'_, ()> {
        let mut yielded = false;
        Box::pin(std::future::poll_fn(move |cx| {
            if std::mem::replace(&mut yielded, true) {
                return std::task::Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            std::task::Poll::Pending
        }))
    }

    fn read(
        &self,
        tier: TierId,
        offset: u64,
        len: usize,
    ) -> LocalFuture<'_, io::Result<AlignedBuf>> {
        Box::pin(async move {
            let buf = memory(&self.pool, len);
            let buf = buffer_of(self.perform(IoOp::Read { tier, offset, len, buf }).await?)?;
            self.counters.read_bytes.fetch_add(len as u64, Ordering::Relaxed);
            Ok(buf)
        })
    }

    fn write(
        &self,
        tier: TierId,
        offset: u64,
        len: usize,
        buf: AlignedBuf,
    ) -> LocalFuture<'_, io::Result<AlignedBuf>> {
        Box::pin(async move {
            let write = IoOp::Write { tier, offset, len, buf, dsync: false };
            let buf = buffer_of(self.perform(write).await?)?;
            self.counters.written_bytes.fetch_add(len as u64, Ordering::Relaxed);
            Ok(buf)
        })
    }

    fn flush(&self, tier: TierId) -> LocalFuture<'_, io::Result<()>> {
        Box::pin(async move {
            self.perform(IoOp::Flush { tier }).await?.result?;
            self.counters.flushes.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })
    }

    fn backend(&self) -> &'static str {
        self.backend
    }
}
