//! Reads what a segment says of its occupants.

use crate::core::Core;
use crate::error::Result;
use crate::io::exec::Exec;
use crate::limits::{BLOCK, STRIPES};
use crate::log::batch::{BatchExpect, decode_header, peek_header_len};
use crate::log::record::{Record, SegmentKind};
use crate::log::segment::{Footer, SegmentHeader, SegmentIdentity};
use crate::organizer::device::read;
use crate::organizer::occupants::{Candidate, Collector, Occupant};
use crate::tier::space::SegmentPin;
use crate::types::{Epoch, Location, TierSegment, Uuid};

/// Bytes of one read.
const READ_MAX: usize = 1 << 20;
/// Bytes read ahead while walking batches, most of whose headers are small.
const WALK_READ: usize = 64 << 10;
/// Stripes between two yields.
const STRIPES_PER_TURN: usize = 16;

/// What was found.
pub struct Census {
    /// The live buffers, by place.
    pub live: Vec<Occupant>,
    /// Keeps the segment from being reused.
    pub pin: Option<SegmentPin>,
    /// There may be more live ones than these.
    pub truncated: bool,
}

/// Finds the live buffers of a sealed segment. `thorough` asks index and table at once, because
/// what the segment says of itself has not sufficed before.
pub async fn take(
    core: &Core,
    exec: &dyn Exec,
    device: Uuid,
    at: TierSegment,
    thorough: bool,
) -> Census {
    let place = Place::new(core, device, at);
    let mut collector = Collector::new(core, at);
    if thorough || !place.read_words(core, exec, &mut collector).await {
        walk_index(core, exec, &mut collector).await;
    }
    let truncated = collector.is_full();
    let (live, pin) = collector.finish();
    Census { live, pin, truncated }
}

/// The segment as a place on its device.
struct Place {
    identity: SegmentIdentity,
    at: TierSegment,
    start: u64,
    size: u64,
}

impl Place {
    fn new(core: &Core, device: Uuid, at: TierSegment) -> Place {
        let tier = core.space.tier(at.tier);
        let generation = tier.segment(at.segment).generation();
        let identity =
            SegmentIdentity { store: core.settings.store, device, segment: at, generation };
        Place { identity, at, start: tier.offset_of(at.segment), size: tier.segment_size }
    }

    /// False if the segment's own words cannot be read: it was open at a crash, or is damaged.
    async fn read_words(
        &self,
        core: &Core,
        exec: &dyn Exec,
        collector: &mut Collector<'_>,
    ) -> bool {
        let is_log = match self.header(core, exec).await {
            Ok(header) => header.kind == SegmentKind::Log,
            Err(_) => false,
        };
        if is_log {
            return self.walk_log(core, exec, collector).await.is_ok();
        }
        self.read_summary(core, exec, collector).await.is_ok()
    }

    async fn header(&self, core: &Core, exec: &dyn Exec) -> Result<SegmentHeader> {
        let buf = read(core, exec, self.at.tier, self.start, BLOCK).await?;
        SegmentHeader::decode(&buf.as_slice()[..BLOCK], Some(&self.identity))
    }

    async fn read_summary(
        &self,
        core: &Core,
        exec: &dyn Exec,
        collector: &mut Collector<'_>,
    ) -> Result<()> {
        let tier = self.at.tier;
        let end = self.start + self.size;
        let block = read(core, exec, tier, end - BLOCK as u64, BLOCK).await?;
        let footer = Footer::decode(&block.as_slice()[..BLOCK], Some(&self.identity), self.size)?;
        let mut summary = Vec::with_capacity(footer.summary_len as usize);
        let mut at = self.start + u64::from(footer.summary_offset);
        while summary.len() < footer.summary_len as usize {
            let left = (footer.summary_len as usize - summary.len()).next_multiple_of(BLOCK);
            let len = left.min(READ_MAX);
            let buf = read(core, exec, tier, at, len).await?;
            summary.extend_from_slice(&buf.as_slice()[..len]);
            at += len as u64;
        }
        for entry in footer.entries(&summary)? {
            let entry = entry?;
            collector.consider(&Candidate {
                bucket: entry.bucket,
                key: entry.key,
                version: entry.version,
                buffer: entry.buffer,
                value_offset: entry.value_offset,
                location: Location::device(tier, self.start + u64::from(entry.offset)),
            });
        }
        Ok(())
    }

