//! What the engine asks of the allocator where it should ask nothing: a DRAM hit. And what a
//! Memory put that replaces a value asks for, which is printed and bounded.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use isotherm::config::{Config, Tier};
use isotherm::{Bucket, Durability, Store};

/// Counts what the calling thread allocates; the engine's own threads do not disturb.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that is ending has no counter any more; nobody asks for it either.
    _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's contract.
        unsafe { System.realloc(at, layout, new_size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const SIZES: [usize; 4] = [64, 4096, 100_000, 1 << 20];
const ROUNDS: u64 = 1000;

fn allocations(mut operation: impl FnMut()) -> u64 {
    let before = ALLOCATIONS.get();
    operation();
    ALLOCATIONS.get() - before
}

fn with_bucket(use_it: impl FnOnce(&Store, &Bucket)) {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::builder()
        .tier(Tier::dram("64MiB"))
        .tier(Tier::nvme("256MiB"))
        .durability(Durability::Memory)
        .build()
        .unwrap();
    let store = Store::open(dir.path().join("s"), config).unwrap();
    let bucket = store.bucket("b").unwrap();
    use_it(&store, &bucket);
    store.close().unwrap();
}

#[test]
fn a_dram_hit_allocates_nothing() {
    with_bucket(|store, bucket| {
        for size in SIZES {
            let key = size.to_string();
            bucket.put(key.as_bytes(), &vec![7; size]).unwrap();
            let mut value = vec![0; size];
            bucket.get_into(key.as_bytes(), &mut value).unwrap();
            let hits = store.stats().dram_hits;
            let allocated = allocations(|| {
                for _ in 0..ROUNDS {
                    assert_eq!(bucket.get_into(key.as_bytes(), &mut value).unwrap(), size);
                }
            });
            assert_eq!(store.stats().dram_hits - hits, ROUNDS, "gets of {size} bytes missed DRAM");
            assert_eq!(allocated, 0, "{ROUNDS} gets of {size} bytes allocated");
        }
    });
}

#[test]
fn a_memory_put_that_replaces_a_value_allocates_little_and_nothing_of_the_values_size() {
    with_bucket(|_, bucket| {
        for size in SIZES {
            let (key, value) = (size.to_string(), vec![7; size]);
            let put = || {
                bucket.put(key.as_bytes(), &value).unwrap();
            };
            put();
            let allocated = allocations(|| (0..ROUNDS).for_each(|_| put()));
            let each = allocated as f64 / ROUNDS as f64;
            println!("{each:.2} allocations per Memory put of {size} bytes over a present value");
            assert!(each <= 4.0, "{each} allocations per put of {size} bytes");
        }
    });
}
