//! The organizer on glommio: one executor on one thread for the life of the store.
//!
//! Its I/O is large and sequential and nobody waits for it, so copies between its buffers and
//! ours are affordable.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::io::{self, Error, ErrorKind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

use glommio::io::{DmaFile, OpenOptions};
use glommio::{GlommioError, Task, TaskQueueHandle, spawn_local, spawn_local_into};

use crate::io::buffer::{AlignedBuf, BufferPool};
use crate::io::device::check_write_range;
use crate::io::exec::{Body, Class, Exec, ExecCounters, GLOMMIO, LocalFuture, memory};
use crate::io::glommio_workers::{self, Queues};
use crate::io::runtime::ActorHandle;
use crate::io::transfer::{Direction, Transfer};
use crate::io::{Devices, uring};
use crate::types::TierId;

/// glommio's own yield moves on to the next queue without a look at the rings.
const YIELD: Duration = Duration::from_micros(20);
/// How often the end looks whether the last I/O is done.
const DRAIN_INTERVAL: Duration = Duration::from_millis(1);

/// glommio does not run here. The body comes back for another backend.
pub struct Refused {
    /// Why not.
    pub reason: String,
    /// The body, not started.
    pub body: Body,
}

/// Runs the organizer's body on a thread named `isotherm-org`: one that has run an earlier store's,
/// or a new one. The body ends its tasks before itself: I/O of tasks that still exist then is
/// completed or refused, and the tasks are dropped.
pub fn spawn(
    devices: Devices,
    pool: Arc<BufferPool>,
    counters: Arc<ExecCounters>,
    body: Body,
) -> Result<ActorHandle, Refused> {
    let refused = |reason, body| Err(Refused { reason, body });
    // glommio would panic, and say so on standard error.
    if let Err(found) = uring::available(&devices) {
        return refused(found.reason, body);
    }
    let worker = match glommio_workers::take() {
        Ok(worker) => worker,
        Err(reason) => return refused(reason, body),
    };
    let (started, starting) = mpsc::channel();
    let (body_sender, body_receiver) = mpsc::channel::<Body>();
    let job = move |queues: Queues| -> LocalFuture<'static, ()> {
        Box::pin(async move {
            let disks = match Disks::open(&devices).await {
                Ok(disks) => Rc::new(disks),
                Err(error) => {
                    // If nobody listens any more, nobody wants to know.
                    let _ = started.send(Err(error.to_string()));
                    return;
                }
            };
            let _ = started.send(Ok(()));
            if let Ok(body) = body_receiver.recv() {
                run(disks, pool, counters, queues, body).await;
            }
        })
    };
    let handle = ActorHandle::Lent(worker.run(Box::new(job)));
    let reason = match starting.recv() {
        Ok(Ok(())) => match body_sender.send(body) {
            Ok(()) => return Ok(handle),
            Err(mpsc::SendError(body)) => {
                handle.join();
                return refused("glommio ended while starting".to_owned(), body);
            }
        },
        Ok(Err(reason)) => reason,
        Err(mpsc::RecvError) => "glommio panicked while starting".to_owned(),
    };
    // A panic has told its reason on stderr.
    handle.join();
    refused(reason, body)
}

async fn run(
    disks: Rc<Disks>,
    pool: Arc<BufferPool>,
    counters: Arc<ExecCounters>,
    queues: Queues,
    body: Body,
) {
    let tasks = Rc::new(Tasks::default());
    let exec = GlommioExec { tasks: tasks.clone(), disks: disks.clone(), queues, pool, counters };
    let future = body(Rc::new(exec));
    match spawn_local_into(future, queues.space) {
        Ok(task) => task.await,
        Err(error) => unreachable!("the queue lives as long as the executor: {error}"),
    }
    // Tasks that still exist would stay, and with them what they use.
    disks.closing.set(true);
    tasks.cancel_all().await;
    while disks.in_flight.get() > 0 {
        glommio::timer::sleep(DRAIN_INTERVAL).await;
    }
    disks.close().await;
}

