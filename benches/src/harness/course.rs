//! Which block a job touches next, and how.

use crate::fio::Kind;
use crate::harness::engine::Stretch;
use crate::harness::plan::Plan;
use crate::picks::{Random, key};

/// What a job does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    /// Whether it reads or writes.
    pub kind: Kind,
    /// The block, of those of the job.
    pub block: u64,
}

/// The accesses of a job, without end: every block once in each round.
pub struct Course {
    blocks: u64,
    read_percent: usize,
    /// Blocks of this round that are done.
    done: u64,
    /// The order of this round, unless it is that of the blocks.
    order: Option<Permutation>,
    /// Of directions, and of the orders of the rounds.
    random: Random,
}

impl Course {
    /// That of one of the plan's jobs.
    pub fn new(plan: &Plan, job: usize) -> Course {
        let mut random = Random::new(plan.options.randseed);
        let seed = random.draw().wrapping_add(job as u64);
        let mut random = Random::new(seed);
        let is_random = plan.options.rw.is_random();
        let order = is_random.then(|| Permutation::new(plan.blocks(), random.draw()));
        let (blocks, read_percent) = (plan.blocks(), plan.read_percent);
        Course { blocks, read_percent, done: 0, order, random }
    }

    /// Whether a round has ended and none begun.
    pub fn is_round(&self) -> bool {
        self.done == self.blocks
    }

    /// The next access.
    pub fn next_access(&mut self) -> Access {
        if self.is_round() {
            self.done = 0;
            self.order =
                self.order.take().map(|_| Permutation::new(self.blocks, self.random.draw()));
        }
        let block = self.order.as_ref().map_or(self.done, |order| order.at(self.done));
        self.done += 1;
        let is_read = self.random.below(100) < self.read_percent;
        Access { kind: if is_read { Kind::Read } else { Kind::Write }, block }
    }
}

/// Where blocks of a job lie: in which blobs.
#[derive(Clone, Copy, Debug)]
pub struct Blocks {
    /// The number of the job's first blob.
    first_blob: u64,
    per_blob: u64,
    block_len: u64,
    seed: u64,
}

impl Blocks {
    /// Those of one of the plan's jobs.
    pub fn new(plan: &Plan, job: usize) -> Blocks {
        Blocks {
            first_blob: job as u64 * plan.blobs,
            per_blob: plan.blocks_per_blob(),
            block_len: plan.options.bs,
            seed: plan.options.randseed,
        }
    }

    /// The stretch that begins with a block.
    pub fn stretch(&self, block: u64) -> Stretch {
        let (blob, within) = (block / self.per_blob, block % self.per_blob);
        Stretch {
            key: key((self.first_blob + blob) as usize),
            offset: (self.per_blob > 1).then_some(within * self.block_len),
        }
    }

    /// The seed of a block's bytes, another for each.
    pub fn seed(&self, block: u64) -> u64 {
        self.seed.wrapping_add(self.first_blob * self.per_blob + block)
    }
}

/// All numbers below a count, each once, in an order that a seed chooses; it takes no memory.
struct Permutation {
    count: u64,
    /// Of the smallest power of two that has room for the count.
    mask: u64,
    shift: u32,
    keys: [u64; 3],
}

impl Permutation {
    fn new(count: u64, seed: u64) -> Permutation {
        let room = count.next_power_of_two();
        let mut random = Random::new(seed);
        let keys = [random.draw(), random.draw(), random.draw()];
        Permutation { count, mask: room - 1, shift: room.ilog2().div_ceil(2).max(1), keys }
    }

    /// The number at a place.
    fn at(&self, place: u64) -> u64 {
        let mut number = place;
        // A cycle of the mixed numbers that begins below the count comes back below it: skipping what is
        // beyond, on average less than one step, leaves each number once.
        loop {
            number = self.mix(number);
            if number < self.count {
                return number;
            }
        }
    }

    /// Each step can be undone, so no two numbers are mixed to one.
    fn mix(&self, number: u64) -> u64 {
        self.keys.iter().fold(number, |number, key| {
            let number = (number ^ key).wrapping_mul(0x9E37_79B9_7F4A_7C15) & self.mask;
            number ^ (number >> self.shift)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::plan::tests::plan;

    fn round(course: &mut Course, blocks: u64) -> Vec<u64> {
        (0..blocks).map(|_| course.next_access().block).collect()
    }

    #[test]
    fn a_random_order_has_every_block_once_in_each_round_and_another_in_the_next() {
        for blocks in [1, 2, 3, 7, 64, 1000, 4097] {
            let plan = plan(&format!("--rw=randread --bs=1k --size={blocks}k")).unwrap();
            let mut course = Course::new(&plan, 0);
            let (first, second) = (round(&mut course, blocks), round(&mut course, blocks));
            for order in [&first, &second] {
                let mut sorted = order.clone();
                sorted.sort_unstable();
                assert!(sorted.into_iter().eq(0..blocks), "{blocks}: {order:?}");
            }
            if blocks >= 64 {
                let steps = first.windows(2).filter(|pair| pair[1] == pair[0] + 1).count();
                assert!(first != second && steps < blocks as usize / 10, "{first:?}");
            }
        }
    }

    #[test]
    fn jobs_and_seeds_differ_in_their_orders_and_a_seed_repeats_its_own() {
        let order = |seed: u64, job| {
            let line = format!("--rw=randread --bs=1k --size=1m --randseed={seed}");
            round(&mut Course::new(&plan(&line).unwrap(), job), 1024)
        };
        assert_eq!(order(1, 0), order(1, 0));
        assert!(order(1, 0) != order(1, 1) && order(1, 0) != order(2, 0));
    }

    #[test]
    fn a_mixed_load_reads_as_often_as_it_is_told() {
        let plan = plan("--rw=rw --rwmixread=30 --bs=1k --size=10m").unwrap();
        let mut course = Course::new(&plan, 0);
        let accesses: Vec<Access> = (0..10_240).map(|_| course.next_access()).collect();
        assert!(accesses.iter().map(|access| access.block).eq(0..10_240) && course.is_round());
        let reads = accesses.iter().filter(|access| access.kind == Kind::Read).count();
        assert!((2900..3300).contains(&reads), "{reads}");
    }

    #[test]
    fn blocks_of_all_jobs_are_places_of_their_own() {
        let plan = plan("--bs=1k --blob_size=4k --size=8k --numjobs=2").unwrap();
        let places = [0, 1].map(|job| {
            let blocks = Blocks::new(&plan, job);
            [0, 3, 4].map(|block| (blocks.stretch(block), blocks.seed(block)))
        });
        let at = |blob, offset| Stretch { key: key(blob), offset: Some(offset) };
        assert_eq!(places[0], [(at(0, 0), 1), (at(0, 3072), 4), (at(1, 0), 5)]);
        assert_eq!(places[1], [(at(2, 0), 9), (at(2, 3072), 12), (at(3, 0), 13)]);
    }
}
