//! The order of the log: each record is checked against everything before it, and from then on its
//! place is fixed.

use crate::core::{Change, Commit, Member, NewBuffer, Origin, Request, Share, Source};
use crate::error::{Error, ErrorKind};
use crate::index::state::{Buffer, Checks};
use crate::log::record::Record;
use crate::plant::{Plant, planted};
use crate::shard::apply;
use crate::shard::checkpoint::STEPS;
use crate::shard::log_owner::{BATCH_RECORDS_MAX, Effect, LogOwner, Part, Queued};
use crate::tier::space::Purpose;
use crate::types::{BucketId, BufferId, Durability, Location, Version};

/// Target size of a batch: beyond it latency grows and throughput does not.
const BATCH_BYTES_TARGET: usize = 1 << 20;

impl LogOwner {
    /// Whether payloads must wait: what is free of the log's tier is for cleaning, moves,
    /// deletes and checkpoints, which make room.
    fn is_short_of_room(&self) -> bool {
        let tier = self.core().space.tier(self.tail.borrow().segment.tier);
        tier.free_segments() <= tier.floor(Purpose::Data) as usize
    }

    /// Records wait for room: the organizer empties segments, and two rotations of checkpoints let
    /// go of the log that only recovery needs. An idle log would never become due for them.
    fn make_room(&self) {
        if self.held.borrow().is_empty() {
            self.ask_for_room();
        } else {
            self.core().organizer.kick();
        }
    }

    pub(super) fn ask_for_room(&self) {
        self.core().organizer.kick();
        self.checkpointer.want(2 * STEPS);
        self.stirred.wake_all();
    }

    /// Also the shards, for open segments that hold little that is alive: nobody can empty those.
    pub(super) fn ask_everybody_for_room(&self) {
        self.ask_for_room();
        for shard in &self.core().shards {
            // One that is too busy to be asked will be asked again.
            let _ = shard.try_push(Request::SealIdle);
        }
    }

    pub(super) fn release_held(&self) -> bool {
        if self.held.borrow().is_empty() {
            return false;
        }
        if self.is_short_of_room() && self.core().poisoned().is_none() {
            return false;
        }
        // Behind the records whose place is fixed already. Changes of one key that overtook these
        // were claimed before or make these stale.
        let mut queue = self.queue.borrow_mut();
        let fixed = queue.iter().take_while(|item| item.checked).count();
        let later = queue.split_off(fixed);
        queue.extend(self.held.borrow_mut().drain(..));
        queue.extend(later);
        true
    }

    /// Takes records that hold against everything before them; answers those that do not.
    pub(super) fn check_queue(&self) -> Vec<Queued> {
        let mut items = Vec::new();
        let mut bytes = 0;
        let short = self.is_short_of_room();
        while items.len() < BATCH_RECORDS_MAX && bytes < BATCH_BYTES_TARGET {
            let Some(mut item) = self.queue.borrow_mut().pop_front() else { break };
            if short && !item.checked && item.may_wait() {
                self.make_room();
                self.held.borrow_mut().push_back(item);
                continue;
            }
            if !item.checked {
                match self.check(item) {
                    Some(checked) => item = checked,
                    None => continue,
                }
                items.extend(self.shares_before(&item));
            }
            bytes += item.parts().map(Part::len).sum::<usize>();
            items.push(item);
        }
        items
    }

