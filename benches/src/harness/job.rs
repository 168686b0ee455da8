//! One thread of a load.

use std::time::{Duration, Instant};

use crate::fio::Kind;
use crate::harness::course::{Access, Blocks, Course};
use crate::harness::engine::{Engine, Queue};
use crate::harness::failure::{Failure, Outcome};
use crate::harness::figures::Figures;
use crate::harness::plan::Plan;
use crate::picks::{fill, is_filled};

/// A job: where it is in its course, and what it has counted.
pub struct Job<'a> {
    plan: &'a Plan,
    course: Course,
    blocks: Blocks,
    figures: Figures,
    /// Blocks that have been written; of these a check at the end knows what is in them.
    written: Vec<bool>,
    start: Instant,
    /// When its last operation ended.
    now: Instant,
}

/// What a job comes to.
pub struct Ended {
    /// What it has counted.
    pub figures: Figures,
    /// Blocks that it has written, if they are to be checked.
    pub written: Vec<bool>,
    /// From its first operation to the end of its last.
    pub took: Duration,
}

impl<'a> Job<'a> {
    /// One of the plan's jobs.
    pub fn new(plan: &'a Plan, number: usize) -> Outcome<Job<'a>> {
        let now = Instant::now();
        let is_checked = plan.options.verify && plan.read_percent < 100;
        Ok(Job {
            plan,
            course: Course::new(plan, number),
            blocks: Blocks::new(plan, number),
            figures: Figures::new()?,
            written: vec![false; if is_checked { plan.blocks() as usize } else { 0 }],
            start: now,
            now,
        })
    }

    /// Goes through the course.
    pub fn run<E: Engine>(mut self, engine: &E) -> Outcome<Ended> {
        match self.plan.options.iodepth {
            1 => self.run_one_by_one(engine)?,
            depth => self.run_queue(engine, depth)?,
        }
        Ok(Ended { figures: self.figures, written: self.written, took: self.now - self.start })
    }

    fn begin(&mut self) {
        self.start = Instant::now();
        self.now = self.start;
    }

    fn run_one_by_one<E: Engine>(&mut self, engine: &E) -> Outcome {
        let mut memory = vec![0; self.plan.block_len()];
        fill(&mut memory, self.blocks.seed(0));
        self.begin();
        while let Some(access) = self.next_access() {
            let stretch = self.blocks.stretch(access.block);
            let (start, bytes) = match access.kind {
                Kind::Read => {
                    let start = Instant::now();
                    (start, engine.read(&stretch, &mut memory)?)
                }
                Kind::Write => {
                    self.prepare(access, &mut memory);
                    let start = Instant::now();
                    engine.write(&stretch, &memory, None)?;
                    (start, memory.len())
                }
            };
            self.now = Instant::now();
            self.end(access, self.now - start, bytes, &memory)?;
        }
        Ok(())
    }

    fn run_queue<E: Engine>(&mut self, engine: &E, depth: usize) -> Outcome {
        let mut queue = engine.queue(depth, self.plan.block_len())?;
        for slot in 0..depth {
            fill(queue.memory(slot), self.blocks.seed(slot as u64));
        }
        let mut idle: Vec<usize> = (0..depth).collect();
        self.begin();
        let mut under_way = vec![(Access { kind: Kind::Read, block: 0 }, self.start); depth];
        let mut ended = Vec::with_capacity(depth);
        loop {
            while let Some(slot) = idle.pop() {
                let Some(access) = self.next_access() else {
                    idle.push(slot);
                    break;
                };
                if access.kind == Kind::Write {
                    self.prepare(access, queue.memory(slot));
                }
                under_way[slot] = (access, Instant::now());
                queue.submit(slot, access.kind, &self.blocks.stretch(access.block))?;
            }
            if idle.len() == depth {
                return Ok(());
            }
            queue.wait(&mut ended)?;
            self.now = Instant::now();
            for (slot, bytes) in ended.drain(..) {
                let (access, start) = under_way[slot];
                self.end(access, self.now - start, bytes, queue.memory(slot))?;
                idle.push(slot);
            }
        }
    }

    /// The next access, unless the job has done enough or its time is over.
    fn next_access(&mut self) -> Option<Access> {
        let options = &self.plan.options;
        let is_over = options.runtime.is_some_and(|time| self.now - self.start >= time);
        let is_enough = self.course.is_round() && !options.time_based;
        (!is_over && !is_enough).then(|| self.course.next_access())
    }

    /// What is to be checked has bytes of its own; other writes store the same ones again and again.
    fn prepare(&self, access: Access, memory: &mut [u8]) {
        if self.plan.options.verify {
            fill(memory, self.blocks.seed(access.block));
        }
    }

    #[inline]
    fn end(&mut self, access: Access, took: Duration, bytes: usize, memory: &[u8]) -> Outcome {
        if bytes != memory.len() {
            return short(access, bytes, memory.len());
        }
        self.figures.count(access.kind, took);
        if self.plan.options.verify {
            match access.kind {
                Kind::Write => self.written[access.block as usize] = true,
                Kind::Read => {
                    let is_right = is_filled(memory, self.blocks.seed(access.block));
                    self.figures.mismatches += u64::from(!is_right);
                }
            }
        }
        Ok(())
    }
}

#[cold]
fn short(access: Access, bytes: usize, len: usize) -> Outcome {
    let Access { kind, block } = access;
    Err(Failure::Run(format!("{kind:?} of block {block} transferred {bytes} bytes of {len}")))
}

/// Writes all blobs of a job, in pieces of their size at most, at Memory level.
pub fn lay_out<E: Engine>(plan: &Plan, number: usize, engine: &E) -> Outcome {
    let blocks = Blocks::new(plan, number);
    let (block_len, per_blob) = (plan.block_len(), plan.blocks_per_blob());
    let step = plan.blocks_per_layout();
    let mut memory = vec![0; step as usize * block_len];
    for blob in 0..plan.blobs {
        for within in (0..per_blob).step_by(step as usize) {
            let first = blob * per_blob + within;
            let piece = &mut memory[..step.min(per_blob - within) as usize * block_len];
            for (block, bytes) in (first..).zip(piece.chunks_mut(block_len)) {
                fill(bytes, blocks.seed(block));
            }
            engine.write(&blocks.stretch(first), piece, Some(isotherm::Durability::Memory))?;
        }
    }
    Ok(())
}

/// Reads back what a job has written. Returns how many blocks are something else.
pub fn check<E: Engine>(plan: &Plan, number: usize, written: &[bool], engine: &E) -> Outcome<u64> {
    let blocks = Blocks::new(plan, number);
    let mut memory = vec![0; plan.block_len()];
    let mut mismatches = 0;
    for (block, _) in (0..).zip(written).filter(|(_, written)| **written) {
        let bytes = engine.read(&blocks.stretch(block), &mut memory)?;
        let is_right = bytes == memory.len() && is_filled(&memory, blocks.seed(block));
        mismatches += u64::from(!is_right);
    }
    Ok(mismatches)
}
