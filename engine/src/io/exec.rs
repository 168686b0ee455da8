//! The organizer's executor seam: asynchronous code over spawn, sleep, yield, read, write, flush.
//!
//! Three backends: glommio (its own rings, large sequential I/O), a plain thread, the simulator.
//! No put or get waits for anything that runs here.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use crate::io::buffer::AlignedBuf;
use crate::types::TierId;

/// A future that stays on its thread.
pub type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// How urgent a task is, against the other tasks of the organizer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Someone will soon need the space: cleaning and demotion.
    Space,
    /// Nobody waits: promotion, later scrubbing.
    Background,
}

/// The organizer's world. Offsets, lengths and memory are multiples of the block.
pub trait Exec {
    /// Runs a task beside the caller, in a class.
    fn spawn(&self, class: Class, task: LocalFuture<'static, ()>);
    /// Continues after this long.
    fn sleep(&self, duration: Duration) -> LocalFuture<'_, ()>;
    /// Lets other tasks run.
    fn yield_now(&self) -> LocalFuture<'_, ()>;
    /// Reads exactly `len` bytes.
    fn read(&self, tier: TierId, offset: u64, len: usize) -> LocalFuture<'_, io::Result<AlignedBuf>>;
    /// Writes `buf[..len]` whole; the buffer comes back for reuse.
    fn write(
        &self,
        tier: TierId,
        offset: u64,
        len: usize,
        buf: AlignedBuf,
    ) -> LocalFuture<'_, io::Result<AlignedBuf>>;
    /// Flushes the tier's device.
    fn flush(&self, tier: TierId) -> LocalFuture<'_, io::Result<()>>;
    /// `glommio`, `threads` or `sim`.
    fn backend(&self) -> &'static str;
}

/// The organizer's body, given its executor. Made on the organizer's thread.
pub type Body = Box<dyn FnOnce(Rc<dyn Exec>) -> LocalFuture<'static, ()> + Send>;
