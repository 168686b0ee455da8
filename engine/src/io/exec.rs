//! The organizer's executor seam: asynchronous code over spawn, sleep, yield, read, write, flush.
//!
//! Three backends: glommio (its own rings, large sequential I/O), a plain thread, the simulator.
//! No put or get waits for anything that runs here.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use crate::error::Result;
use crate::io::buffer::{AlignedBuf, BufferPool};
use crate::io::runtime::{ActorHandle, Runtime};
use crate::io::{Devices, exec_ring};
use crate::types::TierId;

/// The name of the backend of that name.
pub const GLOMMIO: &str = "glommio";

/// A future that stays on its thread.
pub type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// How urgent a task is, against the other tasks of the organizer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Someone will soon need the space: cleaning and demotion.
    Space,
    /// Nobody waits: promotion, scrubbing.
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
    fn read(
        &self,
        tier: TierId,
        offset: u64,
        len: usize,
    ) -> LocalFuture<'_, io::Result<AlignedBuf>>;
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

/// What the organizer has moved, whatever its backend. Only successful operations count.
#[derive(Default, Debug)]
pub struct ExecCounters {
    /// Bytes read from devices.
    pub read_bytes: AtomicU64,
    /// Bytes written to devices.
    pub written_bytes: AtomicU64,
    /// Flushes of devices.
    pub flushes: AtomicU64,
}

/// Memory for a read, without waiting: those who hold the pool's may wait for segments, and so
/// for the organizer.
pub(crate) fn memory(pool: &Arc<BufferPool>, len: usize) -> AlignedBuf {
    pool.try_get(len).unwrap_or_else(|| AlignedBuf::alloc(len))
}

/// An organizer that runs.
pub struct Started {
    /// Ends when its body has ended.
    pub handle: ActorHandle,
    /// `glommio`, `threads` or `sim`.
    pub backend: &'static str,
    /// Why it does not run on glommio, for the store's info; `None` if it does, or is simulated.
    pub fallback: Option<String>,
}

/// Runs a body on the best backend there is: glommio, else threads; simulated in the simulator.
pub fn start(
    runtime: &Runtime,
    devices: Devices,
    pool: Arc<BufferPool>,
    counters: Arc<ExecCounters>,
    body: Body,
) -> Result<Started> {
    let (body, fallback) = match runtime {
        Runtime::Sim(_) => (body, None),
        Runtime::Os(_) => match on_glommio(&devices, &pool, &counters, body) {
            Ok(handle) => return Ok(Started { handle, backend: GLOMMIO, fallback: None }),
            Err((reason, body)) => (body, Some(reason)),
        },
    };
    let handle = exec_ring::spawn(runtime, devices, pool, counters, body)?;
    Ok(Started { handle, backend: exec_ring::backend(runtime), fallback })
}

#[cfg(feature = "glommio")]
fn on_glommio(
    devices: &Devices,
    pool: &Arc<BufferPool>,
    counters: &Arc<ExecCounters>,
    body: Body,
) -> std::result::Result<ActorHandle, (String, Body)> {
    crate::io::glommio::spawn(devices.clone(), pool.clone(), counters.clone(), body)
        .map_err(|refused| (refused.reason, refused.body))
}

#[cfg(not(feature = "glommio"))]
fn on_glommio(
    _devices: &Devices,
    _pool: &Arc<BufferPool>,
    _counters: &Arc<ExecCounters>,
    body: Body,
) -> std::result::Result<ActorHandle, (String, Body)> {
    Err(("built without the feature glommio".to_owned(), body))
}
