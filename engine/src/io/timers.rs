//! Sleeping tasks of one thread, ordered by the time they wait for.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::io::runtime::{Nanos, Runtime};

/// The timers of a [`TaskSet`](crate::io::tasks::TaskSet). Clones share them. Whoever drives the
/// tasks sleeps until [`next`](Timers::next) at most and then calls [`fire`](Timers::fire).
#[derive(Clone)]
pub struct Timers {
    runtime: Runtime,
    waiting: Rc<RefCell<Waiting>>,
}

#[derive(Default)]
struct Waiting {
    /// Tells apart those that wait for the same time; keeps their order.
    sequence: u64,
    wakers: BTreeMap<(Nanos, u64), Waker>,
}

impl Timers {
    /// No timers yet, on this runtime's clock.
    pub fn new(runtime: Runtime) -> Timers {
        Timers { runtime, waiting: Rc::default() }
    }

    /// Ends at this time, once [`fire`](Self::fire) is called.
    pub fn sleep_until(&self, time: Nanos) -> Sleep {
        Sleep { timers: self.clone(), time, entry: None }
    }

    /// The earliest time that somebody waits for.
    pub fn next(&self) -> Option<Nanos> {
        self.waiting.borrow().wakers.first_key_value().map(|((time, _), _)| *time)
    }

    /// Wakes everybody whose time has come; true if there was anybody.
    pub fn fire(&self) -> bool {
        let now = self.runtime.now();
        let mut fired = false;
        while self.next().is_some_and(|time| time <= now) {
            let first = self.waiting.borrow_mut().wakers.pop_first();
            if let Some((_, waker)) = first {
                waker.wake();
                fired = true;
            }
        }
        fired
    }
}

/// See [`Timers::sleep_until`].
pub struct Sleep {
    timers: Timers,
    time: Nanos,
    entry: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.time <= self.timers.runtime.now() {
            return Poll::Ready(());
        }
        let entry = self.entry.unwrap_or_else(|| {
            let mut waiting = self.timers.waiting.borrow_mut();
            waiting.sequence += 1;
            waiting.sequence
        });
        self.entry = Some(entry);
        self.timers.waiting.borrow_mut().wakers.insert((self.time, entry), cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(entry) = self.entry {
            self.timers.waiting.borrow_mut().wakers.remove(&(self.time, entry));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::runtime::{Actor, Turn};
    use crate::io::sim::SimWorld;
    use std::time::Duration;

    /// Lets the clock of a simulated world pass a time.
    struct Until(Nanos, Runtime);

    impl Actor for Until {
        fn turn(&mut self, _may_sleep: bool) -> Turn {
            if self.1.now() < self.0 { Turn::Idle(Some(self.0)) } else { Turn::Finished }
        }
    }

    #[test]
    fn sleepers_wake_in_the_order_of_their_times_and_dropped_ones_are_forgotten() {
        let world = SimWorld::new(1);
        let runtime = Runtime::Sim(world.clone());
        let timers = Timers::new(runtime.clone());
        let at = |ms| Nanos(0).after(Duration::from_millis(ms));
        let mut cx = Context::from_waker(Waker::noop());
        let mut sleeps = [30, 10, 20].map(|ms| timers.sleep_until(at(ms)));
        for sleep in &mut sleeps {
            assert!(Pin::new(sleep).poll(&mut cx).is_pending());
        }
        assert_eq!(timers.next(), Some(at(10)));
        assert!(!timers.fire());
        let actor = world.add_actor("clock", Box::new(Until(at(15), runtime)));
        while !world.finished(actor) {
            world.step();
        }
        assert!(timers.fire());
        assert_eq!(timers.next(), Some(at(20)));
        assert!(Pin::new(&mut sleeps[1]).poll(&mut cx).is_ready());
        drop(sleeps);
        assert_eq!(timers.next(), None);
    }
}
