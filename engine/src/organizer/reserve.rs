//! The DRAM reserve: clean slots are taken out before callers have to, memory is faulted in
//! before it is needed, and write-behind is hurried while too much is dirty.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::core::Core;
use crate::io::exec::Exec;
use crate::limits::BUFFER_SIZE_MAX;
use crate::tier::dram::VictimList;

/// Bytes of slots that one sweep of a size looks at.
const SWEEP_BYTES: usize = 256 << 10;
/// Rounds without a find after which nothing more is clean: each cools what it meets, and a slot
/// is cold after three.
const EMPTY_ROUNDS_MAX: usize = 64;
/// Chunks faulted in between two yields.
const CHUNKS_PER_TURN: usize = 4;

/// Keeps slots free until the organizer ends.
pub async fn keep_slots_free(core: Arc<Core>, exec: Rc<dyn Exec>) {
    loop {
        // Before the look at the flag: a stop between the two would be slept over.
        let ticket = core.organizer.ticket();
        if core.organizer.is_stopping() {
            break;
        }
        let dram = &core.dram;
        if dram.dirty_bytes() > dram.capacity() / 2 {
            core.dirty.iter().for_each(|queue| queue.hurry());
        }
        let (low, high) = core.settings.dram_watermarks;
        if dram.free_bytes() < free_bytes_at(high, dram.capacity()) {
            take_out(&core, &*exec, free_bytes_at(low, dram.capacity())).await;
        }
        ticket.await;
    }
}

/// Bytes of the arena that are free when it is filled to a watermark.
fn free_bytes_at(watermark: f64, capacity: u64) -> u64 {
    capacity - (capacity as f64 * watermark) as u64
}

/// Takes cold, clean slots out until so many bytes are free, or nothing more is to be had.
async fn take_out(core: &Core, exec: &dyn Exec, target: u64) {
    let mut empty_rounds = 0;
    while empty_rounds < EMPTY_ROUNDS_MAX && !core.organizer.is_stopping() {
        let mut evicted = 0;
        for len in sizes() {
            evicted += sweep(core, len);
        }
        core.organizer.counters.dram_evictions.fetch_add(evicted, Ordering::Relaxed);
        if core.dram.free_bytes() >= target {
            return;
        }
        empty_rounds = if evicted == 0 { empty_rounds + 1 } else { 0 };
        exec.yield_now().await;
    }
}

/// Lengths that meet every size class of the arena, whose neighbours differ by more than this
/// step.
fn sizes() -> impl Iterator<Item = usize> {
    let next = |len: &usize| Some(len + len.div_ceil(9)).filter(|len| *len <= BUFFER_SIZE_MAX);
    std::iter::successors(Some(64), next).chain([BUFFER_SIZE_MAX])
}

/// One sweep of a size: as many bytes of each.
fn sweep(core: &Core, len: usize) -> u64 {
    let mut victims = VictimList::new();
    core.dram.sweep(len, (SWEEP_BYTES / len).clamp(4, 1024), &mut victims);
    let mut evicted = 0;
    for victim in victims.as_slice() {
        let mut stripe = core.index.lock_number(usize::from(victim.stripe));
        evicted += u64::from(core.dram.evict(&mut stripe.dir, victim));
    }
    evicted
}

/// Faults memory in ahead of its use until the organizer ends.
pub async fn fault_ahead(core: Arc<Core>, exec: Rc<dyn Exec>) {
    loop {
        // Before the look at the flag: a stop between the two would be slept over.
        let ticket = core.organizer.ticket();
        if core.organizer.is_stopping() {
            break;
        }
        if !core.dram.wants_faulting() {
            ticket.await;
            continue;
        }
        let worked = (0..CHUNKS_PER_TURN).any(|_| core.dram.fault_ahead());
        if worked {
            exec.yield_now().await;
        } else {
            ticket.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::default_watermarks;
    use crate::types::TierKind;

    #[test]
    fn the_watermarks_say_how_much_is_free_and_the_default_ones_a_sixteenth_and_an_eighth() {
        let (low, high) = default_watermarks(Some(TierKind::Dram));
        assert_eq!([high, low].map(|share| free_bytes_at(share, 256 << 20)), [16 << 20, 32 << 20]);
        assert_eq!([0.25, 1.0].map(|share| free_bytes_at(share, 8 << 20)), [6 << 20, 0]);
    }

    #[test]
    fn sizes_grow_in_steps_smaller_than_those_of_the_classes() {
        let sizes: Vec<usize> = sizes().collect();
        assert_eq!((sizes[0], *sizes.last().unwrap()), (64, BUFFER_SIZE_MAX));
        assert!(sizes.windows(2).all(|pair| pair[0] <= pair[1] && pair[1] <= pair[0] * 8 / 7));
    }
}
