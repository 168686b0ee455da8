//! How hot the organizer takes blobs to be that never miss, and buffers that only pages name.

use std::collections::HashMap;
use std::sync::Arc;

use crate::index::extents::Extent;
use crate::index::pages::PageRef;
use crate::index::state::{Buffer, PagedMap, Value};
use crate::limits::STRIPES;
use crate::log::page::{PageBuffer, PageImage};
use crate::organizer::occupants::Collector;
use crate::organizer::tests::is_above;
use crate::organizer::tests::world::{BUCKET, FAST, SLOW, World, content, key};
use crate::paging::cache::Page;
use crate::tier::dram::{DirRange, Dram, DramGet, Fresh, PublishHead};
use crate::types::{BufferId, TierSegment, Uuid, Version};

impl World {
    /// Brings a blob's bytes into DRAM, as a read does.
    fn admit(&self, id: u64, len: usize) {
        let dram = &self.core.dram;
        let key = key(id);
        let head = dram.alloc(Dram::whole_head_len(key.len(), len)).unwrap();
        let slot = dram.alloc(len).unwrap();
        dram.fill(slot, 0, &content(id, len));
        let fresh = Some(Fresh { buffer: BufferId(id), dirty: false, len: len as u32 });
        let range = DirRange { value_offset: 0, len: len as u32, slot, slot_offset: 0, fresh };
        let hash = self.core.index.hash(BUCKET, &key);
        let (version, len, ranges) = (Version(id), len as u64, &[range][..]);
        let new = PublishHead { head, hash, bucket: BUCKET, key: &key, version, len, ranges };
        assert!(dram.admit(&mut self.core.index.lock(hash).dir, &new));
    }

    /// A get that DRAM answers.
    fn hit(&self, id: u64, len: usize) {
        let key = key(id);
        let hash = self.core.index.hash(BUCKET, &key);
        let got = self.core.dram.get(hash, BUCKET, &key, 0, &mut vec![0; len]);
        assert!(matches!(got, DramGet::Hit { .. }));
    }

    /// Has a page name the buffer, and nothing else. Returns the page.
    fn page(&self, id: u64, is_in_memory: bool) -> BufferId {
        let core = &self.core;
        self.share(id);
        let buffer = self.buffer(id);
        let page = Buffer { id: BufferId(id + 1000), ..buffer.clone() };
        let held = page.id;
        core.table.define_page(page);
        core.table.name_by_page(&[buffer.id]);
        let refs = vec![PageRef { start: 0, page: Some(held), extents: 1 }];
        let map = PagedMap::new(refs, &core.table);
        core.table.drop_count(held);
        let hash = core.index.hash(BUCKET, &key(id));
        let mut stripe = core.index.lock(hash);
        let entry = stripe.get(hash, BUCKET, &key(id)).unwrap();
        entry.visible.value = Value::Paged(Arc::new(map));
        if is_in_memory {
            let len = buffer.raw_len;
            let extent = Extent { value_offset: 0, len, buffer: buffer.id, buffer_offset: 0 };
            let checks = buffer.checks.as_slice().to_vec();
            let image = PageImage {
                store: Uuid([1; 16]),
                id: held,
                bucket: BUCKET,
                key: (*key(id)).into(),
                version: Version(id),
                extents: vec![extent],
                buffers: vec![PageBuffer { id: buffer.id, stored_len: len, checks }],
            };
            core.pages.insert(held, Arc::new(Page::new(image)));
        }
        held
    }

    /// What a walk through the index finds in a segment: the score of each buffer.
    fn scores(&self, at: TierSegment) -> HashMap<BufferId, f32> {
        let mut collector = Collector::new(&self.core, at);
        let inside = collector.rows_inside();
        let mut holders = Vec::new();
        for number in 0..STRIPES {
            let mut stripe = self.core.index.lock_number(number);
            let (entries, dir) = stripe.iter_with_dir();
            entries.for_each(|entry| collector.holders_of(entry, dir, &mut holders));
        }
        holders.iter().for_each(|holder| collector.take_rows_of(&inside, holder));
        collector.take_rows_of_pages(&inside);
        let (live, _pin) = collector.finish();
        live.into_iter().map(|occupant| (occupant.buffer.id, occupant.score)).collect()
    }
}

#[test]
fn blobs_that_are_only_ever_hit_in_dram_stay_where_those_never_touched_go_down() {
    let mut world = World::new(6);
    let (mut hit, mut untouched) = (Vec::new(), Vec::new());
    while !is_above(&world, 0.85) {
        let (_, ids) = world.segment(FAST, &[1 << 20, 1 << 20, 16_384, 500_000]);
        hit.push(ids[2]);
        untouched.extend([ids[0], ids[1], ids[3]]);
    }
    for id in &hit {
        world.admit(*id, 16_384);
        (0..100).for_each(|_| world.hit(*id, 16_384));
    }
    let started = world.run(false);
    world.run_until("the low watermark", || !is_above(&world, 0.7));
    let gone = |ids: &[u64]| ids.iter().filter(|id| world.tier_of(**id) == SLOW).count();
    assert_eq!((gone(&hit), gone(&untouched) > 3), (0, true));
    world.stop(started);
}

#[test]
fn buffers_that_pages_name_are_as_hot_as_their_blob_where_it_is_known() {
    let mut world = World::new(12);
    let (at, ids) = world.segment(FAST, &[5000; 3]);
    ids.iter().for_each(|id| world.heat(*id));
    let known = world.page(ids[0], true);
    let unknown = world.page(ids[1], false);
    let scores = world.scores(at);
    assert_eq!(scores.len(), 4, "{scores:?}");
    for buffer in [known, unknown, BufferId(ids[0])] {
        assert!(scores[&buffer] > 7.0, "{buffer:?}: {scores:?}");
    }
    assert!(scores[&BufferId(ids[1])] < 7.0, "nobody has read whose it is");
}
