//! Write-behind: Memory changes reach the devices within the flush interval, or when someone
//! flushes, or when dirty bytes fill the arena.
//!
//! It claims nothing: readers and Memory puts go on meanwhile, and the log's owner drops the
//! record unless it is newer than what is logged.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::api::change::may_ride_inline;
use crate::core::{BufferName, Change, Commit, Core, NewBuffer, Origin, Payload, Request, Source};
use crate::error::{Error, ErrorKind, Result};
use crate::index::entry::Entry;
use crate::index::state::{BlobState, Buffer, Value, checksums, copy_with_checksums};
use crate::io::runtime::Nanos;
use crate::io::wait::{Sender, WaitList, first, oneshot};
use crate::paging::write::{Author, Material, Written, write_pages};
use crate::plant::{Plant, planted};
use crate::shard::ShardContext;
use crate::shard::write::ValueWriter;
use crate::tier::dram::OwnedPin;
use crate::types::{BufferId, Durability, Place, SlotId};

/// Keys of one shard written behind at the same time.
const RUNNING_MAX: usize = 64;
/// A key whose write-behind could not start or failed is tried again after this long.
const RETRY: Duration = Duration::from_millis(5);

#[derive(Clone, Copy)]
struct Item {
    hash: u64,
    since: Nanos,
    number: u64,
}

struct Drain {
    /// Items numbered below count.
    before: u64,
    left: usize,
    error: Option<Error>,
    reply: Sender<Result<()>>,
}

#[derive(Default)]
struct Inner {
    waiting: VecDeque<Item>,
    running: Vec<Item>,
    next_number: u64,
    drains: Vec<Drain>,
}

/// Keys of one shard that wait to be written behind. Pushed from any thread.
#[derive(Default)]
pub struct DirtyQueue {
    inner: Mutex<Inner>,
    urgent: AtomicBool,
    changed: WaitList,
}

impl DirtyQueue {
    /// Queues a key that has become dirty, by hash. Under its stripe lock, in one section with
    /// [`Entry::queued_dirty`]: a flush that comes after the change finds it here. Whoever lets go
    /// of that lock then tells the shard, with what this returns.
    #[must_use = "the shard may have to be told"]
    pub fn push(&self, hash: u64, since: Nanos) -> Queued<'_> {
        let mut inner = self.inner.lock();
        let number = inner.next_number;
        inner.next_number += 1;
        inner.waiting.push_back(Item { hash, since, number });
        Queued((inner.waiting.len() == 1).then_some(self))
    }

    /// Writes everything behind now: the arena fills up.
    pub fn hurry(&self) {
        if !self.urgent.swap(true, Ordering::AcqRel) {
            self.changed.wake_all();
        }
    }

    /// Makes the shard look at the queue again.
    pub fn wake(&self) {
        self.changed.wake_all();
    }

    /// Keys waiting or under way.
    pub fn len(&self) -> usize {
        let inner = self.inner.lock();
        inner.waiting.len() + inner.running.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the oldest item if it is due, or says when it will be.
    fn take(&self, now: Nanos, interval: Duration) -> Taken {
        let mut inner = self.inner.lock();
        if inner.running.len() >= RUNNING_MAX {
            return Taken::Nothing;
        }
        let Some(oldest) = inner.waiting.front().copied() else {
            self.urgent.store(false, Ordering::Release);
            return Taken::Nothing;
        };
        let due = oldest.since.after(interval);
        let draining = inner.drains.iter().any(|drain| oldest.number < drain.before);
        if due > now && !draining && !self.urgent.load(Ordering::Acquire) {
            return Taken::NotBefore(due.since(now));
        }
        inner.waiting.pop_front();
        inner.running.push(oldest);
        Taken::Item(oldest)
    }

    fn finish(&self, item: Item, outcome: Outcome) {
        let mut replies = Vec::new();
        {
            let mut inner = self.inner.lock();
            inner.running.retain(|running| running.number != item.number);
            if matches!(outcome, Outcome::Later) {
                // In the order of the numbers: a drain waits for its own.
                let at = inner.waiting.partition_point(|other| other.number < item.number);
                inner.waiting.insert(at, item);
            } else {
                for drain in inner.drains.iter_mut().filter(|drain| item.number < drain.before) {
                    drain.left -= 1;
                    if let Outcome::Failed(error) = &outcome {
                        drain.error = Some(error.clone());
                    }
                }
                let mut at = 0;
                while at < inner.drains.len() {
                    match inner.drains[at].left {
                        0 => replies.push(inner.drains.swap_remove(at)),
                        _ => at += 1,
                    }
                }
            }
        }
        self.changed.wake_all();
        for drain in replies {
            drain.reply.send(drain.error.map_or(Ok(()), Err));
        }
    }

    /// The shard has ended: whoever waits for a drain is told.
    pub fn abandon(&self, reason: Option<&Error>) {
        let drains = std::mem::take(&mut self.inner.lock().drains);
        for drain in drains {
            let closed = || Error::new(ErrorKind::Closed, "the shard ended during a flush");
            drain.reply.send(Err(reason.cloned().unwrap_or_else(closed)));
        }
    }

    /// Answers once everything queued or under way now has been logged.
    fn drain(&self, reply: Sender<Result<()>>) {
        {
            let mut inner = self.inner.lock();
            let running = inner.running.len() * usize::from(!planted(Plant::FlushIgnoresRunning));
            let left = inner.waiting.len() + running;
            if left > 0 {
                let before = inner.next_number;
                inner.drains.push(Drain { before, left, error: None, reply });
                drop(inner);
                self.changed.wake_all();
                return;
            }
        }
        reply.send(Ok(()));
    }
}

