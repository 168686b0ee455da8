//! Appends buffers to the shard's open segments, the fastest tier with room first.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::core::{BufferName, NewBuffer, Request, Source, WriteRequest};
use crate::error::{Error, ErrorKind, Result, fail};
use crate::index::state::Buffer;
use crate::io::buffer::AlignedBuf;
use crate::io::runtime::Nanos;
use crate::io::wait::{WaitList, first, oneshot};
use crate::limits::BLOCK;
use crate::log::record::SegmentKind;
use crate::shard::ShardContext;
use crate::tier::space::Purpose;
use crate::tier::writer::{PlannedWrite, SegmentWriter, WriterIdentity};
use crate::tier::written::WrittenBytes;
use crate::types::{Location, TierId, TierSegment, Uuid};

/// How long a write waits for the organizer to free a segment. The write was admitted, so there
/// is room in the end; a device that has failed under the organizer ends the wait.
const ROOM_WAIT_MAX: Duration = Duration::from_secs(60);
/// Where the file system has refused the room that was counted on, cleaning may not find it either.
const HOST_FULL_WAIT_MAX: Duration = Duration::from_secs(2);
/// A write asks again for room this often.
const ROOM_RETRY: Duration = Duration::from_millis(100);
/// Where there is none after this long, the log may hold what it could let go of.
const PATIENCE: Duration = Duration::from_secs(1);

/// The shard's writers, one per tier.
pub struct ValueWriter {
    context: Rc<ShardContext>,
    writers: RefCell<Vec<SegmentWriter>>,
    unannounced: Rc<Unannounced>,
}

/// What is written.
#[derive(Clone, Copy)]
struct Item<'a> {
    buffer: &'a Buffer,
    name: &'a BufferName,
    /// See [`WriteRequest`].
    in_table: bool,
}

/// Open segments of which the log's owner has not heard: nothing in them may be named yet.
#[derive(Default)]
struct Unannounced {
    segments: RefCell<Vec<TierSegment>>,
    announced: WaitList,
}

impl Unannounced {
    fn remove(&self, at: TierSegment) {
        self.segments.borrow_mut().retain(|other| *other != at);
        self.announced.wake_all();
    }

    /// Waits until the opening of this segment stands in the log owner's queue.
    async fn wait_for(&self, at: TierSegment) {
        while self.segments.borrow().contains(&at) {
            self.announced.ticket().await;
        }
    }
}

impl ValueWriter {
    /// Writers with no segment open.
    pub fn new(context: Rc<ShardContext>, devices: &[Uuid]) -> ValueWriter {
        let core = &context.core;
        let writers = core.space.tiers().iter().map(|tier| {
            let identity = WriterIdentity {
                store: core.settings.store,
                device: devices[tier.id.index()],
                epoch: core.settings.epoch,
                writer: context.number as u32,
            };
            SegmentWriter::new(core.space.clone(), identity, tier.id, Purpose::Data)
        });
        ValueWriter {
            writers: RefCell::new(writers.collect()),
            unannounced: Rc::default(),
            context: context.clone(),
        }
    }

    /// Serves one request.
    pub async fn serve(&self, request: WriteRequest) {
        let WriteRequest { buf, buffer, name, in_table, room, waiting_since, reply } = request;
        let item = Item { buffer: &buffer, name: &name, in_table };
        let written = self.append_since(waiting_since, buf, item).await;
        drop(room);
        reply.send(written);
    }

    /// Writes a buffer's stored bytes to a segment; answers once the device has them.
    pub async fn append(
        &self,
        buf: AlignedBuf,
        buffer: &Buffer,
        name: &BufferName,
    ) -> Result<NewBuffer> {
        self.append_since(None, buf, Item { buffer, name, in_table: false }).await
    }

    /// Where this shard finds no place and another has one, that one does it. Else asks those who
    /// can make room, and waits.
    async fn append_since(
        &self,
        waiting_since: Option<Nanos>,
        buf: AlignedBuf,
        item: Item<'_>,
    ) -> Result<NewBuffer> {
        let core = &self.context.core;
        let padded = (item.buffer.stored_len as usize).next_multiple_of(BLOCK);
        core.wait_for_flush_room().await?;
        let begun = waiting_since.unwrap_or_else(|| core.runtime.now());
        let mut patience = PATIENCE;
        loop {
            let changed = core.space.changed.ticket();
            core.check_poison()?;
            if let Some((tier, offset)) = self.place(padded, item.name, item.buffer)? {
                return self.write(tier, offset, buf, item).await;
            }
            if let Some(shard) = self.shard_with_room(padded) {
                return self.hand_on(shard, begun, buf, item).await;
            }
            let waited = core.runtime.now().since(begun);
            self.check_wait(waited)?;
            if waited >= patience {
                patience = waited + PATIENCE;
                core.shards[0].push(Request::MakeRoom).await;
            }
            core.organizer.kick();
            first(changed, self.context.io.sleep(ROOM_RETRY)).await;
        }
    }

