//! Operations of a queue as futures, under executors of the caller's own.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use isotherm::config::{Config, Tier};
use isotherm::{Completion, ErrorKind, Operation, Store};

fn open(directory: &tempfile::TempDir) -> Store {
    let builder = Config::builder().tier(Tier::dram("8MiB")).tier(Tier::nvme("128MiB"));
    Store::open(directory.path().join("store"), builder.build().unwrap()).unwrap()
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The smallest executor: a thread that sleeps until it is woken.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

/// Runs futures side by side.
async fn join(futures: Vec<impl Future<Output = Completion>>) -> Vec<Completion> {
    let mut running: Vec<_> = futures.into_iter().map(Box::pin).map(Some).collect();
    let mut ended = Vec::new();
    std::future::poll_fn(|context| {
        for slot in &mut running {
            if let Some(future) = slot
                && let Poll::Ready(completion) = future.as_mut().poll(context)
            {
                ended.push(completion);
                *slot = None;
            }
        }
        if running.iter().all(Option::is_none) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    ended
}

#[test]
fn many_run_side_by_side_on_several_threads_and_each_gets_its_own_result() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let bucket = store.bucket("b").unwrap();
    let queue = store.queue(4096).unwrap();
    let value = |n: u64| vec![n as u8; 20_000 + n as usize];
    thread::scope(|scope| {
        for part in 0..3u64 {
            let (queue, bucket) = (&queue, &bucket);
            scope.spawn(move || {
                let numbers = (0..300).map(|n| n * 3 + part);
                let put = |n: u64| {
                    let put = Operation::put(bucket, &n.to_le_bytes(), value(n));
                    queue.run(put.tagged(n))
                };
                let ended = block_on(join(numbers.clone().map(put).collect()));
                assert!(ended.len() == 300 && ended.iter().all(|done| done.result.is_ok()));
                let get = |n: u64| queue.run(Operation::get(bucket, &n.to_le_bytes()).tagged(n));
                for done in block_on(join(numbers.map(get).collect())) {
                    assert!(done.memory.as_slice() == value(done.user_data));
                }
            });
        }
    });
    assert_eq!(queue.outstanding(), 0);
}

#[test]
fn a_future_that_is_not_polled_does_nothing_and_one_that_is_dropped_ends_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let bucket = store.bucket("b").unwrap();
    let queue = store.queue(1).unwrap();
    drop(queue.run(Operation::put(&bucket, b"never", vec![1; 9])));
    assert_eq!((queue.outstanding(), bucket.exists(b"never").unwrap()), (0, false));
    {
        let mut begun = pin!(queue.run(Operation::put(&bucket, b"begun", vec![1; 90_000])));
        let mut context = Context::from_waker(Waker::noop());
        while begun.as_mut().poll(&mut context).is_pending() && queue.outstanding() == 0 {}
        // One more than the queue holds, unless the first has ended.
        let more = block_on(queue.run(Operation::put(&bucket, b"more", vec![2; 9])));
        if let Err(error) = more.result {
            assert_eq!((error.kind(), more.memory.as_slice()), (ErrorKind::Busy, &[2; 9][..]));
        }
    }
    while queue.outstanding() > 0 {
        thread::yield_now();
    }
    block_on(queue.run(Operation::put(&bucket, b"more", vec![3; 9]))).result.unwrap();
    assert_eq!(bucket.get(b"more").unwrap(), [3; 9]);
    let late = queue.run(Operation::get(&bucket, b"more"));
    drop(queue);
    assert_eq!(block_on(late).result.unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn a_future_may_go_to_another_thread_and_completions_of_others_are_not_touched() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let bucket = store.bucket("b").unwrap();
    let queue = store.queue(8).unwrap();
    queue.submit(Operation::put(&bucket, b"submitted", vec![1; 9]).tagged(7)).unwrap();
    let future = queue.run(Operation::put(&bucket, b"future", vec![2; 9]).tagged(8));
    let done = thread::spawn(move || block_on(future)).join().unwrap();
    assert!(done.result.is_ok() && done.user_data == 8);
    let mut ended = Vec::new();
    assert_eq!(queue.wait(2, 2, None, &mut ended), 1, "the future's is not among them");
    assert_eq!(ended[0].user_data, 7);
}

#[test]
fn a_store_without_devices_answers_at_the_first_poll() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config::builder().tier(Tier::dram("8MiB")).build().unwrap();
    let store = Store::open(directory.path().join("store"), config).unwrap();
    let bucket = store.bucket("b").unwrap();
    let queue = store.queue(1).unwrap();
    block_on(queue.run(Operation::put(&bucket, b"k", vec![1; 500]))).result.unwrap();
    let got = block_on(queue.run(Operation::get(&bucket, b"k")));
    assert_eq!(got.memory.as_slice(), [1; 500]);
}
