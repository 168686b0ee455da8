//! The threads that have a glommio executor: each runs one organizer after the other.
//!
//! glommio 0.9 never lets go of an executor's eventfd: every task that ends keeps a count of it
//! (`RawTask::destroy` deallocates the header and drops nothing of it). So executors are kept, idle, for
//! the next store that is opened: a process has as many as it ever had stores open at once, however
//! often it opens them.

use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use glommio::{
    Latency, LocalExecutor, LocalExecutorBuilder, Placement, Shares, TaskQueueHandle, executor,
};
use parking_lot::Mutex;

use crate::io::exec::LocalFuture;
use crate::io::runtime::block_all_signals;

/// Memory that glommio registers with each of its rings: half of what an ordinary user may lock
/// must remain for others.
const IO_MEMORY: usize = 1 << 20;
/// Of 1000 shares, those of space-making tasks.
const SPACE_SHARES: usize = 800;
/// glommio preempts tasks when its timer, or any event of its latency ring, has fired. Version 0.9
/// loses tasks that way: where the timer fires before the first task of a round runs, the round
/// counts as one without work, and the executor parks although tasks are ready. Then it sleeps over
/// everything until something else wakes it. So the timer never fires. Tasks that compute for long
/// yield, and `YIELD` sends the executor past its rings.
const PREEMPT_NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// An executor's queues, by the class of their tasks.
#[derive(Clone, Copy)]
pub(super) struct Queues {
    pub(super) space: TaskQueueHandle,
    pub(super) background: TaskQueueHandle,
}

/// What a worker runs, given its queues.
pub(super) type Work = Box<dyn FnOnce(Queues) -> LocalFuture<'static, ()> + Send>;

/// A thread that waits for work.
pub(super) struct Worker {
    jobs: Sender<Job>,
    /// The process that it is a thread of: a fork does not take it along.
    process: u32,
}

struct Job {
    work: Work,
    /// Comes back when the work is done.
    worker: Worker,
    ended: Sender<()>,
}

/// Those that nobody uses.
static IDLE: Mutex<Vec<Worker>> = Mutex::new(Vec::new());

/// An idle worker, or a new one. Else why there is none.
pub(super) fn take() -> Result<Worker, String> {
    let process = std::process::id();
    let idle = {
        let mut idle = IDLE.lock();
        idle.retain(|worker| worker.process == process);
        idle.pop()
    };
    idle.map_or_else(start, Ok)
}

impl Worker {
    /// Runs this, and is idle again afterwards. Answered at the end; abandoned by a panic.
    pub(super) fn run(self, work: Work) -> Receiver<()> {
        let (ended, end) = mpsc::channel();
        let jobs = self.jobs.clone();
        // A thread that is gone drops the job, and who waits for its end is told.
        let _ = jobs.send(Job { work, worker: self, ended });
        end
    }
}

fn start() -> Result<Worker, String> {
    let (jobs, inbox) = mpsc::channel();
    let (started, starting) = mpsc::channel();
    let thread = move || {
        block_all_signals();
        match make() {
            Ok(executor) => {
                // If nobody listens any more, there are no jobs either.
                let _ = started.send(Ok(()));
                executor.run(serve(inbox));
            }
            Err(error) => drop(started.send(Err(error))),
        }
    };
    let spawned = thread::Builder::new().name("isotherm-org".to_owned()).spawn(thread);
    let handle = spawned.map_err(|error| format!("cannot start a thread: {error}"))?;
    match starting.recv() {
        Ok(Ok(())) => Ok(Worker { jobs, process: std::process::id() }),
        answer => {
            // A panic has told its reason on stderr.
            let _ = handle.join();
            let panicked = || "glommio panicked while starting".to_owned();
            Err(answer.ok().and_then(Result::err).unwrap_or_else(panicked))
        }
    }
}

fn make() -> Result<LocalExecutor, String> {
    LocalExecutorBuilder::new(Placement::Unbound)
        .name("isotherm-org")
        .io_memory(IO_MEMORY)
        .preempt_timer(PREEMPT_NEVER)
        .make()
        .map_err(|error| error.to_string())
}

/// Runs what comes. Nothing else is on the executor meanwhile: it may block.
async fn serve(inbox: Receiver<Job>) {
    // A queue whose latency matters would shorten the preemption timer.
    let queue = |shares, name| {
        executor().create_task_queue(Shares::Static(shares), Latency::NotImportant, name)
    };
    let space = queue(SPACE_SHARES, "space");
    let queues = Queues { space, background: queue(1000 - SPACE_SHARES, "background") };
    while let Ok(Job { work, worker, ended }) = inbox.recv() {
        work(queues).await;
        // Before anybody hears of the end: the next store finds it.
        IDLE.lock().push(worker);
        let _ = ended.send(());
    }
}