    fn check_wait(&self, waited: Duration) -> Result<()> {
        if waited >= HOST_FULL_WAIT_MAX
            && let Some(path) = self.context.core.full_host()
        {
            fail!(NoSpace, "the file system of {path} has no space left");
        }
        if waited >= ROOM_WAIT_MAX {
            fail!(NoSpace, "no tier has a free segment, and cleaning frees none");
        }
        Ok(())
    }

    async fn write(
        &self,
        tier: TierId,
        offset: u64,
        mut buf: AlignedBuf,
        Item { buffer, in_table, .. }: Item<'_>,
    ) -> Result<NewBuffer> {
        let core = &self.context.core;
        let len = buffer.stored_len as usize;
        let padded = len.next_multiple_of(BLOCK);
        buf.as_mut_slice()[len..padded].fill(0);
        let location = Location::device(tier, offset);
        let written = WrittenBytes::new(&core.space, location, buffer.stored_len);
        if tier.index() > 0 {
            core.counters.spills.fetch_add(1, Ordering::Relaxed);
        }
        drop(self.context.io.write(tier, offset, padded, buf, false).await?);
        let segment = core.space.tier(tier).segment_at(offset);
        self.unannounced.wait_for(TierSegment { tier, segment }).await;
        let buffer = Buffer { location, ..buffer.clone() };
        if !in_table {
            return Ok(NewBuffer { buffer, source: Source::Written(written) });
        }
        let hold = core.table.hold(&buffer);
        written.keep();
        Ok(NewBuffer { buffer, source: Source::Held(hold) })
    }

    /// Another shard whose open segment has room: it comes before any wait, and before any segment
    /// is sealed that is not full.
    fn shard_with_room(&self, padded: usize) -> Option<usize> {
        let rooms = &self.context.core.open_room;
        let has_room = |shard: &usize| rooms[*shard].load(Ordering::Acquire) >= padded as u64;
        (0..rooms.len()).filter(|shard| *shard != self.context.number).find(has_room)
    }

    async fn hand_on(
        &self,
        shard: usize,
        begun: Nanos,
        buf: AlignedBuf,
        item: Item<'_>,
    ) -> Result<NewBuffer> {
        let (reply, answer) = oneshot();
        let (buffer, name, in_table) = (item.buffer.clone(), item.name.clone(), item.in_table);
        let (room, waiting_since) = (None, Some(begun));
        let request = WriteRequest { buf, buffer, name, in_table, room, waiting_since, reply };
        self.context.core.shards[shard].push(Request::Write(request)).await;
        let ended = |_| Error::new(ErrorKind::Closed, "the shard ended before the write");
        answer.await.map_err(ended)?
    }

    /// Finds a place on the fastest tier that has one, opening segments as needed.
    fn place(
        &self,
        padded: usize,
        name: &BufferName,
        buffer: &Buffer,
    ) -> Result<Option<(TierId, u64)>> {
        let found = self.find_place(padded, name, buffer);
        self.tell_room();
        found
    }

    /// Tells the other shards what room there is. One that is about to end has none for them.
    fn tell_room(&self) {
        let rooms = || self.writers.borrow().iter().map(SegmentWriter::room).max();
        let room = if self.context.is_stopping() { None } else { rooms() };
        self.context.core.open_room[self.context.number]
            .store(room.unwrap_or(0), Ordering::Release);
    }

