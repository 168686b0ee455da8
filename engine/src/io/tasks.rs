//! A tiny executor for the tasks of one thread: first woken, first run.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, ThreadId};

use parking_lot::Mutex;

use crate::io::Doorbell;
use crate::io::exec::LocalFuture;

/// Rounds of one [`TaskSet::run`]: tasks that always wake each other must not keep the thread
/// from its ring.
const ROUNDS_MAX: usize = 16;

/// The tasks of one thread. Whoever owns the set calls [`run`](TaskSet::run) whenever the doorbell
/// rang or something was done, and does not sleep while [`has_ready`](TaskSet::has_ready).
pub struct TaskSet {
    tasks: Rc<RefCell<Tasks>>,
    ready: Arc<Ready>,
    round: VecDeque<Arc<TaskWaker>>,
}

/// Starts tasks in the set it came from; also from inside a running task.
#[derive(Clone)]
pub struct Spawner {
    tasks: Weak<RefCell<Tasks>>,
    ready: Arc<Ready>,
}

#[derive(Default)]
struct Tasks {
    /// `None`: free, or being polled right now.
    slots: Vec<Option<LocalFuture<'static, ()>>>,
    free: Vec<usize>,
    live: usize,
    closed: bool,
}

/// Which tasks to poll next. The only part that other threads touch.
struct Ready {
    owner: ThreadId,
    doorbell: Arc<dyn Doorbell>,
    queue: Mutex<VecDeque<Arc<TaskWaker>>>,
}

struct TaskWaker {
    ready: Arc<Ready>,
    slot: usize,
    /// In the queue already.
    queued: AtomicBool,
    /// The slot may belong to another task by now.
    ended: AtomicBool,
}

impl TaskWaker {
    fn enqueue(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.ready.queue.lock().push_back(self.clone());
            // The owner looks at the queue before it sleeps; anybody else must wake it.
            if thread::current().id() != self.ready.owner {
                self.ready.doorbell.ring();
            }
        }
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.enqueue();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.enqueue();
    }
}

impl TaskSet {
    /// An empty set for the calling thread. The doorbell wakes that thread.
    pub fn new(doorbell: Arc<dyn Doorbell>) -> TaskSet {
        let queue = Mutex::new(VecDeque::new());
        let ready = Arc::new(Ready { owner: thread::current().id(), doorbell, queue });
        TaskSet { tasks: Rc::default(), ready, round: VecDeque::new() }
    }

    /// Starts tasks in this set.
    pub fn spawner(&self) -> Spawner {
        Spawner { tasks: Rc::downgrade(&self.tasks), ready: self.ready.clone() }
    }

    /// Polls every task that is ready, and those that become ready meanwhile, for a bounded
    /// number of rounds. True if it polled any.
    pub fn run(&mut self) -> bool {
        let mut ran = false;
        for _ in 0..ROUNDS_MAX {
            std::mem::swap(&mut *self.ready.queue.lock(), &mut self.round);
            if self.round.is_empty() {
                break;
            }
            ran = true;
            while let Some(waker) = self.round.pop_front() {
                self.poll(waker);
            }
        }
        ran
    }

    /// Whether a task waits to be polled.
    pub fn has_ready(&self) -> bool {
        !self.ready.queue.lock().is_empty()
    }

    /// Whether there is no task.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tasks that have not ended.
    pub fn len(&self) -> usize {
        self.tasks.borrow().live
    }

    fn poll(&self, task: Arc<TaskWaker>) {
        if task.ended.load(Ordering::Relaxed) {
            return;
        }
        let slot = task.slot;
        let future = self.tasks.borrow_mut().slots.get_mut(slot).and_then(Option::take);
        let Some(mut future) = future else { return };
        // Before the poll: a wake from now on queues the task again.
        task.queued.swap(false, Ordering::AcqRel);
        let waker = Waker::from(task.clone());
        // No borrow of the table is held: the task may spawn, and wake, and drop others.
        if future.as_mut().poll(&mut Context::from_waker(&waker)) == Poll::Pending {
            self.tasks.borrow_mut().slots[slot] = Some(future);
            return;
        }
        task.ended.store(true, Ordering::Relaxed);
        drop(future);
        let mut tasks = self.tasks.borrow_mut();
        tasks.free.push(slot);
        tasks.live -= 1;
    }
}

