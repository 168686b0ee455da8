//! Room in the DRAM tier: a caller that needs a slot takes clean ones itself, in a bounded sweep.
//! Nobody waits for the organizer.

use std::sync::atomic::Ordering;

use crate::core::Core;
use crate::tier::dram::VictimList;
use crate::types::SlotId;

/// Sweeps for one slot, and slots looked at per sweep.
const SWEEPS_MAX: usize = 4;
const SWEEP_BUDGET: usize = 256;

/// A slot for `len` bytes, evicting clean ones if need be. `None` if all that could be looked at
/// is dirty or in use.
pub fn allocate(core: &Core, len: usize) -> Option<SlotId> {
    if let Some(slot) = core.dram.alloc(len) {
        return Some(slot);
    }
    core.warmth.set_full();
    // The reserve is gone: the next caller shall find one again.
    core.organizer.kick();
    for _ in 0..SWEEPS_MAX {
        let evicted = evict(core, len, SWEEP_BUDGET);
        core.counters.caller_evictions.fetch_add(evicted, Ordering::Relaxed);
        if let Some(slot) = core.dram.alloc(len) {
            return Some(slot);
        }
    }
    core.dirty.iter().for_each(|queue| queue.hurry());
    None
}

/// Evicts clean slots that would help an allocation of `len` bytes. Returns how many.
pub fn evict(core: &Core, len: usize, budget: usize) -> u64 {
    let mut victims = VictimList::new();
    core.dram.sweep(len, budget, &mut victims);
    let mut evicted = 0;
    for victim in victims.as_slice() {
        let mut stripe = core.index.lock_number(usize::from(victim.stripe));
        evicted += u64::from(core.dram.evict(&mut stripe.dir, victim));
    }
    evicted
}
