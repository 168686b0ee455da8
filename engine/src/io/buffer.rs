//! Memory that the kernel may transfer into: aligned, owned, and bounded by a budget.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::io::wait::WaitList;
use crate::limits::{BLOCK, POOLED_BUFFER_MAX};

/// Size classes: the powers of two from a block to the largest pooled buffer.
const CLASSES: usize = (POOLED_BUFFER_MAX / BLOCK).ilog2() as usize + 1;

/// Owned memory, aligned to the block, a whole number of blocks long.
///
/// Zeroed when first allocated. A buffer that a pool hands out again still holds the bytes of its
/// last user: whoever reads beyond what was filled reads stale data.
pub struct AlignedBuf {
    memory: Memory,
    pool: Option<Arc<BufferPool>>,
}

impl AlignedBuf {
    /// Memory for at least `len` bytes, outside every pool and budget.
    pub fn alloc(len: usize) -> AlignedBuf {
        AlignedBuf { memory: Memory::zeroed(whole_blocks(len)), pool: None }
    }

    /// Bytes it holds: at least what was asked for.
    pub fn capacity(&self) -> usize {
        self.memory.capacity
    }

    /// All of it.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: `Memory` owns `capacity` initialised bytes at `start`, and hands out no other
        // reference to them; the borrow of `self` keeps writers away.
        unsafe { std::slice::from_raw_parts(self.memory.start.as_ptr(), self.memory.capacity) }
    }

    /// All of it, writable.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_slice`; the exclusive borrow of `self` keeps everyone else away.
        unsafe { std::slice::from_raw_parts_mut(self.memory.start.as_ptr(), self.memory.capacity) }
    }
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.put_back(std::mem::replace(&mut self.memory, Memory::none()));
        }
    }
}

/// One allocation.
struct Memory {
    start: NonNull<u8>,
    capacity: usize,
}

// SAFETY: `Memory` is the only owner of its bytes, which are plain data bound to no thread.
unsafe impl Send for Memory {}
// SAFETY: a shared `Memory` gives shared access to plain bytes only.
unsafe impl Sync for Memory {}

impl Memory {
    fn none() -> Memory {
        Memory { start: NonNull::dangling(), capacity: 0 }
    }

    fn zeroed(capacity: usize) -> Memory {
        let layout = layout(capacity);
        // SAFETY: the layout has a size above zero: capacities are at least one block.
        let start = unsafe { alloc_zeroed(layout) };
        match NonNull::new(start) {
            Some(start) => Memory { start, capacity },
            None => handle_alloc_error(layout),
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.capacity > 0 {
            // SAFETY: `start` came from `alloc_zeroed` with this layout and is freed once, here.
            unsafe { dealloc(self.start.as_ptr(), layout(self.capacity)) }
        }
    }
}

fn layout(capacity: usize) -> Layout {
    match Layout::from_size_align(capacity, BLOCK) {
        Ok(layout) => layout,
        Err(_) => panic!("a buffer of {capacity} bytes exceeds the address space"),
    }
}

/// `len` rounded up to whole blocks, at least one.
fn whole_blocks(len: usize) -> usize {
    len.max(1).div_ceil(BLOCK).saturating_mul(BLOCK)
}

/// Buffers for reuse, within a budget of bytes that counts those handed out and those kept.
///
/// Buffers come in size classes, the powers of two from 4 KiB to 2 MiB. Larger ones are made to
/// measure and not kept. A buffer returns by itself when it is dropped.
pub struct BufferPool {
    budget: usize,
    state: Mutex<State>,
    room: WaitList,
}

struct State {
    in_use: usize,
    kept: usize,
    free: [Vec<Memory>; CLASSES],
}

impl BufferPool {
    /// A pool that holds at most `budget` bytes. Allocates nothing yet.
    pub fn new(budget: usize) -> Arc<BufferPool> {
        let state = State { in_use: 0, kept: 0, free: std::array::from_fn(|_| Vec::new()) };
        Arc::new(BufferPool { budget, state: Mutex::new(state), room: WaitList::default() })
    }

    /// A buffer of at least `len` bytes, or `None` while the budget is used up. One that exceeds
    /// the whole budget is granted when nothing else is out, so that its user cannot wait forever.
    pub fn try_get(self: &Arc<Self>, len: usize) -> Option<AlignedBuf> {
        let capacity = capacity_for(len);
        let mut evicted = Vec::new();
        let reused = {
            let mut state = self.state.lock();
            let fits = state.in_use.saturating_add(capacity) <= self.budget;
            if !fits && state.in_use > 0 {
                return None;
            }
            let reused = class_of(capacity).and_then(|class| state.free[class].pop());
            match reused {
                Some(_) => state.kept -= capacity,
                None => state.evict(self.budget.saturating_sub(capacity), &mut evicted),
            }
            state.in_use += capacity;
            reused
        };
        // Freeing and zeroing take long: not under the lock.
        drop(evicted);
        let memory = reused.unwrap_or_else(|| Memory::zeroed(capacity));
        Some(AlignedBuf { memory, pool: Some(self.clone()) })
    }

