//! The check of a store in use: everything that blobs refer to is read from its device and compared
//! with its checksums, at a bounded rate. It holds versions the way gets do, and nobody waits for it.
//!
//! `walk`: from blob to blob. `recount`: live bytes of segments against what refers to them.

mod recount;
mod walk;

use std::future::pending;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use crate::core::Core;
use crate::error::{ErrorKind, Result, fail};
use crate::io::runtime::Nanos;
use crate::store::Store;
use crate::survey::SurveyReport;
use crate::types::{BufferId, SegmentId, TierId};

pub use walk::Walk;

/// Bytes a second where nothing else is asked for: puts and gets keep most of a fast device.
pub const RATE_DEFAULT: u64 = 256 << 20;
/// Faults that a report lists; the others are counted.
pub const FAULTS_MAX: usize = 1024;
/// The longest pause before the caller is asked whether to go on.
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// How a check goes about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckOptions {
    /// Bytes a second that it reads from devices at most; 256 MiB by default.
    pub bytes_per_second_max: u64,
}

impl Default for CheckOptions {
    fn default() -> CheckOptions {
        CheckOptions { bytes_per_second_max: RATE_DEFAULT }
    }
}

/// How far a check has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckProgress {
    /// Blobs that are done.
    pub blobs: u64,
    /// Blobs there are.
    pub blobs_total: u64,
    /// Bytes read from devices.
    pub bytes: u64,
    /// Bytes that are live on them: about as many as there are to read.
    pub bytes_total: u64,
    /// Faults found.
    pub faults: u64,
}

/// What a [`Fault`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultyPart {
    /// Bytes of the value.
    Buffer,
    /// A part of its extent map: what it leads to has not been checked.
    ExtentPage,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The bucket of the blob.
    pub bucket: String,
    /// The blob's key.
    pub key: Arc<[u8]>,
    /// What of it.
    pub part: FaultyPart,
    /// `Corrupt` for bytes that do not match their checksum; else why they cannot be read.
    pub kind: ErrorKind,
    /// The buffer, or the extent page.
    pub buffer: BufferId,
    /// The first byte of the value that it is about.
    pub value_offset: u64,
    /// The tier.
    pub tier: Option<TierId>,
    /// Where on its device: of corrupt bytes, the check block.
    pub device_offset: Option<u64>,
    /// All of it, to read.
    pub message: String,
}

/// A segment whose live bytes are not what refers to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Miscount {
    /// The tier.
    pub tier: TierId,
    /// The segment.
    pub segment: SegmentId,
    /// Live bytes as the engine counts them.
    pub counted: u64,
    /// Bytes that something refers to.
    pub found: u64,
}

/// What became of the recount of live bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Recount {
    /// None was made: blobs were changing, and a recount needs them still.
    #[default]
    NotMade,
    /// These segments are miscounted; none, if all is well.
    Made(Vec<Miscount>),
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Buckets walked.
    pub buckets: u64,
    /// Blobs checked.
    pub blobs: u64,
    /// Buffers read and compared; one that several blobs share counts with each.
    pub buffers: u64,
    /// Extent pages read and compared.
    pub pages: u64,
    /// Stored bytes of both.
    pub bytes: u64,
    /// Buffers that no device has yet: there was nothing to compare.
    pub in_memory: u64,
    /// The first [`FAULTS_MAX`] faults.
    pub faults: Vec<Fault>,
    /// All faults.
    pub fault_count: u64,
    /// What the engine keeps for itself: superblocks, checkpoints, the log.
    pub structures: SurveyReport,
    /// Live bytes of segments.
    pub recount: Recount,
    /// It was ended before it had seen everything.
    pub cancelled: bool,
}

impl CheckReport {
    /// Whether everything was seen, and nothing is wrong.
    pub fn is_clean(&self) -> bool {
        let miscounts = match &self.recount {
            Recount::NotMade => 0,
            Recount::Made(miscounts) => miscounts.len(),
        };
        let faults = self.fault_count + self.structures.fault_count;
        faults == 0 && miscounts == 0 && !self.cancelled
    }

    fn note(&mut self, fault: Fault) {
        self.fault_count += 1;
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(fault);
        }
    }
}

impl Store {
    /// Checks every blob, while the store is in use: reads every buffer and every extent page from
    /// its device and compares it with its checksums. Before them it reads what the engine keeps for
    /// itself: superblocks, checkpoints, the log as far as it is kept. It stops at no fault. `progress` is
    /// told many times a second how far it has come, and says whether to go on.
    ///
    /// # Errors
    /// `Closed` if the store is or gets closed, `InvalidArgument` for a rate of zero. What is wrong
    /// with blobs is no error: it stands in the report.
    pub fn check(
        &self,
        options: &CheckOptions,
        mut progress: impl FnMut(&CheckProgress) -> ControlFlow<()>,
    ) -> Result<CheckReport> {
        check(self.core(), options, &mut progress)
    }
}

/// [`Store::check`], for those who have no handle.
pub(crate) fn check(
    core: &Arc<Core>,
    options: &CheckOptions,
    progress: &mut dyn FnMut(&CheckProgress) -> ControlFlow<()>,
) -> Result<CheckReport> {
    if options.bytes_per_second_max == 0 {
        fail!(InvalidArgument, "a check cannot read 0 bytes a second; ask for 1 or more");
    }
    let mut walk = Walk::new(core.clone());
    let pace = Pace::new(core, options.bytes_per_second_max);
    let mut goes_on = true;
    while goes_on {
        goes_on = core.runtime.block_on(walk.step())?;
        if pace.keep(&walk.progress(), progress).is_break() {
            return Ok(walk.cancelled());
        }
    }
    let recount = recount::recount(core, &mut || pace.pause(&walk.progress(), progress))?;
    Ok(walk.finished(recount))
}

/// Holds a check back to its rate.
struct Pace<'a> {
    core: &'a Core,
    rate: u64,
    start: Nanos,
}

impl Pace<'_> {
    fn new(core: &Core, rate: u64) -> Pace<'_> {
        Pace { core, rate, start: core.runtime.now() }
    }

    /// Waits until so many bytes may have been read, unless told to stop.
    fn keep(
        &self,
        done: &CheckProgress,
        progress: &mut dyn FnMut(&CheckProgress) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let due = Duration::from_secs_f64(done.bytes as f64 / self.rate as f64);
        let due = self.start.after(due);
        progress(done)?;
        while self.core.runtime.now() < due {
            self.sleep(due.min(self.core.runtime.now().after(PAUSE_MAX)));
            progress(done)?;
        }
        ControlFlow::Continue(())
    }

    /// Waits for a moment, unless told to stop.
    fn pause(
        &self,
        done: &CheckProgress,
        progress: &mut dyn FnMut(&CheckProgress) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        progress(done)?;
        self.sleep(self.core.runtime.now().after(PAUSE_MAX));
        ControlFlow::Continue(())
    }

    fn sleep(&self, until: Nanos) {
        self.core.runtime.block_on_until(until, pending::<()>());
    }
}
