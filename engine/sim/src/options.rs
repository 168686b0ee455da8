//! What a run is like: drawn from its seed.

use std::time::Duration;

use isotherm::config::{
    IoChoice, MissingTiers, OrganizerChoice, ResolvedConfig, ResolvedDram, ResolvedTier,
    ScrubSettings,
};
use isotherm::io::sim_device::Faults;
use isotherm::{Durability, TierKind};
use serde::Serialize;

use crate::rng::Rng;

const MIB: u64 = 1 << 20;
/// Bytes a second that the scrub reads: a pass takes some hundred milliseconds.
const SCRUB_RATE: u64 = 64 << 20;
/// Of a mixed load, sizes above this are drawn for one value in [`BIG_ONE_IN`].
const BIG: u64 = 40_000;
const BIG_ONE_IN: u64 = 8;
/// No value longer than this rides in the log.
const LOGGED_MAX: u64 = 16 << 10;

/// What devices do while a store is in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub enum Weather {
    /// They work until the power fails.
    Fair,
    /// Reads and writes fail now and then.
    Errors,
    /// Writes meet full file systems now and then.
    NoSpace,
    /// A flush fails some day.
    FlushErrors,
}

/// What is mostly stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub enum Load {
    /// Anything.
    Mixed,
    /// Values that leave little room: segments are emptied all the time.
    Crowded,
    /// Values that ride in the log, and many of them: it goes on in new segments, and lets go of old
    /// ones.
    Logged,
}

/// At which levels blobs are changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub enum Levels {
    /// At any.
    Mixed,
    /// Nearly always at Memory, so that write-behind has much to do.
    Lazy,
    /// Nearly always at Durable, so that batches are durable by themselves.
    Eager,
    /// Nearly always at Written, and flushes are rare: much is lost when the power fails.
    Plain,
}

/// See the module.
#[derive(Clone, Debug, Serialize)]
pub struct Options {
    /// The seed.
    pub seed: u64,
    /// Shards of the first store; a reopened one has any number.
    pub shards: usize,
    /// Device tiers.
    pub tiers: usize,
    /// Bytes of the device tiers. The second has room for copies of checkpoints, or has not.
    pub capacities: [u64; 2],
    /// Bytes of a segment.
    pub segment_size: u64,
    /// Bytes of the DRAM tier.
    pub dram: u64,
    /// Bytes of a buffer.
    pub buffer_size: u32,
    /// Extents of a page.
    pub page_extents: u32,
    /// How often the store flushes by itself.
    pub flush_interval_ms: u64,
    /// Callers beside each other.
    pub callers: usize,
    /// Keys of each.
    pub keys: usize,
    /// What is mostly stored.
    pub load: Load,
    /// Largest value.
    pub value_max: u64,
    /// Part of a tier above which the organizer demotes.
    pub watermark_high: f64,
    /// At which levels blobs are changed.
    pub levels: Levels,
    /// Whether values are mostly changed in part, so that they have many extents.
    pub is_patchy: bool,
    /// Between two passes of the scrub, if there is one.
    pub scrub_interval_ms: Option<u64>,
    /// What the devices do.
    pub weather: Weather,
    /// Changes and reads of all callers, over all lives.
    pub operations: u64,
    /// Times that the store is opened.
    pub lives: u64,
    /// Moments of a life at which the power fails, in copies of the devices.
    pub cuts: u64,
    /// Copies per moment, in which different writes are lost.
    pub copies: u64,
    /// Damaged copies of the devices after the last life.
    pub damages: u64,
}

