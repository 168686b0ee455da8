//! Extent pages in memory, within a bound: the clock algorithm over each of a few shards.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashMap;
use parking_lot::Mutex;
use xxhash_rust::xxh3::Xxh3DefaultBuilder;

use crate::index::extents::Extent;
use crate::index::state::Checks;
use crate::log::page::PageImage;
use crate::types::BufferId;

/// Shards of the cache: enough that callers who read do not meet.
const SHARDS: usize = 16;

/// A page, ready for use.
#[derive(Debug)]
pub struct Page {
    /// Its part of the map, ascending.
    pub extents: Box<[Extent]>,
    /// The buffers these name, ascending by id, with their checksums.
    buffers: Box<[(BufferId, Checks)]>,
}

impl Page {
    /// From the bytes of a page.
    pub fn new(image: PageImage) -> Page {
        let buffers = image.buffers.iter();
        let buffers = buffers.map(|buffer| (buffer.id, Checks::from_slice(&buffer.checks)));
        Page { buffers: buffers.collect(), extents: image.extents.into() }
    }

    /// The checksums of a buffer that the page names.
    pub fn checks_of(&self, id: BufferId) -> Option<&Checks> {
        let at = self.buffers.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(&self.buffers[at].1)
    }

    /// The buffers it names, ascending.
    pub fn names(&self) -> Vec<BufferId> {
        self.buffers.iter().map(|(id, _)| *id).collect()
    }

    fn memory_bytes(&self) -> u64 {
        let lists = self.buffers.iter().map(|(_, checks)| match checks {
            Checks::Many(checks) => size_of_val(&**checks) + 16,
            Checks::One(_) | Checks::Unwritten | Checks::InPages => 0,
        });
        let own = size_of::<Page>() + size_of_val(&*self.extents) + size_of_val(&*self.buffers);
        (own + lists.sum::<usize>()) as u64
    }
}

struct Cached {
    page: Arc<Page>,
    bytes: u64,
    /// Used since the hand came by.
    used: bool,
}

#[derive(Default)]
struct Shard {
    pages: HashMap<BufferId, Cached, Xxh3DefaultBuilder>,
    /// The clock: ids in the order in which the hand comes by.
    clock: VecDeque<BufferId>,
    bytes: u64,
}

/// See the module.
pub struct PageCache {
    shards: [Mutex<Shard>; SHARDS],
    shard_bytes_max: u64,
    bytes: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl PageCache {
    /// A cache of at most `bytes`, or of one page per shard if they are larger.
    pub fn new(bytes: u64) -> PageCache {
        PageCache {
            shards: Default::default(),
            shard_bytes_max: bytes / SHARDS as u64,
            bytes: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    fn shard(&self, id: BufferId) -> &Mutex<Shard> {
        &self.shards[id.0 as usize % SHARDS]
    }

    /// The page, if it is here.
    pub fn get(&self, id: BufferId) -> Option<Arc<Page>> {
        let found = self.peek(id);
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// [`get`](Self::get), not counted.
    pub fn peek(&self, id: BufferId) -> Option<Arc<Page>> {
        let mut shard = self.shard(id).lock();
        let cached = shard.pages.get_mut(&id)?;
        cached.used = true;
        Some(cached.page.clone())
    }

    /// [`peek`](Self::peek), which is no use of the page: it stays no longer for that.
    pub fn look(&self, id: BufferId) -> Option<Arc<Page>> {
        self.shard(id).lock().pages.get(&id).map(|cached| cached.page.clone())
    }

    /// Puts a page here; others may have to go.
    pub fn insert(&self, id: BufferId, page: Arc<Page>) {
        let bytes = page.memory_bytes();
        let mut shard = self.shard(id).lock();
        if shard.pages.contains_key(&id) {
            return;
        }
        while shard.bytes + bytes > self.shard_bytes_max {
            let Some(oldest) = shard.clock.pop_front() else { break };
            let Some(cached) = shard.pages.get_mut(&oldest) else { continue };
            if std::mem::take(&mut cached.used) {
                shard.clock.push_back(oldest);
                continue;
            }
            self.drop_from(&mut shard, oldest);
        }
        shard.pages.insert(id, Cached { page, bytes, used: false });
        shard.clock.push_back(id);
        shard.bytes += bytes;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The page is no more.
    pub fn forget(&self, id: BufferId) {
        let mut shard = self.shard(id).lock();
        self.drop_from(&mut shard, id);
        shard.clock.retain(|other| *other != id);
    }

    fn drop_from(&self, shard: &mut Shard, id: BufferId) {
        if let Some(cached) = shard.pages.remove(&id) {
            shard.bytes -= cached.bytes;
            self.bytes.fetch_sub(cached.bytes, Ordering::Relaxed);
        }
    }

    /// Bytes of the pages here.
    pub fn used_bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The bound.
    pub fn limit_bytes(&self) -> u64 {
        self.shard_bytes_max * SHARDS as u64
    }

    /// Pages found here, and pages not found.
    pub fn hits_and_misses(&self) -> (u64, u64) {
        (self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(extents: u64) -> Arc<Page> {
        let extent = |n| Extent { value_offset: n, len: 1, buffer: BufferId(n), buffer_offset: 0 };
        let buffers = (0..extents).map(|n| (BufferId(n), Checks::One(n as u32)));
        Arc::new(Page { extents: (0..extents).map(extent).collect(), buffers: buffers.collect() })
    }

    #[test]
    fn the_bound_holds_and_used_pages_stay_longest() {
        let bytes = page(10).memory_bytes();
        let cache = PageCache::new(3 * bytes * SHARDS as u64);
        let id = |n: u64| BufferId(n * SHARDS as u64);
        for n in 0..3 {
            cache.insert(id(n), page(10));
        }
        assert!(cache.get(id(0)).is_some());
        cache.insert(id(3), page(10));
        assert!(cache.get(id(0)).is_some(), "used since the hand came by");
        assert!(cache.get(id(1)).is_none());
        assert_eq!(cache.used_bytes(), 3 * bytes);
        assert_eq!(cache.hits_and_misses(), (2, 1));
        cache.forget(id(0));
        assert!(cache.peek(id(0)).is_none());
        assert_eq!(cache.used_bytes(), 2 * bytes);
    }

    #[test]
    fn a_page_larger_than_the_bound_stays_alone() {
        let cache = PageCache::new(SHARDS as u64);
        cache.insert(BufferId(0), page(10));
        assert!(cache.get(BufferId(0)).is_some());
        cache.insert(BufferId(SHARDS as u64), page(10));
        assert!(cache.get(BufferId(SHARDS as u64)).is_some());
        assert_eq!(cache.used_bytes(), page(10).memory_bytes());
    }
}
