//! What becomes of batches: applied and acknowledged in order once they are written, or failed; and
//! how W rises.

use std::rc::Rc;

use crate::error::{Error, ErrorKind};
use crate::log::record::Record;
use crate::plant::{Plant, planted};
use crate::shard::apply;
use crate::shard::log_owner::{Effect, Flight, LogOwner};
use crate::shard::{flush, poison_on_error};
use crate::types::{BatchSeq, Durability};

impl LogOwner {
    /// Whether the oldest batch in flight has been written.
    pub(super) fn has_landed(&self) -> bool {
        let flights = self.flights.borrow();
        let any = || flights.iter().any(|flight| flight.written.is_some());
        flights.front().is_some_and(|flight| flight.written.is_some())
            || planted(Plant::LandedOutOfOrder) && any()
    }

    /// Applies and acknowledges, in order, the batches whose writes are done.
    pub(super) fn land(self: &Rc<Self>) {
        loop {
            let flight = {
                let mut flights = self.flights.borrow_mut();
                if planted(Plant::LandedOutOfOrder) {
                    flights.make_contiguous().sort_by_key(|flight| flight.written.is_none());
                }
                match flights.front() {
                    Some(flight) if flight.written.is_some() => flights.pop_front(),
                    _ => None,
                }
            };
            let Some(flight) = flight else { break };
            match &flight.written {
                // A batch after one that failed is beyond the log's end: recovery will not see it.
                Some(Ok(())) if self.core().poisoned().is_none() => self.apply(flight),
                Some(Ok(())) => self.fail_flight(flight),
                Some(Err(error)) => {
                    let error = error.clone();
                    if !planted(Plant::LogErrorForgotten) {
                        poison_on_error(self.core(), "a log write failed", Err(error));
                    }
                    self.fail_flight(flight);
                }
                None => break,
            }
        }
        self.tell_if_stopping();
    }

    /// Tasks that end when nothing is left to do look again.
    fn tell_if_stopping(&self) {
        if self.context.is_stopping() {
            self.stirred.wake_all();
        }
    }

    fn fail_flight(&self, flight: Flight) {
        let unknown = || Error::new(ErrorKind::DeviceFailed, "the log failed");
        let reason = self.core().poisoned().cloned().unwrap_or_else(unknown);
        for (effect, _) in flight.items {
            self.forget(&effect);
            apply::fail(self.core(), effect, &reason);
        }
    }

    fn apply(self: &Rc<Self>, flight: Flight) {
        let core = self.core();
        core.space.set_applied(flight.seq);
        let mut acks = Vec::with_capacity(flight.items.len());
        for (effect, level) in flight.items {
            self.forget(&effect);
            acks.push((apply::apply(core, effect), level));
        }
        self.applied.set(flight.seq);
        self.checkpointer.count_records(acks.len());
        if flight.dsync {
            self.self_durable.borrow_mut().push_back(flight.seq);
            self.raise_watermark(core.log.watermark());
        }
        let flushed = core.log.watermark() >= flight.seq || planted(Plant::DurableBeforeFlush);
        if planted(Plant::ReuseBeforeFlush) {
            flush::reclaim(self);
        }
        if flushed && self.reclaim_asked.get() {
            self.reclaim_wanted.set(true);
            self.stirred.wake_all();
        }
        // Acknowledgements follow the order of the batches: what is visible is never newer than
        // what is not. Somebody who waits for a flush keeps nobody else waiting.
        let overtakes = self.unflushed_acks.borrow().iter().any(|(_, ack)| ack.is_change());
        for (ack, level) in acks {
            if flushed || (level < Durability::Durable && !overtakes) {
                ack.send(core, &self.wakes);
            } else {
                self.unflushed_acks.borrow_mut().push_back((flight.seq, ack));
            }
        }
        if flushed {
            flush::arm_marker(self);
        } else if !self.unflushed_acks.borrow().is_empty() {
            self.stirred.wake_all();
        }
        if self.checkpointer.is_due(self) {
            self.stirred.wake_all();
        }
    }

    /// The record is applied: the index knows what the owner kept for it.
    pub(super) fn forget(&self, effect: &Effect) {
        for commit in effect.commits() {
            let key = (commit.bucket, commit.key.clone());
            let mut appended = self.appended.borrow_mut();
            if appended.get(&key) == Some(&commit.version) {
                appended.remove(&key);
            }
        }
        if let Effect::Bucket(Record::BucketClear { bucket, .. }, ..) = effect {
            self.clearing.borrow_mut().remove(bucket);
        }
        if let Effect::Move(request) = effect {
            self.moving.borrow_mut().remove(&apply::subject_id(&request.subject));
        }
    }

    /// Raises W, and with it what recovery would find named: to a batch that flushes cover with
    /// all its predecessors, and on over the batches behind it whose own writes were durable.
    /// These name nothing outside themselves that their predecessors have not named.
    pub(super) fn raise_watermark(&self, to: BatchSeq) {
        let mut to = to.max(self.core().log.watermark());
        {
            let mut behind = self.self_durable.borrow_mut();
            let any = planted(Plant::SelfDurableCoversOthers);
            while let Some(seq) = behind.front().copied().filter(|seq| any || *seq <= to.next()) {
                to = to.max(seq);
                behind.pop_front();
            }
        }
        // A flush that began with nothing to cover ends after a batch whose own write was durable.
        if to <= self.core().log.watermark() {
            return;
        }
        self.core().log.raise_watermark(to);
        let mut names = self.names.borrow_mut();
        while names.front().is_some_and(|(seq, _)| *seq <= to) {
            if let Some((_, named)) = names.pop_front() {
                self.named_watermark.set(self.named_watermark.get().max(named));
            }
        }
    }

    /// The newest W that any batch names.
    pub(super) fn named_in_log(&self) -> BatchSeq {
        self.names.borrow().back().map_or(self.named_watermark.get(), |(_, named)| *named)
    }

    /// After the engine has been poisoned: everybody who waits is told.
    /// Returns whether anybody did.
    pub(super) fn fail_queue(&self, error: &Error) -> bool {
        let any = !self.queue.borrow().is_empty()
            || !self.held.borrow().is_empty()
            || !self.unflushed_acks.borrow().is_empty();
        self.release_held();
        for item in std::mem::take(&mut *self.queue.borrow_mut()) {
            self.forget(&item.effect);
            apply::fail(self.core(), item.effect, error);
        }
        for (_, ack) in std::mem::take(&mut *self.unflushed_acks.borrow_mut()) {
            ack.fail(self.core(), error);
        }
        if any {
            self.tell_if_stopping();
        }
        any
    }
}
