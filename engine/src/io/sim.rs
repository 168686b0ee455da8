//! The simulated world: every actor and caller of a store on one thread, in an order, with a
//! clock and with random numbers that all come from one seed.
//!
//! The same seed gives the same run; [`trace_hash`](SimWorld::trace_hash) tells whether it did.

use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, ThreadId};

use parking_lot::Mutex;

use crate::io::exec::LocalFuture;
use crate::io::runtime::{Actor, Nanos, Turn, splitmix64};

/// Events of the world itself in its trace. The engine's own start at 1000.
pub mod event {
    /// An actor took a turn; the detail is its number.
    pub const TURN: u64 = 1;
    /// A caller was polled; the detail is its number.
    pub const CALLER: u64 = 2;
    /// The clock jumped because everybody waited; the detail is the new time.
    pub const JUMP: u64 = 3;
    /// A device was read. Further words follow: offset, length, checksum.
    pub const READ: u64 = 4;
    /// A device was written. Further words follow: offset, length, checksum.
    pub const WRITE: u64 = 5;
    /// A device was flushed.
    pub const FLUSH: u64 = 6;
    /// The second and later words of an event.
    pub const MORE: u64 = 7;
}

/// Longest advance of the clock in one step.
const STEP_NANOS_MAX: u64 = 50_000;

/// See the module. Shared by the runtime, the devices and the rings of a simulated store.
pub struct SimWorld {
    seed: u64,
    state: Mutex<State>,
}

struct State {
    now: Nanos,
    random: u64,
    trace_hash: u64,
    trace_len: u64,
    actors: Vec<Entry>,
    /// The actor that takes a turn at this moment.
    running: Option<usize>,
    /// Operations that simulated rings hold: they will be done, so nobody is deadlocked.
    pending_io: usize,
}

struct Entry {
    name: String,
    /// Absent while it takes its turn, and after its end.
    actor: Option<OnThread>,
    finished: bool,
}

/// What a step has come to.
enum Moved {
    /// Something happened.
    Yes,
    /// Every actor waits, the earliest until this time.
    AllWait(Option<Nanos>),
}

impl SimWorld {
    /// A world that follows this seed. The clock starts at 0.
    pub fn new(seed: u64) -> Arc<SimWorld> {
        let state = State {
            now: Nanos(0),
            random: seed,
            trace_hash: 0,
            trace_len: 0,
            actors: Vec::new(),
            running: None,
            pending_io: 0,
        };
        Arc::new(SimWorld { seed, state: Mutex::new(state) })
    }

    /// The simulated time.
    pub fn now(&self) -> Nanos {
        self.state.lock().now
    }

    /// The next number of the seed's sequence.
    pub fn random(&self) -> u64 {
        self.state.lock().random()
    }

    /// Adds a participant; the number names it.
    pub fn add_actor(&self, name: &str, actor: Box<dyn Actor>) -> usize {
        let mut state = self.state.lock();
        let actor = Some(OnThread::new(actor));
        state.actors.push(Entry { name: name.to_owned(), actor, finished: false });
        state.actors.len() - 1
    }

    /// Whether this actor has ended.
    pub fn finished(&self, actor: usize) -> bool {
        self.state.lock().actors.get(actor).is_none_or(|entry| entry.finished)
    }

    /// Lets one actor take a turn: one picked at random, or if it waits, the next that does not.
    /// If all wait, the clock jumps to the earliest time that one of them waits for.
    ///
    /// Panics if nobody waits for a time either: the caller waits for what nobody will do.
    pub fn step(&self) {
        if let Moved::AllWait(until) = self.turn_one() {
            self.jump(until);
        }
    }

    /// [`step`](Self::step), for a caller who waits until this time at the latest.
    pub fn step_until(&self, deadline: Nanos) {
        if let Moved::AllWait(until) = self.turn_one() {
            self.jump(Some(until.map_or(deadline, |until| until.min(deadline))));
        }
    }

