//! The memory that index and table take, and the bound on it.
//!
//! What is counted is what the allocator hands out: tables as large as they have grown, and what
//! hangs on their rows. It is counted under the locks under which it changes. A change asks for
//! [room](MemoryBudget::reserve) before it begins, so that many at a time do not all take the last.

use std::sync::atomic::{AtomicI64, Ordering};

/// While this part of the limit is free, small changes are not noted down: those of hundreds of
/// threads at a time fit into it, and none of them touches a line that the others write.
const FREE_PART: i64 = 16;
/// The part of the limit up to which a change is small.
const SMALL_PART: i64 = 8192;

/// Memory that the engine may use, and the part that index and table use.
#[derive(Debug)]
pub struct MemoryBudget {
    limit_bytes: i64,
    used_bytes: AtomicI64,
    /// Set aside for changes under way.
    reserved_bytes: AtomicI64,
}

impl MemoryBudget {
    /// `limit_bytes` for index and table: the configured budget less arena, pools and queues.
    pub fn new(limit_bytes: u64) -> MemoryBudget {
        MemoryBudget {
            limit_bytes: i64::try_from(limit_bytes).unwrap_or(i64::MAX),
            used_bytes: AtomicI64::new(0),
            reserved_bytes: AtomicI64::new(0),
        }
    }

    /// Counts memory taken (or, negative, given back).
    pub fn add(&self, bytes: i64) {
        self.used_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The limit, less what of it others use, who may use half of it.
    pub fn limit_beside(&self, beside: u64) -> u64 {
        let limit = self.limit_bytes();
        limit - beside.min(limit / 2)
    }

    /// Sets memory aside for a change, unless that exceeds the budget. `beside`: what of the limit
    /// others use.
    pub fn reserve(&self, bytes: u64, beside: u64) -> Option<MemoryRoom<'_>> {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let limit = self.limit_beside(beside) as i64;
        let used = self.used_bytes.load(Ordering::Relaxed);
        if bytes <= limit / SMALL_PART && used <= limit - limit / FREE_PART {
            return Some(MemoryRoom { budget: self, bytes: 0 });
        }
        let room = MemoryRoom { budget: self, bytes };
        let reserved = self.reserved_bytes.fetch_add(bytes, Ordering::AcqRel);
        let wanted = used.saturating_add(reserved).saturating_add(bytes);
        (wanted <= limit).then_some(room)
    }

    /// Bytes in use.
    pub fn used_bytes(&self) -> u64 {
        u64::try_from(self.used_bytes.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Bytes allowed.
    pub fn limit_bytes(&self) -> u64 {
        self.limit_bytes as u64
    }
}

/// Memory set aside until the change that needs it is over, or has been counted.
pub struct MemoryRoom<'a> {
    budget: &'a MemoryBudget,
    bytes: i64,
}

impl Drop for MemoryRoom<'_> {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.reserved_bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        }
    }
}

/// What the allocator takes for an allocation of so many bytes: a header, in steps of 16.
pub fn heap_bytes(bytes: usize) -> i64 {
    (bytes + 8).next_multiple_of(16).max(32) as i64
}

/// [`heap_bytes`] of what an `Arc` counts.
pub fn shared_bytes(bytes: usize) -> i64 {
    heap_bytes(bytes + 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_at_a_time_share_the_last_of_the_budget() {
        let budget = MemoryBudget::new(1000);
        budget.add(800);
        let first = budget.reserve(150, 0);
        assert!(first.is_some() && budget.reserve(100, 0).is_none());
        assert!(budget.reserve(40, 0).is_some() && budget.reserve(40, 20).is_none());
        drop(first);
        assert!(budget.reserve(100, 0).is_some());
        assert!(budget.reserve(u64::MAX, 0).is_none());
        assert!(budget.reserve(1, u64::MAX).is_none(), "half of it is for others");
        budget.add(-800);
        assert!(budget.reserve(1000, 0).is_some(), "what was refused left something behind");
    }
}
