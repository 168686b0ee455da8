//! Changes of several blobs, of any buckets, that take place together or not at all.
//!
//! Their keys are claimed in ascending order, so that two batches never wait for each other; then
//! all conditions are checked, and nothing has happened if one fails. The records stand in one
//! batch of the log, and what they do becomes visible in one moment.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::api::admission::{Reservation, index_room};
use crate::api::attributes::AttributeChanges;
use crate::api::bucket::Bucket;
use crate::api::change::{Claim, answered, claim, device_bytes_of, prepare};
use crate::api::edit::{Changed, Condition, Edit};
use crate::api::quota;
use crate::api::read::Reader;
use crate::buckets::BucketState;
use crate::core::{Core, Group, Member, Request};
use crate::engine::flush_everything;
use crate::error::{Result, fail};
use crate::io::wait::oneshot;
use crate::limits::BATCH_STEPS_MAX;
use crate::types::Durability;

/// Changes to be made together, in any number of buckets of one store. Each blob at most once.
#[derive(Clone, Default)]
pub struct Batch<'a> {
    steps: Vec<Step<'a>>,
}

#[derive(Clone)]
struct Step<'a> {
    bucket: Bucket,
    key: Box<[u8]>,
    action: StepAction<'a>,
    condition: Condition,
}

#[derive(Clone)]
enum StepAction<'a> {
    Put(Cow<'a, [u8]>),
    PutAt(u64, Cow<'a, [u8]>),
    Append(Cow<'a, [u8]>),
    Truncate(u64),
    Delete,
    Attributes(AttributeChanges),
    /// Only the condition counts.
    Require,
}

impl StepAction<'_> {
    fn edit(&self) -> Option<Edit<'_>> {
        Some(match self {
            StepAction::Put(bytes) => Edit::Replace(bytes),
            StepAction::PutAt(offset, bytes) => Edit::PutAt(*offset, bytes),
            StepAction::Append(bytes) => Edit::Append(bytes),
            StepAction::Truncate(len) => Edit::Truncate(*len),
            StepAction::Delete => Edit::Delete,
            StepAction::Attributes(changes) => Edit::Attributes(changes),
            StepAction::Require => return None,
        })
    }
}

impl<'a> Batch<'a> {
    /// Of no steps yet.
    pub fn new() -> Batch<'a> {
        Batch::default()
    }

    /// Stores a value under a key, replacing any there is.
    pub fn put(
        &mut self,
        bucket: &Bucket,
        key: &[u8],
        value: impl Into<Cow<'a, [u8]>>,
    ) -> &mut Self {
        self.add(bucket, key, StepAction::Put(value.into()))
    }

    /// Writes bytes at an offset of the value.
    pub fn put_at(
        &mut self,
        bucket: &Bucket,
        key: &[u8],
        offset: u64,
        bytes: impl Into<Cow<'a, [u8]>>,
    ) -> &mut Self {
        self.add(bucket, key, StepAction::PutAt(offset, bytes.into()))
    }

    /// Adds bytes at the end of the value.
    pub fn append(
        &mut self,
        bucket: &Bucket,
        key: &[u8],
        bytes: impl Into<Cow<'a, [u8]>>,
    ) -> &mut Self {
        self.add(bucket, key, StepAction::Append(bytes.into()))
    }

    /// Sets the length of the value.
    pub fn truncate(&mut self, bucket: &Bucket, key: &[u8], len: u64) -> &mut Self {
        self.add(bucket, key, StepAction::Truncate(len))
    }

    /// Removes the blob.
    pub fn delete(&mut self, bucket: &Bucket, key: &[u8]) -> &mut Self {
        self.add(bucket, key, StepAction::Delete)
    }

    /// Changes attributes and score of the blob.
    pub fn set_attributes(
        &mut self,
        bucket: &Bucket,
        key: &[u8],
        changes: AttributeChanges,
    ) -> &mut Self {
        self.add(bucket, key, StepAction::Attributes(changes))
    }

    /// Changes nothing of the blob: the batch takes place only if this holds of it.
    pub fn require(&mut self, bucket: &Bucket, key: &[u8], condition: Condition) -> &mut Self {
        self.add(bucket, key, StepAction::Require).when(condition)
    }

    /// The batch takes place only if this holds of the blob of the last step.
    pub fn when(&mut self, condition: Condition) -> &mut Self {
        if let Some(last) = self.steps.last_mut() {
            last.condition = condition;
        }
        self
    }

    fn add(&mut self, bucket: &Bucket, key: &[u8], action: StepAction<'a>) -> &mut Self {
        let (bucket, key, condition) = (bucket.clone(), key.into(), Condition::None);
        self.steps.push(Step { bucket, key, action, condition });
        self
    }

    /// Steps so far.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

