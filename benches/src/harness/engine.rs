//! What a load is put on: a store, as one of its interfaces shows it.

use std::path::Path;

use isotherm::Durability;
use serde_json::Value;

use crate::fio::Kind;
use crate::harness::failure::Outcome;
use crate::harness::plan::Plan;

/// The bucket that everything is put into.
pub const BUCKET: &str = "bench";

/// A stretch of a blob.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stretch {
    /// The blob's key.
    pub key: [u8; 16],
    /// Where it begins; `None` if it is the whole blob.
    pub offset: Option<u64>,
}

/// An open store. It is closed when it is dropped.
pub trait Engine: Sync + Sized {
    /// Its asynchronous operations.
    type Queue<'a>: Queue
    where
        Self: 'a;

    /// Opens the store in a directory, or makes one there, with the plan's settings.
    fn open(directory: &Path, plan: &Plan) -> Outcome<Self>;

    /// What it is and how it runs, as the control socket tells it.
    fn info(&self) -> Outcome<Value>;

    /// Stores bytes, at the store's level if none is given.
    fn write(&self, at: &Stretch, bytes: &[u8], level: Option<Durability>) -> Outcome;

    /// Copies bytes into memory that has their length. Returns how many there were.
    fn read(&self, at: &Stretch, into: &mut [u8]) -> Outcome<usize>;

    /// A queue of `depth` operations, each with memory of `len` bytes.
    fn queue(&self, depth: usize, len: usize) -> Outcome<Self::Queue<'_>>;

    /// Makes everything durable.
    fn flush(&self) -> Outcome;

    /// Closes it, and tells what failed.
    fn close(self) -> Outcome;
}

/// Asynchronous operations. Each runs in a slot, `0..depth`, whose memory is the operation's until it has
/// ended.
pub trait Queue {
    /// The memory of a slot in which nothing is under way.
    fn memory(&mut self, slot: usize) -> &mut [u8];

    /// Starts an operation in a slot in which none is under way.
    fn submit(&mut self, slot: usize, kind: Kind, at: &Stretch) -> Outcome;

    /// Waits until an operation has ended, and appends the slots of all that have, with the bytes that they
    /// transferred. An operation that failed is the wait's error.
    fn wait(&mut self, ended: &mut Vec<(usize, usize)>) -> Outcome;
}
