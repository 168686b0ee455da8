//! Many device ranges at once, for gets of many cold buffers.

use crate::core::ReadRequest;
use crate::error::Result;
use crate::io::buffer::AlignedBuf;
use crate::shard::io::{ShardIo, all};
use crate::types::TierId;

/// How often a failed read is tried again before it is an error.
const READ_RETRIES: usize = 2;

/// Reads all ranges of a request; the ring keeps them in flight together.
pub async fn serve(io: &ShardIo, request: ReadRequest) {
    let reads = request.ranges.iter().map(|range| read_range(io, *range)).collect();
    let bytes: Result<Vec<AlignedBuf>> = all(reads).await.into_iter().collect();
    request.reply.send(bytes);
}

async fn read_range(io: &ShardIo, (tier, offset, len): (TierId, u64, usize)) -> Result<AlignedBuf> {
    let mut tries = 0;
    loop {
        // The caller's permit bounds these bytes; waiting for the pool here could be for ever.
        let buf = io.memory(len);
        match io.read(tier, offset, len, buf).await {
            Err(_) if tries < READ_RETRIES => tries += 1,
            done => return done,
        }
    }
}
