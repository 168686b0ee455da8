//! The way from a caller to a shard: a bounded queue with a doorbell.
//!
//! Full means that the caller waits; nothing is dropped. The bell is rung after every push; it
//! costs a system call only while the shard sleeps. Answers come back through
//! [`oneshot`](crate::io::wait::oneshot) cells inside the requests.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::io::Doorbell;
use crate::io::wait::WaitList;
use crate::limits::MAILBOX_LEN_MAX;

/// The queue of one shard.
pub struct Mailbox<T> {
    queue: Mutex<VecDeque<T>>,
    room: WaitList,
    closed: AtomicBool,
    /// Set once by the shard, whose ring owns the bell.
    bell: OnceLock<Arc<dyn Doorbell>>,
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        Mailbox {
            queue: Mutex::new(VecDeque::with_capacity(MAILBOX_LEN_MAX)),
            room: WaitList::default(),
            closed: AtomicBool::new(false),
            bell: OnceLock::new(),
        }
    }
}

impl<T> Mailbox<T> {
    /// The shard tells where its bell is. Requests pushed before are found by its first turn.
    pub fn connect(&self, bell: Arc<dyn Doorbell>) {
        let first = self.bell.set(bell).is_ok();
        assert!(first, "a mailbox has one shard");
    }

    /// Queues a request, or hands it back if the queue is full. Once the shard has ended the
    /// request is dropped: whoever waits for its answer finds it abandoned.
    pub fn try_push(&self, request: T) -> Result<(), T> {
        {
            let mut queue = self.queue.lock();
            if self.closed.load(Ordering::Acquire) {
                drop(queue);
                drop(request);
                return Ok(());
            }
            if queue.len() >= MAILBOX_LEN_MAX {
                return Err(request);
            }
            queue.push_back(request);
        }
        if let Some(bell) = self.bell.get() {
            bell.ring();
        }
        Ok(())
    }

    /// Queues a request, waiting while the queue is full.
    pub async fn push(&self, mut request: T) {
        loop {
            let ticket = self.room.ticket();
            match self.try_push(request) {
                Ok(()) => return,
                Err(back) => request = back,
            }
            ticket.await;
        }
    }

    /// Takes everything queued, up to `limit`. For the shard alone.
    pub fn drain(&self, limit: usize, into: &mut Vec<T>) {
        let was_full = {
            let mut queue = self.queue.lock();
            let was_full = queue.len() >= MAILBOX_LEN_MAX;
            let count = queue.len().min(limit);
            into.extend(queue.drain(..count));
            was_full
        };
        if was_full {
            self.room.wake_all();
        }
    }

    /// The shard has ended: what is queued, and what comes, is dropped.
    pub fn close(&self) {
        let dropped = {
            let mut queue = self.queue.lock();
            self.closed.store(true, Ordering::Release);
            std::mem::take(&mut *queue)
        };
        drop(dropped);
        self.room.wake_all();
    }

    /// Rings the bell without a request: something else wants the shard's attention.
    pub fn ring(&self) {
        if let Some(bell) = self.bell.get() {
            bell.ring();
        }
    }

    /// Requests queued.
    pub fn len(&self) -> usize {
        self.queue.lock().len()
    }

    /// Whether none are.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_mailbox_hands_the_request_back_and_order_is_kept() {
        let mailbox = Mailbox::default();
        for n in 0..MAILBOX_LEN_MAX {
            assert_eq!(mailbox.try_push(n), Ok(()));
        }
        assert_eq!(mailbox.try_push(9999), Err(9999));
        let mut taken = Vec::new();
        mailbox.drain(10, &mut taken);
        assert_eq!(taken, (0..10).collect::<Vec<_>>());
        assert_eq!(mailbox.try_push(1), Ok(()));
    }
}
