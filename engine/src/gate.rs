//! Operations under way, counted without a shared cache line, and a closer that waits for their
//! end.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::io::wait::WaitList;
use crate::stats::{LANES, thread_lane};

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
        let lane = thread_lane();
        self.lanes[lane].0.fetch_add(1, Ordering::SeqCst);
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
        !self.closed.swap(true, Ordering::SeqCst)
    }

    /// Opens it again.
    pub fn reopen(&self) {
        self.closed.store(false, Ordering::SeqCst);
    }

    /// Once closed: waits until nobody who was let in is left.
    pub async fn wait_until_empty(&self) {
        loop {
            let ticket = self.left.ticket();
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
        if last && self.gate.is_closed() {
            self.gate.left.wake_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::runtime::Runtime;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    #[test]
    fn a_closer_waits_for_all_who_were_let_in_and_nobody_comes_in_behind_it() {
        for _ in 0..200 {
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