/// Makes all changes of a batch, or none. What each made, in the order of the steps; of a step that
/// changes nothing, the version found.
pub(crate) async fn commit(
    core: &Arc<Core>,
    batch: &Batch<'_>,
    durability: Option<Durability>,
    reader: Reader<'_>,
) -> Result<Vec<Changed>> {
    let level = level_of(core, batch, durability)?;
    let order = checked_order(core, batch)?;
    let _operation = core.begin_operation()?;
    let buckets = batch.steps.iter().map(|step| step.bucket.state());
    let _changes = BucketState::begin_changes(buckets).await?;
    let mut rooms = Vec::new();
    let mut bytes = 0;
    for step in &batch.steps {
        let bucket = step.bucket.state();
        if let Some(edit) = step.action.edit() {
            rooms.push(index_room(core, &step.key, edit, bucket.buffer_size(core))?);
            bytes += device_bytes_of(core, bucket, &step.key, edit);
        }
    }
    let _reservation = match bytes {
        0 => None,
        bytes => Some(Reservation::take(core, bytes).await?),
    };
    let mut claims: Vec<Option<Claim<'_>>> = batch.steps.iter().map(|_| None).collect();
    for at in order {
        let Step { bucket, key, .. } = &batch.steps[at];
        claims[at] = Some(claim(core, bucket.state(), key, reader).await?);
    }
    let claims: Vec<Claim<'_>> = claims.into_iter().flatten().collect();
    for (step, claim) in batch.steps.iter().zip(&claims) {
        step.condition.check(step.bucket.state(), &step.key, claim.before.present())?;
    }
    let (members, ending, changed) = prepare_all(core, batch, claims).await?;
    send(core, members, ending, Vec::new(), level).await?;
    Ok(changed)
}

/// Writes what the steps need written. Returns the members of the group with the claims they end.
async fn prepare_all<'a>(
    core: &Arc<Core>,
    batch: &Batch<'_>,
    claims: Vec<Claim<'a>>,
) -> Result<(Vec<Member>, Vec<Claim<'a>>, Vec<Changed>)> {
    let mut inline_left = inline_max(core);
    let (mut members, mut ending, mut changed) = (Vec::new(), Vec::new(), Vec::new());
    for (step, mut claim) in batch.steps.iter().zip(claims) {
        claim.inline_left = inline_left;
        claim.is_one_of_many = batch.steps.len() > 1;
        let prepared = match step.action.edit() {
            Some(edit) => prepare(core, &mut claim, edit).await?,
            None => None,
        };
        inline_left = claim.inline_left;
        match prepared {
            Some((change, offset)) => {
                changed.push(Changed { version: claim.version, offset });
                members.push(Member::Blob(claim.commit(change)));
                ending.push(claim);
            }
            None => {
                let offset = claim.before.len;
                changed.push(Changed { version: claim.before.version, offset });
            }
        }
    }
    Ok((members, ending, changed))
}

/// Has a group logged. Its members end the claims `ending`; what `beside` claims stays as it is until
/// the group has its place in the order.
pub(super) async fn send(
    core: &Arc<Core>,
    mut members: Vec<Member>,
    ending: Vec<Claim<'_>>,
    beside: Vec<Claim<'_>>,
    level: Durability,
) -> Result<()> {
    if members.is_empty() {
        // What was found may not be flushed yet, and the level is promised all the same.
        drop((ending, beside));
        return flush_everything(core).await;
    }
    quota::set_aside_all(&mut members, &ending)?;
    let changes = ending.len() as u64;
    let keep = ending.iter().chain(&beside).map(|claim| claim.before.clone()).collect();
    let (reply, answer) = oneshot();
    let group = Box::new(Group { members, keep, level, reply });
    core.shards[0].push(Request::Group(group)).await;
    ending.into_iter().for_each(Claim::hand_over);
    drop(beside);
    answered(answer).await?;
    core.counters.logged_changes.fetch_add(changes, Ordering::Relaxed);
    Ok(())
}

/// Bytes of values that may ride in the batch of a group: with its records it must fit a segment of
/// the log.
fn inline_max(core: &Core) -> usize {
    let segment = core.space.tiers().first().map_or(0, |tier| tier.segment_size);
    usize::try_from(segment / 2).unwrap_or(usize::MAX)
}

/// The level of all: the one asked for, else the highest default of the buckets.
fn level_of(core: &Core, batch: &Batch<'_>, asked: Option<Durability>) -> Result<Durability> {
    core.check_writable()?;
    if !core.is_persistent() {
        fail!(
            Unsupported,
            "a store with DRAM alone has no batches; make the changes one by one, or add a tier"
        );
    }
    let defaults = batch.steps.iter().map(|step| step.bucket.default_level());
    let level = asked.or_else(|| defaults.max()).unwrap_or(Durability::Written);
    Ok(level.max(Durability::Written))
}

/// The steps in the order in which their keys are claimed, once all arguments are in bounds.
fn checked_order(core: &Arc<Core>, batch: &Batch<'_>) -> Result<Vec<usize>> {
    let steps = &batch.steps;
    if steps.len() > BATCH_STEPS_MAX {
        fail!(LimitExceeded, "a batch has at most {BATCH_STEPS_MAX} steps, not {}", steps.len());
    }
    for Step { bucket, key, action, .. } in steps {
        if !Arc::ptr_eq(core, bucket.core()) {
            fail!(InvalidArgument, "a batch names a bucket of another store");
        }
        match action.edit() {
            Some(edit) => bucket.check_bounds(key, edit)?,
            None => bucket.check(key)?,
        }
    }
    let name = |at: &usize| (steps[*at].bucket.id(), &*steps[*at].key);
    let mut order: Vec<usize> = (0..steps.len()).collect();
    order.sort_unstable_by_key(|at| name(at));
    if let Some(pair) = order.windows(2).find(|pair| name(&pair[0]) == name(&pair[1])) {
        let Step { bucket, key, .. } = &steps[pair[0]];
        fail!(
            InvalidArgument,
            "a batch changes blob {:?} of bucket {:?} twice",
            String::from_utf8_lossy(key),
            String::from_utf8_lossy(&bucket.name())
        );
    }
    Ok(order)
}
