//! What is done about a damaged buffer: written anew from a second copy, where there is one; else
//! remembered and left alone.

use crate::error::Error;
use crate::organizer::census;
use crate::organizer::mover::Temperature;
use crate::organizer::occupants::Occupant;
use crate::organizer::rescue::copy_in_dram;
use crate::organizer::scrub::Scrub;
use crate::types::{Place, TierId, TierSegment};

impl Scrub {
    /// Remembers a damaged buffer, and repairs it if it can be.
    pub(super) async fn treat(&mut self, occupant: Occupant, error: &Error) {
        let Place::Device { tier, .. } = occupant.buffer.location.place() else { return };
        let mut occupant = self.named(occupant).await;
        let core = self.core.clone();
        core.organizer.note_damage(&core, &occupant.name, &occupant.buffer, error);
        let Some(bytes) = copy_in_dram(&core, &occupant) else { return };
        occupant.is_rescued = true;
        if let Err(error) = self.write_anew(tier, occupant, &bytes).await {
            core.counters.note(format!("repair: {error}"));
        }
    }

    /// Whose a row of the table is, a walk through the index says. Not if only pages name it that are
    /// not in memory.
    async fn named(&self, occupant: Occupant) -> Occupant {
        let Place::Device { tier, offset } = occupant.buffer.location.place() else {
            return occupant;
        };
        if !occupant.name.table {
            return occupant;
        }
        let segment = self.core.space.tier(tier).segment_at(offset);
        let at = TierSegment { tier, segment };
        let device = self.devices[tier.index()];
        let census = census::take(&self.core, &*self.exec, device, at, true).await;
        let is_it = |other: &Occupant| {
            (other.buffer.id, other.buffer.location)
                == (occupant.buffer.id, occupant.buffer.location)
        };
        census.live.into_iter().find(is_it).unwrap_or(occupant)
    }

    /// Writes it to another place, on its own tier or on the next one with room, and has the move
    /// logged.
    async fn write_anew(
        &mut self,
        tier: TierId,
        occupant: Occupant,
        bytes: &[u8],
    ) -> crate::error::Result<()> {
        let core = self.core.clone();
        let others = core.space.tiers().iter().filter(|other| !other.is_lost());
        let mut order: Vec<TierId> = others.map(|other| other.id).collect();
        order.sort_by_key(|other| (*other != tier, *other < tier, *other));
        for to in order {
            self.mover.add(to, Temperature::Cold, occupant.clone(), bytes).await?;
            if !self.mover.finish().await?.no_room {
                return Ok(());
            }
        }
        core.counters.note(format!("repair: no tier has room for buffer {}", occupant.buffer.id.0));
        Ok(())
    }
}
