//! The organizer's device operations, counted and with the engine's errors.

use crate::core::Core;
use crate::error::{Error, Result};
use crate::io::buffer::AlignedBuf;
use crate::io::exec::{Exec, memory};
use crate::limits::BLOCK;
use crate::plant::{Plant, planted};
use crate::types::TierId;

/// Reads exactly `len` bytes.
pub async fn read(
    core: &Core,
    exec: &dyn Exec,
    tier: TierId,
    offset: u64,
    len: usize,
) -> Result<AlignedBuf> {
    core.space.tier(tier).check_there()?;
    let result = exec.read(tier, offset, len).await;
    core.space.tier(tier).counters.count_read(len);
    result.map_err(|error| {
        Error::from_io(format_args!("read of {len} bytes at {offset} of tier {}", tier.0), &error)
    })
}

/// Writes `buf[..len]`. Counted as unflushed once it is done, and before anybody hears of it: so
/// no flush that came too early covers it, and the next one does.
pub async fn write(
    core: &Core,
    exec: &dyn Exec,
    tier: TierId,
    offset: u64,
    len: usize,
    buf: AlignedBuf,
) -> Result<AlignedBuf> {
    core.space.tier(tier).check_there()?;
    let result = exec.write(tier, offset, len, buf).await;
    if !planted(Plant::MoveNotFlushed) {
        core.space.tier(tier).counters.count_write(len);
    }
    result.map_err(|error| {
        Error::from_io(format_args!("write of {len} bytes at {offset} of tier {}", tier.0), &error)
    })
}

/// Writes whole blocks that are not in aligned memory yet.
pub async fn write_bytes(
    core: &Core,
    exec: &dyn Exec,
    tier: TierId,
    offset: u64,
    bytes: &[u8],
) -> Result<()> {
    let mut buf = memory(&core.pool, bytes.len());
    debug_assert!(bytes.len().is_multiple_of(BLOCK));
    buf.as_mut_slice()[..bytes.len()].copy_from_slice(bytes);
    write(core, exec, tier, offset, bytes.len(), buf).await.map(drop)
}
