//! The ceiling of durable puts by callers that sleep: the raw log, written by one thread for N
//! threads that each hand it 4 KiB and wait until it is durable. Beside the raw log itself it shows
//! what waking the callers costs, with nothing else of an engine.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

use crate::Outcome;
use crate::raw_log::{Aligned, BLOCK, RawLog};
use crate::rounds::Sample;
use crate::writers::run_callers;

const WAITING: u8 = 0;
const DURABLE: u8 = 1;
const FAILED: u8 = 2;
/// The writer looks this often whether the callers are gone.
const POLL: Duration = Duration::from_millis(1);

/// Puts that go into the next write: a block for a header, then one for each.
struct Batch {
    bytes: Aligned,
    callers: Vec<(Thread, Arc<AtomicU8>)>,
}

impl Batch {
    fn new(callers: usize) -> Batch {
        Batch { bytes: Aligned::new((callers + 1) * BLOCK), callers: Vec::with_capacity(callers) }
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes.as_slice()[..(self.callers.len() + 1) * BLOCK]
    }
}

/// Where the callers meet the writer.
struct Desk {
    open: Mutex<Batch>,
    writer: OnceLock<Thread>,
    closed: AtomicBool,
}

impl Desk {
    fn open(&self) -> MutexGuard<'_, Batch> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, value: &[u8]) -> Outcome {
        let state = Arc::new(AtomicU8::new(WAITING));
        let is_first = {
            let mut batch = self.open();
            let at = (batch.callers.len() + 1) * BLOCK;
            batch.bytes.as_mut_slice()[at..at + BLOCK].copy_from_slice(value);
            batch.callers.push((thread::current(), state.clone()));
            batch.callers.len() == 1
        };
        if is_first && let Some(writer) = self.writer.get() {
            writer.unpark();
        }
        loop {
            match state.load(Ordering::Acquire) {
                WAITING => thread::park(),
                DURABLE => return Ok(()),
                _ => return Err("the log's write failed".into()),
            }
        }
    }

    /// Writes batches until the desk is closed. After a failure everybody is told of it.
    fn serve(&self, log: &mut RawLog, callers: usize) -> Outcome {
        let mut spare = Batch::new(callers);
        let mut outcome = Ok(());
        loop {
            {
                let mut open = self.open();
                if !open.callers.is_empty() {
                    std::mem::swap(&mut *open, &mut spare);
                }
            }
            if spare.callers.is_empty() {
                if self.closed.load(Ordering::Acquire) {
                    return outcome;
                }
                thread::park_timeout(POLL);
                continue;
            }
            if outcome.is_ok() {
                outcome = log.append(spare.as_slice());
            }
            let answer = if outcome.is_ok() { DURABLE } else { FAILED };
            for (caller, state) in spare.callers.drain(..) {
                state.store(answer, Ordering::Release);
                caller.unpark();
            }
        }
    }
}

/// Durable puts per second of so many callers.
pub fn run(log: &mut RawLog, callers: usize, time: Duration) -> Outcome<Sample> {
    let desk = Desk {
        open: Mutex::new(Batch::new(callers)),
        writer: OnceLock::new(),
        closed: AtomicBool::new(false),
    };
    thread::scope(|scope| {
        let writer = scope.spawn(|| desk.serve(log, callers).map_err(|error| error.to_string()));
        desk.writer.get_or_init(|| writer.thread().clone());
        let sample = run_callers(callers, BLOCK, time, &|_, _, value| desk.put(value));
        desk.closed.store(true, Ordering::Release);
        writer.join().map_err(|_| "the log's writer panicked")??;
        sample
    })
}
