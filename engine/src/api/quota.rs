//! What changes add to their buckets, set aside before anything of them takes place, or refused.

use std::collections::BTreeMap;

use crate::api::change::Claim;
use crate::api::edit::Edit;
use crate::buckets::BucketState;
use crate::core::Member;
use crate::error::Result;
use crate::index::entry::Entry;
use crate::types::BucketId;
use crate::usage::{Growth, Hold};

impl Claim<'_> {
    /// Sets the growth of the bucket by an edit aside, or refuses it for a quota.
    pub(super) fn set_aside(&mut self, edit: Edit<'_>) -> Result<()> {
        let len_after = match edit {
            Edit::Delete => None,
            // It will be refused for that, whatever the quota.
            _ if edit.wants_blob() && !self.before.exists() => None,
            _ => Some(edit.effect(self.before.len)?.1),
        };
        self.set_aside_len(len_after)
    }

    /// The same by a change that gives the value this length; `None`: it removes the blob.
    pub(super) fn set_aside_len(&mut self, len_after: Option<u64>) -> Result<()> {
        self.hold = self.bucket.set_aside(Growth::of(&self.before, len_after))?;
        Ok(())
    }
}

/// Sets the growth of the bucket aside, if it has a quota, for as long as its key is locked.
pub(super) fn set_aside_locked(
    bucket: &BucketState,
    entry: &Entry,
    edit: Edit<'_>,
    len: u64,
) -> Result<Option<Hold>> {
    if !bucket.usage.is_limited() {
        return Ok(None);
    }
    let len_after = (!matches!(edit, Edit::Delete)).then_some(len);
    bucket.set_aside(Growth::of(&entry.visible, len_after))
}

/// Sets aside by how much each bucket grows, all changes together, or refuses them for a quota.
pub(super) fn set_aside_all(members: &mut [Member], ending: &[Claim<'_>]) -> Result<()> {
    let mut grown: BTreeMap<BucketId, Growth> = BTreeMap::new();
    for (commit, claim) in members.iter().filter_map(Member::commit).zip(ending) {
        let growth = Growth::of(&claim.before, commit.change.len_after(&claim.before));
        *grown.entry(commit.bucket).or_default() += growth;
    }
    for member in members {
        if let Member::Blob(commit) = member
            && let Some(growth) = grown.remove(&commit.bucket)
            && let Some(claim) = ending.iter().find(|claim| claim.bucket.id == commit.bucket)
        {
            commit.hold = claim.bucket.set_aside(growth)?;
        }
    }
    Ok(())
}
