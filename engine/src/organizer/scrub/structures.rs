//! What the engine keeps on the devices for itself, read like the buffers of blobs; what has rotted is
//! written anew from memory by the log's owner.

use std::collections::HashSet;
use std::rc::Rc;

use crate::core::{Core, Mend, Request};
use crate::error::{Error, Result};
use crate::io::buffer::AlignedBuf;
use crate::io::exec::{Exec, LocalFuture};
use crate::organizer::device::read;
use crate::organizer::scrub::Scrub;
use crate::survey::{Reads, Structure, StructureFault, Survey, SurveyReport};
use crate::types::{TierId, TierSegment};

/// A structure, by what it is and where.
pub(super) type Known = (Structure, TierId, u64);

/// The organizer as a reader of structures.
struct Reader {
    core: std::sync::Arc<Core>,
    exec: Rc<dyn Exec>,
}

impl Reads for Reader {
    fn read(&self, tier: TierId, offset: u64, len: usize) -> LocalFuture<'_, Result<AlignedBuf>> {
        Box::pin(read(&self.core, &*self.exec, tier, offset, len))
    }
}

/// What must be asked of the log's owner.
#[derive(Default, PartialEq, Eq, Debug)]
struct Wanted {
    superblocks: Vec<(TierId, usize)>,
    leave: Vec<TierSegment>,
    /// Times that the log and the checkpoints of its tier are to be let go of: each is two rotations.
    trims: usize,
}

impl Scrub {
    /// Reads all structures, has the rotten ones written anew, and looks whether they were. False if
    /// the organizer ends before.
    pub(super) async fn read_structures(&mut self) -> bool {
        let Some(report) = self.survey().await else { return false };
        if report.faults.is_empty() {
            self.bad_structures.clear();
            return true;
        }
        report.faults.iter().for_each(|fault| self.note_structure(fault));
        let wanted = self.wanted(&report.faults);
        if let Err(error) = self.have_mended(wanted).await {
            self.core.counters.note(format!("repair: {error}"));
        }
        let Some(report) = self.survey().await else { return false };
        let left: HashSet<Known> = report.faults.iter().map(known).collect();
        let mended = self.bad_structures.difference(&left).count() as u64;
        self.core.organizer.counters.scrub.count_repaired_structures(mended);
        self.bad_structures.retain(|known| left.contains(known));
        true
    }

    /// Reads all structures. `None` if the organizer ends before.
    async fn survey(&mut self) -> Option<SurveyReport> {
        let reader = Reader { core: self.core.clone(), exec: self.exec.clone() };
        let mut survey = Survey::new(self.core.clone());
        loop {
            let (before, began) = (survey.report().bytes, self.core.runtime.now());
            if !survey.step(&reader).await {
                return Some(survey.into_report());
            }
            let took = self.core.runtime.now().since(began);
            if !self.pay(survey.report().bytes - before, took).await {
                return None;
            }
        }
    }

    fn note_structure(&mut self, fault: &StructureFault) {
        if self.bad_structures.insert(known(fault)) {
            self.core.organizer.counters.scrub.count_bad_structure();
            self.core.counters.note(fault.message.clone());
        }
    }

    fn wanted(&self, faults: &[StructureFault]) -> Wanted {
        let mut wanted = Wanted::default();
        for StructureFault { structure, tier, device_offset, .. } in faults {
            match structure {
                Structure::Superblock { slot } => wanted.superblocks.push((*tier, *slot)),
                Structure::LogBatch { .. } => {
                    let segment = self.core.space.tier(*tier).segment_at(*device_offset);
                    wanted.leave.push(TierSegment { tier: *tier, segment });
                    wanted.trims = wanted.trims.max(1);
                }
                Structure::CheckpointRoot | Structure::CheckpointImage { .. } => {
                    // A copy is made by a rotation from its begin, and the one before it is kept.
                    let is_copy = *tier != TierId(0);
                    wanted.trims = wanted.trims.max(if is_copy { 2 } else { 1 });
                }
            }
        }
        wanted
    }

    async fn have_mended(&self, wanted: Wanted) -> Result<()> {
        let core = &self.core;
        core.check_poison()?;
        for (tier, slot) in wanted.superblocks {
            core.ask(0, |reply| Request::Mend(Mend::Superblock { tier, slot }, reply)).await?;
        }
        for at in wanted.leave {
            core.ask(0, |reply| Request::Mend(Mend::LeaveSegment(at), reply)).await?;
        }
        for _ in 0..wanted.trims {
            core.ask(0, Request::Trim).await?;
        }
        Ok::<(), Error>(())
    }
}

fn known(fault: &StructureFault) -> Known {
    (fault.structure, fault.tier, fault.device_offset)
}