    fn find_place(
        &self,
        padded: usize,
        name: &BufferName,
        buffer: &Buffer,
    ) -> Result<Option<(TierId, u64)>> {
        let buffers = [(name, 0, buffer)];
        for tier in self.context.core.space.tiers() {
            let mut writers = self.writers.borrow_mut();
            let writer = &mut writers[tier.id.index()];
            if let Some(offset) = writer.place(padded, &buffers) {
                return Ok(Some((tier.id, offset)));
            }
            // It is full, and can be emptied once it is sealed.
            if let Some((at, summary)) = writer.close()? {
                self.finish_segment(at, summary);
            }
            if tier.free_segments() <= tier.floor(Purpose::Data) as usize {
                continue;
            }
            let wall_clock = self.context.core.runtime.wall_clock_s();
            let Some((at, generation, header)) = writer.open(wall_clock)? else { continue };
            self.begin_segment(at, generation, header);
            if let Some(offset) = writer.place(padded, &buffers) {
                return Ok(Some((tier.id, offset)));
            }
        }
        Ok(None)
    }

    /// Logs the opening and writes the header. What is written to the segment is not answered
    /// before the opening stands in the log owner's queue: a record that names it comes later.
    /// Nobody waits for the header: the index says what is live; the header serves salvage.
    fn begin_segment(&self, at: TierSegment, generation: u32, header: PlannedWrite) {
        let core = self.context.core.clone();
        let io = self.context.io.clone();
        let unannounced = self.unannounced.clone();
        unannounced.segments.borrow_mut().push(at);
        self.context.spawner.spawn(Box::pin(async move {
            core.shards[0].push(Request::SegmentOpened(at, generation, SegmentKind::Data)).await;
            unannounced.remove(at);
            if let Err(error) = io.write_bytes(at.tier, header.offset, &header.bytes).await {
                core.counters.note(error.to_string());
            }
        }));
    }

    fn finish_segment(&self, at: TierSegment, summary: PlannedWrite) {
        let core = self.context.core.clone();
        let io = self.context.io.clone();
        self.context.spawner.spawn(Box::pin(async move {
            if let Err(error) = io.write_bytes(at.tier, summary.offset, &summary.bytes).await {
                core.counters.note(error.to_string());
            }
            core.space.seal(at, core.runtime.now().0);
            core.organizer.kick();
        }));
    }

    /// Closes every open segment, for a clean end.
    pub fn seal_all(&self) {
        self.writers.borrow_mut().iter_mut().for_each(|writer| self.seal(writer));
        self.tell_room();
    }

    /// Closes the open segments that nothing has gone to since this was last asked.
    pub fn seal_idle(&self) {
        for writer in self.writers.borrow_mut().iter_mut() {
            if !writer.take_activity() {
                self.seal(writer);
            }
        }
        self.tell_room();
    }

    fn seal(&self, writer: &mut SegmentWriter) {
        match writer.close() {
            Ok(Some((at, summary))) => self.finish_segment(at, summary),
            Ok(None) => {}
            Err(error) => self.context.core.counters.note(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::state::{Checks, checksums};
    use crate::io::wait::oneshot;
    use crate::testing::{SimStore, config, poll};
    use crate::types::{BucketId, BufferId, Version};

    fn request(reply: crate::io::wait::Sender<Result<NewBuffer>>) -> Request {
        let bytes = vec![7; 64 << 10];
        let mut buf = AlignedBuf::alloc(bytes.len());
        buf.as_mut_slice().copy_from_slice(&bytes);
        let (checks, logical_crc) = checksums(&bytes);
        let buffer = Buffer {
            checks: Checks::from_slice(&checks),
            logical_crc,
            ..Buffer::dirty(BufferId(1), Location::device(TierId(0), 0), bytes.len() as u32)
        };
        let name = BufferName {
            bucket: BucketId(1),
            key: (*b"key").into(),
            version: Version(1),
            value_offset: 0,
            table: false,
        };
        Request::Write(WriteRequest {
            buf,
            buffer,
            name,
            in_table: false,
            room: None,
            waiting_since: None,
            reply,
        })
    }

    #[test]
    fn no_location_is_told_before_the_log_has_heard_of_its_segment() {
        for seed in 0..10 {
            let sim = SimStore::new(seed, config(2));
            let log = &sim.core().shards[0];
            let (reply, answer) = oneshot();
            assert!(sim.core().shards[1].try_push(request(reply)).is_ok());
            let mut answer = Box::pin(answer);
            for _ in 0..3000 {
                // Whatever the log's owner takes, others push: there is no room for the opening.
                while log.try_push(Request::Reclaim).is_ok() {}
                sim.world.step();
                assert!(poll(&mut answer).is_pending(), "seed {seed}: the opening may come later");
            }
            let written = sim.wait(answer);
            assert!(written.is_ok_and(|written| written.is_ok()));
            sim.store.close().unwrap();
        }
    }
}