impl Drop for TaskSet {
    fn drop(&mut self) {
        // A dropped future may drop spawners, or try to spawn: no borrow is held meanwhile.
        let slots = {
            let mut tasks = self.tasks.borrow_mut();
            tasks.closed = true;
            std::mem::take(&mut tasks.slots)
        };
        drop(slots);
    }
}

impl Spawner {
    /// Starts a task; it runs when the set is next run. After the end of the set it is dropped.
    pub fn spawn(&self, future: LocalFuture<'static, ()>) {
        let Some(tasks) = self.tasks.upgrade() else { return };
        let mut tasks = tasks.borrow_mut();
        if tasks.closed {
            return;
        }
        let slot = tasks.free.pop().unwrap_or(tasks.slots.len());
        let waker = Arc::new(TaskWaker {
            ready: self.ready.clone(),
            slot,
            queued: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        });
        match tasks.slots.get_mut(slot) {
            Some(free) => *free = Some(future),
            None => tasks.slots.push(Some(future)),
        }
        tasks.live += 1;
        drop(tasks);
        waker.enqueue();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::wait::oneshot;
    use std::cell::Cell;
    use std::sync::atomic::AtomicUsize;

    #[derive(Default)]
    struct CountingBell(AtomicUsize);

    impl Doorbell for CountingBell {
        fn ring(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn set() -> (TaskSet, Arc<CountingBell>) {
        let bell = Arc::new(CountingBell::default());
        (TaskSet::new(bell.clone()), bell)
    }

    #[test]
    fn tasks_run_in_the_order_they_were_spawned_and_may_spawn() {
        let (mut set, bell) = set();
        let order = Rc::new(RefCell::new(Vec::new()));
        for number in 0..3 {
            let (order, spawner) = (order.clone(), set.spawner());
            set.spawner().spawn(Box::pin(async move {
                order.borrow_mut().push(number);
                let order = order.clone();
                spawner.spawn(Box::pin(async move { order.borrow_mut().push(10 + number) }));
            }));
        }
        assert_eq!(set.len(), 3);
        assert!(set.run());
        assert_eq!(*order.borrow(), [0, 1, 2, 10, 11, 12]);
        assert!(set.is_empty() && !set.has_ready() && !set.run());
        assert_eq!(bell.0.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_wake_from_another_thread_rings_and_readies_the_task() {
        let (mut set, bell) = set();
        let (sender, receiver) = oneshot();
        let got = Rc::new(Cell::new(0));
        let result = got.clone();
        set.spawner().spawn(Box::pin(async move { result.set(receiver.await.unwrap()) }));
        set.run();
        thread::spawn(move || sender.send(5)).join().unwrap();
        assert_eq!(bell.0.load(Ordering::SeqCst), 1);
        assert!(set.has_ready() && set.run());
        assert_eq!(got.get(), 5);
    }

    #[test]
    fn a_late_wake_of_an_ended_task_does_not_touch_its_successor() {
        let (mut set, _bell) = set();
        let kept = Rc::new(RefCell::new(None));
        let keep = kept.clone();
        set.spawner().spawn(Box::pin(std::future::poll_fn(move |cx| {
            *keep.borrow_mut() = Some(cx.waker().clone());
            cx.waker().wake_by_ref();
            Poll::Ready(())
        })));
        set.run();
        let polls = Rc::new(Cell::new(0));
        let count = polls.clone();
        set.spawner().spawn(Box::pin(std::future::poll_fn(move |_| {
            count.set(count.get() + 1);
            Poll::Pending
        })));
        set.run();
        kept.borrow_mut().take().unwrap().wake();
        set.run();
        assert_eq!((polls.get(), set.len()), (1, 1));
    }

    #[test]
    fn dropping_the_set_drops_tasks_that_hold_its_spawner() {
        let (set, _bell) = set();
        let alive = Rc::new(());
        let (inside, spawner) = (alive.clone(), set.spawner());
        set.spawner().spawn(Box::pin(async move {
            let _inside = inside;
            spawner.spawn(Box::pin(std::future::pending()));
            std::future::pending::<()>().await;
        }));
        drop(set);
        assert_eq!(Rc::strong_count(&alive), 1);
    }

    #[test]
    fn tasks_that_wake_themselves_forever_do_not_keep_run_from_returning() {
        let (mut set, _bell) = set();
        set.spawner().spawn(Box::pin(std::future::poll_fn(|cx| {
            cx.waker().wake_by_ref();
            Poll::Pending
        })));
        assert!(set.run() && set.has_ready());
    }
}
