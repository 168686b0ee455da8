//! The `uring` backend: one kernel ring per shard, driven on the shard's thread.
//!
//! Everything that the kernel may still touch lives in a slot until its completion is reaped:
//! the slot owns the buffer, and the ring's drop reaps every slot before it frees one.

use std::collections::VecDeque;
use std::io::{self, Error, ErrorKind};
use std::os::fd::RawFd;
use std::sync::Arc;

use io_uring::{IoUring, opcode, squeue, types};

use crate::io::buffer::AlignedBuf;
use crate::io::device::check_write_range;
use crate::io::runtime::{Nanos, Runtime};
use crate::io::transfer::{Direction, Transfer};
use crate::io::uring_bell::EventBell;
use crate::io::uring_setup::{self, Unavailable};
use crate::io::{Devices, Doorbell, IoDone, IoOp, Ring, Token, Wait};
use crate::limits::{IO_RETRIES_MAX, SUBMIT_BATCH};

/// The user data of the doorbell's read. No slot has this index.
const BELL: u64 = u64::MAX;

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

struct InFlight {
    token: Token,
    fd: RawFd,
    work: Work,
}

enum Work {
    Transfer { direction: Direction, dsync: bool, offset: u64, buf: AlignedBuf, transfer: Transfer },
    Flush { retries: u32 },
}

impl UringRing {
    /// A ring for up to `depth` operations in the kernel at a time.
    pub fn new(devices: Devices, depth: u32, runtime: Runtime) -> io::Result<UringRing> {
        for device in devices.iter() {
            if device.descriptor().is_none() {
                let message = format!("{} has no descriptor", device.path().display());
                return Err(Error::new(ErrorKind::InvalidInput, message));
            }
        }
        let depth = depth.max(1);
        // One entry per slot and one for the doorbell: so the queue is never full.
        let made = uring_setup::make(depth.saturating_add(1))?;
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
            reaped: Vec::new(),
            bell: Arc::new(EventBell::new()?),
            bell_count: Box::new(0),
            bell_armed: false,
        };
        ring.arm_bell();
        Ok(ring)
    }

    fn start(&mut self, op: InFlight) {
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
        if !self.bell_armed {
            self.bell_armed = true;
            let into: *mut u64 = &mut *self.bell_count;
            let read = opcode::Read::new(types::Fd(self.bell.descriptor()), into.cast(), 8);
            self.queue(read.build().user_data(BELL));
        }
    }

    /// Takes note of what a call of the kernel answered.
    fn entered(&mut self, answer: io::Result<usize>) {
        let Err(error) = answer else {
            self.unsubmitted = self.ring.submission().len();
            return;
        };
        match error.raw_os_error() {
            // Time is up, a signal came, or the kernel is short of something: what was not
            // submitted is still queued, and the next turn tries again.
            Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY | libc::ENOMEM) => {
                self.unsubmitted = self.ring.submission().len();
            }
            // Nobody can say any more what the kernel has and what it has not.
            _ => panic!("io_uring_enter: {error}"),
        }
    }

    /// Submits what is queued and lets the kernel deliver what is done.
    fn poll_kernel(&mut self) {
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

    fn occupied(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

impl InFlight {
    /// Takes the outcome of one attempt. `None`: attempt again.
    fn advance(&mut self, outcome: io::Result<usize>) -> Option<io::Result<()>> {
        match &mut self.work {
            Work::Transfer { transfer, .. } => transfer.advance(outcome),
            Work::Flush { retries } => match outcome {
                Ok(_) => Some(Ok(())),
                // Of a flush only "not started, try again" may be repeated: any other failure
                // may have dropped the writes that it reports.
                Err(error)
                    if error.raw_os_error() == Some(libc::EAGAIN) && *retries < IO_RETRIES_MAX =>
                {
                    *retries += 1;
                    None
                }
                Err(error) => Some(Err(error)),
            },
        }
    }

    fn finish(self, result: io::Result<()>) -> IoDone {
        let buf = match self.work {
            Work::Transfer { buf, .. } => Some(buf),
            Work::Flush { .. } => None,
        };
        IoDone { token: self.token, buf, result }
    }
}

/// Checks an operation against its device and its buffer.
fn in_flight(devices: &Devices, token: Token, op: IoOp) -> Result<InFlight, IoDone> {
    let (tier, direction, dsync, offset, len, buf) = match op {
        IoOp::Read { tier, offset, len, buf } => {
            (tier, Direction::Read, false, offset, len, Some(buf))
        }
        IoOp::Write { tier, offset, len, buf, dsync } => {
            (tier, Direction::Write, dsync, offset, len, Some(buf))
        }
        IoOp::Flush { tier } => (tier, Direction::Write, false, 0, 0, None),
    };
    let invalid = |buf, message: String| IoDone {
        token,
        buf,
        result: Err(Error::new(ErrorKind::InvalidInput, message)),
    };
    let device = devices.get(tier.index());
    let Some((device, fd)) = device.and_then(|device| Some((device, device.descriptor()?))) else {
        return Err(invalid(buf, format!("there is no device of tier {}", tier.0)));
    };
    let Some(buf) = buf else {
        return Ok(InFlight { token, fd, work: Work::Flush { retries: 0 } });
    };
    if len > buf.capacity() || u32::try_from(len).is_err() {
        let message = format!("{len} bytes, and a buffer of {}", buf.capacity());
        return Err(invalid(Some(buf), message));
    }
    if direction == Direction::Write
        && let Err(error) = check_write_range(&**device, offset, len)
    {
        return Err(IoDone { token, buf: Some(buf), result: Err(error) });
    }
    let transfer = Transfer::new(direction, len);
    Ok(InFlight { token, fd, work: Work::Transfer { direction, dsync, offset, buf, transfer } })
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
    }

    fn doorbell(&self) -> Arc<dyn Doorbell> {
        self.bell.clone()
    }

    fn in_flight(&self) -> usize {
        self.occupied() + self.waiting.len() + self.failed.len()
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
        self.waiting.clear();
        // The armed read of the doorbell is one of the things to reap.
        self.bell.signal();
        let mut done = Vec::new();
        let mut retries = 0;
        while self.occupied() > 0 || self.bell_armed {
            match self.ring.submit_and_wait(1) {
                Ok(_) => retries = 0,
                Err(_) if retries < IO_RETRIES_MAX => retries += 1,
                Err(_) => {
                    // The kernel may still write into these: better lost than freed.
                    std::mem::forget(std::mem::take(&mut self.slots));
                    std::mem::forget(std::mem::take(&mut self.bell_count));
                    return;
                }
            }
            self.reap(&mut done);
        }
    }
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
    use std::thread;
    use std::time::{Duration, Instant};

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
