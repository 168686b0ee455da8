//! The organizer's executors: the same body on every backend.

use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

use super::*;
use crate::io::exec::{self, Body, Class, ExecCounters};
use crate::io::exec_ring;
use crate::io::runtime::ActorHandle;
use crate::io::wait::oneshot;

type Start = fn(Devices, Arc<BufferPool>, Arc<ExecCounters>, Body) -> ActorHandle;

fn start_threads(
    devices: Devices,
    pool: Arc<BufferPool>,
    counters: Arc<ExecCounters>,
    body: Body,
) -> ActorHandle {
    exec_ring::spawn(&Runtime::os(), devices, pool, counters, body).unwrap()
}

fn start_best(
    devices: Devices,
    pool: Arc<BufferPool>,
    counters: Arc<ExecCounters>,
    body: Body,
) -> ActorHandle {
    exec::start(&Runtime::os(), devices, pool, counters, body).unwrap().handle
}

/// Threads, and glommio where it runs.
fn backends() -> [Start; 2] {
    [start_threads, start_best]
}

/// A body that writes, flushes, and copies a range block by block in tasks of both classes.
fn copying(pool: Arc<BufferPool>) -> Body {
    Box::new(move |exec| {
        Box::pin(async move {
            let mut buf = pool.get(8 * BLOCK).await;
            for (block, bytes) in buf.as_mut_slice().chunks_mut(BLOCK).enumerate() {
                bytes.fill(block as u8 + 1);
            }
            drop(exec.write(TIER, 0, 8 * BLOCK, buf).await.unwrap());
            exec.flush(TIER).await.unwrap();
            let mut ended = Vec::new();
            for block in 0..8u64 {
                let (sender, receiver) = oneshot();
                ended.push(receiver);
                let class = if block % 2 == 0 { Class::Space } else { Class::Background };
                let task_exec = Rc::clone(&exec);
                exec.spawn(
                    class,
                    Box::pin(async move {
                        let exec = task_exec;
                        exec.yield_now().await;
                        let buf = exec.read(TIER, block * BLOCK as u64, BLOCK).await.unwrap();
                        exec.sleep(Duration::from_millis(1)).await;
                        let to = (100 + block) * BLOCK as u64;
                        exec.write(TIER, to, BLOCK, buf).await.unwrap();
                        sender.send(());
                    }),
                );
            }
            for receiver in ended {
                receiver.await.unwrap();
            }
            let back = exec.read(TIER, 100 * BLOCK as u64, 8 * BLOCK).await.unwrap();
            for (block, bytes) in back.as_slice().chunks(BLOCK).enumerate() {
                assert!(bytes.iter().all(|byte| *byte == block as u8 + 1));
            }
            let eof = exec.read(TIER, BLOCKS * BLOCK as u64, BLOCK).await;
            assert!(eof.is_err(), "{}", exec.backend());
            let past_end = AlignedBuf::alloc(BLOCK);
            let written = exec.write(TIER, BLOCKS * BLOCK as u64, BLOCK, past_end).await;
            assert!(written.is_err(), "{}", exec.backend());
        })
    })
}

/// Runs the copying body on the ring executor of this runtime.
pub(super) fn copy_blocks(runtime: &Runtime, devices: Devices) -> ActorHandle {
    let pool = BufferPool::new(1 << 20);
    let body = copying(pool.clone());
    exec_ring::spawn(runtime, devices, pool, Arc::default(), body).unwrap()
}

#[test]
fn a_body_copies_data_and_is_counted_on_every_backend() {
    for start in backends() {
        let dir = TempDir::new();
        let (pool, counters) = (BufferPool::new(1 << 20), Arc::new(ExecCounters::default()));
        let body = copying(pool.clone());
        assert!(start(file_devices(&dir), pool.clone(), counters.clone(), body).join());
        assert_eq!(counters.read_bytes.load(Relaxed), 16 * BLOCK as u64);
        assert_eq!(counters.written_bytes.load(Relaxed), 16 * BLOCK as u64);
        assert_eq!(counters.flushes.load(Relaxed), 1);
        assert_eq!(pool.in_use(), 0);
    }
}

#[test]
fn a_body_that_waits_for_another_thread_is_idle_and_wakes() {
    for start in backends() {
        let dir = TempDir::new();
        let (sender, receiver) = oneshot();
        let (report, reported) = std::sync::mpsc::channel();
        let body: Body = Box::new(move |exec| {
            Box::pin(async move {
                // Let the start settle: it is not what is measured.
                exec.sleep(Duration::from_millis(50)).await;
                let (cpu, begin) = (thread_cpu(), Instant::now());
                let sent: Instant = receiver.await.unwrap();
                let woken = sent.elapsed();
                report.send((thread_cpu() - cpu, begin.elapsed(), woken, exec.backend())).unwrap();
            })
        });
        let pool = BufferPool::new(1 << 20);
        let handle = start(file_devices(&dir), pool, Arc::default(), body);
        thread::sleep(Duration::from_millis(2050));
        sender.send(Instant::now());
        assert!(handle.join());
        let (cpu, waited, woken, backend) = reported.recv().unwrap();
        eprintln!("{backend}: {cpu:?} of CPU in {waited:?}, woken after {woken:?}");
        assert!(cpu < Duration::from_millis(40), "{backend} used {cpu:?} in {waited:?}");
        assert!(woken < Duration::from_secs(2), "{backend} woke after {woken:?}");
    }
}

#[test]
fn io_whose_waiter_is_gone_completes_before_the_executor_ends() {
    for start in backends() {
        let dir = TempDir::new();
        let pool = BufferPool::new(8 << 20);
        let body: Body = Box::new(move |exec| {
            Box::pin(async move {
                for _ in 0..4 {
                    let exec = exec.clone();
                    let inner = exec.clone();
                    exec.spawn(
                        Class::Space,
                        Box::pin(async move {
                            let _ = inner.read(TIER, 0, 1 << 20).await;
                        }),
                    );
                }
                exec.yield_now().await;
            })
        });
        assert!(start(file_devices(&dir), pool.clone(), Arc::default(), body).join());
        assert_eq!(pool.in_use(), 0);
    }
}
