//! What has ended in a queue and is not taken yet, and who waits for it.
//!
//! Waiters look and take under one lock: what one of them has counted, no other takes. Each leaves
//! there how many it waits for; whoever ends an operation wakes them if one of them has enough.
//! Where nobody waits, that look is one load.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use crate::api::operation::Completion;
use crate::io::wait::{Ticket, WaitList};
use crate::sync::{AtomicUsize, Mutex};

/// See the module.
#[derive(Default)]
pub(super) struct Completions {
    inner: Mutex<Inner>,
    /// Operations begun and not yet ended. Sinks under the lock alone.
    running: AtomicUsize,
    /// As many as there are in `wanted`.
    waiters: AtomicUsize,
    changed: WaitList,
}

#[derive(Default)]
struct Inner {
    ended: VecDeque<Completion>,
    /// How many completions each waiter waits for.
    wanted: Vec<usize>,
}

impl Completions {
    /// One more operation is under way.
    pub(super) fn begin(&self) {
        self.running.fetch_add(1, Ordering::AcqRel);
    }

    /// An operation has ended. Whoever calls it owes a [`wake`](Self::wake).
    pub(super) fn end(&self, completion: Completion) {
        let mut inner = self.inner.lock();
        inner.ended.push_back(completion);
        self.running.fetch_sub(1, Ordering::AcqRel);
    }

    /// An operation has ended whose completion goes elsewhere. The same is owed: those who wait for
    /// more than will come must look.
    pub(super) fn end_elsewhere(&self) {
        let _inner = self.inner.lock();
        self.running.fetch_sub(1, Ordering::AcqRel);
    }

    /// Wakes the waiters, if one of them has what it waits for. Returns whether one has.
    pub(super) fn wake(&self) -> bool {
        if self.waiters.load(Ordering::SeqCst) == 0 {
            return false;
        }
        let met = {
            let inner = self.inner.lock();
            inner.wanted.iter().any(|wanted| self.has(&inner, *wanted))
        };
        if met {
            self.changed.wake_all();
        }
        met
    }

    /// A change of what waiters look at; to be taken before the look.
    pub(super) fn changed(&self) -> Ticket<'_> {
        self.changed.ticket()
    }

    /// Makes those who wait look again, but for so many of them, whom the caller answers for.
    pub(super) fn stir(&self, awake: usize) {
        if self.waiters.load(Ordering::SeqCst) > awake {
            self.changed.wake_all();
        }
    }

    /// Whether there are so many, or none is under way any more.
    fn has(&self, inner: &Inner, wanted: usize) -> bool {
        inner.ended.len() >= wanted || self.running.load(Ordering::Acquire) == 0
    }

    /// Waits until there are `min`, or none is under way any more, and appends at most `max` to
    /// `into`. Returns how many. Given up, it has taken none.
    pub(super) async fn wait(&self, min: usize, max: usize, into: &mut Vec<Completion>) -> usize {
        if let Some(count) = self.take_if(min, max, into) {
            return count;
        }
        let _waiter = Waiter::new(self, min);
        loop {
            let ticket = self.changed.ticket();
            if let Some(count) = self.take_if(min, max, into) {
                return count;
            }
            ticket.await;
        }
    }

    /// Appends at most `max` to `into` if there are `min`, or none is under way any more.
    pub(super) fn take_if(
        &self,
        min: usize,
        max: usize,
        into: &mut Vec<Completion>,
    ) -> Option<usize> {
        let mut inner = self.inner.lock();
        self.has(&inner, min).then(|| inner.take(max, into))
    }

    /// Appends at most `max` to `into`, without waiting. Returns how many.
    pub(super) fn take(&self, max: usize, into: &mut Vec<Completion>) -> usize {
        self.inner.lock().take(max, into)
    }
}

impl Inner {
    fn take(&mut self, max: usize, into: &mut Vec<Completion>) -> usize {
        let count = self.ended.len().min(max);
        into.extend(self.ended.drain(..count));
        count
    }
}

/// Somebody who waits for so many completions.
pub(super) struct Waiter<'a> {
    completions: &'a Completions,
    wanted: usize,
}