/// The devices, opened a second time through glommio.
struct Disks {
    devices: Devices,
    /// None of a lost tier.
    files: RefCell<Vec<Option<Rc<DmaFile>>>>,
    in_flight: Cell<usize>,
    closing: Cell<bool>,
}

impl Disks {
    async fn open(devices: &Devices) -> io::Result<Disks> {
        let mut files = Vec::new();
        for device in devices.iter() {
            if device.descriptor().is_none() {
                let message = format!("{} has no descriptor", device.path().display());
                return Err(Error::new(ErrorKind::InvalidInput, message));
            }
            if device.lost().is_some() {
                files.push(None);
                continue;
            }
            let mut options = OpenOptions::new();
            options.write(true).custom_flags(libc::O_NOFOLLOW);
            // glommio polls for completions if a first read through a polled ring succeeds. It
            // does on a hole of a sparse file, where no device is asked; then every real read
            // fails with EOPNOTSUPP. And where polling works, it keeps a core busy. A file that
            // cannot be read makes glommio note, once per block device, not to poll.
            let unreadable = options.dma_open(device.path()).await.map_err(plain)?;
            unreadable.close().await.map_err(plain)?;
            let file = options.read(true).dma_open(device.path()).await;
            files.push(Some(Rc::new(file.map_err(plain)?)));
        }
        Ok(Disks {
            devices: devices.clone(),
            files: RefCell::new(files),
            in_flight: Cell::new(0),
            closing: Cell::new(false),
        })
    }

    /// Closes the files: glommio closes those that are merely dropped at its next look at its
    /// rings, and after the end there is none.
    async fn close(&self) {
        for file in self.files.take().into_iter().flatten() {
            // The descriptor is gone whatever the answer.
            let _ = file.close_rc().await;
        }
    }

    fn file(&self, tier: TierId) -> io::Result<Rc<DmaFile>> {
        self.files.borrow().get(tier.index()).cloned().flatten().ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput, format!("there is no device of tier {}", tier.0))
        })
    }

    async fn read(&self, tier: TierId, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let file = self.file(tier)?;
        let mut transfer = Transfer::new(Direction::Read, into.len());
        loop {
            let done = transfer.done();
            let read = file.read_at_aligned(offset + done as u64, transfer.left()).await;
            let outcome = read.map_err(plain).map(|bytes| {
                let count = bytes.len().min(into.len() - done);
                into[done..done + count].copy_from_slice(&bytes[..count]);
                count
            });
            if let Some(result) = transfer.advance(outcome) {
                return result;
            }
        }
    }

    async fn write(&self, tier: TierId, offset: u64, from: &[u8]) -> io::Result<()> {
        let file = self.file(tier)?;
        check_write_range(&*self.devices[tier.index()], offset, from.len())?;
        let mut transfer = Transfer::new(Direction::Write, from.len());
        loop {
            let rest = &from[transfer.done()..];
            let mut buf = file.alloc_dma_buffer(rest.len());
            buf.as_bytes_mut().copy_from_slice(rest);
            let outcome = file.write_at(buf, offset + transfer.done() as u64).await.map_err(plain);
            if let Some(result) = transfer.advance(outcome) {
                return result;
            }
        }
    }
}

/// The error of the system call, which glommio wraps.
fn plain(error: GlommioError<()>) -> Error {
    match error {
        GlommioError::IoError(error) => error,
        GlommioError::EnhancedIoError { source, .. } => source,
        other => Error::other(other.to_string()),
    }
}

/// The tasks that the body spawned and that may still exist.
#[derive(Default)]
struct Tasks {
    next: Cell<u64>,
    live: RefCell<HashMap<u64, Task<()>>>,
    /// Ended, but a task cannot drop its own handle.
    ended: RefCell<Vec<u64>>,
    closed: Cell<bool>,
}

