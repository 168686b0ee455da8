//! The way from a caller to a shard: a bounded queue with a doorbell.
//!
//! Full means that the caller waits; nothing is dropped. The bell is rung after every push; it
//! costs a system call only while the shard sleeps. Answers come back through
//! [`oneshot`](crate::io::wait::oneshot) cells inside the requests.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use crate::io::Doorbell;
use crate::io::wait::WaitList;
use crate::limits;
use crate::sync::Mutex;

/// In loom one request fills it.
const MAILBOX_LEN_MAX: usize = if cfg!(loom) { 1 } else { limits::MAILBOX_LEN_MAX };

/// The queue of one shard.
pub struct Mailbox<T> {
    queue: Mutex<Queue<T>>,
    room: WaitList,
    /// Set once by the shard, whose ring owns the bell.
    bell: OnceLock<Arc<dyn Doorbell>>,
}

struct Queue<T> {
    requests: VecDeque<T>,
    /// Patient requests ring from this length on.
    ring_at: usize,
    /// A request is there that is not patient.
    urgent: bool,
    closed: bool,
}

impl<T> Queue<T> {
    fn wants_shard(&self) -> bool {
        self.urgent || self.requests.len() >= self.ring_at
    }
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        let requests = VecDeque::with_capacity(MAILBOX_LEN_MAX);
        Mailbox {
            queue: Mutex::new(Queue { requests, ring_at: 1, urgent: false, closed: false }),
            room: WaitList::default(),
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
        self.try_push_as(request, false)
    }

    /// A patient request leaves the shard asleep while that waits for [more](Self::may_sleep).
    fn try_push_as(&self, request: T, patient: bool) -> Result<(), T> {
        let wanted = {
            let mut queue = self.queue.lock();
            if queue.closed {
                drop(queue);
                drop(request);
                return Ok(());
            }
            if queue.requests.len() >= MAILBOX_LEN_MAX {
                return Err(request);
            }
            queue.requests.push_back(request);
            queue.urgent |= !patient;
            queue.wants_shard()
        };
        if wanted && let Some(bell) = self.bell.get() {
            bell.ring();
        }
        Ok(())
    }

    /// Queues a request, waiting while the queue is full.
    pub async fn push(&self, request: T) {
        self.push_as(request, false).await;
    }

    /// Queues a request that may wait for others of its kind, to be served with them.
    pub async fn push_patiently(&self, request: T) {
        self.push_as(request, true).await;
    }

    async fn push_as(&self, request: T, patient: bool) {
        let Err(mut request) = self.try_push_as(request, patient) else { return };
        loop {
            let ticket = self.room.ticket();
            match self.try_push_as(request, patient) {
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
            let was_full = queue.requests.len() >= MAILBOX_LEN_MAX;
            let count = queue.requests.len().min(limit);
            into.extend(queue.requests.drain(..count));
            queue.urgent &= !queue.requests.is_empty();
            was_full
        };
        if was_full {
            self.room.wake_all();
        }
    }

    /// Whether the shard may sleep: fewer than `ring_at` requests are there, and all are patient.
    /// From now on patient ones ring when there are so many. For the shard alone, which has
    /// something else that will wake it if it asks for more than one.
    pub fn may_sleep(&self, ring_at: usize) -> bool {
        let mut queue = self.queue.lock();
        queue.ring_at = ring_at.clamp(1, MAILBOX_LEN_MAX);
        !queue.wants_shard()
    }

    /// The shard has ended: what is queued, and what comes, is dropped.
    pub fn close(&self) {
        let dropped = {
            let mut queue = self.queue.lock();
            queue.closed = true;
            std::mem::take(&mut queue.requests)
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
        self.queue.lock().requests.len()
    }

    /// Whether none are.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_full_mailbox_hands_the_request_back_and_order_is_kept() {
        let mailbox = Mailbox::default();
        for n in 0..MAILBOX_LEN_MAX {
            assert_eq!(mailbox.try_push(n), Ok(()));
        }
        assert_eq!(mailbox.try_push_as(9999, true), Err(9999));
        let mut taken = Vec::new();
        mailbox.drain(10, &mut taken);
        assert_eq!(taken, (0..10).collect::<Vec<_>>());
        assert_eq!(mailbox.try_push_as(1, true), Ok(()));
    }

    #[derive(Default)]
    struct CountingBell(std::sync::atomic::AtomicUsize);

    impl Doorbell for CountingBell {
        fn ring(&self) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    }

    #[test]
    fn patient_requests_ring_only_from_the_length_that_the_shard_asked_for() {
        let mailbox = Mailbox::default();
        let bell = Arc::new(CountingBell::default());
        mailbox.connect(bell.clone());
        let rings = || bell.0.swap(0, std::sync::atomic::Ordering::SeqCst);
        assert!(mailbox.may_sleep(3));
        for (request, expected) in [(1, 0), (2, 0), (3, 1)] {
            mailbox.try_push_as(request, true).unwrap();
            assert_eq!(rings(), expected);
        }
        assert!(!mailbox.may_sleep(3) && mailbox.may_sleep(4));
        mailbox.try_push(4).unwrap();
        assert_eq!(rings(), 1);
        let mut taken = Vec::new();
        mailbox.drain(2, &mut taken);
        assert!(!mailbox.may_sleep(100), "the urgent one is still there");
        mailbox.drain(2, &mut taken);
        assert!(mailbox.may_sleep(1));
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::future::block_on;
    use loom::thread;

    use super::*;

    /// A ring that sleeps until its bell is rung.
    struct Ring(loom::sync::Notify);

    impl Doorbell for Ring {
        fn ring(&self) {
            self.0.notify();
        }
    }

    #[test]
    fn loom_a_shard_that_sleeps_when_it_may_gets_every_request() {
        loom::model(|| {
            let mailbox = Arc::new(Mailbox::default());
            let ring = Arc::new(Ring(loom::sync::Notify::new()));
            mailbox.connect(ring.clone());
            let callers = [1, 2].map(|request| {
                let mailbox = mailbox.clone();
                thread::spawn(move || block_on(mailbox.push(request)))
            });
            let mut served = Vec::new();
            while served.len() < 2 {
                mailbox.drain(1, &mut served);
                if served.len() < 2 && mailbox.may_sleep(1) {
                    ring.0.wait();
                }
            }
            served.sort_unstable();
            assert_eq!(served, [1, 2]);
            callers.into_iter().for_each(|caller| assert!(caller.join().is_ok()));
        });
    }

    #[test]
    fn loom_callers_who_wait_for_room_are_let_go_when_the_shard_ends() {
        loom::model(|| {
            let mailbox = Arc::new(Mailbox::default());
            assert_eq!(mailbox.try_push(1), Ok(()));
            let waiting = mailbox.clone();
            let caller = thread::spawn(move || block_on(waiting.push(2)));
            mailbox.close();
            assert!(caller.join().is_ok());
            assert!(mailbox.is_empty());
        });
    }
}