    /// Like [`try_get`](Self::try_get), but waits for room. Waiters try again at every return, in
    /// order of arrival; small requests may pass a large one that waits.
    pub async fn get(self: &Arc<Self>, len: usize) -> AlignedBuf {
        loop {
            let ticket = self.room.ticket();
            if let Some(buf) = self.try_get(len) {
                return buf;
            }
            ticket.await;
        }
    }

    /// Bytes handed out.
    pub fn in_use(&self) -> usize {
        self.state.lock().in_use
    }

    /// The bound, in bytes.
    pub fn budget(&self) -> usize {
        self.budget
    }

    fn put_back(&self, memory: Memory) {
        let mut not_kept = None;
        {
            let mut state = self.state.lock();
            state.in_use -= memory.capacity;
            let fits = state.in_use + state.kept + memory.capacity <= self.budget;
            match class_of(memory.capacity) {
                Some(class) if fits => {
                    state.kept += memory.capacity;
                    state.free[class].push(memory);
                }
                _ => not_kept = Some(memory),
            }
        }
        drop(not_kept);
        self.room.wake_all();
    }
}

impl State {
    /// Gives up kept buffers, largest first, until used and kept bytes are at most `target`.
    fn evict(&mut self, target: usize, evicted: &mut Vec<Memory>) {
        for class in (0..CLASSES).rev() {
            while self.in_use + self.kept > target {
                let Some(memory) = self.free[class].pop() else { break };
                self.kept -= memory.capacity;
                evicted.push(memory);
            }
        }
    }
}

/// The capacity of a pooled buffer for `len` bytes.
fn capacity_for(len: usize) -> usize {
    if len <= POOLED_BUFFER_MAX { len.max(BLOCK).next_power_of_two() } else { whole_blocks(len) }
}

fn class_of(capacity: usize) -> Option<usize> {
    (capacity <= POOLED_BUFFER_MAX).then(|| (capacity / BLOCK).ilog2() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::runtime::Runtime;
    use std::time::Duration;

    /// Miri looks at each byte.
    const LARGE: usize = if cfg!(miri) { 4 * BLOCK } else { POOLED_BUFFER_MAX };

    #[test]
    fn buffers_are_aligned_zeroed_and_large_enough() {
        let pool = BufferPool::new(64 << 20);
        for len in [0, 1, BLOCK, BLOCK + 1, LARGE, LARGE + 1] {
            for buf in [AlignedBuf::alloc(len), pool.try_get(len).unwrap()] {
                assert!(buf.capacity() >= len && buf.capacity().is_multiple_of(BLOCK));
                assert!((buf.as_slice().as_ptr() as usize).is_multiple_of(BLOCK));
                assert!(buf.as_slice().iter().all(|byte| *byte == 0));
            }
        }
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn the_budget_counts_handed_out_and_kept_bytes() {
        let pool = BufferPool::new(4 * BLOCK);
        let small: Vec<_> = (0..4).map(|_| pool.try_get(BLOCK).unwrap()).collect();
        assert!(pool.try_get(BLOCK).is_none());
        drop(small);
        let large = pool.try_get(4 * BLOCK).unwrap();
        assert_eq!(pool.state.lock().kept, 0);
        assert_eq!((pool.in_use(), pool.budget()), (4 * BLOCK, 4 * BLOCK));
        drop(large);
    }

    #[test]
    fn a_dropped_buffer_is_reused_with_its_old_bytes() {
        let pool = BufferPool::new(4 * BLOCK);
        let mut buf = pool.try_get(BLOCK).unwrap();
        buf.as_mut_slice()[7] = 42;
        drop(buf);
        assert_eq!(pool.try_get(BLOCK).unwrap().as_slice()[7], 42);
    }

    #[test]
    fn a_buffer_above_the_budget_is_granted_only_alone() {
        let pool = BufferPool::new(2 * BLOCK);
        let small = pool.try_get(BLOCK).unwrap();
        assert!(pool.try_get(8 * BLOCK).is_none());
        drop(small);
        let huge = pool.try_get(8 * BLOCK).unwrap();
        assert!(pool.try_get(BLOCK).is_none());
        drop(huge);
        assert!(pool.try_get(BLOCK).is_some());
    }

    #[test]
    fn a_waiter_gets_the_buffer_that_another_thread_returns() {
        let pool = BufferPool::new(BLOCK);
        let held = pool.try_get(BLOCK).unwrap();
        let returner = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            drop(held);
        });
        assert_eq!(Runtime::os().block_on(pool.get(BLOCK)).capacity(), BLOCK);
        returner.join().unwrap();
    }
}