    /// Visits the records of a former log segment, up to the first thing that is no batch of this
    /// use of the segment. Chains are of no interest: the index decides.
    async fn walk_log(
        &self,
        core: &Core,
        exec: &dyn Exec,
        collector: &mut Collector<'_>,
    ) -> Result<()> {
        let mut at = self.start + BLOCK as u64;
        let end = self.start + self.size;
        while at < end && !collector.is_full() {
            let Some((records, len)) = self.batch_at(core, exec, at, end).await? else { break };
            records.iter().for_each(|record| consider_record(record, collector));
            at += len;
        }
        Ok(())
    }

    /// The batch at a place, and its length.
    async fn batch_at(
        &self,
        core: &Core,
        exec: &dyn Exec,
        at: u64,
        end: u64,
    ) -> Result<Option<(Vec<Record>, u64)>> {
        let left = usize::try_from(end - at).unwrap_or(usize::MAX);
        let mut len = WALK_READ.min(left);
        let mut buf = read(core, exec, self.at.tier, at, len).await?;
        let Ok(header_len) = peek_header_len(&buf.as_slice()[..len]) else { return Ok(None) };
        if header_len > left {
            return Ok(None);
        }
        if header_len > len {
            len = header_len.next_multiple_of(BLOCK);
            buf = read(core, exec, self.at.tier, at, len).await?;
        }
        let expect = BatchExpect {
            store: core.settings.store,
            device: self.identity.device,
            segment: self.at,
            generation: self.identity.generation,
            device_offset: at,
            seq: None,
            chain: None,
            epochs: Epoch(0)..=core.settings.epoch,
            cuts: &[],
        };
        let Ok(view) = decode_header(&buf.as_slice()[..len], &expect) else { return Ok(None) };
        let total = u64::from(view.shape.total_len);
        Ok(Some((view.into_records(), total)))
    }
}

fn consider_record(record: &Record, collector: &mut Collector<'_>) {
    let (bucket, key, version, extents) = match record {
        Record::Put { bucket, key, version, extents, .. }
        | Record::Splice { bucket, key, version, extents, .. } => {
            (bucket, key, version, &extents[..])
        }
        // Where their buffers stand in the value, the pages know.
        Record::Page { bucket, key, version, .. } => (bucket, key, version, &[][..]),
        _ => return,
    };
    for def in record.buffers() {
        let first = extents.iter().find(|extent| extent.buffer == def.id);
        collector.consider(&Candidate {
            bucket: *bucket,
            key,
            version: *version,
            buffer: def.id,
            value_offset: first.map_or(0, |extent| extent.value_offset),
            location: def.location,
        });
    }
}

/// Looks for occupants in the whole index: stripe by stripe, each lock held briefly.
async fn walk_index(core: &Core, exec: &dyn Exec, collector: &mut Collector<'_>) {
    let inside = collector.rows_inside();
    let mut holders = Vec::new();
    for number in 0..STRIPES {
        {
            let mut stripe = core.index.lock_number(number);
            let (entries, dir) = stripe.iter_with_dir();
            for entry in entries {
                collector.consider_entry(entry, dir);
                if !inside.is_empty() {
                    collector.holders_of(entry, dir, &mut holders);
                }
            }
        }
        for holder in holders.drain(..) {
            collector.take_rows_of(&inside, &holder);
        }
        if collector.is_full() {
            return;
        }
        if number % STRIPES_PER_TURN == 0 {
            exec.yield_now().await;
        }
    }
    collector.take_rows_of_pages(&inside);
}
