//! Waiting without an executor: a one-shot cell, and a list of waiters.
//!
//! Both work from any thread and under any executor: an operating-system thread that parks, a
//! shard's task, glommio, the simulator.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::sync::Mutex;

enum Cell<T> {
    Empty,
    Waiting(Waker),
    Full(T, Option<Arc<Wakes>>),
    Taken,
    /// The sender is gone without a value.
    Abandoned,
}

/// The end that delivers one value. Dropping it delivers "abandoned".
pub struct Sender<T>(Option<Arc<Mutex<Cell<T>>>>);

/// The end that waits for the value. Dropping it discards the value.
pub struct Receiver<T>(Arc<Mutex<Cell<T>>>);

/// The sender was dropped without a value: whoever owed the answer is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Abandoned;

/// A one-shot channel.
pub fn oneshot<T>() -> (Sender<T>, Receiver<T>) {
    let cell = Arc::new(Mutex::new(Cell::Empty));
    (Sender(Some(cell.clone())), Receiver(cell))
}

impl<T> Sender<T> {
    /// Delivers the value and wakes the receiver.
    pub fn send(mut self, value: T) {
        if let Some(cell) = self.0.take() {
            wake(deliver(&cell, Cell::Full(value, None)));
        }
    }

    /// Delivers the value and leaves the wake-up of the receiver to the list.
    pub fn send_with(mut self, value: T, wakes: &Arc<Wakes>) {
        if let Some(cell) = self.0.take()
            && let Some(waker) = deliver(&cell, Cell::Full(value, Some(wakes.clone())))
        {
            wakes.push(waker);
        }
    }
}

/// Wake-ups that are owed. Each takes a system call, so those who have been woken take a part of
/// the others': the list grows empty on as many cores as there are. Whoever pushes wakes until
/// the list is empty, and counts on nobody's help.
#[derive(Default)]
pub struct Wakes(Mutex<VecDeque<Waker>>);

impl Wakes {
    fn push(&self, waker: Waker) {
        self.0.lock().push_back(waker);
    }

    /// Wakes up to so many. Returns whether there were any.
    pub fn wake(&self, count: usize) -> bool {
        for done in 0..count {
            let Some(waker) = self.0.lock().pop_front() else { return done > 0 };
            waker.wake();
        }
        count > 0
    }
}

/// What somebody who was woken wakes in turn.
const WAKES_OF_THE_WOKEN: usize = 2;

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if let Some(cell) = self.0.take() {
            wake(deliver(&cell, Cell::Abandoned));
        }
    }
}

/// Fills the cell. Returns whom to wake.
fn deliver<T>(cell: &Mutex<Cell<T>>, value: Cell<T>) -> Option<Waker> {
    match std::mem::replace(&mut *cell.lock(), value) {
        Cell::Waiting(waker) => Some(waker),
        _ => None,
    }
}

fn wake(waker: Option<Waker>) {
    waker.into_iter().for_each(Waker::wake);
}

impl<T> Future for Receiver<T> {
    type Output = Result<T, Abandoned>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut cell = self.0.lock();
        match std::mem::replace(&mut *cell, Cell::Taken) {
            Cell::Full(value, wakes) => {
                drop(cell);
                if let Some(wakes) = wakes {
                    wakes.wake(WAKES_OF_THE_WOKEN);
                }
                Poll::Ready(Ok(value))
            }
            Cell::Abandoned => Poll::Ready(Err(Abandoned)),
            Cell::Empty | Cell::Waiting(_) => {
                *cell = Cell::Waiting(cx.waker().clone());
                Poll::Pending
            }
            Cell::Taken => Poll::Ready(Err(Abandoned)),
        }
    }
}

/// Waiters for "something changed, look again", woken in order of arrival.
///
/// The pattern that loses no wake-up: take a [`ticket`](WaitList::ticket), check the condition,
/// and only then await the ticket.
#[derive(Default)]
pub struct WaitList {
    inner: Mutex<Waiters>,
}

#[derive(Default)]
struct Waiters {
    generation: u64,
    wakers: VecDeque<Waker>,
}

