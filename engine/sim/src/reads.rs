//! The ways of reading a whole blob.

use isotherm::{Bucket, Error, ErrorKind, OpMemory, Operation, Result, Store};

use crate::calls;
use crate::oracle::Value;
use crate::rng::Rng;

/// How a blob is read.
#[derive(Clone, Copy)]
pub enum Way {
    /// By a future.
    Awaited,
    /// Through a queue, which does at once what it can: what DRAM has is copied without a lock.
    Queued,
    /// As one of several.
    Many,
}

impl Way {
    /// Draws one.
    pub fn draw(rng: &mut Rng) -> Way {
        rng.pick(&[Way::Awaited, Way::Queued, Way::Many])
    }

    /// What a key holds; none where there is no blob.
    pub async fn read(self, store: &Store, bucket: &Bucket, name: &[u8]) -> Result<Value> {
        let bytes = match self {
            Way::Awaited => bucket.get_async(name).await,
            Way::Queued => queued(store, bucket, name).await,
            Way::Many => {
                let mut values = store.get_many_async(&[(bucket, name)]).await?;
                values.pop().unwrap_or_else(|| lost("a get of one blob of many"))
            }
        };
        calls::blob(bucket, name, bytes)
    }
}

async fn queued(store: &Store, bucket: &Bucket, name: &[u8]) -> Result<Vec<u8>> {
    let queue = store.queue(1)?;
    queue.submit(Operation::get(bucket, name))?;
    let mut ended = Vec::new();
    queue.wait_async(1, 1, &mut ended).await;
    match ended.pop() {
        Some(completion) => match (completion.result, completion.memory) {
            (Ok(_), OpMemory::Owned(bytes)) => Ok(bytes),
            (Ok(_), _) => lost("the memory of a get"),
            (Err(error), _) => Err(error),
        },
        None => lost("a completion"),
    }
}

fn lost<T>(what: &str) -> Result<T> {
    Err(Error::new(ErrorKind::Internal, format!("{what} is lost")))
}