    /// Runs several callers beside each other, and the actors between them, until all callers
    /// have ended. A caller is polled again only after its waker was called: a future that forgets
    /// its waker hangs here as it would in production.
    ///
    /// A caller that blocks inside its poll steps the actors, but not the other callers.
    pub fn run(&self, callers: Vec<LocalFuture<'_, ()>>) {
        let mut callers: Vec<_> = callers.into_iter().map(Some).collect();
        let woken: Vec<_> = callers.iter().map(|_| Arc::new(Flag(AtomicBool::new(true)))).collect();
        while callers.iter().any(Option::is_some) {
            let ready: Vec<usize> = (0..callers.len())
                .filter(|caller| callers[*caller].is_some() && woken[*caller].is_set())
                .collect();
            if ready.is_empty() {
                self.step();
                continue;
            }
            let choice = self.random();
            if choice & 1 == 0 && matches!(self.turn_one(), Moved::Yes) {
                continue;
            }
            let number = ready[(choice >> 1) as usize % ready.len()];
            self.trace(event::CALLER, number as u64);
            woken[number].clear();
            let waker = Waker::from(woken[number].clone());
            if let Some(caller) = &mut callers[number]
                && caller.as_mut().poll(&mut Context::from_waker(&waker)) == Poll::Ready(())
            {
                callers[number] = None;
            }
        }
    }

    /// Folds an event into the hash of this run.
    pub fn trace(&self, event: u64, detail: u64) {
        self.state.lock().trace(event, detail);
    }

    /// The hash of everything traced so far: equal for equal runs.
    pub fn trace_hash(&self) -> u64 {
        self.state.lock().trace_hash
    }

    /// Events traced so far.
    pub fn trace_len(&self) -> u64 {
        self.state.lock().trace_len
    }

    /// A simulated ring took on, or got rid of, operations.
    pub(crate) fn change_pending_io(&self, by: isize) {
        let mut state = self.state.lock();
        state.pending_io = state.pending_io.saturating_add_signed(by);
    }

    fn turn_one(&self) -> Moved {
        let (count, first) = {
            let mut state = self.state.lock();
            if let Some(running) = state.running {
                let name = state.actors[running].name.clone();
                drop(state);
                panic!("actor {name} waits by stepping the world, which runs {name} already");
            }
            state.now.0 += 1000 + state.random() % (STEP_NANOS_MAX - 1000);
            let count = state.actors.len();
            let live = state.actors.iter().filter(|entry| !entry.finished).count();
            let pick = state.random() as usize % live.max(1);
            let mut numbers = (0..count).filter(|number| !state.actors[*number].finished);
            (count, numbers.nth(pick).unwrap_or(0))
        };
        let mut earliest: Option<Nanos> = None;
        for number in (first..count).chain(0..first) {
            match self.turn_of(number) {
                Some(Turn::Progress | Turn::Finished) => return Moved::Yes,
                Some(Turn::Idle(Some(until))) => {
                    earliest = Some(earliest.map_or(until, |other| other.min(until)));
                }
                Some(Turn::Idle(None)) | None => {}
            }
        }
        // A later step completes them.
        if self.state.lock().pending_io > 0 { Moved::Yes } else { Moved::AllWait(earliest) }
    }

    /// Lets this actor take a turn. `None` if it has ended.
    fn turn_of(&self, number: usize) -> Option<Turn> {
        let mut actor = {
            let mut state = self.state.lock();
            let actor = state.actors[number].actor.take()?;
            state.running = Some(number);
            state.trace(event::TURN, number as u64);
            actor
        };
        // No lock is held: the actor asks for the time, does I/O, traces.
        let turn = actor.get().turn(false);
        if turn == Turn::Finished {
            drop(actor);
            let mut state = self.state.lock();
            state.running = None;
            state.actors[number].finished = true;
        } else {
            let mut state = self.state.lock();
            state.running = None;
            state.actors[number].actor = Some(actor);
        }
        Some(turn)
    }

