//! When the power fails: all over a life, and with a liking for moments at which it hurts.

use std::cell::Cell;
use std::future::poll_fn;
use std::task::Poll;

use isotherm::log::superblock::{SUPERBLOCK_LEN, SUPERBLOCK_SLOTS};

use crate::common::Common;
use crate::life::Life;
use crate::options::Options;
use crate::rng::Rng;

/// Polls of the attacker behind the drawn operation, at most.
const POLLS_MAX: u64 = 3000;
/// A moment that does not come is waited for no longer.
const PATIENCE: u64 = 20_000;

/// What the attacker waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// Nothing.
    Any,
    /// Something was promised just now.
    Promised,
    /// A superblock is being written.
    Superblock,
}

/// The cuts of a life: each falls into a part of the callers' operations of its own.
pub struct Moments {
    /// Operations that were answered before the life began, and those that it will take.
    before: u64,
    length: u64,
    cuts: u64,
    done: u64,
}

impl Moments {
    /// Those of a life that begins.
    pub fn of(options: &Options, common: &Common) -> Moments {
        let (before, length) = (common.operations.get(), options.operations / options.lives);
        Moments { before, length, cuts: options.cuts, done: 0 }
    }

    /// Waits for the next one. False if there is none, or nobody works any more.
    pub async fn next(
        &mut self,
        (life, common): (&Life, &Common),
        working: &Cell<usize>,
        rng: &mut Rng,
    ) -> bool {
        if self.done == self.cuts {
            return false;
        }
        let inside = rng.below(self.length.max(1));
        let operation = self.before + (self.done * self.length + inside) / (self.cuts + 1);
        self.done += 1;
        pass(u64::MAX, working, || common.operations.get() >= operation).await;
        pass(rng.log_uniform(POLLS_MAX), working, || false).await;
        match rng.pick(&[Moment::Any, Moment::Any, Moment::Promised, Moment::Superblock]) {
            Moment::Any => {}
            Moment::Promised => {
                let promises = common.oracle.borrow().promises;
                pass(PATIENCE, working, || common.oracle.borrow().promises > promises).await;
            }
            Moment::Superblock => {
                let end = SUPERBLOCK_SLOTS[1] + SUPERBLOCK_LEN as u64;
                pass(PATIENCE, working, || life.devices[0].is_writing_below(end)).await;
            }
        }
        working.get() > 0
    }
}

/// Waits for so many polls, until it is so, or until nobody works.
async fn pass(polls: u64, working: &Cell<usize>, mut is_so: impl FnMut() -> bool) {
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 || working.get() == 0 || is_so() {
            return Poll::Ready(());
        }
        left -= 1;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
