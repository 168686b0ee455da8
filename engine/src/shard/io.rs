//! The shard's side of its ring: operations as futures, and timers.
//!
//! The buffer of an operation belongs to the ring until it is done; a future that is dropped
//! leaves it there, and the completion finds nobody and returns the buffer to its pool.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::core::Core;
use crate::error::{Error, ErrorKind, Result};
use crate::io::buffer::AlignedBuf;
use crate::io::runtime::Nanos;
use crate::io::timers::{Sleep, Timers};
use crate::io::wait::WaitList;
use crate::io::{IoDone, IoOp, Ring, Token, Wait};
use crate::plant::{Plant, planted};
use crate::shard::poison_on_error;
use crate::types::TierId;

enum Slot {
    Waiting(Option<Waker>),
    Done(Option<AlignedBuf>, io::Result<()>),
}

/// Operations and timers of one shard.
pub struct ShardIo {
    core: Arc<Core>,
    ring: RefCell<Box<dyn Ring>>,
    slots: RefCell<HashMap<Token, Slot>>,
    next_token: RefCell<u64>,
    timers: Timers,
    /// Flushes and durable writes under way.
    syncs: RefCell<BTreeSet<Token>>,
    sync_ended: WaitList,
}

impl ShardIo {
    /// Over a ring made on this thread.
    pub fn new(core: Arc<Core>, ring: Box<dyn Ring>) -> Rc<ShardIo> {
        Rc::new(ShardIo {
            timers: Timers::new(core.runtime.clone()),
            core,
            ring: RefCell::new(ring),
            slots: RefCell::default(),
            next_token: RefCell::new(0),
            syncs: RefCell::default(),
            sync_ended: WaitList::default(),
        })
    }

    /// Reads exactly `len` bytes into `buf`, all multiples of the block.
    pub async fn read(
        &self,
        tier: TierId,
        offset: u64,
        len: usize,
        buf: AlignedBuf,
    ) -> Result<AlignedBuf> {
        self.core.space.tier(tier).check_there()?;
        let start = self.core.runtime.now();
        let op = IoOp::Read { tier, offset, len, buf };
        let (buf, result) = self.run(op).await;
        self.core.space.tier(tier).counters.count_read(len);
        self.core.counters.device_read.record(self.core.runtime.now().since(start));
        self.finish(buf, result, format_args!("read of {len} bytes at {offset} of tier {}", tier.0))
    }

    /// Writes `buf[..len]` whole. Not flushed, unless `dsync`, which covers this write alone.
    pub async fn write(
        &self,
        tier: TierId,
        offset: u64,
        len: usize,
        buf: AlignedBuf,
        dsync: bool,
    ) -> Result<AlignedBuf> {
        self.core.space.tier(tier).check_there()?;
        let start = self.core.runtime.now();
        let operation = self.run(IoOp::Write { tier, offset, len, buf, dsync });
        let _sync = dsync.then(|| self.begin_sync(operation.token));
        let (buf, result) = operation.await;
        let counters = &self.core.space.tier(tier).counters;
        counters.count_write(len);
        self.core.counters.device_write.record(self.core.runtime.now().since(start));
        let what = format_args!("write of {len} bytes at {offset} of tier {}", tier.0);
        if dsync {
            counters.unflushed_bytes.fetch_sub(len as u64, Ordering::AcqRel);
            self.latch(what, &result)?;
        }
        self.finish(buf, result, what)
    }

    /// Writes bytes that are not in an aligned buffer yet.
    pub async fn write_bytes(&self, tier: TierId, offset: u64, bytes: &[u8]) -> Result<()> {
        let mut buf = self.memory(bytes.len());
        buf.as_mut_slice()[..bytes.len()].copy_from_slice(bytes);
        self.write(tier, offset, bytes.len(), buf, false).await.map(drop)
    }

    /// Memory for the engine's own bookkeeping. It never waits for the pool: puts that hold the
    /// pool may wait for what is being written here.
    pub fn memory(&self, len: usize) -> AlignedBuf {
        self.core.pool.try_get(len).unwrap_or_else(|| AlignedBuf::alloc(len))
    }

    /// Flushes a device: covers every write done before this call.
    pub async fn flush(&self, tier: TierId) -> Result<()> {
        self.core.check_poison()?;
        let start = self.core.runtime.now();
        let operation = self.run(IoOp::Flush { tier });
        let sync = self.begin_sync(operation.token);
        let (_, result) = operation.await;
        self.core.space.tier(tier).counters.flushes.fetch_add(1, Ordering::Relaxed);
        self.core.counters.device_flush.record(self.core.runtime.now().since(start));
        self.latch(format_args!("flush of tier {}", tier.0), &result)?;
        drop(sync);
        self.syncs_settled().await
    }