impl Options {
    /// What this seed draws, for about so many operations.
    pub fn draw(seed: u64, operations: u64) -> Options {
        let mut rng = Rng::new(seed);
        let weather = rng.pick(&[
            Weather::Fair,
            Weather::Fair,
            Weather::Fair,
            Weather::Fair,
            Weather::Fair,
            Weather::Errors,
            Weather::NoSpace,
            Weather::FlushErrors,
        ]);
        let load =
            rng.pick(&[Load::Mixed, Load::Mixed, Load::Crowded, Load::Crowded, Load::Logged]);
        let callers = 1 + rng.below(4) as usize;
        let (keys, value_max, operations) = match load {
            Load::Mixed => {
                let max = rng.pick(&[1000, 20_000, 300_000, 300_000, 1_500_000]);
                (2 + rng.below(10) as usize, max, operations)
            }
            Load::Crowded => {
                let (keys, max) = rng.pick(&[(40, 300_000), (40, 300_000), (160, 64 << 10)]);
                (keys / callers, max, 4 * operations)
            }
            Load::Logged => (3 + rng.below(10) as usize, LOGGED_MAX, 3 * operations),
        };
        let mut options = Options {
            seed,
            shards: 1 + rng.below(3) as usize,
            tiers: 1 + rng.below(2) as usize,
            capacities: [64 * MIB; 2],
            segment_size: 4 * MIB,
            dram: rng.pick(&[MIB, 2 * MIB, 8 * MIB]),
            buffer_size: 64 << 10,
            page_extents: rng.pick(&[2, 4, 128]),
            flush_interval_ms: rng.pick(&[1, 5, 50, 1_000_000]),
            callers,
            keys,
            load,
            value_max,
            watermark_high: rng.pick(&[0.8, 0.8, 0.02]),
            levels: rng.pick(&[Levels::Mixed, Levels::Lazy, Levels::Eager, Levels::Plain]),
            is_patchy: rng.one_in(4),
            scrub_interval_ms: None,
            weather,
            operations,
            lives: 1 + rng.below(if load == Load::Crowded { 2 } else { 4 }),
            cuts: 6,
            copies: 5,
            damages: 20,
        };
        if rng.one_in(2) {
            options.capacities[1] *= 4;
        }
        options.scrub_interval_ms = rng.pick(&[None, None, Some(10), Some(100)]);
        options
    }

    /// The configuration of a store with so many shards.
    pub fn config(&self, shards: usize) -> ResolvedConfig {
        let kinds = [TierKind::Nvme, TierKind::Hdd];
        let tier = |number: usize| ResolvedTier {
            kind: kinds[number],
            file: format!("sim:{number}").into(),
            capacity: self.capacities[number],
            segment_size: self.segment_size,
            watermark_low: self.watermark_high / 2.0,
            watermark_high: self.watermark_high,
        };
        ResolvedConfig {
            dram: Some(ResolvedDram {
                capacity: self.dram,
                watermark_low: 0.875,
                watermark_high: 0.9375,
            }),
            devices: (0..self.tiers).map(tier).collect(),
            shards,
            buffer_size: self.buffer_size,
            durability: Durability::Written,
            flush_interval: Duration::from_millis(self.flush_interval_ms),
            memory_budget: self.dram + (64 << 20),
            io: IoChoice::Auto,
            organizer: OrganizerChoice::Auto,
            checksum_at_entry: false,
            read_only: None,
            missing_tiers: MissingTiers::Fail,
            page_extents: self.page_extents,
            scrub: self.scrub(),
        }
    }

    fn scrub(&self) -> ScrubSettings {
        match self.scrub_interval_ms {
            None => ScrubSettings::OFF,
            Some(interval) => ScrubSettings {
                bytes_per_second: SCRUB_RATE,
                interval: Duration::from_millis(interval),
            },
        }
    }

    /// The length of a value.
    pub fn value_len(&self, rng: &mut Rng) -> u64 {
        match self.load {
            Load::Mixed => {
                let len = rng.log_uniform(self.value_max);
                let is_rare = len > BIG && !rng.one_in(BIG_ONE_IN);
                if is_rare { rng.log_uniform(BIG) } else { len }
            }
            Load::Crowded | Load::Logged if rng.one_in(4) => rng.log_uniform(self.value_max),
            Load::Crowded | Load::Logged => {
                self.value_max / 4 + rng.below(self.value_max - self.value_max / 4)
            }
        }
    }

    /// The faults of its weather.
    pub fn faults(&self) -> Faults {
        let none = Faults::default();
        match self.weather {
            Weather::Fair => none,
            Weather::Errors => Faults { reads_failing: 3000, writes_failing: 500, ..none },
            Weather::NoSpace => Faults { writes_without_space: 2000, ..none },
            Weather::FlushErrors => Faults { flushes_failing: 20_000, ..none },
        }
    }
}
