//! The rows of the table, section by section.

pub mod c_call;
pub mod cold;
pub mod dram;
pub mod durable;
pub mod group;
pub mod idle;
pub mod open;
pub mod stream;

use isotherm::Bucket;

use crate::Outcome;
use crate::picks::{fill, key, stamp};

/// Puts blobs of `len` bytes under keys `0..count` with many threads at once, at the bucket's
/// default level, and makes them durable.
fn load(store: &isotherm::Store, bucket: &Bucket, count: usize, len: usize) -> Outcome {
    const LOADERS: usize = 64;
    std::thread::scope(|scope| {
        let loader = |first: usize| -> Outcome {
            let mut value = vec![0; len];
            fill(&mut value, first as u64);
            for number in (first..count).step_by(LOADERS) {
                stamp(&mut value, number as u32);
                bucket.put(&key(number), &value)?;
            }
            Ok(())
        };
        let threads: Vec<_> =
            (0..LOADERS).map(|first| scope.spawn(move || loader(first))).collect();
        for thread in threads {
            thread.join().map_err(|_| "a loader panicked")??;
        }
        Outcome::Ok(())
    })?;
    store.flush(isotherm::Scope::Store)?;
    Ok(())
}