/// A key has been queued.
pub struct Queued<'a>(Option<&'a DirtyQueue>);

impl Queued<'_> {
    /// Wakes the shard if it has been out of work. Takes a system call: under no lock.
    pub fn tell(self) {
        if let Some(queue) = self.0 {
            queue.changed.wake_all();
        }
    }
}

enum Taken {
    Item(Item),
    NotBefore(Duration),
    Nothing,
}

enum Outcome {
    /// Logged, superseded, or nothing was dirty.
    Done,
    /// The key is being changed by someone else: look again.
    Later,
    /// The devices refused.
    Failed(Error),
}

/// Starts the shard's write-behind task.
pub fn start(context: &Rc<ShardContext>, writer: &Rc<ValueWriter>) {
    let context = context.clone();
    let writer = writer.clone();
    context.clone().spawner.spawn(Box::pin(async move {
        let queue = &context.core.dirty[context.number];
        let interval = context.core.settings.flush_interval;
        loop {
            let changed = queue.changed.ticket();
            if context.is_stopping() {
                return;
            }
            match queue.take(context.core.runtime.now(), interval) {
                Taken::Item(item) => {
                    let (context, writer) = (context.clone(), writer.clone());
                    context.clone().spawner.spawn(Box::pin(async move {
                        let outcome = write_key(&context, &writer, item).await;
                        context.core.dirty[context.number].finish(item, outcome);
                    }));
                }
                Taken::NotBefore(wait) => first(changed, context.io.sleep(wait)).await,
                Taken::Nothing => changed.await,
            }
        }
    }));
}

/// Serves a flush: everything dirty as of now.
pub fn write_all(context: &Rc<ShardContext>, reply: Sender<Result<()>>) {
    context.core.dirty[context.number].drain(reply);
}

/// A dirty state, with pins on the slots that hold its unwritten bytes.
struct Snapshot {
    key: Arc<[u8]>,
    bucket: crate::types::BucketId,
    state: BlobState,
    pins: Vec<(Buffer, OwnedPin)>,
}

async fn write_key(context: &Rc<ShardContext>, writer: &Rc<ValueWriter>, item: Item) -> Outcome {
    if let Err(error) = context.core.check_poison() {
        return Outcome::Failed(error);
    }
    match take_snapshots(&context.core, item.hash) {
        None => {
            context.io.sleep(RETRY).await;
            Outcome::Later
        }
        Some(snapshots) => {
            let mut outcome = Outcome::Done;
            for snapshot in snapshots {
                let (bucket, key) = (snapshot.bucket, snapshot.key.clone());
                if let Err(error) = write_snapshot(context, writer, item.hash, snapshot).await {
                    // A device that refuses is not asked again at once.
                    context.io.sleep(RETRY).await;
                    requeue_failed(&context.core, item.hash, bucket, &key);
                    if !planted(Plant::BehindErrorForgotten) {
                        outcome = Outcome::Failed(error);
                    }
                }
            }
            outcome
        }
    }
}

/// The dirty states under this hash, marked as being written; `None` if one of them is being
/// changed or written right now. A clean one that is being changed keeps nobody waiting: there is
/// always a next change of a hot key, and none of them is acknowledged yet.
fn take_snapshots(core: &Core, hash: u64) -> Option<Vec<Snapshot>> {
    let mut stripe = core.index.lock(hash);
    let is_busy = |entry: &&mut Entry| entry.writing_behind || (entry.claimed && entry.is_dirty());
    if stripe.with_hash(hash).any(|entry| is_busy(&entry)) {
        return None;
    }
    let mut snapshots = Vec::new();
    let mut clean = Vec::new();
    for entry in stripe.with_hash(hash) {
        entry.queued_dirty = false;
        if entry.is_dirty() {
            entry.writing_behind = true;
            snapshots.push(snapshot(core, entry));
        } else {
            clean.push((entry.bucket, entry.key.clone()));
        }
    }
    for (bucket, key) in clean {
        core.index.remove_if_vacant(&mut stripe, hash, bucket, &key);
    }
    Some(snapshots)
}

