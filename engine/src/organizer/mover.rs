//! Copies buffers to other segments and proposes their new places to the log's owner.
//!
//! Hot and cold buffers go to segments of their own: those that die together shall lie together.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::core::{Core, MoveRequest, Request};
use crate::error::{Error, Result};
use crate::io::exec::{Class, Exec, memory};
use crate::io::wait::{WaitList, oneshot};
use crate::limits::BLOCK;
use crate::log::record::SegmentKind;
use crate::organizer::device::{write, write_bytes};
use crate::organizer::occupants::Occupant;
use crate::organizer::pack::{CHUNK_MAX, Chunk};
use crate::plant::{Plant, planted};
use crate::tier::space::{Purpose, footprint};
use crate::tier::writer::{SegmentWriter, WriterIdentity};
use crate::types::{Location, Place, TierId, TierSegment, Uuid};

/// Chunks on their way. With the chunks being filled and the span being read, about 8 MiB.
const FLIGHTS_MAX: usize = 4;
/// The organizer as a writer of segments.
const ORGANIZER: u32 = u32::MAX;

/// Whether a buffer is accessed more than most.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Temperature {
    /// More.
    Hot,
    /// Less.
    Cold,
}

/// What has become of the buffers handed to a mover.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Tally {
    /// Bytes of segments that the moved buffers took.
    pub moved_bytes: u64,
    /// Of these, bytes that went to a slower tier.
    pub demoted_bytes: u64,
    /// Copies that came too late: the buffer was gone or elsewhere.
    pub lost: u64,
    /// Copies that a device or the log refused.
    pub failed: u64,
    /// There was no segment for some.
    pub no_room: bool,
}

/// Chunks under way, and what became of those that are not any more.
#[derive(Default)]
struct Flights {
    count: Cell<usize>,
    landed: WaitList,
    tally: RefCell<Tally>,
}

struct Stream {
    writer: SegmentWriter,
    chunk: Option<Chunk>,
}

type StreamKey = (TierId, Temperature);

/// See the module. One task uses it at a time.
pub struct Mover {
    core: Arc<Core>,
    exec: Rc<dyn Exec>,
    class: Class,
    purpose: Purpose,
    devices: Arc<[Uuid]>,
    streams: BTreeMap<StreamKey, Stream>,
    flights: Rc<Flights>,
}

impl Mover {
    /// Moves for the sake of space dig into the reserve, others do not.
    pub fn new(core: Arc<Core>, exec: Rc<dyn Exec>, class: Class, devices: Arc<[Uuid]>) -> Mover {
        let purpose = match class {
            Class::Space => Purpose::Move,
            Class::Background => Purpose::Promotion,
        };
        let streams = BTreeMap::new();
        Mover { core, exec, class, purpose, devices, streams, flights: Rc::default() }
    }

    /// Takes a verified buffer to a tier. False if the tier has no segment to give.
    pub async fn add(
        &mut self,
        to: TierId,
        temperature: Temperature,
        occupant: Occupant,
        bytes: &[u8],
    ) -> Result<bool> {
        let key = (to, temperature);
        let full = self.stream(key).chunk.as_ref().is_some_and(|chunk| !chunk.fits(bytes.len()));
        if full && !self.send(key).await? {
            return Ok(false);
        }
        let core = self.core.clone();
        let chunk = &mut self.stream(key).chunk;
        chunk
            .get_or_insert_with(|| Chunk::new(memory(&core.pool, CHUNK_MAX)))
            .push(occupant, bytes);
        Ok(true)
    }

    /// Sends what is packed and waits until all is decided.
    pub async fn finish(&mut self) -> Result<Tally> {
        let keys: Vec<StreamKey> = self.streams.keys().copied().collect();
        let mut result = Ok(());
        for key in keys {
            if let Err(error) = self.send(key).await {
                result = Err(error);
            }
        }
        self.wait_for_flights(0).await;
        let tally = self.flights.tally.take();
        result.map(|()| tally)
    }

    /// Closes the open segments and forgets what has not been sent: after [`finish`](Self::finish),
    /// or at the end.
    pub async fn close(&mut self) {
        for stream in self.streams.values_mut() {
            // Not sent: the buffers stay where they are.
            stream.chunk = None;
        }
        self.wait_for_flights(0).await;
        let keys: Vec<StreamKey> = self.streams.keys().copied().collect();
        for key in keys {
            self.close_segment(key).await;
        }
    }

    fn stream(&mut self, key: StreamKey) -> &mut Stream {
        let (core, devices, purpose) = (&self.core, &self.devices, self.purpose);
        self.streams.entry(key).or_insert_with(|| {
            let identity = WriterIdentity {
                store: core.settings.store,
                device: devices[key.0.index()],
                epoch: core.settings.epoch,
                writer: ORGANIZER,
            };
            let writer = SegmentWriter::new(core.space.clone(), identity, key.0, purpose);
            Stream { writer, chunk: None }
        })
    }

    async fn wait_for_flights(&self, most: usize) {
        loop {
            let ticket = self.flights.landed.ticket();
            if self.flights.count.get() <= most {
                return;
            }
            ticket.await;
        }
    }

    /// Places the stream's chunk and starts its flight. False, and the chunk forgotten, if there
    /// is no room.
    async fn send(&mut self, key: StreamKey) -> Result<bool> {
        let Some(chunk) = self.stream(key).chunk.take() else { return Ok(true) };
        self.wait_for_flights(FLIGHTS_MAX - 1).await;
        self.core.wait_for_flush_room().await?;
        let Some(start) = self.place(key, &chunk).await? else {
            self.flights.tally.borrow_mut().no_room = true;
            return Ok(false);
        };
        self.flights.count.set(self.flights.count.get() + 1);
        let (core, exec, flights) = (self.core.clone(), self.exec.clone(), self.flights.clone());
        self.exec.spawn(
            self.class,
            Box::pin(async move {
                fly(&core, &*exec, &flights, key.0, start, chunk).await;
                flights.count.set(flights.count.get() - 1);
                flights.landed.wake_all();
            }),
        );
        Ok(true)
    }

