//! From records to a batch on its way to the device.

use std::rc::Rc;
use std::sync::atomic::Ordering;

use crate::core::{Core, Source};
use crate::error::{Error, ErrorKind, Result};
use crate::io::buffer::AlignedBuf;
use crate::log::batch::{BatchIdentity, BatchItem, BatchLayout, encode, layout};
use crate::log::record::Record;
use crate::log::tail::LogTail;
use crate::plant::{Plant, planted};
use crate::shard::apply;
use crate::shard::log_owner::{Effect, Flight, LogOwner, Part, Queued};
use crate::tier::written::WrittenBytes;
use crate::types::{BatchSeq, Durability};

/// A batch ready for the device.
struct Encoded {
    /// Items that it holds, from the first on.
    count: usize,
    buf: AlignedBuf,
    len: usize,
    /// Where it goes on the log's tier.
    offset: u64,
    seq: BatchSeq,
    /// The W that it names.
    watermark: BatchSeq,
    /// Its own write shall be durable.
    dsync: bool,
}

impl LogOwner {
    /// Builds the next batch and starts its write. False if it has to wait for a segment.
    pub(super) fn write_batch(self: &Rc<Self>) -> Result<bool> {
        if self.tail.borrow().ahead.is_none() {
            self.stirred.wake_all();
            return Ok(false);
        }
        let mut items = self.check_queue();
        if items.is_empty() {
            return Ok(true);
        }
        let encoded = match self.encode_batch(&mut items) {
            Err(error) if error.kind() == ErrorKind::LimitExceeded => {
                let first = items.remove(0);
                self.forget(&first.effect);
                apply::fail(self.core(), first.effect, &error);
                self.give_back(items);
                return Ok(true);
            }
            Err(error) => {
                for item in items {
                    self.forget(&item.effect);
                    apply::fail(self.core(), item.effect, &error);
                }
                return Err(error);
            }
            Ok(encoded) => encoded,
        };
        let Some(encoded) = encoded else {
            self.give_back(items);
            return Ok(false);
        };
        let rest = items.split_off(encoded.count);
        self.give_back(rest);
        let items = items.into_iter().map(|item| (item.effect, item.level)).collect();
        let Encoded { seq, dsync, .. } = encoded;
        self.flights.borrow_mut().push_back(Flight { seq, items, written: None, dsync });
        self.start_write(encoded);
        Ok(true)
    }

    fn give_back(&self, items: Vec<Queued>) {
        let mut queue = self.queue.borrow_mut();
        items.into_iter().rev().for_each(|item| queue.push_front(item));
    }

    /// Encodes those of the items that fit the segment. `None` if the segment that must come first
    /// is not ready.
    fn encode_batch(&self, items: &mut [Queued]) -> Result<Option<Encoded>> {
        // The records go into the batch and come back, whatever becomes of it: nothing is copied.
        let mut batch: Vec<BatchItem<'_>> = Vec::with_capacity(items.len());
        let mut ends = Vec::with_capacity(items.len());
        for item in items.iter_mut() {
            for Part { record, payloads } in item.parts_mut() {
                let record = std::mem::replace(record, Record::Marker);
                let payloads = payloads.iter().map(|(at, payload)| (*at, payload.bytes()));
                batch.push(BatchItem { record, payloads: payloads.collect() });
            }
            ends.push(batch.len());
        }
        let encoded = self.encode_items(&mut batch, &ends);
        let mut records = batch.into_iter().map(|item| item.record).collect::<Vec<_>>().into_iter();
        for part in items.iter_mut().flat_map(Queued::parts_mut) {
            part.record = records.next().unwrap_or(Record::Marker);
        }
        let Some(mut encoded) = encoded? else { return Ok(None) };
        let core = self.core();
        let mut external = false;
        let mut durable = false;
        for item in &mut items[..encoded.count] {
            external |= place_inline(core, item);
            durable |= item.level == Durability::Durable;
            item.parts_mut().for_each(|part| part.payloads.clear());
        }
        encoded.dsync = durable && !external && self.is_covered_before(encoded.watermark);
        if !encoded.dsync {
            self.last_plain.set(encoded.seq);
        }
        self.names.borrow_mut().push_back((encoded.seq, encoded.watermark));
        self.checkpointer.count_bytes(encoded.len as u64);
        core.counters.batches.fetch_add(1, Ordering::Relaxed);
        core.counters.records.fetch_add(ends[encoded.count - 1] as u64, Ordering::Relaxed);
        Ok(Some(encoded))
    }