impl Tasks {
    fn spawn(self: &Rc<Self>, queue: TaskQueueHandle, task: LocalFuture<'static, ()>) {
        if self.closed.get() {
            return;
        }
        for number in self.ended.take() {
            self.live.borrow_mut().remove(&number);
        }
        let number = self.next.get();
        self.next.set(number + 1);
        let tasks = self.clone();
        let noted = async move {
            task.await;
            tasks.ended.borrow_mut().push(number);
        };
        match spawn_local_into(noted, queue) {
            Ok(task) => drop(self.live.borrow_mut().insert(number, task)),
            Err(error) => unreachable!("the queues live as long as the executor: {error}"),
        }
    }

    async fn cancel_all(&self) {
        self.closed.set(true);
        for (_, task) in self.live.take() {
            task.cancel().await;
        }
    }
}

struct GlommioExec {
    tasks: Rc<Tasks>,
    disks: Rc<Disks>,
    queues: Queues,
    pool: Arc<BufferPool>,
    counters: Arc<ExecCounters>,
}

impl GlommioExec {
    /// Runs I/O as a task of its own, so that it completes also if whoever waits for it is gone.
    async fn complete<T: 'static>(&self, io: impl Future<Output = T> + 'static) -> io::Result<T> {
        let ended = || Error::other("the organizer has ended");
        if self.disks.closing.get() {
            return Err(ended());
        }
        self.disks.in_flight.set(self.disks.in_flight.get() + 1);
        let disks = self.disks.clone();
        let task = spawn_local(async move {
            let output = io.await;
            disks.in_flight.set(disks.in_flight.get() - 1);
            output
        });
        task.detach().await.ok_or_else(ended)
    }
}

impl Exec for GlommioExec {
    fn spawn(&self, class: Class, task: LocalFuture<'static, ()>) {
        let queue = match class {
            Class::Space => self.queues.space,
            Class::Background => self.queues.background,
        };
        self.tasks.spawn(queue, task);
    }

    fn sleep(&self, duration: Duration) -> LocalFuture<'_, ()> {
        Box::pin(glommio::timer::sleep(duration))
    }

    fn yield_now(&self) -> LocalFuture<'_, ()> {
        Box::pin(glommio::timer::sleep(YIELD))
    }

    fn read(
        &self,
        tier: TierId,
        offset: u64,
        len: usize,
    ) -> LocalFuture<'_, io::Result<AlignedBuf>> {
        Box::pin(async move {
            let mut buf = memory(&self.pool, len);
            let disks = self.disks.clone();
            let buf = self.complete(async move {
                disks.read(tier, offset, &mut buf.as_mut_slice()[..len]).await.map(|()| buf)
            });
            let buf = buf.await??;
            self.counters.read_bytes.fetch_add(len as u64, Ordering::Relaxed);
            Ok(buf)
        })
    }

    fn write(
        &self,
        tier: TierId,
        offset: u64,
        len: usize,
        buf: AlignedBuf,
    ) -> LocalFuture<'_, io::Result<AlignedBuf>> {
        Box::pin(async move {
            let disks = self.disks.clone();
            let buf = self.complete(async move {
                let capacity = buf.capacity();
                let Some(bytes) = buf.as_slice().get(..len) else {
                    let message = format!("{len} bytes, and a buffer of {capacity}");
                    return Err(Error::new(ErrorKind::InvalidInput, message));
                };
                disks.write(tier, offset, bytes).await.map(|()| buf)
            });
            let buf = buf.await??;
            self.counters.written_bytes.fetch_add(len as u64, Ordering::Relaxed);
            Ok(buf)
        })
    }

    fn flush(&self, tier: TierId) -> LocalFuture<'_, io::Result<()>> {
        Box::pin(async move {
            let disks = self.disks.clone();
            let flush = async move { disks.file(tier)?.fdatasync().await.map_err(plain) };
            self.complete(flush).await??;
            self.counters.flushes.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })
    }

    fn backend(&self) -> &'static str {
        GLOMMIO
    }
}
