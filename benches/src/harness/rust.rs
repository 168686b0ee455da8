//! The store through its Rust interface.

use std::path::Path;

use isotherm::control::info_json;
use isotherm::{
    Action, Bucket, Completion, Durability, OpMemory, Operation, PutOptions, Scope, Store,
};
use serde_json::Value;

use crate::fio::Kind;
use crate::harness::engine::{BUCKET, Engine, Queue, Stretch};
use crate::harness::failure::{Failure, Outcome};
use crate::harness::plan::Plan;

/// An open store.
pub struct RustStore {
    store: Store,
    bucket: Bucket,
}

impl Engine for RustStore {
    type Queue<'a> = RustQueue<'a>;

    fn open(directory: &Path, plan: &Plan) -> Outcome<RustStore> {
        let store = Store::open(directory, plan.config.clone())?;
        let bucket = store.bucket(BUCKET)?;
        Ok(RustStore { store, bucket })
    }

    fn info(&self) -> Outcome<Value> {
        Ok(info_json(&self.store.info()))
    }

    #[inline]
    fn write(&self, at: &Stretch, bytes: &[u8], level: Option<Durability>) -> Outcome {
        let options = PutOptions { durability: level, ..PutOptions::default() };
        match at.offset {
            None => self.bucket.put_with(&at.key, bytes, options)?,
            Some(offset) => self.bucket.put_at_with(&at.key, offset, bytes, options)?,
        };
        Ok(())
    }

    #[inline]
    fn read(&self, at: &Stretch, into: &mut [u8]) -> Outcome<usize> {
        Ok(match at.offset {
            None => self.bucket.get_into(&at.key, into)?,
            Some(offset) => self.bucket.get_at(&at.key, offset, into)?,
        })
    }

    fn queue(&self, depth: usize, len: usize) -> Outcome<RustQueue<'_>> {
        Ok(RustQueue {
            queue: self.store.queue(depth)?,
            bucket: &self.bucket,
            memory: vec![vec![0; len]; depth],
            taken: Vec::with_capacity(depth),
        })
    }

    fn flush(&self) -> Outcome {
        Ok(self.store.flush(Scope::Store)?)
    }

    fn close(self) -> Outcome {
        Ok(self.store.close()?)
    }
}

/// A queue, with the memory of the slots in which nothing is under way.
pub struct RustQueue<'a> {
    queue: isotherm::Queue,
    bucket: &'a Bucket,
    memory: Vec<Vec<u8>>,
    taken: Vec<Completion>,
}

impl Queue for RustQueue<'_> {
    fn memory(&mut self, slot: usize) -> &mut [u8] {
        &mut self.memory[slot]
    }

    fn submit(&mut self, slot: usize, kind: Kind, at: &Stretch) -> Outcome {
        let action = match (kind, at.offset) {
            (Kind::Read, None) => Action::Get,
            (Kind::Read, Some(offset)) => Action::GetAt(offset),
            (Kind::Write, None) => Action::Put,
            (Kind::Write, Some(offset)) => Action::PutAt(offset),
        };
        let memory = OpMemory::Owned(std::mem::take(&mut self.memory[slot]));
        let operation = Operation::new(self.bucket, &at.key, action, memory);
        self.queue.submit(operation.tagged(slot as u64)).map_err(|refused| refused.error)?;
        Ok(())
    }

    fn wait(&mut self, ended: &mut Vec<(usize, usize)>) -> Outcome {
        self.queue.wait(1, self.memory.len(), None, &mut self.taken);
        for Completion { user_data, result, memory, .. } in self.taken.drain(..) {
            let (slot, bytes) = (user_data as usize, result?.bytes);
            let OpMemory::Owned(memory) = memory else {
                return Err(Failure::Run("an operation has not handed its memory back".into()));
            };
            self.memory[slot] = memory;
            ended.push((slot, bytes));
        }
        Ok(())
    }
}