    /// Whether the record still makes sense after all that precede it in the log.
    fn check(&self, mut item: Queued) -> Option<Queued> {
        if let Some(refusal) = self.refusal(&item.effect) {
            apply::fail(self.core(), item.effect, &refusal);
            return None;
        }
        item.checked = true;
        let Queued { first, more, effect, .. } = &mut item;
        match effect {
            Effect::Blob(commit, _) => {
                let clearing = self.clearing.borrow().get(&commit.bucket).copied();
                let before = self.appended_version(commit).max(clearing);
                if apply::is_superseded(self.core(), commit, before) {
                    let Effect::Blob(commit, reply) = item.effect else { return None };
                    apply::drop_superseded(self.core(), *commit);
                    reply.send(Ok(()));
                    return None;
                }
                self.fix(&mut first.record, commit);
            }
            // Their keys are claimed: none of them is stale.
            Effect::Group(members, ..) => {
                let parts = std::iter::once(first).chain(more);
                for (part, member) in parts.zip(members) {
                    match member {
                        Member::Blob(commit) => self.fix(&mut part.record, commit),
                        Member::Share(share) => self.fix_share(&mut part.record, share),
                    }
                }
            }
            Effect::Move(request) => {
                let id = apply::subject_id(&request.subject);
                let in_flight = self.moving.borrow().contains_key(&id);
                if in_flight || !apply::is_at(self.core(), &request.subject, request.from) {
                    let Effect::Move(request) = item.effect else { return None };
                    apply::refuse_move(self.core(), request);
                    return None;
                }
                self.moving.borrow_mut().insert(id, request.to);
            }
            Effect::Bucket(Record::BucketClear { bucket, version }, ..) => {
                self.clearing.borrow_mut().insert(*bucket, *version);
            }
            Effect::Page(page) => self.settle(&mut page.buffers, &mut first.record),
            Effect::Release(_)
            | Effect::Share(_)
            | Effect::Bucket(..)
            | Effect::Flush(_)
            | Effect::Quiet => {}
        }
        Some(item)
    }

    /// Why changes of claimed keys have no place after all that precedes them, if so.
    fn refusal(&self, effect: &Effect) -> Option<Error> {
        effect.commits().find_map(|commit| {
            let is_claimed = matches!(commit.origin, Origin::Claimed);
            if is_claimed && self.is_cleared(commit) {
                // It was given up, or its bucket would not have been cleared before it.
                let message = "the bucket was cleared before the change was logged";
                return Some(Error::new(ErrorKind::Cancelled, message));
            }
            if !self.has_its_value(commit) {
                let message = "a change of attributes keeps a value that is not logged";
                return Some(Error::new(ErrorKind::Internal, message));
            }
            None
        })
    }

    /// Whether a clear of the bucket, applied or in flight, comes after the change in the order of
    /// versions. Behind it in the log a change could name what no checkpoint has any more.
    fn is_cleared(&self, commit: &Commit) -> bool {
        let in_flight = self.clearing.borrow().get(&commit.bucket).copied();
        let logged = apply::logged_version(self.core(), commit);
        in_flight.max(logged).is_some_and(|newer| newer >= commit.version)
    }

    /// Whether the log has the value that a change of attributes keeps. Its key is claimed, so it does;
    /// a record without it would make the store unreadable.
    fn has_its_value(&self, commit: &Commit) -> bool {
        let Change::Attributes { base } = commit.change else { return true };
        self.appended_version(commit).is_none()
            && apply::logged_version(self.core(), commit) == Some(base)
    }

    fn appended_version(&self, commit: &Commit) -> Option<Version> {
        self.appended.borrow().get(&(commit.bucket, commit.key.clone())).copied()
    }

    /// Gives a change its place in the order of its key.
    fn fix(&self, record: &mut Record, commit: &mut Commit) {
        let before = self.appended_version(commit);
        self.shorten(record, commit, before);
        self.resolve(record, commit);
        let key = (commit.bucket, commit.key.clone());
        self.appended.borrow_mut().insert(key, commit.version);
    }

    /// Uses the difference instead of the whole map where the log holds exactly its base. Its
    /// attributes are those of the base.
    fn shorten(&self, record: &mut Record, commit: &mut Commit, in_flight: Option<Version>) {
        let is_base = |base: Version| {
            in_flight.is_none() && apply::logged_version(self.core(), commit) == Some(base)
        };
        match (&mut *record, &commit.change) {
            (_, Change::Put { splice: Some(splice), .. }) if !is_base(splice.base) => {}
            (_, Change::Paged { splice: Some(splice), .. }) if !is_base(splice.base) => {}
            (
                Record::Put { bucket, key, version, len, buffers, .. },
                Change::Put { splice: Some(splice), .. },
            ) => {
                *record = Record::Splice {
                    bucket: *bucket,
                    key: std::mem::take(key),
                    base: splice.base,
                    version: *version,
                    len: *len,
                    cut: splice.cut.clone(),
                    extents: splice.extents.clone(),
                    buffers: std::mem::take(buffers),
                };
            }
            (
                Record::Paged { base, cut, pages, attributes, .. },
                Change::Paged { splice: Some(splice), .. },
            ) => {
                *base = Some(splice.base);
                *cut = splice.cut.clone();
                *pages = splice.pages.clone();
                *attributes = None;
            }
            _ => {}
        }
        // Of no use any more.
        match &mut commit.change {
            Change::Put { splice, .. } => *splice = None,
            Change::Paged { splice, .. } => *splice = None,
            Change::Attributes { .. } | Change::Delete => {}
        }
    }

