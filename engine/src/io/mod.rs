//! The only door to disks, threads, time and randomness.
//!
//! Three seams live here, so that the simulator can step the production code, callers included,
//! on one thread from one seed:
//!
//! * [`Device`]: one tier's file; blocking positional I/O, used by a caller for its own cold read,
//!   by open and recovery, and inside the `threads` backend.
//! * [`Ring`]: the asynchronous queue of one shard ([`uring`], [`threads`], [`sim`]).
//! * [`runtime::Runtime`]: clock, randomness, waiting, and the actors (shards, organizer).
//!
//! The organizer's seam, [`exec::Exec`], is asynchronous code over a small executor.

pub mod buffer;
pub mod device;
pub mod exec;
pub mod exec_ring;
pub mod gate;
#[cfg(feature = "glommio")]
pub mod glommio;
#[cfg(feature = "glommio")]
mod glommio_workers;
mod host_space;
pub mod probe;
pub mod runtime;
pub mod sim;
pub mod sim_device;
pub mod sim_disk;
pub mod sim_ring;
pub mod tasks;
pub mod threads;
pub mod timers;
mod transfer;
pub mod uring;
mod uring_bell;
mod uring_enter;
mod uring_op;
mod uring_setup;
pub mod wait;

#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::Arc;

use crate::io::buffer::AlignedBuf;
use crate::io::runtime::Nanos;
use crate::io::sim_device::SimDevice;
use crate::types::TierId;

/// One tier's file, opened with O_DIRECT where the file system allows it.
///
/// Offsets, lengths and memory are multiples of [`BLOCK`](crate::limits::BLOCK). Reads and writes
/// are whole or an error: short transfers are continued, EINTR and EAGAIN retried, both bounded.
/// A read that meets the end of the file is `UnexpectedEof`, never zeros; a write that would pass
/// it is `InvalidInput`.
#[allow(clippy::len_without_is_empty)] // A device is never empty.
pub trait Device: Send + Sync {
    /// Reads exactly `buf.len()` bytes.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;
    /// Writes all of `buf`; completed by the device, not flushed.
    fn write_at(&self, offset: u64, buf: &[u8]) -> io::Result<()>;
    /// Makes every completed write survive power loss.
    fn flush(&self) -> io::Result<()>;
    /// Asks the file system for the space of this range; its content is undefined.
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()>;
    /// Bytes of the file.
    fn len(&self) -> u64;
    /// The descriptor for a kernel ring; `None` for a simulated device.
    fn descriptor(&self) -> Option<RawFd>;
    /// Where the file lies, for messages.
    fn path(&self) -> &Path;
    /// Why there is no device behind this, if so: every transfer fails then.
    fn lost(&self) -> Option<&str> {
        None
    }
    /// The simulated device behind this, if it is one: its ring knows more than whole operations.
    fn simulated(&self) -> Option<&SimDevice> {
        None
    }
}

/// The devices of a store, by [`TierId::index`].
pub type Devices = Arc<[Arc<dyn Device>]>;

/// Names one operation to its submitter. The ring does not interpret it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Token(pub u64);

/// An operation for a [`Ring`]. The ring owns the buffer until the operation is done, whatever
/// becomes of whoever waits for it.
pub enum IoOp {
    /// Fill `buf[..len]` from `offset`.
    Read {
        /// Which device.
        tier: TierId,
        /// Byte offset, a multiple of the block.
        offset: u64,
        /// Bytes, a multiple of the block.
        len: usize,
        /// Receives the bytes.
        buf: AlignedBuf,
    },
    /// Write `buf[..len]` at `offset`.
    Write {
        /// Which device.
        tier: TierId,
        /// Byte offset, a multiple of the block.
        offset: u64,
        /// Bytes, a multiple of the block.
        len: usize,
        /// Holds the bytes.
        buf: AlignedBuf,
        /// The write itself returns durable (RWF_DSYNC). It covers no other write.
        dsync: bool,
    },
    /// Flush the device: covers every write that was done before this was pushed.
    Flush {
        /// Which device.
        tier: TierId,
    },
}

/// A finished operation: the buffer comes back with the result.
pub struct IoDone {
    /// The submitter's name for it.
    pub token: Token,
    /// The operation's buffer; `None` for a flush.
    pub buf: Option<AlignedBuf>,
    /// Whole, or an error with its errno.
    pub result: io::Result<()>,
}

/// How long a [`Ring::turn`] may sleep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// Not at all.
    No,
    /// Until a completion, the doorbell, or this time on the runtime's clock.
    Until(Option<Nanos>),
}

/// Wakes the owner of a ring from another thread. Rings coalesce; a ring before the owner sleeps
/// is not lost.
pub trait Doorbell: Send + Sync {
    /// Makes the current or the next [`Ring::turn`] return.
    fn ring(&self);
}

/// The asynchronous I/O of one shard. Created and used on the shard's own thread only.
pub trait Ring {
    /// Queues an operation. More than the backend's depth wait in order inside the ring; the
    /// shard's tasks bound how many there are.
    fn push(&mut self, token: Token, op: IoOp);
    /// Submits what was pushed, sleeps as `wait` allows, and appends what is done.
    /// With operations done, or after the doorbell, it returns at once.
    fn turn(&mut self, wait: Wait, done: &mut Vec<IoDone>);
    /// The bell that wakes this ring.
    fn doorbell(&self) -> Arc<dyn Doorbell>;
    /// Operations pushed and not yet returned as done.
    fn in_flight(&self) -> usize;
    /// Why no operation can succeed any more, if so.
    fn broken(&self) -> Option<&str> {
        None
    }
    /// `uring`, `threads` or `sim`, and what was refused, for messages.
    fn describe(&self) -> String;
}
