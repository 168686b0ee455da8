//! Queues of asynchronous operations.

use std::time::Duration;

use isotherm::{OpId, Queue, Result, Store};

use crate::entry::{closing, entry};
use crate::memory::{self, Array, Out, records};
use crate::object::{self, hold};
use crate::operation::{completion, isotherm_completion_t, isotherm_operation_t, operation};
use crate::status::isotherm_status_t;
use crate::store::isotherm_store_t;

/// A queue of asynchronous operations. 0 is none. All calls may be made from any thread; a queue per
/// thread is the fast way.
pub type isotherm_queue_t = u64;

/// For isotherm_queue_wait: as long as it takes.
pub const ISOTHERM_WAIT_FOREVER: i64 = -1;

/// Makes a queue of at most `depth` operations submitted whose completions have not been taken, 1 to
/// 65,536.
///
/// # Safety
/// `queue` is NULL or the address of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isotherm_queue_create(
    store: isotherm_store_t,
    depth: usize,
    queue: *mut isotherm_queue_t,
) -> isotherm_status_t {
    // SAFETY: as the caller promises.
    entry(|| unsafe {
        let out = Out::required("queue", queue)?;
        let held = hold::<Store>(store)?;
        out.set(held.open(held.queue(depth)?, store)?);
        Ok(())
    })
}

/// Submits operations in their order, until one is refused. `accepted` is how many were not; if it is 0,
/// the status says why the first was refused: ISOTHERM_E_BUSY if the queue is full.
/// `ids`, NULL or room for `count` numbers, tells what completions and isotherm_queue_cancel name them.
///
/// Operations of one queue run side by side: whoever needs an order takes the completion of the first
/// before the second is submitted. All errors of an operation that was accepted come with its
/// completion.
///
/// # Safety
/// `operations` has `count` records whose keys and buffers are as they say; the buffers stay so until
/// the completions are taken or the queue is closed. `ids` is NULL or has room for `count` numbers, and
/// `accepted` is NULL or the address of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isotherm_queue_submit(
    queue: isotherm_queue_t,
    operations: *const isotherm_operation_t,
    count: usize,
    ids: *mut u64,
    accepted: *mut usize,
) -> isotherm_status_t {
    // SAFETY: as the caller promises.
    entry(|| unsafe {
        let out = Out::required("accepted", accepted)?;
        let numbers = Array::new("ids", ids, if ids.is_null() { 0 } else { count })?;
        let queue = hold::<Queue>(queue)?;
        let records = records("operations", operations, count)?;
        let mut refused = None;
        let submitted = records.iter().map_while(|record| {
            let submitted = operation(record)
                .and_then(|operation| queue.submit(operation).map_err(|refused| refused.error));
            submitted.map_err(|error| refused = Some(error)).ok()
        });
        let submitted: Vec<u64> = submitted.map(|id| id.0).collect();
        let count = submitted.len();
        numbers.fill(submitted.into_iter());
        out.set(count);
        match refused {
            Some(error) if count == 0 => Err(error),
            _ => Ok(()),
        }
    })
}

/// Takes completions: waits until there are `min`, or none is under way any more, or the time is over,
/// and takes at most `max` of them. `count` is how many. A timeout of 0 takes what there is;
/// ISOTHERM_WAIT_FOREVER waits as long as it takes.
///
/// # Safety
/// `completions` has room for `max` records; `count` is NULL or the address of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isotherm_queue_wait(
    queue: isotherm_queue_t,
    completions: *mut isotherm_completion_t,
    min: usize,
    max: usize,
    timeout_ns: i64,
    count: *mut usize,
) -> isotherm_status_t {
    // SAFETY: as the caller promises.
    entry(|| unsafe {
        let out = Out::required("count", count)?;
        let array = Array::new("completions", completions, max)?;
        if max == 0 || min > max {
            return Err(memory::invalid(format!(
                "min is {min} and max {max}; max is the room for completions, at least 1 and min"
            )));
        }
        let queue = hold::<Queue>(queue)?;
        let mut ended = Vec::new();
        match timeout(timeout_ns)? {
            Some(Duration::ZERO) => queue.take(max, &mut ended),
            timeout => queue.wait(min, max, timeout, &mut ended),
        };
        array.fill(ended.iter().map(completion));
        out.set(ended.len());
        Ok(())
    })
}

fn timeout(nanos: i64) -> Result<Option<Duration>> {
    match u64::try_from(nanos) {
        Ok(nanos) => Ok(Some(Duration::from_nanos(nanos))),
        Err(_) if nanos == ISOTHERM_WAIT_FOREVER => Ok(None),
        Err(_) => Err(memory::invalid(format!(
            "timeout_ns is {nanos}; pass 0 or more, or ISOTHERM_WAIT_FOREVER"
        ))),
    }
}

/// Operations submitted whose completions have not been taken.
///
/// # Safety
/// `count` is NULL or the address of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isotherm_queue_outstanding(
    queue: isotherm_queue_t,
    count: *mut usize,
) -> isotherm_status_t {
    // SAFETY: as the caller promises.
    entry(|| unsafe {
        let out = Out::required("count", count)?;
        out.set(hold::<Queue>(queue)?.outstanding());
        Ok(())
    })
}

/// Asks that an operation not begin. One that has begun or ended goes on to its completion as if nothing
/// had been asked, and a number that is none does nothing; one that has not begun completes as
/// ISOTHERM_E_CANCELLED.
#[unsafe(no_mangle)]
pub extern "C" fn isotherm_queue_cancel(queue: isotherm_queue_t, id: u64) -> isotherm_status_t {
    entry(|| {
        hold::<Queue>(queue)?.cancel(OpId(id));
        Ok(())
    })
}

/// Closes a queue: waits for its operations under way, and drops completions not taken. When it
/// returns ISOTHERM_OK, no buffer is in use. Another answer says nothing of that: where another thread
/// closes the store or this queue meanwhile, that call is the one to wait for. 0 is allowed and does
/// nothing.
#[unsafe(no_mangle)]
pub extern "C" fn isotherm_queue_close(queue: isotherm_queue_t) -> isotherm_status_t {
    closing(queue, || object::close::<Queue>(queue))
}