    /// Finds a place on the stream's tier, in a new segment if there is one to have.
    async fn place(&mut self, key: StreamKey, chunk: &Chunk) -> Result<Option<u64>> {
        let len = chunk.padded_len();
        let buffers: Vec<_> =
            chunk.items().iter().map(|(item, at)| (&item.name, *at as u64, &item.buffer)).collect();
        if let Some(start) = self.stream(key).writer.place(len, &buffers) {
            return Ok(Some(start));
        }
        if self.open_segment(key).await?
            && let Some(start) = self.stream(key).writer.place(len, &buffers)
        {
            return Ok(Some(start));
        }
        // Better mixed with the others than not at all.
        let other = match key.1 {
            Temperature::Hot => (key.0, Temperature::Cold),
            Temperature::Cold => (key.0, Temperature::Hot),
        };
        Ok(self.streams.get_mut(&other).and_then(|stream| stream.writer.place(len, &buffers)))
    }

    /// Opens the stream's next segment: its opening is queued for the log before any move can
    /// name it.
    async fn open_segment(&mut self, key: StreamKey) -> Result<bool> {
        let core = self.core.clone();
        let tier = core.space.tier(key.0);
        if tier.free_segments() <= tier.floor(self.purpose) as usize {
            return Ok(false);
        }
        self.close_segment(key).await;
        let wall_clock = core.runtime.wall_clock_s();
        let Some((at, generation, header)) = self.stream(key).writer.open(wall_clock)? else {
            return Ok(false);
        };
        core.shards[0].push(Request::SegmentOpened(at, generation, SegmentKind::Data)).await;
        self.write_words(at, header.offset, &header.bytes).await;
        Ok(true)
    }

    async fn close_segment(&mut self, key: StreamKey) {
        let core = self.core.clone();
        match self.stream(key).writer.close() {
            Ok(None) => {}
            Ok(Some((at, summary))) => {
                self.write_words(at, summary.offset, &summary.bytes).await;
                core.space.seal(at, core.runtime.now().0);
            }
            Err(error) => core.counters.note(error.to_string()),
        }
    }

    /// Headers and summaries serve salvage and cleaning, not liveness: a failure is noted.
    async fn write_words(&self, at: TierSegment, offset: u64, bytes: &[u8]) {
        if let Err(error) = self.core.check_poison() {
            return self.core.counters.note(error.to_string());
        }
        if let Err(error) = write_bytes(&self.core, &*self.exec, at.tier, offset, bytes).await {
            self.core.counters.note(error.to_string());
        }
    }
}

/// A buffer whose copy is on a device.
struct Copied {
    from: Location,
    stored_len: u32,
    is_rescued: bool,
}

/// Writes a chunk and proposes the moves of its buffers.
async fn fly(
    core: &Core,
    exec: &dyn Exec,
    flights: &Flights,
    tier: TierId,
    start: u64,
    chunk: Chunk,
) {
    let len = chunk.padded_len();
    let (buf, items) = chunk.finish();
    let len = if planted(Plant::CopyTooShort) { len - BLOCK } else { len };
    if let Err(error) = write(core, exec, tier, start, len, buf).await {
        for (item, at) in &items {
            core.space
                .bytes_dead(Location::device(tier, start + *at as u64), item.buffer.stored_len);
        }
        flights.tally.borrow_mut().failed += items.len() as u64;
        return core.counters.note(error.to_string());
    }
    let mut answers = Vec::with_capacity(items.len());
    for (item, at) in items {
        let (reply, answer) = oneshot();
        let copied = Copied {
            from: item.buffer.location,
            stored_len: item.buffer.stored_len,
            is_rescued: item.is_rescued,
        };
        let request = MoveRequest {
            subject: item.subject(),
            from: copied.from,
            to: Location::device(tier, start + at as u64),
            stored_len: item.buffer.stored_len,
            reply,
        };
        core.shards[0].push(Request::Move(request)).await;
        answers.push((copied, answer));
    }
    for (copied, answer) in answers {
        match answer.await {
            Ok(moved) => count(core, flights, &copied, tier, moved),
            Err(_) => flights.tally.borrow_mut().failed += 1,
        }
    }
}

fn count(
    core: &Core,
    flights: &Flights,
    copied: &Copied,
    to: TierId,
    moved: std::result::Result<bool, Error>,
) {
    let counters = &core.organizer.counters;
    let mut tally = flights.tally.borrow_mut();
    match moved {
        Ok(true) => {
            let Copied { from, stored_len, is_rescued } = *copied;
            if is_rescued {
                counters.repaired_buffers.fetch_add(1, Ordering::Relaxed);
                core.organizer.damage.forget(from);
            }
            let bytes = footprint(stored_len);
            tally.moved_bytes += bytes;
            counters.moved_bytes.fetch_add(u64::from(stored_len), Ordering::Relaxed);
            let Place::Device { tier: before, .. } = from.place() else { return };
            if before < to {
                tally.demoted_bytes += bytes;
                counters.demotions.fetch_add(1, Ordering::Relaxed);
            } else if before > to {
                counters.promotions.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(false) => {
            tally.lost += 1;
            counters.lost_races.fetch_add(1, Ordering::Relaxed);
        }
        // The log has told its reason to everybody.
        Err(_) => tally.failed += 1,
    }
}