    /// The kernel tells a lost write to one of several who sync the same file: a flush is believed
    /// when those that were under way beside it have succeeded too.
    async fn syncs_settled(&self) -> Result<()> {
        let newest = Token(*self.next_token.borrow());
        loop {
            let ended = self.sync_ended.ticket();
            self.core.check_poison()?;
            if self.syncs.borrow().first().is_none_or(|oldest| *oldest >= newest) {
                return Ok(());
            }
            ended.await;
        }
    }

    fn begin_sync(&self, token: Token) -> Sync<'_> {
        self.syncs.borrow_mut().insert(token);
        Sync { io: self, token }
    }

    /// A failed flush stops all changes before anybody hears of it. It is never repeated: the next
    /// one would succeed, and cover nothing of what this one has lost.
    fn latch(&self, what: std::fmt::Arguments<'_>, result: &io::Result<()>) -> Result<()> {
        let Err(error) = result else { return Ok(()) };
        if planted(Plant::FlushErrorIgnored) {
            return Ok(());
        }
        let error = Error::from_failed_flush(what, error);
        poison_on_error(&self.core, "a flush failed", Err(error.clone()));
        Err(error)
    }

    /// Continues after this long.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        self.timers.sleep_until(self.core.runtime.now().after(duration))
    }

    /// The earliest timer.
    pub fn next_timer(&self) -> Option<Nanos> {
        self.timers.next()
    }

    /// Operations under way.
    pub fn in_flight(&self) -> usize {
        self.ring.borrow().in_flight()
    }

    /// Submits, waits as allowed, and wakes the tasks whose operations or timers are due.
    /// Returns whether there were any.
    pub fn turn(&self, wait: Wait, done: &mut Vec<IoDone>) -> bool {
        self.ring.borrow_mut().turn(wait, done);
        self.poison_if_broken();
        let any = !done.is_empty();
        for IoDone { token, buf, result } in done.drain(..) {
            let slot = self
                .slots
                .borrow_mut()
                .get_mut(&token)
                .map(|slot| std::mem::replace(slot, Slot::Done(buf, result)));
            if let Some(Slot::Waiting(Some(waker))) = slot {
                waker.wake();
            }
        }
        self.timers.fire() || any
    }

    /// Without its ring the shard can do nothing more. Before anybody hears of what failed with it:
    /// this is the reason to tell.
    fn poison_if_broken(&self) {
        let ring = self.ring.borrow();
        let Some(why) = ring.broken() else { return };
        let message = format!(
            "a shard's ring failed: {why}; reopen the store, with io = \"threads\" if it fails again"
        );
        self.core.poison(Error::new(ErrorKind::DeviceFailed, message));
    }

    fn finish(
        &self,
        buf: Option<AlignedBuf>,
        result: io::Result<()>,
        what: std::fmt::Arguments<'_>,
    ) -> Result<AlignedBuf> {
        match (buf, result) {
            (Some(buf), Ok(())) => Ok(buf),
            (_, Err(error)) => Err(Error::from_io(what, &error)),
            (None, Ok(())) => unreachable!("{what} lost its buffer"),
        }
    }

    fn run(&self, op: IoOp) -> Operation<'_> {
        let token = Token(self.next_token.replace_with(|last| *last + 1));
        self.slots.borrow_mut().insert(token, Slot::Waiting(None));
        self.ring.borrow_mut().push(token, op);
        Operation { io: self, token }
    }
}

/// A flush or a durable write under way.
struct Sync<'a> {
    io: &'a ShardIo,
    token: Token,
}

impl Drop for Sync<'_> {
    fn drop(&mut self) {
        self.io.syncs.borrow_mut().remove(&self.token);
        self.io.sync_ended.wake_all();
    }
}

struct Operation<'a> {
    io: &'a ShardIo,
    token: Token,
}

impl Future for Operation<'_> {
    type Output = (Option<AlignedBuf>, io::Result<()>);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut slots = self.io.slots.borrow_mut();
        match slots.remove(&self.token) {
            Some(Slot::Done(buf, result)) => Poll::Ready((buf, result)),
            _ => {
                slots.insert(self.token, Slot::Waiting(Some(cx.waker().clone())));
                Poll::Pending
            }
        }
    }
}

impl Drop for Operation<'_> {
    fn drop(&mut self) {
        self.io.slots.borrow_mut().remove(&self.token);
    }
}

/// Runs all futures at the same time; their results in order.
pub async fn all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|cx| {
        let mut pending = false;
        for (future, output) in &mut running {
            if output.is_none() {
                match future.as_mut().poll(cx) {
                    Poll::Ready(value) => *output = Some(value),
                    Poll::Pending => pending = true,
                }
            }
        }
        if pending { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    running.into_iter().filter_map(|(_, output)| output).collect()
}
