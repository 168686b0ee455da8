//! The `uring` backend: one kernel ring per shard, driven on the shard's thread.
//!
//! Everything that the kernel may still touch lives in a slot until its completion is reaped:
//! the slot owns the buffer, and the ring's drop reaps every slot before it frees one.

use std::collections::VecDeque;
use std::io::{self, Error, ErrorKind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use io_uring::{IoUring, opcode, squeue, types};

use crate::io::runtime::{Nanos, Runtime};
use crate::io::transfer::Direction;
use crate::io::uring_bell::EventBell;
use crate::io::uring_enter::{Failure, judge};
use crate::io::uring_op::{InFlight, Work, in_flight};
use crate::io::uring_setup::{self, Made, Unavailable};
use crate::io::{Devices, Doorbell, IoDone, IoOp, Ring, Token, Wait};
use crate::limits::{IO_RETRIES_MAX, SUBMIT_BATCH};

/// The user data of the doorbell's read. No slot has this index.
const BELL: u64 = u64::MAX;

/// The owner of a ring that was given up looks this often for what it is asked to do: nothing can
/// wake it in the kernel.
const BROKEN_TURN: Duration = Duration::from_millis(10);

/// A [`Ring`] on io_uring. Belongs to the thread that made it.
pub struct UringRing {
    ring: IoUring,
    refused: Vec<&'static str>,
    devices: Devices,
    runtime: Runtime,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Pushed while no slot was free.
    waiting: VecDeque<InFlight>,
    /// Done without the kernel: refused before submission.
    failed: Vec<IoDone>,
    /// Entries queued since the last submission.
    unsubmitted: usize,
    /// Completions that name no live operation: a defect of ours or of the kernel.
    strays: u64,
    /// Why the kernel's ring can be used no more, if so.
    broken: Option<String>,
    /// What the kernel may still write to although its ring is lost. Never freed.
    lost: Vec<InFlight>,
    reaped: Vec<(u64, i32)>,
    bell: Arc<EventBell>,
    /// Where the doorbell's read puts its eight bytes.
    bell_count: Box<u64>,
    bell_armed: bool,
}

/// A place for one operation. The generation tells its users apart.
struct Slot {
    generation: u32,
    op: Option<InFlight>,
}

impl UringRing {
    /// A ring for up to `depth` operations in the kernel at a time.
    pub fn new(devices: Devices, depth: u32, runtime: Runtime) -> io::Result<UringRing> {
        UringRing::on(devices, depth, runtime, uring_setup::make)
    }

    /// A ring that several threads use, one at a time.
    pub fn shared(devices: Devices, depth: u32, runtime: Runtime) -> io::Result<UringRing> {
        UringRing::on(devices, depth, runtime, uring_setup::make_shared)
    }

    fn on(
        devices: Devices,
        depth: u32,
        runtime: Runtime,
        make: impl FnOnce(u32) -> io::Result<Made>,
    ) -> io::Result<UringRing> {
        for device in devices.iter() {
            if device.descriptor().is_none() {
                let message = format!("{} has no descriptor", device.path().display());
                return Err(Error::new(ErrorKind::InvalidInput, message));
            }
        }
        let depth = depth.max(1);
        // One entry per slot and one for the doorbell: so the queue is never full.
        let made = make(depth.saturating_add(1))?;
        let depth = depth.min(made.ring.params().sq_entries() - 1);
        let mut ring = UringRing {
            ring: made.ring,
            refused: made.refused,
            devices,
            runtime,
            slots: (0..depth).map(|_| Slot { generation: 0, op: None }).collect(),
            free: (0..depth).rev().collect(),
            waiting: VecDeque::new(),
            failed: Vec::new(),
            unsubmitted: 0,
            strays: 0,
            broken: None,
            lost: Vec::new(),
            reaped: Vec::new(),
            bell: Arc::new(EventBell::new()?),
            bell_count: Box::new(0),
            bell_armed: false,
        };
        ring.arm_bell();
        Ok(ring)
    }

    /// The flags that the kernel refused.
    pub fn refused_flags(&self) -> &[&'static str] {
        &self.refused
    }

    /// Submits what is queued if fewer operations than make a batch are with the kernel: it shall not
    /// be idle until somebody looks at the ring.
    pub fn keep_busy(&mut self) {
        if self.unsubmitted > 0 && self.occupied().saturating_sub(self.unsubmitted) < SUBMIT_BATCH {
            self.poll_kernel();
        }
    }

    fn start(&mut self, op: InFlight) {
        if let Some(why) = &self.broken {
            let refused = Error::other(why.clone());
            return self.failed.push(op.finish(Err(refused)));
        }
        let Some(index) = self.free.pop() else {
            self.waiting.push_back(op);
            return;
        };
        self.slots[index as usize].op = Some(op);
        self.enqueue(index);
    }

    /// Queues the next attempt of the operation in a slot.
    fn enqueue(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        let Some(op) = &mut slot.op else { return };
        let fd = types::Fd(op.fd);
        let entry = match &mut op.work {
            Work::Transfer { direction, dsync, offset, buf, transfer } => {
                let at = *offset + transfer.done() as u64;
                let left = transfer.left() as u32;
                let start = buf.as_mut_slice()[transfer.done()..].as_mut_ptr();
                match direction {
                    Direction::Read => opcode::Read::new(fd, start, left).offset(at).build(),
                    Direction::Write => opcode::Write::new(fd, start, left)
                        .offset(at)
                        .rw_flags(if *dsync { libc::RWF_DSYNC } else { 0 })
                        .build(),
                }
            }
            Work::Flush { .. } => opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build(),
        };
        let user_data = u64::from(slot.generation) << 32 | u64::from(index);
        self.queue(entry.user_data(user_data));
    }

    fn queue(&mut self, entry: squeue::Entry) {
        // SAFETY: an entry points into the buffer of an occupied slot, or at `bell_count`. A slot
        // is vacated only when its completion is reaped, and `drop` frees neither before that.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        // `new` sized the queue for one entry of every slot and of the doorbell.
        assert!(pushed.is_ok(), "the submission queue is full");
        self.unsubmitted += 1;
        if self.unsubmitted >= SUBMIT_BATCH {
            let submitted = self.ring.submit();
            self.entered(submitted);
        }
    }

    fn arm_bell(&mut self) {
        if !self.bell_armed && self.broken.is_none() {
            self.bell_armed = true;
            let into: *mut u64 = &mut *self.bell_count;
            let read = opcode::Read::new(types::Fd(self.bell.descriptor()), into.cast(), 8);
            self.queue(read.build().user_data(BELL));
        }
    }

    /// Takes note of what a call of the kernel answered.
    fn entered(&mut self, answer: io::Result<usize>) {
        self.unsubmitted = self.ring.submission().len();
        if let Err(error) = answer
            && let Failure::Lasting(why) = judge(&error)
        {
            self.give_up(why);
        }
    }

    /// Gives the kernel's ring up. All operations fail; the memory of those that the kernel has is
    /// left to it.
    fn give_up(&mut self, why: String) {
        let error = || Err(Error::other(why.clone()));
        for op in self.slots.drain(..).filter_map(|slot| slot.op) {
            self.failed.push(IoDone { token: op.token, buf: None, result: error() });
            self.lost.push(op);
        }
        self.failed.extend(self.waiting.drain(..).map(|op| op.finish(error())));
        self.free.clear();
        self.broken = Some(why);
    }

    /// Submits what is queued and lets the kernel deliver what is done.
    fn poll_kernel(&mut self) {
        if self.broken.is_some() {
            return;
        }
        let queue = self.ring.submission();
        if !queue.is_empty() || queue.taskrun() || queue.cq_overflow() {
            drop(queue);
            let submitted = self.ring.submit();
            self.entered(submitted);
        }
    }

    /// Submits what is queued and sleeps until a completion or the time.
    fn sleep_in_kernel(&mut self, until: Option<Nanos>) {
        let answer = match until {
            // The bell was in the ring.
            _ if self.broken.is_some() => return thread::sleep(BROKEN_TURN),
            None => self.ring.submit_and_wait(1),
            Some(until) => {
                let left = types::Timespec::from(until.since(self.runtime.now()));
                let args = types::SubmitArgs::new().timespec(&left);
                self.ring.submitter().submit_with_args(1, &args)
            }
        };
        self.entered(answer);
    }

    /// Takes every completion that is there.
    fn reap(&mut self, done: &mut Vec<IoDone>) {
        loop {
            let mut reaped = std::mem::take(&mut self.reaped);
            reaped.extend(self.ring.completion().map(|entry| (entry.user_data(), entry.result())));
            let some = !reaped.is_empty();
            for (user_data, result) in reaped.drain(..) {
                self.complete(user_data, result, done);
            }
            self.reaped = reaped;
            if !some {
                return;
            }
        }
    }

    fn complete(&mut self, user_data: u64, result: i32, done: &mut Vec<IoDone>) {
        if self.broken.is_some() {
            return;
        }
        if user_data == BELL {
            self.bell_armed = false;
            return;
        }
        let (generation, index) = ((user_data >> 32) as u32, user_data as u32);
        let Some(slot) = self.slots.get_mut(index as usize) else {
            self.strays += 1;
            return;
        };
        let Some(op) = slot.op.as_mut().filter(|_| slot.generation == generation) else {
            self.strays += 1;
            return;
        };
        let outcome = usize::try_from(result).map_err(|_| Error::from_raw_os_error(-result));
        let Some(result) = op.advance(outcome) else {
            self.enqueue(index);
            return;
        };
        if let Some(op) = slot.op.take() {
            done.push(op.finish(result));
        }
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index);
        if let Some(op) = self.waiting.pop_front() {
            self.start(op);
        }
    }

    /// The kernel may still write into these: better lost than freed.
    fn leave_to_kernel(&mut self) {
        std::mem::forget(std::mem::take(&mut self.lost));
        std::mem::forget(std::mem::take(&mut self.bell_count));
    }

    fn occupied(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

impl Ring for UringRing {
    fn push(&mut self, token: Token, op: IoOp) {
        match in_flight(&self.devices, token, op) {
            Ok(op) => self.start(op),
            Err(refused) => self.failed.push(refused),
        }
    }

    fn turn(&mut self, wait: Wait, done: &mut Vec<IoDone>) {
        let before = done.len();
        done.append(&mut self.failed);
        self.reap(done);
        // After the reaping, which may take a late signal: never asleep without an armed bell.
        self.arm_bell();
        match wait {
            Wait::Until(until) if done.len() == before && self.bell.may_sleep() => {
                self.sleep_in_kernel(until);
            }
            _ => self.poll_kernel(),
        }
        // Before the completions are handled: from here on the owner looks at its mailbox again.
        self.bell.wake_up();
        self.reap(done);
        // Of a ring that has just been given up.
        done.append(&mut self.failed);
    }

    fn doorbell(&self) -> Arc<dyn Doorbell> {
        self.bell.clone()
    }

    fn in_flight(&self) -> usize {
        self.occupied() + self.waiting.len() + self.failed.len()
    }

    fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    fn describe(&self) -> String {
        let mut text = format!("uring, depth {}", self.slots.len());
        if !self.refused.is_empty() {
            text += &format!(", refused by the kernel: {}", self.refused.join(" "));
        }
        if self.strays > 0 {
            text += &format!(", {} stray completions", self.strays);
        }
        text
    }
}

impl Drop for UringRing {
    fn drop(&mut self) {
        if self.broken.is_some() {
            return self.leave_to_kernel();
        }
        self.waiting.clear();
        // The armed read of the doorbell is one of the things to reap.
        self.bell.signal();
        let mut done = Vec::new();
        let mut retries = 0;
        while self.occupied() > 0 || self.bell_armed {
            match self.ring.submit_and_wait(1) {
                Ok(_) => retries = 0,
                Err(_) if retries < IO_RETRIES_MAX => retries += 1,
                Err(error) => {
                    self.give_up(error.to_string());
                    return self.leave_to_kernel();
                }
            }
            self.reap(&mut done);
        }
    }
}

/// What the failure to make a ring means for whoever runs this machine.
pub fn explain(error: &Error) -> Unavailable {
    uring_setup::explain("setting up a ring", error)
}

/// Whether io_uring works here for these devices, and if not, why.
pub fn available(devices: &Devices) -> Result<(), Unavailable> {
    for device in devices.iter() {
        if device.descriptor().is_none() {
            return Err(Unavailable::simulated(device.path()));
        }
    }
    let mut made = uring_setup::make(SUBMIT_BATCH as u32)
        .map_err(|error| uring_setup::explain("setting up a ring", &error))?;
    // Setting a ring up and entering it may be allowed separately.
    let nop = opcode::Nop::new().build();
    // SAFETY: a no-op points at no memory.
    let pushed = unsafe { made.ring.submission().push(&nop) };
    let entered = match pushed {
        Ok(()) => made.ring.submit_and_wait(1),
        Err(full) => Err(Error::other(full)),
    };
    entered.map(drop).map_err(|error| uring_setup::explain("entering a ring", &error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_late_signal_of_the_bell_does_not_leave_the_sleep_without_one() {
        let no_devices: Devices = Arc::new([]);
        if available(&no_devices).is_err() {
            return;
        }
        let runtime = Runtime::os();
        let mut ring = UringRing::new(no_devices, 4, runtime.clone()).unwrap();
        // The armed read completes, and its completion waits for the next turn.
        ring.bell.signal();
        ring.ring.submit_and_wait(1).unwrap();
        let bell = ring.doorbell();
        let ringer = thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            bell.ring();
        });
        let (start, until) = (Instant::now(), runtime.now().after(Duration::from_secs(20)));
        ring.turn(Wait::Until(Some(until)), &mut Vec::new());
        ringer.join().unwrap();
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}
