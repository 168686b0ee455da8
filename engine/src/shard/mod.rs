//! A shard: one thread, one ring, one mailbox, small asynchronous state machines.
//!
//! * [`write`]: appends buffers to the shard's open segments. [`read`]: many device reads at once.
//! * [`behind`]: writes Memory puts behind.
//! * On shard 0, the log's owner: [`log_owner`] (what is asked of it), `order` (what holds),
//!   `batching` (on the way to the device), [`pacing`] (group commit), `landing` (in order back),
//!   [`ahead`] (the next segment), [`apply`] (what a logged record does to index and DRAM),
//!   [`flush`] (the durable watermark), [`checkpoint`],
//!   [`copies`] of checkpoints.
//!
//! Order of a turn: take requests, run ready tasks, start a batch, apply what has been written,
//! submit and reap, sleep if nothing is left.

pub mod ahead;
pub mod apply;
mod batching;
pub mod behind;
pub mod checkpoint;
pub mod copies;
pub mod flush;
pub mod io;
mod landing;
pub mod log_owner;
mod mending;
mod order;
pub mod pacing;
pub mod read;
pub mod write;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use crate::core::{Core, Request};
use crate::error::{Error, ErrorKind, Result};
use crate::io::runtime::{Actor, Turn};
use crate::io::tasks::{Spawner, TaskSet};
use crate::io::{IoDone, Ring, Wait};
use crate::log::tail::LogTail;
use crate::shard::io::ShardIo;
use crate::shard::log_owner::LogOwner;
use crate::shard::write::ValueWriter;
use crate::types::Uuid;

/// Requests taken per turn: enough to coalesce, few enough to reap in between.
const REQUESTS_PER_TURN: usize = 128;

/// What the shards of a store need to start.
pub struct ShardSeed {
    /// The shard's number.
    pub number: usize,
    /// The devices' identities, by tier.
    pub devices: Arc<[Uuid]>,
    /// The log's end and the checkpoints, for the shard that owns the log.
    pub log: Option<LogSeed>,
}

/// What the log's owner continues from.
pub struct LogSeed {
    /// Where the next batch goes.
    pub tail: LogTail,
    /// The superblocks as last written; none of a lost tier.
    pub superblocks: Vec<Option<crate::log::superblock::Superblock>>,
    /// The devices' identities, by tier.
    pub devices: Arc<[Uuid]>,
    /// The partitions of the last two roots.
    pub checkpoints: checkpoint::CheckpointSeed,
}

/// What the tasks of one shard share.
pub struct ShardContext {
    /// The store.
    pub core: Arc<Core>,
    /// The ring.
    pub io: Rc<ShardIo>,
    /// Starts tasks.
    pub spawner: Spawner,
    /// The shard's number.
    pub number: usize,
    stopping: Cell<bool>,
    wakes: RefCell<Vec<Arc<dyn Wakes>>>,
}

/// Somebody who waits for several things that a shard does.
pub trait Wakes: Send + Sync {
    /// Wakes whoever has got enough.
    fn wake(&self);
}

impl ShardContext {
    /// Whether the shard has been asked to end.
    pub fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    /// Wakes somebody at the end of this turn: once for all that the turn does, not for each.
    pub fn wake_later(&self, whom: Arc<dyn Wakes>) {
        self.wakes.borrow_mut().push(whom);
    }

    fn wake_now(&self) {
        let wakes = std::mem::take(&mut *self.wakes.borrow_mut());
        wakes.iter().for_each(|whom| whom.wake());
    }
}

/// The actor.
pub struct Shard {
    context: Rc<ShardContext>,
    tasks: TaskSet,
    writer: Rc<ValueWriter>,
    log: Option<Rc<LogOwner>>,
    requests: Vec<Request>,
    done: Vec<IoDone>,
}

impl Shard {
    /// Starts a shard on this thread.
    pub fn start(core: Arc<Core>, ring: Box<dyn Ring>, seed: ShardSeed) -> Shard {
        let bell = ring.doorbell();
        core.shards[seed.number].connect(bell.clone());
        let tasks = TaskSet::new(bell);
        let context = Rc::new(ShardContext {
            io: ShardIo::new(core.clone(), ring),
            core,
            spawner: tasks.spawner(),
            number: seed.number,
            stopping: Cell::new(false),
            wakes: RefCell::default(),
        });
        let writer = Rc::new(ValueWriter::new(context.clone(), &seed.devices));
        let log = seed.log.map(|log| LogOwner::start(context.clone(), log));
        behind::start(&context, &writer);
        Shard { context, tasks, writer, log, requests: Vec::new(), done: Vec::new() }
    }

