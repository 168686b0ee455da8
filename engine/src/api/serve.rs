//! Runs an operation of a queue: in DRAM on the submitting thread, or as a task of a shard.

use std::rc::Rc;

use crate::api::bucket::Target;
use crate::api::edit::{Changed, Edit};
use crate::api::operation::{Action, Done, OpMemory, Operation};
use crate::api::queue::Duty;
use crate::api::read::{Got, Reader};
use crate::error::{Error, ErrorKind, Result};
use crate::shard::ShardContext;

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
    let got = match (*action, &mut *memory) {
        (Action::Get, OpMemory::Owned(value)) => bucket.hit_whole(key, value),
        (Action::Get, into) => bucket.hit(key, 0, into.as_mut_slice(), true),
        (Action::GetAt(offset), into) => bucket.hit(key, offset, into.as_mut_slice(), false),
        (change, memory) => {
            let edit = edit(change, memory);
            let changed = bucket.edit_at_once(key, edit, *options)?;
            return Some(changed.map(|changed| changed_by(edit, changed)));
        }
    };
    got.map(|got| got.map(|got| got_by(*action, got))).transpose()
}

/// Any operation, wherever it runs.
pub(super) async fn run(operation: &mut Operation, reader: Reader<'_>) -> Result<Done> {
    let Operation { bucket, key, action, memory, options, .. } = operation;
    let (offset, target) = match (*action, &mut *memory) {
        (Action::Get, OpMemory::Owned(value)) => (0, Target::Grow(value)),
        (Action::Get, into) => (0, Target::Whole(into.as_mut_slice())),
        (Action::GetAt(offset), into) => (offset, Target::Part(into.as_mut_slice())),
        (change, memory) => {
            let edit = edit(change, memory);
            return Ok(changed_by(edit, bucket.edit_by(key, edit, *options, reader).await?));
        }
    };
    Ok(got_by(*action, bucket.read_with(key, offset, target, reader).await?))
}

fn edit(action: Action, memory: &OpMemory) -> Edit<'_> {
    match action {
        Action::Put => Edit::Replace(memory.as_slice()),
        Action::PutAt(offset) => Edit::PutAt(offset, memory.as_slice()),
        Action::Append => Edit::Append(memory.as_slice()),
        Action::Truncate(len) => Edit::Truncate(len),
        Action::Delete => Edit::Delete,
        Action::Get | Action::GetAt(_) => unreachable!("a get is no change"),
    }
}

fn changed_by(edit: Edit<'_>, changed: Changed) -> Done {
    let (bytes, version) = (edit.data().len(), Some(changed.version));
    Done { bytes, offset: changed.offset, value_len: 0, version }
}

fn got_by(action: Action, got: Got) -> Done {
    let offset = match action {
        Action::GetAt(offset) => offset,
        _ => 0,
    };
    Done { bytes: got.copied, offset, value_len: got.value_len, version: None }
}
