//! Space that nothing lives in any more, given back now.

use std::sync::Arc;

use crate::core::{Core, Request};
use crate::engine::flush_everything;
use crate::error::{Result, fail};
use crate::types::{TierId, TierKind};

/// What a compaction came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompactReport {
    /// The device tiers, from fast to slow.
    pub tiers: Vec<CompactedTier>,
}

/// A tier in a [`CompactReport`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompactedTier {
    /// Its number.
    pub tier: TierId,
    /// What it is.
    pub kind: TierKind,
    /// Bytes of segments that became free.
    pub freed: u64,
    /// Bytes of segments in use.
    pub used: u64,
}

/// Frees what can be freed: releases extent pages, lets go of old log, and has sparse segments
/// packed. What others store meanwhile counts against it.
pub(super) async fn compact(core: &Arc<Core>) -> Result<CompactReport> {
    core.check_writable()?;
    if !core.is_persistent() {
        fail!(Unsupported, "a store with DRAM alone has nothing to compact; add a tier");
    }
    let _operation = core.begin_operation()?;
    let before = used_bytes(core);
    wait_for_releases(core).await?;
    flush_everything(core).await?;
    core.ask(0, Request::Trim).await?;
    if core.organizer.compact().await.is_err() {
        core.check_poison()?;
        fail!(Closed, "the store closed during a compaction");
    }
    flush_everything(core).await?;
    let tiers = core.space.tiers().iter().zip(before).zip(used_bytes(core));
    let report = tiers.map(|((tier, before), used)| CompactedTier {
        tier: tier.id,
        kind: tier.kind,
        freed: before.saturating_sub(used),
        used,
    });
    Ok(CompactReport { tiers: report.collect() })
}

fn used_bytes(core: &Core) -> Vec<u64> {
    let used = |tier: &crate::tier::space::Tier| {
        tier.capacity - tier.free_segments() as u64 * tier.segment_size
    };
    core.space.tiers().iter().map(used).collect()
}

/// Buffers of a large value that was deleted die when its pages are released.
async fn wait_for_releases(core: &Core) -> Result<()> {
    let condemned = core.table.pages_condemned();
    loop {
        let changed = core.table.pages_changed.ticket();
        core.check_poison()?;
        if core.table.pages_done() >= condemned {
            return Ok(());
        }
        core.organizer.kick();
        changed.await;
    }
}
