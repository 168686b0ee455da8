//! The batches that lie on the log's tier, wherever a log segment is or was.
//!
//! A log segment is known by its header, by a batch or a superblock that names it as the next or the
//! first one, or by a root or record of the segments in use. In it every block is tried, so that what
//! lies behind damage is found. A batch counts only at the place that it says it was written for.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use crate::error::Result;
use crate::limits::{BLOCK, EPOCH_MAX};
use crate::log::batch::{BatchExpect, BatchFault, BatchView, decode_header, peek_header_len};
use crate::log::reader::ForwardReader;
use crate::log::record::{Record, SegmentKind};
use crate::log::segment::SegmentHeader;
use crate::log::superblock::{Cut, LogStart};
use crate::recover::sound;
use crate::salvage::medium::Medium;
use crate::types::{BatchSeq, Epoch, SegmentId, TierId, TierSegment};

const EPOCHS: RangeInclusive<Epoch> = Epoch(0)..=Epoch(EPOCH_MAX);

/// A use of a segment.
type Use = (SegmentId, u32);

/// What lies on the log's tier.
#[derive(Default)]
pub(super) struct Batches {
    /// Those that are what their checksums say, in no order.
    pub views: Vec<BatchView>,
    /// Log segments that could not be read to their ends.
    pub unreadable: BTreeSet<SegmentId>,
    /// The uses of segments whose headers say that they are of the log.
    pub headers: BTreeSet<Use>,
}

/// Where to look.
pub(super) struct Search<'a> {
    pub medium: &'a Medium,
    pub tier: TierId,
    /// Beginnings of the log, and uses of segments that are known to be of it.
    pub starts: &'a [LogStart],
    pub uses: &'a [(TierSegment, u32)],
    pub cuts: &'a [Cut],
    /// The first batch that is of use: segments that end before it are left out.
    pub from: BatchSeq,
}

impl Search<'_> {
    /// Finds them all.
    pub fn run(&self) -> Batches {
        let mut found = Batches::default();
        if self.medium.device(self.tier).is_err() {
            return found;
        }
        found.headers = self.headers();
        let named = self.starts.iter().map(|start| (start.segment.segment, start.generation));
        let used = self.uses.iter().filter(|(at, _)| at.tier == self.tier);
        let used = used.map(|(at, generation)| (at.segment, *generation));
        let mut open: Vec<Use> = found.headers.iter().copied().chain(named).chain(used).collect();
        let old = self.old(&open);
        let mut seen: BTreeSet<Use> = old;
        while let Some(use_of) = open.pop() {
            let is_there = (1..self.medium.segments(self.tier)).contains(&use_of.0.0);
            if is_there && seen.insert(use_of) {
                let before = found.views.len();
                if self.walk(use_of, &mut found.views).is_err() {
                    found.unreadable.insert(use_of.0);
                }
                for view in &found.views[before..] {
                    open.extend(view.identity.next);
                    open.extend(self.opened(view));
                }
            }
        }
        found
    }

    fn segment_size(&self) -> u64 {
        self.medium.tiers[self.tier.index()].segment_size
    }

    fn at(&self, segment: SegmentId) -> TierSegment {
        TierSegment { tier: self.tier, segment }
    }

    /// Log segments that the records of a batch take into use.
    fn opened(&self, view: &BatchView) -> Vec<Use> {
        let opened = view.records().filter_map(|record| match record {
            Record::SegmentOpen { segment, generation, kind: SegmentKind::Log } => {
                (segment.tier == self.tier).then_some((segment.segment, *generation))
            }
            _ => None,
        });
        opened.collect()
    }

    fn headers(&self) -> BTreeSet<Use> {
        let header_of = |number: u32| {
            let offset = u64::from(number) * self.segment_size();
            let block = self.medium.read(self.tier, offset, BLOCK).ok()?;
            let header = SegmentHeader::decode(&block, None).ok()?;
            let identity = header.identity;
            let is_here = identity.store == self.medium.store
                && identity.device == self.medium.devices[self.tier.index()]
                && identity.segment == self.at(SegmentId(number));
            let is_log = header.kind == SegmentKind::Log;
            (is_here && is_log).then_some((identity.segment.segment, identity.generation))
        };
        (1..self.medium.segments(self.tier)).filter_map(header_of).collect()
    }

    /// The segments that the log had left when it came to the last known start before the first batch
    /// that is of use.
    fn old(&self, uses: &[Use]) -> BTreeSet<Use> {
        let before = self.starts.iter().filter(|start| start.seq <= self.from);
        let Some(start) = before.max_by_key(|start| start.seq) else { return BTreeSet::new() };
        let is_old = |use_of: &Use| {
            let mut views = Vec::new();
            let limit = u64::from(use_of.0.0) * self.segment_size() + 2 * BLOCK as u64;
            let read = self.walk_until(*use_of, limit, &mut views);
            use_of.0 != start.segment.segment
                && read.is_ok()
                && views.first().is_some_and(|first| first.identity.seq < start.seq)
        };
        uses.iter().copied().filter(is_old).collect()
    }

    fn walk(&self, use_of: Use, views: &mut Vec<BatchView>) -> Result<()> {
        let end = (u64::from(use_of.0.0) + 1) * self.segment_size();
        self.walk_until(use_of, end, views)
    }

    /// The batches of one use of a segment that begin before `limit`.
    fn walk_until(&self, use_of: Use, limit: u64, views: &mut Vec<BatchView>) -> Result<()> {
        let (segment, generation) = use_of;
        let device = self.medium.device(self.tier)?;
        let end = ((u64::from(segment.0) + 1) * self.segment_size()).min(device.len());
        let mut reader = ForwardReader::new(device);
        let mut at = u64::from(segment.0) * self.segment_size() + BLOCK as u64;
        let mut result = match device.len() < limit {
            true => self.medium.read(self.tier, limit - BLOCK as u64, BLOCK).map(drop),
            false => Ok(()),
        };
        while at + BLOCK as u64 <= end.min(limit) {
            let expect = BatchExpect {
                store: self.medium.store,
                device: self.medium.devices[self.tier.index()],
                segment: self.at(segment),
                generation,
                device_offset: at,
                seq: None,
                chain: None,
                epochs: EPOCHS,
                cuts: self.cuts,
            };
            match read_batch(&mut reader, at, end, &expect) {
                Ok(Some(view)) => {
                    at += u64::from(view.shape.total_len);
                    views.push(view);
                    continue;
                }
                Ok(None) => {}
                // A block that cannot be read hides one batch, not those behind it.
                Err(error) => result = Err(error),
            }
            at += BLOCK as u64;
        }
        result
    }
}

/// The batch that begins here, if there is one whose records can be.
fn read_batch(
    reader: &mut ForwardReader<'_>,
    offset: u64,
    end: u64,
    expect: &BatchExpect<'_>,
) -> Result<Option<BatchView>> {
    let Ok(len) = peek_header_len(reader.bytes(offset, BLOCK)?) else { return Ok(None) };
    if len as u64 > end - offset {
        return Ok(None);
    }
    let decoded: std::result::Result<BatchView, BatchFault> =
        decode_header(reader.bytes(offset, len)?, expect);
    let is_sound = |view: &BatchView| {
        u64::from(view.shape.total_len) <= end - offset && sound::check_batch(view).is_ok()
    };
    Ok(decoded.ok().filter(is_sound))
}
