//! What has happened during a run: a test that exercised nothing has shown nothing.

use isotherm::Stats;

/// Counters summed over the opens of a store.
#[derive(Clone, Default, Debug)]
pub struct Tally {
    pub operations: u64,
    pub reopens: u64,
    pub moves: u64,
    pub spills: u64,
    pub demotions: u64,
    pub promotions: u64,
    pub cleanings: u64,
    pub dram_evictions: u64,
    pub released_pages: u64,
    pub page_hits: u64,
    pub page_misses: u64,
    pub memory_puts: u64,
    pub memory_fallbacks: u64,
    pub dram_hits: u64,
    pub dram_misses: u64,
    pub glommio_bytes: u64,
    pub put_bytes: u64,
    pub written_bytes: u64,
}

impl Tally {
    /// Adds an open's counters, just before its close.
    pub fn add(&mut self, stats: &Stats) {
        let organizer = &stats.organizer;
        self.spills += stats.spills;
        self.demotions += organizer.demotions;
        self.promotions += organizer.promotions;
        self.cleanings += organizer.cleanings;
        self.dram_evictions += organizer.dram_evictions + stats.caller_evictions;
        self.released_pages += organizer.released_pages;
        self.page_hits += stats.page_hits;
        self.page_misses += stats.page_misses;
        self.memory_puts += stats.memory_puts;
        self.memory_fallbacks += stats.memory_fallbacks;
        self.dram_hits += stats.dram_hits;
        self.dram_misses += stats.dram_misses;
        if organizer.backend == "glommio" {
            self.glommio_bytes += organizer.read_bytes + organizer.written_bytes;
        }
        self.put_bytes += stats.put_bytes;
        self.written_bytes += stats.tiers.iter().map(|tier| tier.written_bytes).sum::<u64>();
        assert_eq!(stats.corruptions, 0, "checksum mismatches on healthy devices: {stats:?}");
        assert_eq!(organizer.corrupt_buffers, 0, "buffers the organizer found damaged: {stats:?}");
    }

    /// Panics if something that must happen in a run of this kind has not.
    pub fn require_everything(&self) {
        let all = [
            ("spills", self.spills),
            ("demotions", self.demotions),
            ("promotions", self.promotions),
            ("cleanings", self.cleanings),
            ("releases of extent pages", self.released_pages),
            ("extent pages in memory", self.page_hits),
            ("reads of extent pages", self.page_misses),
            ("reopens", self.reopens),
            ("memory puts", self.memory_puts),
            ("DRAM misses", self.dram_misses),
        ];
        for (name, count) in all {
            assert!(count > 0, "no {name} in the whole run: {self:?}");
        }
    }
}
