//! Many small transfers side by side: the engine commits what waits together in one batch.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::failure::{Failure, Outcome};

/// Transfers at a time. Enough to fill a log batch; memory stays at 64 MiB each.
const WORKERS: usize = 8;

/// Does `work` for every item on a few threads. The first failure that `items` or `work` returns
/// ends it all.
pub fn for_each<T: Send>(
    items: impl Iterator<Item = Outcome<T>> + Send,
    work: impl Fn(T) -> Outcome + Sync,
) -> Outcome {
    let items = Mutex::new(items);
    let first_failure = Mutex::new(None::<Failure>);
    let stopped = AtomicBool::new(false);
    let next = || items.lock().ok().and_then(|mut items| items.next());
    let worker = || {
        while !stopped.load(Ordering::Relaxed) {
            let Some(item) = next() else { return };
            if let Err(failure) = item.and_then(&work) {
                stopped.store(true, Ordering::Relaxed);
                if let Ok(mut first) = first_failure.lock() {
                    first.get_or_insert(failure);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(worker);
        }
    });
    match first_failure.into_inner() {
        Ok(None) => Ok(()),
        Ok(Some(failure)) => Err(failure),
        Err(_) => Err(Failure::Other("a worker panicked".to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn every_item_is_worked_on_once() {
        let sum = AtomicU32::new(0);
        for_each((1..=1000).map(Ok), |item| {
            sum.fetch_add(item, Ordering::Relaxed);
            Ok(())
        })
        .unwrap();
        assert_eq!(sum.into_inner(), 500_500);
    }

    #[test]
    fn a_failure_ends_the_rest() {
        let done = for_each((0..).map(Ok), |item: u64| match item {
            500 => Err(Failure::Other("500".to_string())),
            _ => Ok(()),
        });
        assert_eq!(done.unwrap_err().to_string(), "500");
    }
}
