//! Puts of several blobs at once, and gets as of one moment.

use std::sync::Arc;

use crate::api::batch::Batch;
use crate::api::bucket::Bucket;
use crate::api::change::not_found;
use crate::api::get::resize;
use crate::api::held::{Held, hold_in};
use crate::api::read::{self, Reader};
use crate::core::Core;
use crate::error::{Result, fail};
use crate::limits::BATCH_STEPS_MAX;

/// The batch that puts these values.
pub(crate) fn puts<'a>(blobs: &[(&Bucket, &[u8], &'a [u8])]) -> Batch<'a> {
    let mut batch = Batch::new();
    for (bucket, key, value) in blobs {
        batch.put(bucket, key, *value);
    }
    batch
}

/// The values of several blobs, all as of one moment: of each its value, or why there is none.
pub(crate) async fn get_many(
    core: &Arc<Core>,
    blobs: &[(&Bucket, &[u8])],
    reader: Reader<'_>,
) -> Result<Vec<Result<Vec<u8>>>> {
    if blobs.len() > BATCH_STEPS_MAX {
        fail!(LimitExceeded, "at most {BATCH_STEPS_MAX} blobs at once, not {}", blobs.len());
    }
    for (bucket, key) in blobs {
        bucket.check(key)?;
        if !Arc::ptr_eq(core, bucket.core()) {
            fail!(InvalidArgument, "one of the buckets is of another store");
        }
    }
    let _operation = core.begin_operation()?;
    let mut values = Vec::with_capacity(blobs.len());
    for ((bucket, key), held) in blobs.iter().zip(hold_all(core, blobs)) {
        let Some(held) = held else {
            values.push(Err(not_found(bucket.state(), key)));
            continue;
        };
        values.push(read_one(core, bucket, &held, reader).await);
    }
    Ok(values)
}

/// Every blob there is, under all their stripe locks: batches publish likewise.
fn hold_all(core: &Core, blobs: &[(&Bucket, &[u8])]) -> Vec<Option<Held>> {
    let hash = |(bucket, key): &(&Bucket, &[u8])| core.index.hash(bucket.id(), key);
    let hashes: Vec<u64> = blobs.iter().map(hash).collect();
    let mut locked = core.index.lock_all(&hashes);
    let hold = |((bucket, key), hash): (&(&Bucket, &[u8]), &u64)| {
        hold_in(core, locked.stripe(*hash), bucket.state(), *hash, key, 0..u64::MAX)
    };
    blobs.iter().zip(&hashes).map(hold).collect()
}

async fn read_one(
    core: &Arc<Core>,
    bucket: &Bucket,
    held: &Held,
    reader: Reader<'_>,
) -> Result<Vec<u8>> {
    let len = held.state.len;
    let mut value = Vec::new();
    resize(core, &mut value, len)?;
    read::read_held(core, bucket.state(), held, 0..len, &mut value, reader).await?;
    Ok(value)
}
