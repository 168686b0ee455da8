//! The durable watermark W: flushes that were issued later cover every batch up to W and all the
//! data they name, on every device.
//!
//! One flush runs at a time; whoever wants durability meanwhile is covered by the next. A failed
//! flush is never retried: the engine takes no more changes until it is reopened.

use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::error::{ErrorKind, Result};
use crate::io::wait::first;
use crate::limits::UNFLUSHED_MAX;
use crate::plant::{Plant, planted};
use crate::shard::io::all;
use crate::shard::log_owner::LogOwner;
use crate::shard::poison_on_error;
use crate::types::{BatchSeq, Durability};

/// After this long without a batch, a durable end of the log gets a marker that names it.
const MARKER_DELAY: Duration = Duration::from_millis(10);
/// A stopping owner looks this often whether all is done.
const STOP_POLL: Duration = Duration::from_millis(1);

/// Starts the flush task.
pub fn start(owner: &Rc<LogOwner>) {
    let owner = owner.clone();
    owner.context.clone().spawner.spawn(Box::pin(async move {
        loop {
            let stirred = owner.stirred.ticket();
            if let Some(error) = owner.core().poisoned().cloned() {
                owner.fail_queue(&error);
                owner.checkpointer.answer(Some(&error));
                owner.refuse_mending(&error);
            } else if owner.mend_superblock().await {
                continue;
            } else if owner.checkpointer.is_due(&owner) {
                match owner.checkpoint_step().await {
                    // The next step tries again; until then the log keeps what it has.
                    Err(error) if error.kind() == ErrorKind::NoSpace => {
                        owner.core().counters.note(error.to_string());
                        owner.core().organizer.kick();
                    }
                    result => {
                        poison_on_error(owner.core(), "a checkpoint failed", result);
                    }
                }
                owner.checkpointer.answer(None);
                continue;
            } else if is_wanted(&owner) {
                let result = flush_all(&owner).await;
                if poison_on_error(owner.core(), "a flush failed", result) {
                    reclaim(&owner);
                }
                continue;
            }
            if owner.context.is_stopping() {
                if owner.is_quiet() {
                    owner.stirred.wake_all();
                    return;
                }
                first(stirred, owner.context.io.sleep(STOP_POLL)).await;
            } else {
                stirred.await;
            }
        }
    }));
}

fn is_wanted(owner: &LogOwner) -> bool {
    !owner.unflushed_acks.borrow().is_empty()
        || owner.core().unflushed_bytes() > UNFLUSHED_MAX / 2
        || owner.reclaim_wanted.get()
}

/// Flushes every device with unflushed writes, then raises W and sends what waited for it.
pub(super) async fn flush_all(owner: &Rc<LogOwner>) -> Result<()> {
    owner.reclaim_wanted.set(false);
    let target = owner.applied.get();
    owner.flushing.set(target);
    let core = owner.core();
    let dirty: Vec<_> = core
        .space
        .tiers()
        .iter()
        .map(|tier| (tier, tier.counters.unflushed_bytes.load(Ordering::Acquire)))
        .filter(|(_, bytes)| *bytes > 0)
        .collect();
    let wanted = dirty.iter().filter(|_| !planted(Plant::FlushSkipped));
    let flushes = wanted.map(|(tier, _)| owner.context.io.flush(tier.id)).collect();
    all(flushes).await.into_iter().collect::<Result<Vec<()>>>()?;
    for (tier, bytes) in dirty {
        // What was written during the flush stays counted.
        tier.counters.unflushed_bytes.fetch_sub(bytes, Ordering::AcqRel);
        if planted(Plant::FlushForgetsWrites) {
            tier.counters.unflushed_bytes.store(0, Ordering::Release);
        }
    }
    let late = planted(Plant::FlushCoversLater);
    owner.raise_watermark(if late { owner.applied.get() } else { target });
    // Also if W has not risen: somebody may wait for room to write unflushed bytes.
    core.log.flushed.wake_all();
    acknowledge(owner, owner.core().log.watermark());
    Ok(())
}

fn acknowledge(owner: &Rc<LogOwner>, flushed: BatchSeq) {
    let mut any = false;
    loop {
        let ack = {
            let mut acks = owner.unflushed_acks.borrow_mut();
            match acks.front() {
                Some((seq, _)) if *seq <= flushed => acks.pop_front(),
                _ => None,
            }
        };
        let Some((_, ack)) = ack else { break };
        ack.send(owner.core(), &owner.wakes);
        any = true;
    }
    if any {
        arm_marker(owner);
    }
}

/// Frees segments. They may be reused only if recovery would find a W that covers their death:
/// a W that merely stands in memory would let it verify records against overwritten bytes.
pub(super) fn reclaim(owner: &Rc<LogOwner>) {
    let core = owner.core();
    let unnamed = planted(Plant::ReuseBeforeNamed);
    let named = if unnamed { core.log.watermark() } else { owner.named_watermark.get() };
    let freed = core.space.reclaim(named);
    let asked = owner.reclaim_asked.replace(false);
    if asked && freed.is_empty() && core.space.would_reclaim(core.log.watermark()) {
        // A durable batch that names W; once it is flushed we come back here.
        owner.queue_marker(Durability::Durable);
        owner.reclaim_asked.set(true);
    }
    owner.queue_segments_freed(freed);
    core.shards[owner.context.number].ring();
}

/// Once the log has been idle for a while after something durable, a marker names W, so that rot
/// in the last batch is not taken for a torn tail.
pub(super) fn arm_marker(owner: &Rc<LogOwner>) {
    if owner.marker_armed.replace(true) || owner.context.is_stopping() {
        return;
    }
    let owner = owner.clone();
    owner.context.clone().spawner.spawn(Box::pin(async move {
        loop {
            let before = owner.tail.borrow().last_seq();
            owner.context.io.sleep(MARKER_DELAY).await;
            if owner.tail.borrow().last_seq() == before || owner.context.is_stopping() {
                break;
            }
        }
        owner.marker_armed.set(false);
        if owner.named_in_log() < owner.core().log.watermark() {
            owner.queue_marker(Durability::Written);
            owner.core().shards[owner.context.number].ring();
        }
    }));
}
