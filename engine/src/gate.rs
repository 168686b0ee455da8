//! Operations under way, counted without a shared cache line, and a closer that waits for their
//! end.

use std::sync::atomic::Ordering;

use crate::io::wait::WaitList;
use crate::stats::{self, thread_lane};
use crate::sync::{AtomicBool, AtomicU64, sequenced};

/// Loom looks at them in every order.
const LANES: usize = if cfg!(loom) { 2 } else { stats::LANES };

#[derive(Default)]
#[repr(align(128))]
struct Lane(AtomicU64);

/// See the module.
///
/// All accesses are sequentially consistent. Who enters adds to a lane and then reads the flag;
/// the closer sets the flag and then reads the lanes. So of every entry that found the flag unset
/// the closer sees the count, until its pass is dropped: each pass is counted in one lane for its
/// whole life, and a lane read as zero after the flag was set holds none that was let in.
/// Entries that come later are turned away. Who leaves subtracts and then reads the flag, and the
/// closer takes its ticket before it reads the lanes: a lane that it does not find empty is
/// emptied by somebody who finds the flag set, and wakes it.
#[derive(Default)]
pub struct Gate {
    lanes: [Lane; LANES],
    closed: AtomicBool,
    left: WaitList,
}

/// One that was let in. Counted until dropped, on whatever thread.
pub struct Pass<'a> {
    gate: &'a Gate,
    lane: usize,
}

impl Gate {
    /// Lets an operation in, unless the gate is closed.
    #[inline]
    pub fn enter(&self) -> Option<Pass<'_>> {
        self.enter_by(thread_lane())
    }

    #[inline]
    fn enter_by(&self, lane: usize) -> Option<Pass<'_>> {
        self.lanes[lane].0.fetch_add(1, Ordering::SeqCst);
        sequenced();
        let pass = Pass { gate: self, lane };
        (!self.is_closed()).then_some(pass)
    }

    /// Whether it is closed.
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Closes it. False if it was closed.
    pub fn close(&self) -> bool {
        let first = !self.closed.swap(true, Ordering::SeqCst);
        sequenced();
        first
    }

    /// Opens it again.
    pub fn reopen(&self) {
        self.closed.store(false, Ordering::SeqCst);
    }

    /// Once closed: waits until nobody who was let in is left.
    pub async fn wait_until_empty(&self) {
        loop {
            let ticket = self.left.ticket();
            sequenced();
            if self.lanes.iter().all(|lane| lane.0.load(Ordering::SeqCst) == 0) {
                return;
            }
            ticket.await;
        }
    }
}

impl Drop for Pass<'_> {
    #[inline]
    fn drop(&mut self) {
        let last = self.gate.lanes[self.lane].0.fetch_sub(1, Ordering::SeqCst) == 1;
        sequenced();
        if last && self.gate.is_closed() {
            self.gate.left.wake_all();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::io::runtime::Runtime;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    #[test]
    fn a_closer_waits_for_all_who_were_let_in_and_nobody_comes_in_behind_it() {
        for _ in 0..if cfg!(miri) { 2 } else { 200 } {
            let (gate, over) = (Gate::default(), AtomicBool::new(false));
            thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| {
                        while let Some(_pass) = gate.enter() {
                            assert!(!over.load(Ordering::SeqCst));
                        }
                    });
                }
                thread::yield_now();
                assert!(gate.close() && !gate.close());
                Runtime::os().block_on(gate.wait_until_empty());
                over.store(true, Ordering::SeqCst);
            });
        }
    }

    #[test]
    fn a_pass_dropped_on_another_thread_leaves_the_lane_it_came_by() {
        let gate = Gate::default();
        let pass = gate.enter().unwrap();
        gate.close();
        thread::scope(|scope| scope.spawn(move || drop(pass)).join().unwrap());
        Runtime::os().block_on(gate.wait_until_empty());
        gate.reopen();
        assert!(gate.enter().is_some());
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use std::sync::Arc;

    use loom::cell::UnsafeCell;
    use loom::future::block_on;
    use loom::thread;

    use super::*;

    /// What a handle table does with the gate of a slot: those who were let in look at the object, the
    /// closer takes it away.
    #[test]
    fn loom_nobody_who_was_let_in_meets_the_closer_behind_the_gate() {
        loom::model(|| {
            let shared = Arc::new((Gate::default(), UnsafeCell::new(1)));
            let threads = [0, 1].map(|lane| {
                let shared = shared.clone();
                thread::spawn(move || {
                    if let Some(_pass) = shared.0.enter_by(lane) {
                        // SAFETY: the closer waits for the pass; loom watches that it does.
                        shared.1.with(|object| assert_eq!(unsafe { *object }, 1));
                    }
                })
            });
            assert!(shared.0.close());
            block_on(shared.0.wait_until_empty());
            // SAFETY: nobody is left inside; loom watches that it is so.
            shared.1.with_mut(|object| unsafe { *object = 0 });
            threads.into_iter().for_each(|thread| assert!(thread.join().is_ok()));
        });
    }
}