    fn jump(&self, until: Option<Nanos>) {
        let mut state = self.state.lock();
        let Some(until) = until else {
            let names: Vec<String> = (state.actors.iter())
                .filter(|entry| !entry.finished)
                .map(|entry| entry.name.clone())
                .collect();
            drop(state);
            panic!("simulated world is deadlocked, seed {}, actors {names:?}", self.seed);
        };
        state.now = state.now.max(until);
        let now = state.now.0;
        state.trace(event::JUMP, now);
    }
}

impl State {
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        splitmix64(self.random)
    }

    fn trace(&mut self, event: u64, detail: u64) {
        self.trace_hash = splitmix64(splitmix64(self.trace_hash ^ event) ^ detail);
        self.trace_len += 1;
    }
}

/// A caller's waker: it is worth polling.
struct Flag(AtomicBool);

impl Flag {
    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn clear(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// An actor that is used on the thread that added it, and on no other.
struct OnThread {
    owner: ThreadId,
    actor: ManuallyDrop<Box<dyn Actor>>,
}

// SAFETY: the actor itself never crosses threads: `get` asserts that it is called on the owner's
// thread, and `drop` leaks the actor on any other.
unsafe impl Send for OnThread {}

impl OnThread {
    fn new(actor: Box<dyn Actor>) -> OnThread {
        OnThread { owner: thread::current().id(), actor: ManuallyDrop::new(actor) }
    }

    fn get(&mut self) -> &mut dyn Actor {
        assert!(self.owner == thread::current().id(), "a simulated world runs on one thread");
        &mut **self.actor
    }
}

impl Drop for OnThread {
    fn drop(&mut self) {
        if self.owner == thread::current().id() {
            // SAFETY: nobody uses the actor after this, its only drop.
            unsafe { ManuallyDrop::drop(&mut self.actor) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nested(Arc<SimWorld>);

    impl Actor for Nested {
        fn turn(&mut self, _may_sleep: bool) -> Turn {
            self.0.step();
            Turn::Finished
        }
    }

    #[test]
    #[should_panic(expected = "actor nested waits by stepping the world")]
    fn an_actor_that_waits_inside_its_turn_is_reported() {
        let world = SimWorld::new(1);
        world.add_actor("nested", Box::new(Nested(world.clone())));
        world.step();
    }

    struct Sleeper(Arc<SimWorld>, Nanos);

    impl Actor for Sleeper {
        fn turn(&mut self, _may_sleep: bool) -> Turn {
            if self.0.now() < self.1 { Turn::Idle(Some(self.1)) } else { Turn::Finished }
        }
    }

    #[test]
    fn the_clock_jumps_to_the_earliest_time_when_all_wait() {
        let world = SimWorld::new(3);
        let hour = 3_600_000_000_000;
        let late = world.add_actor("late", Box::new(Sleeper(world.clone(), Nanos(2 * hour))));
        let early = world.add_actor("early", Box::new(Sleeper(world.clone(), Nanos(hour))));
        while !world.finished(early) {
            world.step();
        }
        assert!(!world.finished(late) && world.now() < Nanos(2 * hour));
        while !world.finished(late) {
            world.step();
        }
        assert!(world.trace_len() < 100);
    }

    struct Forgotten(std::rc::Rc<()>);

    impl Actor for Forgotten {
        fn turn(&mut self, _may_sleep: bool) -> Turn {
            let _ = std::rc::Rc::strong_count(&self.0);
            Turn::Idle(None)
        }
    }

    #[test]
    fn a_world_dropped_on_another_thread_leaves_its_actors_alone() {
        let inside = std::rc::Rc::new(());
        let world = SimWorld::new(3);
        world.add_actor("forgotten", Box::new(Forgotten(inside.clone())));
        thread::spawn(move || drop(world)).join().unwrap();
        assert_eq!(std::rc::Rc::strong_count(&inside), 2);
    }
}
