//! The `threads` backend: blocking device calls on a few worker threads per ring, for machines
//! that forbid io_uring.

use std::collections::VecDeque;
use std::io::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use parking_lot::{Condvar, Mutex};

use crate::io::buffer::AlignedBuf;
use crate::io::device::write_durably;
use crate::io::runtime::{Nanos, Runtime, block_all_signals};
use crate::io::{Device, Devices, Doorbell, IoDone, IoOp, Ring, Token, Wait};
use crate::limits::RING_WORKERS_MAX;
use crate::types::TierId;

/// A [`Ring`] over blocking calls. Workers start as the load demands, up to a bound, and end with
/// the ring.
pub struct ThreadsRing {
    devices: Devices,
    shared: Arc<Shared>,
    runtime: Runtime,
    workers: Vec<JoinHandle<()>>,
    workers_max: usize,
    in_flight: usize,
    refused: Option<String>,
}

/// What the owner, the workers and the doorbells share. A doorbell may outlive the ring.
struct Shared {
    state: Mutex<State>,
    /// Tells the workers of a job, or of the end.
    work: Condvar,
    /// Tells the owner of a completion, or of the doorbell.
    news: Condvar,
}

/// The queues hold what the ring was given and not more: the shard's tasks bound that.
#[derive(Default)]
struct State {
    jobs: VecDeque<(Token, IoOp)>,
    done: Vec<IoDone>,
    idle: usize,
    rung: bool,
    closing: bool,
}

impl ThreadsRing {
    /// A ring with up to `workers_max` threads, itself bounded by the engine's limit.
    pub fn new(devices: Devices, workers_max: usize, runtime: Runtime) -> ThreadsRing {
        let shared = Shared {
            state: Mutex::new(State::default()),
            work: Condvar::new(),
            news: Condvar::new(),
        };
        ThreadsRing {
            devices,
            shared: Arc::new(shared),
            runtime,
            workers: Vec::new(),
            workers_max: workers_max.clamp(1, RING_WORKERS_MAX),
            in_flight: 0,
            refused: None,
        }
    }

    fn start_worker(&mut self) {
        let (shared, devices) = (self.shared.clone(), self.devices.clone());
        let name = format!("isotherm-io{}", self.workers.len());
        let body = move || {
            block_all_signals();
            serve(&shared, &devices);
        };
        match thread::Builder::new().name(name).spawn(body) {
            Ok(worker) => self.workers.push(worker),
            Err(error) => {
                self.refused = Some(format!("worker {}: {error}", self.workers.len() + 1));
                if self.workers.is_empty() {
                    self.fail_queued();
                }
            }
        }
    }

    /// Nobody would ever do what is queued.
    fn fail_queued(&self) {
        let mut state = self.shared.state.lock();
        while let Some((token, op)) = state.jobs.pop_front() {
            let (IoOp::Read { buf, .. } | IoOp::Write { buf, .. }) = op else {
                state.done.push(IoDone { token, buf: None, result: Err(no_thread()) });
                continue;
            };
            state.done.push(IoDone { token, buf: Some(buf), result: Err(no_thread()) });
        }
    }

    fn sleep(&self, until: Option<Nanos>) {
        let mut state = self.shared.state.lock();
        while state.done.is_empty() && !state.rung {
            match until {
                None => self.shared.news.wait(&mut state),
                Some(until) => {
                    let left = until.since(self.runtime.now());
                    if left.is_zero() {
                        return;
                    }
                    self.shared.news.wait_for(&mut state, left);
                }
            }
        }
    }
}

impl Ring for ThreadsRing {
    fn push(&mut self, token: Token, op: IoOp) {
        self.in_flight += 1;
        let more_workers = {
            let mut state = self.shared.state.lock();
            state.jobs.push_back((token, op));
            state.jobs.len() > state.idle
        };
        if more_workers && self.workers.len() < self.workers_max {
            self.start_worker();
        }
        self.shared.work.notify_one();
    }

    fn turn(&mut self, wait: Wait, done: &mut Vec<IoDone>) {
        if let Wait::Until(until) = wait {
            self.sleep(until);
        }
        let mut state = self.shared.state.lock();
        state.rung = false;
        self.in_flight -= state.done.len();
        done.append(&mut state.done);
    }

    fn doorbell(&self) -> Arc<dyn Doorbell> {
        self.shared.clone()
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }

    fn describe(&self) -> String {
        let mut text = format!("threads, {} of {} workers", self.workers.len(), self.workers_max);
        if let Some(refused) = &self.refused {
            text += &format!(", refused by the system: {refused}");
        }
        text
    }
}

impl Drop for ThreadsRing {
    fn drop(&mut self) {
        self.shared.state.lock().closing = true;
        self.shared.work.notify_all();
        for worker in self.workers.drain(..) {
            // A worker that panicked has told so on stderr; there is nothing left to do for it.
            let _ = worker.join();
        }
        // Nobody asks for these any more, and their buffers must go back.
        drop(std::mem::take(&mut self.shared.state.lock().done));
    }
}

impl Doorbell for Shared {
    fn ring(&self) {
        let already = std::mem::replace(&mut self.state.lock().rung, true);
        if !already {
            self.news.notify_one();
        }
    }
}

/// A worker's life.
fn serve(shared: &Shared, devices: &Devices) {
    let mut state = shared.state.lock();
    loop {
        // What is queued is still done when the ring closes, as the kernel would.
        if let Some((token, op)) = state.jobs.pop_front() {
            drop(state);
            let done = perform(devices, token, op);
            state = shared.state.lock();
            state.done.push(done);
            shared.news.notify_one();
        } else if state.closing {
            return;
        } else {
            state.idle += 1;
            shared.work.wait(&mut state);
            state.idle -= 1;
        }
    }
}

/// Does one operation with blocking calls.
pub(crate) fn perform(devices: &Devices, token: Token, op: IoOp) -> IoDone {
    match op {
        IoOp::Read { tier, offset, len, mut buf } => {
            let result = device(devices, tier).and_then(|device| {
                let capacity = buf.capacity();
                let part = buf.as_mut_slice().get_mut(..len);
                device.read_at(offset, part.ok_or_else(|| too_long(len, capacity))?)
            });
            IoDone { token, buf: Some(buf), result }
        }
        IoOp::Write { tier, offset, len, buf, dsync } => {
            let result = write(devices, tier, offset, len, &buf, dsync);
            IoDone { token, buf: Some(buf), result }
        }
        IoOp::Flush { tier } => {
            let result = device(devices, tier).and_then(|device| device.flush());
            IoDone { token, buf: None, result }
        }
    }
}

fn write(
    devices: &Devices,
    tier: TierId,
    offset: u64,
    len: usize,
    buf: &AlignedBuf,
    dsync: bool,
) -> Result<()> {
    let device = device(devices, tier)?;
    let part = buf.as_slice().get(..len).ok_or_else(|| too_long(len, buf.capacity()))?;
    if dsync { write_durably(device, offset, part) } else { device.write_at(offset, part) }
}

fn device(devices: &Devices, tier: TierId) -> Result<&dyn Device> {
    devices.get(tier.index()).map(|device| &**device).ok_or_else(|| {
        Error::new(ErrorKind::InvalidInput, format!("there is no device of tier {}", tier.0))
    })
}

fn too_long(len: usize, capacity: usize) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("{len} bytes, and a buffer of {capacity}"))
}

fn no_thread() -> Error {
    Error::new(ErrorKind::OutOfMemory, "no worker thread could be started")
}