fn snapshot(core: &Core, entry: &Entry) -> Snapshot {
    let pin = |buffer: Buffer| -> Option<(Buffer, OwnedPin)> {
        let Place::Dram(slot) = buffer.location.place() else { return None };
        let pin = core.dram.pin_owned(slot);
        assert!(pin.is_some(), "dirty buffer {:?} has lost its slot", buffer.id);
        pin.map(|pin| (buffer, pin))
    };
    let pins = match &entry.visible.value {
        // What pages name is on a device.
        Value::Absent | Value::Zeros | Value::Paged(_) => Vec::new(),
        Value::Lone(buffer) => pin(buffer.clone()).into_iter().collect(),
        Value::Mapped(map) => {
            map.buffers().filter_map(|id| core.table.get(id)).filter_map(pin).collect()
        }
    };
    Snapshot { key: entry.key.clone(), bucket: entry.bucket, state: entry.visible.clone(), pins }
}

/// Writes the bytes that no device holds, then logs the state.
async fn write_snapshot(
    context: &Rc<ShardContext>,
    writer: &Rc<ValueWriter>,
    hash: u64,
    mut snapshot: Snapshot,
) -> Result<()> {
    let core = &context.core;
    let version = snapshot.state.version;
    let mut slots = Vec::with_capacity(snapshot.pins.len());
    let mut buffers = Vec::with_capacity(snapshot.pins.len());
    let mut inline_bytes = 0;
    // What pages name does not ride in the log.
    let is_large = snapshot.state.extent_count() > core.settings.inline_extents_max() as u64;
    for (buffer, pin) in std::mem::take(&mut snapshot.pins) {
        slots.push((pin.slot(), buffer.id));
        let table = matches!(snapshot.state.value, Value::Mapped(_));
        let name = BufferName {
            value_offset: first_offset(&snapshot.state, buffer.id),
            table,
            bucket: snapshot.bucket,
            key: snapshot.key.clone(),
            version,
        };
        let inline = !is_large && may_ride_inline(&mut inline_bytes, pin.len());
        buffers.push(write_buffer(context, writer, buffer, pin, name, inline).await?);
    }
    let change = change_to(core, hash, &snapshot, buffers, &slots).await?;
    let (reply, done) = oneshot();
    let commit = Commit {
        hash,
        bucket: snapshot.bucket,
        key: snapshot.key,
        version,
        change,
        attributes: snapshot.state.attributes.clone(),
        keep: None,
        hold: None,
        origin: Origin::Behind(slots),
    };
    core.shards[0].push(Request::Commit(Box::new(commit), Durability::Written, reply)).await;
    // The state's map is held until here: its clean buffers stay where the record says.
    let answer = done.await;
    drop(snapshot.state);
    match answer {
        Ok(result) => result,
        Err(_) => Err(Error::new(ErrorKind::Closed, "the log stopped during write-behind")),
    }
}

/// The change that logs a snapshot whose bytes are written, in pages if its map is large.
async fn change_to(
    core: &Core,
    hash: u64,
    snapshot: &Snapshot,
    buffers: Vec<NewBuffer>,
    slots: &[(SlotId, BufferId)],
) -> Result<Change> {
    let Snapshot { key, bucket, state, .. } = snapshot;
    if !state.exists() {
        return Ok(Change::Delete);
    }
    let (len, extents) = (state.len, state.extents_in_memory());
    if extents.len() <= core.settings.inline_extents_max() {
        return Ok(Change::Put { len, extents, buffers, splice: None, dram: None });
    }
    let mut material = Material {
        slots: slots.iter().map(|(slot, id)| (*id, *slot)).collect(),
        new: buffers.into_iter().map(|new| (new.buffer.id, new)).collect(),
        ..Material::default()
    };
    for extent in &extents {
        // The state's map holds its rows, and they their checksums.
        if !material.new.contains_key(&extent.buffer)
            && let Some(row) = core.table.get(extent.buffer)
        {
            material.old.insert(row.id, (row.stored_len, row.checks));
        }
    }
    let author = Author { hash, bucket: *bucket, key, version: state.version, keep: state };
    let Written { mut pages, holds } = write_pages(core, &author, &extents, true, material).await?;
    if let Some(first) = pages.first_mut() {
        first.start = 0;
    }
    Ok(Change::Paged { len, pages, splice: None, holds })
}