impl WaitList {
    /// A place in the list from now on: any wake after this call ends its wait.
    pub fn ticket(&self) -> Ticket<'_> {
        Ticket { list: self, generation: self.inner.lock().generation }
    }

    /// Wakes every waiter.
    pub fn wake_all(&self) {
        let wakers = {
            let mut inner = self.inner.lock();
            inner.generation += 1;
            std::mem::take(&mut inner.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// See [`WaitList::ticket`].
pub struct Ticket<'a> {
    list: &'a WaitList,
    generation: u64,
}

impl Future for Ticket<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.list.inner.lock();
        if inner.generation != self.generation {
            return Poll::Ready(());
        }
        if !inner.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            inner.wakers.push_back(cx.waker().clone());
        }
        Poll::Pending
    }
}

/// Ends when either of the two has ended.
pub async fn first(a: impl Future<Output = ()>, b: impl Future<Output = ()>) {
    let mut a = std::pin::pin!(a);
    let mut b = std::pin::pin!(b);
    std::future::poll_fn(|cx| match a.as_mut().poll(cx) {
        Poll::Ready(()) => Poll::Ready(()),
        Poll::Pending => b.as_mut().poll(cx),
    })
    .await;
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
        Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_value_sent_before_or_after_the_first_poll_arrives() {
        let (sender, mut receiver) = oneshot();
        assert!(poll_once(&mut receiver).is_pending());
        sender.send(7);
        assert_eq!(poll_once(&mut receiver), Poll::Ready(Ok(7)));
    }

    #[test]
    fn a_dropped_sender_ends_the_wait_with_abandoned() {
        let (sender, mut receiver) = oneshot::<u8>();
        drop(sender);
        assert_eq!(poll_once(&mut receiver), Poll::Ready(Err(Abandoned)));
    }

    #[test]
    fn a_wake_between_ticket_and_await_is_not_lost() {
        let list = WaitList::default();
        let mut ticket = list.ticket();
        list.wake_all();
        assert!(poll_once(&mut ticket).is_ready());
        assert!(poll_once(&mut list.ticket()).is_pending());
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::future::block_on;
    use loom::thread;

    use super::*;
    use crate::sync::AtomicBool;
    use std::sync::atomic::Ordering;

    #[test]
    fn loom_a_value_or_the_end_of_its_sender_reaches_whoever_waits() {
        loom::model(|| {
            let (sender, receiver) = oneshot();
            let (other, abandoned) = oneshot::<u8>();
            let thread = thread::spawn(move || {
                sender.send(7);
                drop(other);
            });
            assert_eq!(block_on(receiver), Ok(7));
            assert_eq!(block_on(abandoned), Err(Abandoned));
            let _ = thread.join();
        });
    }

    #[test]
    fn loom_every_wake_up_that_is_owed_is_given_by_somebody() {
        loom::model(|| {
            let wakes = Arc::<Wakes>::default();
            let (first_sender, first) = oneshot();
            let (second_sender, second) = oneshot();
            let waiter = thread::spawn(move || assert_eq!(block_on(first), Ok(1)));
            let shard = thread::spawn(move || {
                first_sender.send_with(1, &wakes);
                second_sender.send_with(2, &wakes);
                while wakes.wake(1) {}
            });
            assert_eq!(block_on(second), Ok(2));
            let _ = (waiter.join(), shard.join());
        });
    }

    #[test]
    fn loom_no_wake_between_look_and_wait_is_lost() {
        loom::model(|| {
            let shared = Arc::new((WaitList::default(), AtomicBool::new(false)));
            let threads = [0, 1].map(|_| {
                let shared = shared.clone();
                thread::spawn(move || {
                    block_on(async {
                        loop {
                            let ticket = shared.0.ticket();
                            if shared.1.load(Ordering::Acquire) {
                                return;
                            }
                            ticket.await;
                        }
                    });
                })
            });
            shared.1.store(true, Ordering::Release);
            shared.0.wake_all();
            threads.into_iter().for_each(|thread| assert!(thread.join().is_ok()));
        });
    }
}
