//! What a change will take of devices and memory, asked for before it begins.

use crate::api::edit::{Edit, pieces};
use crate::core::Core;
use crate::error::{Result, fail};
use crate::index::budget::MemoryRoom;
use crate::index::entry::entry_bytes;
use crate::index::extents::Extent;
use crate::index::pages::PageRef;
use crate::index::table::ROW_BYTES;
use crate::limits::CHECK_BLOCK;
use crate::tier::space::footprint;

/// Device bytes that data at `offset` will take.
pub fn device_bytes(offset: u64, len: usize, buffer_size: u32) -> u64 {
    pieces(offset, len, buffer_size).map(|(_, piece)| footprint(piece.len() as u32)).sum()
}

/// Memory that an edit may take of the index, set aside until the edit is over. Refuses one that
/// there is no memory for; what makes room goes on.
pub fn index_room<'a>(
    core: &'a Core,
    key: &[u8],
    edit: Edit<'_>,
    buffer_size: u32,
) -> Result<Option<MemoryRoom<'a>>> {
    match edit.may_grow_index() {
        true => room_for(core, key, edit.data().len(), buffer_size),
        false => Ok(None),
    }
}

/// The same for so much data, whatever becomes of it.
pub fn room_for<'a>(
    core: &'a Core,
    key: &[u8],
    data_len: usize,
    buffer_size: u32,
) -> Result<Option<MemoryRoom<'a>>> {
    let budget = core.index.budget();
    let beside = core.dram.metadata_bytes();
    let room = budget.reserve(index_bytes(core, key, data_len, buffer_size), beside);
    if room.is_none() {
        fail!(
            NoMemory,
            "the index uses {} of {} bytes; raise memory_budget or delete blobs",
            budget.used_bytes(),
            budget.limit_beside(beside)
        );
    }
    Ok(room)
}

/// Memory that a change may add to the index.
fn index_bytes(core: &Core, key: &[u8], data_len: usize, buffer_size: u32) -> u64 {
    let buffers = data_len as u64 / u64::from(buffer_size) + 2;
    let rows = buffers * ROW_BYTES;
    if core.is_persistent() && buffers > core.settings.inline_extents_max() as u64 {
        let pages = buffers.div_ceil(u64::from(core.settings.page_extents));
        return entry_bytes(key.len()) + rows + pages * (ROW_BYTES + size_of::<PageRef>() as u64);
    }
    let checks = (data_len / CHECK_BLOCK) as u64 * 4;
    entry_bytes(key.len()) + rows + buffers * size_of::<Extent>() as u64 + checks
}

/// Device space set aside for a change until it is over.
pub struct Reservation<'a> {
    core: &'a Core,
    bytes: u64,
}

impl<'a> Reservation<'a> {
    /// Sets `bytes` aside. Dead bytes are not in the way: only what is live counts, and cleaning
    /// frees the rest before it is needed. Buffers of a large value that was deleted die when its
    /// pages are released, so that is waited for.
    pub async fn take(core: &'a Core, bytes: u64) -> Result<Reservation<'a>> {
        let condemned = core.table.pages_condemned();
        loop {
            let changed = core.table.pages_changed.ticket();
            let all_released = core.table.pages_done() >= condemned;
            core.check_poison()?;
            if core.space.reserve(bytes) {
                return Ok(Reservation { core, bytes });
            }
            if core.full_host().is_some() {
                // Others may have made room there since it was asked last.
                core.space.back_reserve();
                if core.space.reserve(bytes) {
                    return Ok(Reservation { core, bytes });
                }
            }
            core.organizer.kick();
            if all_released {
                break;
            }
            changed.await;
        }
        let host = core.full_host().map_or(String::new(), |path| {
            format!("; the file system of {path} has no space for its free segments")
        });
        fail!(
            NoSpace,
            "the tiers have no room for {bytes} bytes: {} live, {} reserved{host}; delete blobs or add capacity",
            core.space.tiers().iter().map(|tier| tier.live_bytes()).sum::<u64>(),
            core.space.reserved_bytes()
        )
    }
}

impl Reservation<'_> {
    /// Leaves it to the caller to give the space back. Returns how much that is.
    pub fn leave(mut self) -> u64 {
        std::mem::take(&mut self.bytes)
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.core.space.unreserve(self.bytes);
    }
}