async fn write_buffer(
    context: &Rc<ShardContext>,
    writer: &Rc<ValueWriter>,
    buffer: Buffer,
    pin: OwnedPin,
    name: BufferName,
    inline: bool,
) -> Result<NewBuffer> {
    if inline {
        let buffer = buffer.written(checksums(&pin))?;
        return Ok(NewBuffer { buffer, source: Source::Inline(Payload::Slot(pin)) });
    }
    let len = pin.len();
    let mut buf = context.core.pool.get(len.next_multiple_of(crate::limits::BLOCK)).await;
    let checks = copy_with_checksums(&pin, &mut buf.as_mut_slice()[..len]);
    drop(pin);
    let buffer = buffer.written(checks)?;
    writer.append(buf, &buffer, &name).await
}

/// The byte of the value at which a buffer's first extent begins.
pub fn first_offset(state: &BlobState, id: BufferId) -> u64 {
    match &state.value {
        Value::Mapped(map) => {
            map.extents().iter().find(|extent| extent.buffer == id).map_or(0, |e| e.value_offset)
        }
        _ => 0,
    }
}

fn requeue_failed(core: &Core, hash: u64, bucket: crate::types::BucketId, key: &[u8]) {
    let mut stripe = core.index.lock(hash);
    let Some(entry) = stripe.get(hash, bucket, key) else { return };
    entry.writing_behind = false;
    let queued = core.queue_if_dirty(entry);
    core.index.remove_if_vacant(&mut stripe, hash, bucket, key);
    drop(stripe);
    if let Some(queued) = queued {
        queued.tell();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ResolvedConfig;
    use crate::index::state::Checks;
    use crate::store::Scope;
    use crate::testing::{SimStore, config};

    #[test]
    fn what_a_device_refuses_is_not_asked_again_at_once() {
        let sim = SimStore::new(1, config(1));
        let bucket = sim.bucket("b");
        bucket.put_with(b"k", &[7; 100_000], Durability::Memory.into()).unwrap();
        let set_checks = |checks: Checks| {
            let stripes = (0..crate::limits::STRIPES).map(|n| sim.core().index.lock_number(n));
            for mut stripe in stripes {
                for entry in stripe.iter_mut() {
                    let Value::Lone(lone) = &mut entry.visible.value else { continue };
                    lone.checks = checks.clone();
                }
            }
        };
        // As if the bytes had changed in memory.
        set_checks(Checks::One(0));
        let queue = &sim.core().dirty[0];
        let tried = || queue.inner.lock().next_number;
        let start = sim.world.now();
        while sim.world.now().since(start) < RETRY * 10 {
            // The arena is full of it.
            queue.hurry();
            sim.world.step();
        }
        assert!((2..=12).contains(&tried()), "tried {} times", tried());
        set_checks(Checks::Unwritten);
        // What is under way has failed already.
        while sim.world.now().since(start) < RETRY * 12 {
            sim.world.step();
        }
        sim.store.flush(Scope::Store).unwrap();
        sim.store.close().unwrap();
    }

    #[test]
    fn a_large_map_that_shrinks_while_its_pages_are_written_is_found_again() {
        let value: Vec<u8> = (0..400_000u32).map(|at| (at >> 6) as u8).collect();
        let mut shared = 0;
        for steps in (0..600).step_by(3) {
            let config = ResolvedConfig { buffer_size: 64 << 10, page_extents: 4, ..config(1) };
            let sim = SimStore::new(7, config);
            let bucket = sim.bucket("b");
            let memory = || Durability::Memory.into();
            bucket.put_with(b"k", &value, memory()).unwrap();
            sim.core().dirty[0].hurry();
            sim.steps(steps);
            // Two extents: they stand in the blob's record.
            bucket.truncate_with(b"k", 100_000, memory()).unwrap();
            let by_page = |number| sim.core().table.logged_by_page(BufferId(number)).is_some();
            let last = sim.core().peek_version().0;
            shared += u32::from((last - 100..last).any(by_page));
            sim.store.flush(Scope::Store).unwrap();
            let sim = sim.reopen();
            let bucket = sim.store.open_bucket("b").unwrap();
            assert!(bucket.get(b"k").unwrap() == value[..100_000], "after {steps} steps");
            sim.store.close().unwrap();
        }
        assert!(shared > 0, "the pages were never logged when the map shrank");
    }
}