    /// Buffers that the table holds for the change are logged where they are after the moves before
    /// this record.
    fn settle(&self, buffers: &mut [NewBuffer], record: &mut Record) {
        for (new, def) in buffers.iter_mut().zip(record.buffers_mut()) {
            if matches!(new.source, Source::Held(_))
                && !planted(Plant::PlaceBeforeMove)
                && let Some(now) = self.place_in_table(new.buffer.id)
            {
                (new.buffer.location, def.location) = (now, now);
            }
        }
    }

    /// Inherited buffers likewise.
    fn resolve(&self, record: &mut Record, commit: &mut Commit) {
        let Change::Put { buffers, .. } = &mut commit.change else { return };
        self.settle(buffers, record);
        let (hash, bucket, key) = (commit.hash, commit.bucket, &commit.key);
        for (new, def) in buffers.iter_mut().zip(record.buffers_mut()) {
            if matches!(new.source, Source::Inherited)
                && let Some(now) = self.place_of_lone(hash, bucket, key, new.buffer.id)
            {
                (new.buffer.location, def.location) = (now, now);
            }
        }
    }

    /// Shared buffers likewise.
    fn fix_share(&self, record: &mut Record, share: &mut Share) {
        let Share { hash, bucket, key, buffers } = share;
        for (buffer, def) in buffers.iter_mut().zip(record.buffers_mut()) {
            let now = self.place_of_lone(*hash, *bucket, key, buffer.id);
            let now = now.or_else(|| self.core().table.get_location(buffer.id));
            let location = now.unwrap_or(buffer.location);
            (buffer.location, def.location) = (location, location);
        }
    }

    /// Where a buffer of the table is once the moves in flight are done.
    fn place_in_table(&self, id: BufferId) -> Option<Location> {
        let moved = self.moving.borrow().get(&id).copied();
        moved.or_else(|| self.core().table.get_location(id))
    }

    /// Where a buffer is once the moves in flight are done; `None` if none moves it and the blob
    /// has it as no lone one.
    fn place_of_lone(
        &self,
        hash: u64,
        bucket: BucketId,
        key: &[u8],
        id: BufferId,
    ) -> Option<Location> {
        let moved = self.moving.borrow().get(&id).copied();
        moved.or_else(|| apply::inherited_location(self.core(), hash, bucket, key, id))
    }

    /// What must stand in the log before a blob's new map: definitions of the buffers it names whose
    /// checksums the log has in extent pages alone. A map that was large when it was written behind
    /// may be small by now.
    fn shares_before(&self, item: &Queued) -> Vec<Queued> {
        let records = item.parts().map(|part| &part.record);
        let maps =
            records.filter(|record| matches!(record, Record::Put { .. } | Record::Splice { .. }));
        let commits = item.effect.commits().filter(|commit| commit.changes_map());
        commits.zip(maps).filter_map(|(commit, record)| self.share_before(commit, record)).collect()
    }

    fn share_before(&self, commit: &Commit, record: &Record) -> Option<Queued> {
        let (Record::Put { extents, .. } | Record::Splice { extents, .. }) = record else {
            return None;
        };
        let defined = record.buffers();
        let mut named: Vec<BufferId> = extents.iter().map(|extent| extent.buffer).collect();
        named.sort_unstable();
        named.dedup();
        named.retain(|id| defined.binary_search_by_key(id, |def| def.id).is_err());
        let buffers = named.into_iter().filter_map(|id| self.core().table.logged_by_page(id));
        // Without its checksums only a destroyed bucket can name it.
        let buffers = buffers.filter(|buffer| buffer.checks != Checks::InPages);
        let buffers: Vec<Buffer> = buffers.collect();
        if buffers.is_empty() {
            return None;
        }
        let (hash, bucket, key) = (commit.hash, commit.bucket, commit.key.clone());
        let mut share = Box::new(Share { hash, bucket, key, buffers });
        let mut first = Part::of(share.record());
        self.fix_share(&mut first.record, &mut share);
        let (more, level) = (Vec::new(), Durability::Written);
        Some(Queued { first, more, effect: Effect::Share(share), level, checked: true })
    }
}