    /// Lays the records out, encodes those that fit and advances the tail over them. Items end with
    /// the records of these numbers, and no item is cut in two.
    fn encode_items(&self, batch: &mut [BatchItem<'_>], ends: &[usize]) -> Result<Option<Encoded>> {
        let core = self.core();
        let mut tail = self.tail.borrow_mut();
        let segment_size = core.space.tier(tail.segment.tier).segment_size;
        let room = |tail: &LogTail| usize::try_from(tail.room(segment_size)).unwrap_or(usize::MAX);
        let mut plan = layout_whole(batch, ends, room(&tail))?;
        let is_ready = tail.ahead.is_some_and(|ahead| ahead.ready);
        if plan.items() == 0 || is_ready && self.mending.leaves_segment.get() {
            if !is_ready {
                return Ok(None);
            }
            self.mending.leaves_segment.set(false);
            self.switch_segment(&mut tail, segment_size);
            plan = layout_whole(batch, ends, room(&tail))?;
            if plan.items() == 0 {
                let what = match ends.first() {
                    Some(1) | None => format!("a {:?} record does", batch[0].record.kind()),
                    Some(count) => format!("{count} records of one batch do"),
                };
                return Err(Error::new(
                    ErrorKind::LimitExceeded,
                    format!("{what} not fit a log segment of {segment_size} bytes"),
                ));
            }
            if tail.ahead.is_none() {
                // The next segment is named by every batch, so this one waits for it too.
                return Ok(None);
            }
        }
        let len = plan.total_len();
        let offset = core.space.tier(tail.segment.tier).offset_of(tail.segment.segment) + tail.used;
        let identity = self.identity(&tail, offset);
        let (seq, watermark) = (identity.seq, identity.watermark);
        let mut buf = self.context.io.memory(len);
        let crc = encode(&plan, batch, &identity, &mut buf.as_mut_slice()[..len])?;
        tail.advance(len as u64, crc);
        let count = ends.partition_point(|end| *end <= plan.items());
        Ok(Some(Encoded { count, buf, len, offset, seq, watermark, dsync: false }))
    }

    fn identity(&self, tail: &LogTail, device_offset: u64) -> BatchIdentity {
        let core = self.core();
        BatchIdentity {
            store: core.settings.store,
            device: self.devices[tail.segment.tier.index()],
            epoch: core.settings.epoch,
            stream: 0,
            seq: tail.next_seq,
            watermark: core.log.watermark(),
            chain: tail.chain,
            segment: tail.segment,
            generation: tail.generation,
            device_offset,
            next: tail.ahead.map(|ahead| (ahead.segment, ahead.generation)),
            wall_clock: core.runtime.wall_clock_s(),
        }
    }

    /// Whether a batch that comes now is durable as soon as its own write and its predecessors'
    /// are: none of those above W wants a flush that is not under way. Its segment was flushed
    /// before its use, and what its records name in other batches, those batches answer for.
    /// Without this its write would be durable in vain: it would wait for a flush all the same.
    fn is_covered_before(&self, watermark: BatchSeq) -> bool {
        self.last_plain.get() <= watermark.max(self.flushing.get())
    }

    fn start_write(self: &Rc<Self>, batch: Encoded) {
        let Encoded { buf, len, offset, seq, dsync, .. } = batch;
        let owner = self.clone();
        let tier = self.tail.borrow().segment.tier;
        self.context.spawner.spawn(Box::pin(async move {
            let written = owner.context.io.write(tier, offset, len, buf, dsync).await.map(drop);
            if let Some(flight) =
                owner.flights.borrow_mut().iter_mut().find(|flight| flight.seq == seq)
            {
                flight.written = Some(written);
            }
        }));
    }
}

/// Lays out as many whole items as fit.
fn layout_whole(batch: &[BatchItem<'_>], ends: &[usize], room: usize) -> Result<BatchLayout> {
    let plan = layout(batch, room)?;
    let whole = ends.partition_point(|end| *end <= plan.items());
    match whole.checked_sub(1).map_or(0, |last| ends[last]) {
        records if records == plan.items() => Ok(plan),
        records => layout(&batch[..records], room),
    }
}

/// Sets the locations of the buffers that ride in the batch; their bytes are live from now on.
/// Returns whether the item names data outside its batch.
fn place_inline(core: &Core, item: &mut Queued) -> bool {
    let Queued { first, more, effect, .. } = item;
    let mut external = match effect {
        Effect::Move(_) | Effect::Share(_) => true,
        Effect::Group(members, ..) => members.iter().any(|member| member.commit().is_none()),
        _ => false,
    };
    for (number, part) in std::iter::once(&*first).chain(&*more).enumerate() {
        for (new, def) in effect.new_buffers(number).iter_mut().zip(part.record.buffers()) {
            match new.source {
                Source::Inline(_) => {
                    new.buffer.location = def.location;
                    core.space.bytes_live(def.location, def.stored_len);
                    // From here on the bytes are as if written apart: dead if the batch fails.
                    let written = WrittenBytes::new(&core.space, def.location, def.stored_len);
                    new.source = Source::Written(written);
                }
                Source::Written(_) | Source::Held(_) | Source::Inherited => {
                    external |= !planted(Plant::DataNotFlushed);
                }
            }
        }
    }
    external
}