    fn take_requests(&mut self) -> bool {
        self.context.core.shards[self.context.number].drain(REQUESTS_PER_TURN, &mut self.requests);
        let any = !self.requests.is_empty();
        for request in std::mem::take(&mut self.requests) {
            self.handle(request);
        }
        any
    }

    fn handle(&mut self, request: Request) {
        let context = self.context.clone();
        match (request, &self.log) {
            (Request::Write(request), _) => {
                let writer = self.writer.clone();
                context.spawner.spawn(Box::pin(async move { writer.serve(request).await }));
            }
            (Request::Read(request), _) => {
                let io = context.io.clone();
                context.spawner.spawn(Box::pin(async move { read::serve(&io, request).await }));
            }
            (Request::Run(task), _) => context.spawner.spawn(task(context.clone())),
            (Request::WriteBehind(reply), _) => behind::write_all(&context, reply),
            (Request::Commit(commit, level, reply), Some(log)) => {
                log.queue_commit(commit, level, reply);
            }
            (Request::Group(group), Some(log)) => log.queue_group(*group),
            (Request::Page(commit), Some(log)) => log.queue_page(*commit),
            (Request::Release(request), Some(log)) => log.queue_release(request),
            (Request::Move(request), Some(log)) => log.queue_move(request),
            (Request::Bucket(record, whole, reply), Some(log)) => {
                log.queue_bucket(record, whole, reply);
            }
            (Request::SegmentOpened(at, generation, kind), Some(log)) => {
                log.queue_segment_opened(at, generation, kind);
            }
            (Request::Flush(reply), Some(log)) => log.flush(reply),
            (Request::Reclaim, Some(log)) => log.reclaim_soon(),
            (Request::MakeRoom, Some(log)) => log.ask_everybody_for_room(),
            (Request::Trim(reply), Some(log)) => log.trim(reply),
            (Request::Mend(mend, reply), Some(log)) => log.mend(mend, reply),
            (Request::SealOpen, _) => self.writer.seal_all(),
            (Request::SealIdle, _) => self.writer.seal_idle(),
            (Request::Stop, _) => {
                context.stopping.set(true);
                self.context.core.dirty[context.number].wake();
                self.writer.seal_all();
                if let Some(log) = &self.log {
                    log.stop();
                }
            }
            (_, None) => unreachable!("a log request reached a shard that does not own the log"),
        }
    }

    fn is_finished(&self) -> bool {
        self.context.is_stopping()
            && self.tasks.is_empty()
            && self.context.io.in_flight() == 0
            && self.context.core.shards[self.context.number].is_empty()
    }
}

impl Drop for Shard {
    /// A shard that ends, by a panic above all, answers everybody who waits for it or comes later.
    fn drop(&mut self) {
        let core = &self.context.core;
        if std::thread::panicking() {
            core.poison(Error::new(
                ErrorKind::Internal,
                "a shard met a breach of the engine's invariants; reopen the store",
            ));
        }
        core.shards[self.context.number].close();
        core.dirty[self.context.number].abandon(core.poisoned());
        if let Some(log) = &self.log {
            log.wake_everybody();
        }
    }
}

impl Actor for Shard {
    fn turn(&mut self, may_sleep: bool) -> Turn {
        let mut progress = self.take_requests();
        progress |= self.tasks.run();
        if let Some(log) = &self.log {
            progress |= log.pump();
            progress |= self.tasks.run();
            if log.has_landed() {
                // The device has the next batch before the last one is applied.
                self.context.io.turn(Wait::No, &mut self.done);
                log.land();
                progress = true;
            }
            progress |= log.wake_some();
        }
        self.context.wake_now();
        if self.is_finished() {
            return Turn::Finished;
        }
        let mailbox = &self.context.core.shards[self.context.number];
        // In the simulator every request wakes: it may take other orders.
        let ring_at = if may_sleep { self.log.as_ref().map_or(1, |log| log.ring_at()) } else { 1 };
        let busy = progress || self.tasks.has_ready() || !mailbox.may_sleep(ring_at);
        let until = self.context.io.next_timer();
        let wait = if busy || !may_sleep { Wait::No } else { Wait::Until(until) };
        progress |= self.context.io.turn(wait, &mut self.done);
        if progress || self.tasks.has_ready() || (may_sleep && !busy) {
            return Turn::Progress;
        }
        Turn::Idle(until)
    }
}

/// Logs a fatal error once and stops the engine.
pub fn poison_on_error(core: &Core, what: &str, result: Result<()>) -> bool {
    if let Err(error) = result {
        let message = format!(
            "{what}: {}; the store takes no more changes until it is reopened",
            error.message()
        );
        core.poison(Error::new(ErrorKind::DeviceFailed, message));
        return false;
    }
    true
}
