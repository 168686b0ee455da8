//! The seam for time, waiting, randomness and threads.
//!
//! In production every [`Actor`] (a shard, the organizer) has a thread of its own and a waiting
//! caller parks. In the simulator all actors and callers share one thread: a waiting caller steps
//! the world, which picks the next actor at random from the seed.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::error::{Result, fail};
use crate::io::sim::SimWorld;

/// More threads would wait for memory and the device.
const LANES_MAX: usize = 8;

/// Nanoseconds on the runtime's clock, which starts at 0 when the runtime is made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Nanos(pub u64);

impl Nanos {
    /// This time plus a duration.
    pub fn after(self, duration: Duration) -> Nanos {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Nanos(self.0.saturating_add(nanos))
    }

    /// The duration from an earlier time to this one; zero if it is later.
    pub fn since(self, earlier: Nanos) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// What a turn of an actor did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// Something; call again.
    Progress,
    /// Nothing to do until the doorbell rings or, if given, this time comes.
    Idle(Option<Nanos>),
    /// The actor has ended and is not called again.
    Finished,
}

/// Code that runs on a thread of its own in production, and step by step in the simulator.
pub trait Actor {
    /// Does what there is to do. With `may_sleep` it may sleep when there is nothing.
    fn turn(&mut self, may_sleep: bool) -> Turn;
}

/// Makes an actor on the thread that will run it: kernel rings belong to their creator.
pub type ActorFactory = Box<dyn FnOnce() -> Box<dyn Actor> + Send>;

/// Ends when its actor has ended.
pub enum ActorHandle {
    /// A thread.
    Thread(JoinHandle<()>),
    /// On a thread that goes on to others: tells when it has ended.
    Lent(Receiver<()>),
    /// An actor of the simulated world, by number.
    Simulated(Arc<SimWorld>, usize),
}

impl ActorHandle {
    /// [`join`](Self::join), calling `nudge` every few milliseconds until then: for an actor on
    /// glommio, whose timers may in theory still race with its way to sleep.
    pub fn join_nudging(self, nudge: impl Fn()) -> bool {
        const PAUSE: Duration = Duration::from_millis(5);
        match self {
            ActorHandle::Thread(handle) => {
                while !handle.is_finished() {
                    nudge();
                    thread::park_timeout(PAUSE);
                }
                handle.join().is_ok()
            }
            ActorHandle::Lent(end) => loop {
                nudge();
                match end.recv_timeout(PAUSE) {
                    Err(RecvTimeoutError::Timeout) => {}
                    answer => break answer.is_ok(),
                }
            },
            ActorHandle::Simulated(..) => self.join(),
        }
    }

    /// Waits for the end. Returns false if the actor panicked.
    pub fn join(self) -> bool {
        match self {
            ActorHandle::Thread(handle) => handle.join().is_ok(),
            ActorHandle::Lent(end) => end.recv().is_ok(),
            ActorHandle::Simulated(world, actor) => {
                while !world.finished(actor) {
                    world.step();
                }
                true
            }
        }
    }
}

/// Clock, randomness, waiting and actors of one store.
#[derive(Clone)]
pub enum Runtime {
    /// The operating system's.
    Os(Arc<OsRuntime>),
    /// The simulator's.
    Sim(Arc<SimWorld>),
}

/// State of the production runtime.
pub struct OsRuntime {
    start: Instant,
    /// The same moment as the kernel tells it.
    kernel_start: Duration,
    random: AtomicU64,
}

