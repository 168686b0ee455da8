//! Attributes of blobs: what is done to them, and the calls for it.
//!
//! A change of attributes is a change of the blob, with a version of its own, at Written level at
//! least. It keeps the value: one that the log has is named by its version, one that only DRAM has
//! is written along.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::api::bucket::{Bucket, PutOptions};
use crate::api::change::{Claim, Draft, not_found};
use crate::api::edit::Edit;
use crate::api::{paged, predecessor};
use crate::core::{Change, Core};
use crate::error::{Result, fail};
use crate::index::attributes::SharedAttributes;
use crate::log::attributes::{
    AttributeList, AttributeValue, Attributes, check_attribute, check_attribute_name, check_score,
};
use crate::types::Version;

/// Changes of a blob's attributes and score, to be made together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AttributeChanges {
    values: BTreeMap<String, Option<AttributeValue>>,
    score: Option<Option<f32>>,
}

impl AttributeChanges {
    /// None yet.
    pub fn new() -> AttributeChanges {
        AttributeChanges::default()
    }

    /// Gives an attribute a value, whether it is there or not.
    pub fn set(mut self, name: &str, value: impl Into<AttributeValue>) -> AttributeChanges {
        self.values.insert(name.to_owned(), Some(value.into()));
        self
    }

    /// Removes an attribute, if it is there.
    pub fn remove(mut self, name: &str) -> AttributeChanges {
        self.values.insert(name.to_owned(), None);
        self
    }

    /// Sets the score, from 0 to 1, or removes it.
    pub fn score(mut self, score: impl Into<Option<f32>>) -> AttributeChanges {
        self.score = Some(score.into());
        self
    }

    /// Whether any of them adds something.
    pub(super) fn may_add(&self) -> bool {
        self.values.values().any(Option::is_some) || matches!(self.score, Some(Some(_)))
    }

    /// Refuses what no blob can have.
    pub(super) fn check(&self) -> Result<()> {
        let values = self.values.iter().try_for_each(|(name, value)| match value {
            Some(value) => check_attribute(name, value),
            None => check_attribute_name(name),
        });
        let score = self.score.flatten().map_or(Ok(()), check_score);
        match values.and(score) {
            Ok(()) => Ok(()),
            Err(fault) => fail!(InvalidArgument, "{fault}"),
        }
    }

    /// What these make of a blob's attributes.
    fn apply_to(&self, before: Option<&Attributes>) -> Result<Option<Attributes>> {
        let score = self.score.unwrap_or_else(|| before.and_then(Attributes::score));
        let mut values: BTreeMap<String, AttributeValue> =
            before.map(Attributes::list).unwrap_or_default().into_iter().collect();
        for (name, value) in &self.values {
            match value {
                Some(value) => drop(values.insert(name.clone(), value.clone())),
                None => drop(values.remove(name)),
            }
        }
        let values: AttributeList = values.into_iter().collect();
        match Attributes::new(score, &values) {
            Ok(after) => Ok(after),
            Err(fault) => fail!(LimitExceeded, "{fault}"),
        }
    }
}

/// What a claimed blob becomes by changes of its attributes; `None` if it stays as it is.
pub(super) async fn prepare(
    core: &Arc<Core>,
    claim: &mut Claim<'_>,
    changes: &AttributeChanges,
) -> Result<Option<Change>> {
    let before = claim.before.attributes.as_ref().map(|shared| &***shared);
    let after = changes.apply_to(before)?;
    let stays = after.as_ref() == before;
    if stays && claim.is_logged() {
        return Ok(None);
    }
    claim.attributes = after.map(|after| SharedAttributes::new(after, core.index.budget()));
    if claim.is_logged() {
        return Ok(Some(Change::Attributes { base: claim.before.version }));
    }
    with_value(core, claim).await.map(Some)
}

/// The whole state of a claimed blob, with what of its value the log does not know yet.
async fn with_value(core: &Arc<Core>, claim: &mut Claim<'_>) -> Result<Change> {
    let (len, extents) = (claim.before.len, claim.before.extents_in_memory());
    let mut draft = Draft { extents, buffers: Vec::new() };
    if draft.extents.len() > core.settings.inline_extents_max() {
        return paged::from_memory(core, claim.bucket, claim, draft, len).await;
    }
    predecessor::add(core, claim, &mut draft).await?;
    Ok(draft.into_put(len, None, None))
}

impl Bucket {
    /// Gives an attribute of a blob a value: an integer, a float or a text. Returns the blob's new
    /// version, or the present one if it has that value already.
    ///
    /// # Errors
    /// `NotFound` if there is no such blob; `InvalidArgument` for a name or value out of bounds;
    /// `LimitExceeded` if the blob has too many attributes, or too large ones, already; and those of
    /// a put.
    pub fn set_attribute(
        &self,
        key: &[u8],
        name: &str,
        value: impl Into<AttributeValue>,
    ) -> Result<Version> {
        self.set_attributes(key, &AttributeChanges::new().set(name, value))
    }

    /// Removes an attribute of a blob, if it is there.
    pub fn remove_attribute(&self, key: &[u8], name: &str) -> Result<Version> {
        self.set_attributes(key, &AttributeChanges::new().remove(name))
    }

    /// Sets the score of a blob, from 0 to 1, or removes it.
    pub fn set_score(&self, key: &[u8], score: impl Into<Option<f32>>) -> Result<Version> {
        self.set_attributes(key, &AttributeChanges::new().score(score))
    }

    /// Changes attributes and score of a blob, all or none of them.
    pub fn set_attributes(&self, key: &[u8], changes: &AttributeChanges) -> Result<Version> {
        self.set_attributes_with(key, changes, PutOptions::default())
    }

    /// [`set_attributes`](Self::set_attributes) with options. Memory level is taken for Written.
    pub fn set_attributes_with(
        &self,
        key: &[u8],
        changes: &AttributeChanges,
        options: PutOptions,
    ) -> Result<Version> {
        let changed = self.wait(self.edit(key, Edit::Attributes(changes), options))?;
        Ok(changed.version)
    }

    /// The value of an attribute; `None` if the blob has no such one. `NotFound` if there is no blob.
    pub fn attribute(&self, key: &[u8], name: &str) -> Result<Option<AttributeValue>> {
        Ok(self.shared_attributes(key)?.and_then(|shared| shared.get(name)))
    }

    /// All attributes of a blob, ascending by name.
    pub fn attributes(&self, key: &[u8]) -> Result<Vec<(String, AttributeValue)>> {
        Ok(self.shared_attributes(key)?.map(|shared| shared.list()).unwrap_or_default())
    }

    fn shared_attributes(&self, key: &[u8]) -> Result<Option<Arc<SharedAttributes>>> {
        self.check(key)?;
        let hash = self.core().index.hash(self.id(), key);
        let mut stripe = self.core().index.lock(hash);
        match stripe.get(hash, self.id(), key).filter(|entry| entry.visible.exists()) {
            Some(entry) => Ok(entry.visible.attributes.clone()),
            None => Err(not_found(self.state(), key)),
        }
    }
}