impl<'a> Waiter<'a> {
    pub(super) fn new(completions: &'a Completions, wanted: usize) -> Waiter<'a> {
        completions.inner.lock().wanted.push(wanted);
        completions.waiters.fetch_add(1, Ordering::SeqCst);
        Waiter { completions, wanted }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let wanted = &mut self.completions.inner.lock().wanted;
        if let Some(at) = wanted.iter().position(|wanted| *wanted == self.wanted) {
            wanted.swap_remove(at);
        }
        self.completions.waiters.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::pin::{Pin, pin};
    use std::sync::Arc;
    use std::task::{Context, Poll, Wake, Waker};

    use super::*;
    use crate::api::operation::{Done, OpId, OpMemory};

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn completion(id: u64) -> Completion {
        let result = Ok(Done::default());
        Completion { id: OpId(id), user_data: id, result, memory: OpMemory::None }
    }

    fn end(completions: &Completions, id: u64) {
        completions.end(completion(id));
        completions.wake();
    }

    fn poll(call: Pin<&mut impl Future<Output = usize>>, woken: &Arc<Woken>) -> Poll<usize> {
        call.poll(&mut Context::from_waker(&Waker::from(woken.clone())))
    }

    #[test]
    fn a_waiter_who_is_satisfied_does_not_take_the_wake_up_of_another() {
        let completions = Completions::default();
        (0..4).for_each(|_| completions.begin());
        end(&completions, 1);
        let woken = Arc::<Woken>::default();
        let (mut two, mut one) = (Vec::new(), Vec::new());
        let mut waits_for_two = pin!(completions.wait(2, 2, &mut two));
        assert!(poll(waits_for_two.as_mut(), &woken).is_pending());
        {
            let mut waits_for_one = pin!(completions.wait(1, 1, &mut one));
            assert_eq!(poll(waits_for_one.as_mut(), &woken), Poll::Ready(1));
        }
        let mut many = Vec::new();
        let mut waits_for_many = pin!(completions.wait(9, 9, &mut many));
        assert!(poll(waits_for_many.as_mut(), &Arc::default()).is_pending());
        end(&completions, 2);
        assert_eq!(woken.0.load(Ordering::Relaxed), 0, "one is not enough");
        end(&completions, 3);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert_eq!(poll(waits_for_two.as_mut(), &woken), Poll::Ready(2));
    }

    #[test]
    fn one_completion_satisfies_one_waiter() {
        let completions = Completions::default();
        (0..2).for_each(|_| completions.begin());
        let woken = Arc::<Woken>::default();
        let (mut first, mut second) = (Vec::new(), Vec::new());
        let mut a = pin!(completions.wait(1, 8, &mut first));
        let mut b = pin!(completions.wait(1, 8, &mut second));
        assert!(poll(a.as_mut(), &woken).is_pending() && poll(b.as_mut(), &woken).is_pending());
        end(&completions, 1);
        assert_eq!(poll(a.as_mut(), &woken), Poll::Ready(1));
        assert!(poll(b.as_mut(), &woken).is_pending(), "there is nothing for it yet");
        end(&completions, 2);
        assert_eq!(poll(b.as_mut(), &woken), Poll::Ready(1));
    }

    #[test]
    fn who_waits_for_more_than_will_come_gets_what_there_is() {
        let completions = Completions::default();
        completions.begin();
        let woken = Arc::<Woken>::default();
        let mut taken = Vec::new();
        {
            let mut wait = pin!(completions.wait(9, 9, &mut taken));
            assert!(poll(wait.as_mut(), &woken).is_pending());
            end(&completions, 7);
            assert_eq!(poll(wait.as_mut(), &woken), Poll::Ready(1));
        }
        assert_eq!(taken[0].user_data, 7);
    }

    #[test]
    fn a_wait_that_is_given_up_leaves_nothing_behind() {
        let completions = Completions::default();
        completions.begin();
        let woken = Arc::<Woken>::default();
        let mut taken = Vec::new();
        {
            let mut wait = pin!(completions.wait(1, 1, &mut taken));
            assert!(poll(wait.as_mut(), &woken).is_pending());
        }
        assert_eq!(completions.waiters.load(Ordering::Relaxed), 0);
        assert!(completions.inner.lock().wanted.is_empty());
        end(&completions, 1);
        assert_eq!(completions.take(1, &mut taken), 1);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use std::sync::Arc;

    use loom::future::block_on;
    use loom::thread;

    use super::*;
    use crate::api::operation::{Done, OpId, OpMemory};

    #[test]
    fn loom_two_who_wait_for_one_each_both_get_one() {
        loom::model(|| {
            let completions = Arc::new(Completions::default());
            (0..2).for_each(|_| completions.begin());
            let taker = completions.clone();
            let waiter = thread::spawn(move || block_on(taker.wait(1, 1, &mut Vec::new())));
            let ender = completions.clone();
            let shard = thread::spawn(move || {
                for id in 0..2 {
                    let (result, memory) = (Ok(Done::default()), OpMemory::None);
                    ender.end(Completion { id: OpId(id), user_data: id, result, memory });
                    ender.wake();
                }
            });
            assert_eq!(block_on(completions.wait(1, 1, &mut Vec::new())), 1);
            assert!(matches!(waiter.join(), Ok(1)));
            assert!(shard.join().is_ok());
        });
    }

    #[test]
    fn loom_who_waits_for_more_than_will_come_is_not_left_waiting() {
        loom::model(|| {
            let completions = Arc::new(Completions::default());
            completions.begin();
            let ender = completions.clone();
            let shard = thread::spawn(move || {
                ender.end_elsewhere();
                ender.wake();
            });
            assert_eq!(block_on(completions.wait(9, 9, &mut Vec::new())), 0);
            assert!(shard.join().is_ok());
        });
    }
}
