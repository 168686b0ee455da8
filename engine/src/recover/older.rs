//! The checkpoint before the one that recovery goes by. It stays readable, with the log that it
//! needs, until the next one is there: should the newest be damaged by then, this one does.

use std::collections::BTreeSet;

use crate::log::scan::starts_between;
use crate::log::superblock::{LogStart, Previous, Superblock};
use crate::recover::{History, Target, expect_of, load};
use crate::types::TierSegment;

/// See the module.
pub(super) struct Older {
    /// What names it.
    pub checkpoint: Previous,
    /// The segments that it lies in.
    pub segments: BTreeSet<TierSegment>,
    /// The log segments that it needs beside those of the newer one, oldest first.
    pub log: Vec<LogStart>,
}

/// The checkpoint that `older` names, if its root can be read and the log leads from it to where
/// the newer one's begins.
pub(super) fn find(
    target: &Target<'_>,
    newer: &Superblock,
    older: Option<&Superblock>,
    history: &History,
) -> Option<Older> {
    let older = older?;
    let segments = match &older.checkpoint {
        Some(root_ref) => {
            let root = load::read_root(target, newer, root_ref).ok()?;
            load::segments_named(target.space, &root, root_ref).ok()?
        }
        None => BTreeSet::new(),
    };
    let device = target.devices.get(newer.log_start.segment.tier.index())?;
    let expect = expect_of(newer, history);
    let log = starts_between(&**device, older.log_start, newer.log_start, &expect)?;
    Some(Older { checkpoint: older.as_previous(), segments, log })
}