impl Runtime {
    /// The operating system's clock, threads and randomness.
    pub fn os() -> Runtime {
        let seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64)
            ^ (u64::from(std::process::id()) << 32);
        Runtime::Os(Arc::new(OsRuntime {
            start: Instant::now(),
            kernel_start: kernel_clock(libc::CLOCK_MONOTONIC),
            random: AtomicU64::new(seed),
        }))
    }

    /// The time.
    pub fn now(&self) -> Nanos {
        match self {
            Runtime::Os(os) => {
                Nanos(u64::try_from(os.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
            }
            Runtime::Sim(world) => world.now(),
        }
    }

    /// The time as of the last tick of the kernel, some milliseconds ago at most. Reading it waits
    /// for nothing, where the exact clock first waits for every load that is under way.
    #[inline]
    pub fn recent(&self) -> Nanos {
        match self {
            Runtime::Os(os) => {
                let since =
                    kernel_clock(libc::CLOCK_MONOTONIC_COARSE).saturating_sub(os.kernel_start);
                Nanos(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
            }
            Runtime::Sim(world) => world.now(),
        }
    }

    /// Seconds since 1970, for time stamps users read.
    pub fn wall_clock_s(&self) -> u64 {
        match self {
            Runtime::Os(_) => {
                SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
            }
            Runtime::Sim(world) => world.now().0 / 1_000_000_000,
        }
    }

    /// A pseudo-random number; good for placement and sampling, not for identities.
    pub fn random(&self) -> u64 {
        match self {
            Runtime::Os(os) => {
                splitmix64(os.random.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed))
            }
            Runtime::Sim(world) => world.random(),
        }
    }

    /// 16 bytes for an identity: from the kernel, or from the seed.
    pub fn random_identity(&self) -> Result<[u8; 16]> {
        let mut bytes = [0u8; 16];
        match self {
            Runtime::Sim(world) => {
                let (low, high) = bytes.split_at_mut(8);
                low.copy_from_slice(&world.random().to_le_bytes());
                high.copy_from_slice(&world.random().to_le_bytes());
            }
            Runtime::Os(_) => {
                // SAFETY: the pointer and length describe `bytes`, which outlives the call.
                let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
                if got != bytes.len() as isize {
                    let error = std::io::Error::last_os_error();
                    fail!(Internal, "getrandom for a new identity: {error}");
                }
            }
        }
        Ok(bytes)
    }

    /// Starts an actor: a thread of this name, or a participant of the simulation.
    pub fn spawn(&self, name: &str, factory: ActorFactory) -> Result<ActorHandle> {
        match self {
            Runtime::Os(_) => {
                let body = move || {
                    block_all_signals();
                    let mut actor = factory();
                    while actor.turn(true) != Turn::Finished {}
                };
                match thread::Builder::new().name(name.to_owned()).spawn(body) {
                    Ok(handle) => Ok(ActorHandle::Thread(handle)),
                    Err(error) => fail!(NoMemory, "cannot start thread {name}: {error}"),
                }
            }
            Runtime::Sim(world) => {
                let actor = world.add_actor(name, factory());
                Ok(ActorHandle::Simulated(world.clone(), actor))
            }
        }
    }

    /// Threads that [`in_parallel`](Self::in_parallel) uses at most, the caller's included.
    pub fn lanes(&self) -> usize {
        match self {
            Runtime::Os(_) => crate::config::host::usable_cores().min(LANES_MAX),
            Runtime::Sim(_) => 1,
        }
    }

    /// Does so many jobs, on all cores, and returns when the last is done. After an error no more
    /// are begun. The simulator does them in order.
    pub fn in_parallel(
        &self,
        jobs: usize,
        work: &(dyn Fn(usize) -> Result<()> + Sync),
    ) -> Result<()> {
        let next = AtomicUsize::new(0);
        let first_error = parking_lot::Mutex::new(None);
        let run = || {
            while first_error.lock().is_none() {
                let job = next.fetch_add(1, Ordering::Relaxed);
                if job >= jobs {
                    break;
                }
                if let Err(error) = work(job) {
                    first_error.lock().get_or_insert(error);
                }
            }
        };
        thread::scope(|scope| {
            for _ in 1..self.lanes().min(jobs) {
                let body = || {
                    block_all_signals();
                    run();
                };
                // Without one more thread the others do all of it.
                let _ =
                    thread::Builder::new().name("isotherm-open".into()).spawn_scoped(scope, body);
            }
            run();
        });
        first_error.into_inner().map_or(Ok(()), Err)
    }

    /// Runs a future to its end on the calling thread. Does not allocate, except the first time
    /// a thread has to wait.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return output;
        }
        match self {
            Runtime::Os(_) => PARKER.with(|parker| {
                let mut context = Context::from_waker(parker);
                loop {
                    if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                        return output;
                    }
                    // A wake between the poll and here leaves the token set: park returns at once.
                    thread::park();
                }
            }),
            Runtime::Sim(world) => loop {
                world.step();
                let mut context = Context::from_waker(Waker::noop());
                if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                    return output;
                }
            },
        }
    }
}

impl Runtime {
    /// [`block_on`](Self::block_on) until a time. `None` if the future has not ended by then.
    pub fn block_on_until<F: Future>(&self, deadline: Nanos, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        let waker = match self {
            Runtime::Os(_) => PARKER.with(Waker::clone),
            Runtime::Sim(_) => Waker::noop().clone(),
        };
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Some(output);
            }
            let left = deadline.since(self.now());
            if left.is_zero() {
                return None;
            }
            match self {
                Runtime::Os(_) => thread::park_timeout(left),
                Runtime::Sim(world) => world.step_until(deadline),
            }
        }
    }
}

/// A monotonic clock of the kernel.
#[inline]
fn kernel_clock(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a local of the right type, which the call fills in.
    let done = unsafe { libc::clock_gettime(clock, &raw mut time) };
    assert!(done == 0, "the kernel has no monotonic clock");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

struct Parker(Thread);

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

thread_local! {
    static PARKER: Waker = Waker::from(Arc::new(Parker(thread::current())));
}

/// The engine's threads take no signals: the host program's handlers run on its own threads.
pub(crate) fn block_all_signals() {
    // SAFETY: an all-zero sigset_t is a valid value for sigfillset to overwrite, and both calls
    // only touch the local set and this thread's mask.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, std::ptr::null_mut());
    }
}

/// The finalizer of Vigna's SplitMix64: mixes a counter into a well-spread number.
pub(crate) fn splitmix64(counter: u64) -> u64 {
    let mut z = counter.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recent_time_is_never_ahead_of_the_exact_one_and_does_not_go_back() {
        let runtime = Runtime::os();
        let mut last = Nanos(0);
        for _ in 0..10_000 {
            let recent = runtime.recent();
            assert!(recent >= last && recent <= runtime.now());
            last = recent;
        }
    }
}
