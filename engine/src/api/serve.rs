//! Runs an operation of a queue: in DRAM on the submitting thread, or as a task of a shard.

use std::rc::Rc;

use crate::api::batch;
use crate::api::bucket::Bucket;
use crate::api::copy::{self, Source};
use crate::api::edit::{Changed, Edit};
use crate::api::get::Target;
use crate::api::many;
use crate::api::operation::{Action, Done, OpMemory, Operation};
use crate::api::queue::Duty;
use crate::api::ranges;
use crate::api::read::{Got, Reader};
use crate::error::{Error, ErrorKind, Result, fail};
use crate::shard::ShardContext;
use crate::types::Version;

/// Runs on a shard.
pub(super) async fn serve(context: Rc<ShardContext>, mut operation: Operation, mut duty: Duty) {
    if !duty.begin() {
        let cancelled = Error::new(ErrorKind::Cancelled, "cancelled before it began");
        return duty.complete_on(&context, operation.memory, Err(cancelled));
    }
    let result = run(&mut operation, Reader::Ring(&context.io)).await;
    duty.complete_on(&context, operation.memory, result);
}

/// What needs no other thread: a hit in DRAM, a change at Memory level with room for it. `None`: it
/// has not taken place.
pub(super) fn at_once(operation: &mut Operation) -> Option<Result<Done>> {
    let Operation { bucket, key, action, memory, options, .. } = operation;
    let (offset, got) = match (&*action, &mut *memory) {
        (Action::Get, OpMemory::Owned(value)) => (0, bucket.hit_whole(key, value)),
        (Action::Get, into) => (0, bucket.hit(key, 0, into.as_mut_slice(), true)),
        (Action::GetAt(at), into) => (*at, bucket.hit(key, *at, into.as_mut_slice(), false)),
        (Action::Stat, _) => return Some(stat(bucket, key)),
        (change, memory) => {
            let edit = edit(change, memory)?;
            let changed = bucket.edit_at_once(key, edit, *options)?;
            return Some(changed.map(|changed| changed_by(edit, changed)));
        }
    };
    got.map(|got| got.map(|got| got_by(offset, got))).transpose()
}

/// Any operation, wherever it runs.
pub(super) async fn run(operation: &mut Operation, reader: Reader<'_>) -> Result<Done> {
    let Operation { bucket, key, action, memory, options, .. } = operation;
    if let Some((offset, target)) = target(action, memory) {
        return Ok(got_by(offset, bucket.read_with(key, offset, target, reader).await?));
    }
    if let Action::Stat = action {
        return stat(bucket, key);
    }
    let Some(edit) = edit(action, memory) else { return run_wide(operation, reader).await };
    Ok(changed_by(edit, bucket.edit_by(key, edit, *options, reader).await?))
}

/// What a get of one stretch of one blob asks for: from which offset on, and where it goes.
pub(super) fn target<'a>(action: &Action, memory: &'a mut OpMemory) -> Option<(u64, Target<'a>)> {
    match (action, memory) {
        (Action::Get, OpMemory::Owned(value)) => Some((0, Target::Grow(value))),
        (Action::Get, into) => Some((0, Target::Whole(into.as_mut_slice()))),
        (Action::GetAt(offset), into) => Some((*offset, Target::Part(into.as_mut_slice()))),
        _ => None,
    }
}

/// Those that are about more than one stretch of one blob.
async fn run_wide(operation: &mut Operation, reader: Reader<'_>) -> Result<Done> {
    let Operation { bucket, key, action, memory, options, .. } = operation;
    match action {
        Action::GetRanges => get_ranges(bucket, key, memory, reader).await,
        Action::PutRanges => {
            let parts = parts_of(memory)?;
            let slices = parts.iter().map(|(at, part)| (*at, part.as_slice()));
            let slices: Vec<(u64, &[u8])> = slices.collect();
            let version = ranges::put(bucket, key, &slices, *options, reader).await?;
            let bytes = slices.iter().map(|(_, slice)| slice.len()).sum();
            Ok(Done { bytes, ..made(version) })
        }
        Action::Rename(to) => {
            let (from, to) = ((&*bucket, &**key), (&to.bucket, &*to.key));
            copy::copy(from, to, Source::Goes, *options, reader).await.map(made)
        }
        Action::Copy(to) => {
            let (from, to) = ((&*bucket, &**key), (&to.bucket, &*to.key));
            copy::copy(from, to, Source::Stays, *options, reader).await.map(made)
        }
        Action::Commit(steps) => {
            let level = options.durability;
            let changed = batch::commit(bucket.core(), steps, level, reader).await?;
            let versions = changed.into_iter().map(|changed| changed.version).collect();
            *memory = OpMemory::Versions(versions);
            Ok(Done::default())
        }
        Action::GetMany(blobs) => {
            let blobs: Vec<(&Bucket, &[u8])> =
                blobs.iter().map(|blob| (&blob.bucket, &*blob.key)).collect();
            let values = many::get_many(bucket.core(), &blobs, reader).await?;
            let bytes = values.iter().flatten().map(Vec::len).sum();
            *memory = OpMemory::Values(values);
            Ok(Done { bytes, ..Done::default() })
        }
        _ => unreachable!("an action on one stretch"),
    }
}

async fn get_ranges(
    bucket: &Bucket,
    key: &[u8],
    memory: &mut OpMemory,
    reader: Reader<'_>,
) -> Result<Done> {
    let parts = parts_of(memory)?.iter_mut();
    let mut asked: Vec<(u64, &mut [u8])> =
        parts.map(|(at, part)| (*at, part.as_mut_slice())).collect();
    let (counts, value_len) = ranges::get(bucket, key, &mut asked, reader).await?;
    Ok(Done { bytes: counts.iter().sum(), value_len, ..Done::default() })
}

fn parts_of(memory: &mut OpMemory) -> Result<&mut Vec<(u64, OpMemory)>> {
    match memory {
        OpMemory::Parts(parts) => Ok(parts),
        _ => fail!(InvalidArgument, "an operation on ranges has no parts; use OpMemory::Parts"),
    }
}

/// The change of one stretch of one blob that an action is; `None` if it is none.
fn edit<'a>(action: &Action, memory: &'a OpMemory) -> Option<Edit<'a>> {
    Some(match action {
        Action::Put => Edit::Replace(memory.as_slice()),
        Action::PutAt(offset) => Edit::PutAt(*offset, memory.as_slice()),
        Action::Append => Edit::Append(memory.as_slice()),
        Action::Truncate(len) => Edit::Truncate(*len),
        Action::Delete => Edit::Delete,
        _ => return None,
    })
}

fn stat(bucket: &Bucket, key: &[u8]) -> Result<Done> {
    let stat = bucket.stat(key)?;
    Ok(Done { value_len: stat.len, version: Some(stat.version), ..Done::default() })
}

fn made(version: Version) -> Done {
    Done { version: Some(version), ..Done::default() }
}

fn changed_by(edit: Edit<'_>, changed: Changed) -> Done {
    Done { bytes: edit.data().len(), offset: changed.offset, ..made(changed.version) }
}

pub(super) fn got_by(offset: u64, got: Got) -> Done {
    Done { bytes: got.copied, offset, value_len: got.value_len, version: None }
}
