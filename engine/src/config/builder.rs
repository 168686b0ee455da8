//! What the user builds: settings by method, by key and text, or from TOML.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::keys::{self, Target};
use crate::config::values::Size;
use crate::config::{
    Config, IoChoice, MissingTiers, OrganizerChoice, Settings, TierConfig, default_watermarks,
    toml_text, validate,
};
use crate::error::{Error, Result, fail};
use crate::limits::{PAGE_EXTENTS_MAX, PAGE_EXTENTS_MIN};
use crate::types::{Durability, TierKind};

/// A tier as far as it has been described.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct TierDraft {
    pub(super) kind: Option<TierKind>,
    pub(super) path: Option<PathBuf>,
    pub(super) capacity: Option<u64>,
    pub(super) watermark_low: Option<f64>,
    pub(super) watermark_high: Option<f64>,
}

impl TierDraft {
    /// The low and the high one, as configured or by default.
    pub(super) fn watermarks(&self) -> (f64, f64) {
        let (low, high) = default_watermarks(self.kind);
        (self.watermark_low.unwrap_or(low), self.watermark_high.unwrap_or(high))
    }
}

/// A tier for [`ConfigBuilder::tier`].
#[derive(Clone, Debug)]
pub struct Tier {
    draft: TierDraft,
    error: Option<Error>,
}

impl Tier {
    /// Main memory of this many bytes (`"256MiB"` or a number).
    pub fn dram(capacity: impl Into<Size>) -> Tier {
        Tier::of_kind(TierKind::Dram).capacity(capacity)
    }

    /// Flash of this many bytes, in the store's directory unless [`path`](Self::path) is given.
    pub fn nvme(capacity: impl Into<Size>) -> Tier {
        Tier::of_kind(TierKind::Nvme).capacity(capacity)
    }

    /// Disk of this many bytes, in the store's directory unless [`path`](Self::path) is given.
    pub fn hdd(capacity: impl Into<Size>) -> Tier {
        Tier::of_kind(TierKind::Hdd).capacity(capacity)
    }

    /// A tier of this kind, its capacity chosen by the engine.
    pub fn of_kind(kind: TierKind) -> Tier {
        Tier { draft: TierDraft { kind: Some(kind), ..TierDraft::default() }, error: None }
    }

    /// The capacity in bytes.
    pub fn capacity(mut self, capacity: impl Into<Size>) -> Tier {
        match capacity.into().0 {
            Ok(bytes) => self.draft.capacity = Some(bytes),
            Err(error) => self.error = Some(error),
        }
        self
    }

    /// The tier's file, or an existing directory for it.
    pub fn path(mut self, path: impl Into<PathBuf>) -> Tier {
        self.draft.path = Some(path.into());
        self
    }

    /// The shares of what blobs can use at which demotion stops and starts.
    pub fn watermarks(mut self, low: f64, high: f64) -> Tier {
        self.draft.watermark_low = Some(low);
        self.draft.watermark_high = Some(high);
        self
    }
}

/// Collects settings; [`build`](Self::build) validates them. A later setting replaces an earlier.
#[derive(Clone, Debug, Default)]
pub struct ConfigBuilder {
    tiers: BTreeMap<usize, TierDraft>,
    settings: Settings,
    /// The first error of a typed method, kept so that calls chain.
    error: Option<Error>,
}

impl ConfigBuilder {
    /// The settings in a TOML text, not yet validated together.
    /// Errors: `InvalidConfig`, naming the key or the line.
    pub fn from_toml(text: &str) -> Result<ConfigBuilder> {
        let mut builder = ConfigBuilder::default();
        for (key, value) in toml_text::flatten(text)? {
            builder.set(&key, &value)?;
        }
        Ok(builder)
    }

    /// The settings in a TOML file. Errors: `InvalidConfig`, and those of reading the file.
    pub fn from_file(path: impl AsRef<Path>) -> Result<ConfigBuilder> {
        let path = path.as_ref();
        let what = || format!("configuration file {}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| Error::from_io(what(), &error))?;
        ConfigBuilder::from_toml(&text)
            .map_err(|error| Error::new(error.kind(), format!("{}: {}", what(), error.message())))
    }

    pub(super) fn from_config(config: Config) -> ConfigBuilder {
        let drafts = config.tiers.into_iter().map(|tier| TierDraft {
            kind: Some(tier.kind),
            path: tier.path,
            capacity: tier.capacity,
            watermark_low: Some(tier.watermark_low),
            watermark_high: Some(tier.watermark_high),
        });
        let tiers = drafts.enumerate().collect();
        ConfigBuilder { tiers, settings: config.settings, error: None }
    }

    /// Sets one of [`keys`](super::keys) from text. Errors: `InvalidConfig` for an unknown key
    /// (naming the nearest one) and for a value that is none.
    pub fn set(&mut self, key: &str, value: &str) -> Result<&mut ConfigBuilder> {
        let key = key.trim();
        let done = match keys::find(key)? {
            Target::Store(place) => keys::set_store(&mut self.settings, place, value),
            Target::Tier(number, place) => {
                keys::set_tier(self.tiers.entry(number).or_default(), place, value)
            }
        };
        done.map_err(|error| Error::new(error.kind(), format!("{key}: {}", error.message())))?;
        Ok(self)
    }

    /// The value of one of [`keys`](super::keys), as text that [`set`](Self::set) reads back.
    /// Errors: `InvalidConfig` for an unknown key or a tier that is not configured.
    pub fn get(&self, key: &str) -> Result<String> {
        match keys::find(key)? {
            Target::Store(place) => Ok(keys::get_store(&self.settings, place)),
            Target::Tier(number, place) => match self.tiers.get(&number) {
                Some(tier) => Ok(keys::get_tier(tier, place)),
                None => fail!(InvalidConfig, "{key}: no tier {number} is configured"),
            },
        }
    }

    /// Adds a tier after those there are.
    pub fn tier(mut self, tier: Tier) -> ConfigBuilder {
        let number = self.tiers.last_key_value().map_or(0, |(number, _)| number + 1);
        let error = tier.error.map(|error| {
            Error::new(error.kind(), format!("tier.{number}.capacity: {}", error.message()))
        });
        self.tiers.insert(number, tier.draft);
        self.error = self.error.or(error);
        self
    }

    /// The number of shards, 1 to 8.
    pub fn shards(mut self, shards: u16) -> ConfigBuilder {
        self.settings.shards = Some(shards);
        self
    }

    /// Bytes of a segment, a power of two from 4 MiB to 64 MiB.
    pub fn segment_size(self, size: impl Into<Size>) -> ConfigBuilder {
        self.with_size("segment_size", size, |settings, bytes| settings.segment_size = Some(bytes))
    }

    /// Bytes of a buffer, a multiple of 16 KiB from 64 KiB to 1 MiB.
    pub fn buffer_size(self, size: impl Into<Size>) -> ConfigBuilder {
        self.with_size("buffer_size", size, |settings, bytes| settings.buffer_size = bytes)
    }

    /// Bytes of memory for DRAM tier, index, caches and queues together.
    pub fn memory_budget(self, size: impl Into<Size>) -> ConfigBuilder {
        self.with_size("memory_budget", size, |settings, bytes| {
            settings.memory_budget = Some(bytes);
        })
    }

    /// The level of puts that name none.
    pub fn durability(mut self, level: Durability) -> ConfigBuilder {
        self.settings.durability = Some(level);
        self
    }

    /// A Memory put is written behind within this time, 1 ms to one hour.
    pub fn flush_interval(mut self, interval: Duration) -> ConfigBuilder {
        self.settings.flush_interval = interval;
        self
    }

    /// The I/O backend of the shards.
    pub fn io(mut self, choice: IoChoice) -> ConfigBuilder {
        self.settings.io = choice;
        self
    }

    /// What the organizer runs on.
    pub fn organizer(mut self, choice: OrganizerChoice) -> ConfigBuilder {
        self.settings.organizer = choice;
        self
    }

    /// Whether Memory puts are checksummed when they enter.
    pub fn checksum_at_entry(mut self, yes: bool) -> ConfigBuilder {
        self.settings.checksum_at_entry = yes;
        self
    }

    /// Most extents of an extent page: fewer than the default only in tests, so that small values
    /// have pages. A store may be reopened with another number.
    #[doc(hidden)]
    pub fn page_extents(mut self, extents: u32) -> ConfigBuilder {
        self.settings.page_extents = extents.clamp(PAGE_EXTENTS_MIN, PAGE_EXTENTS_MAX);
        self
    }

    /// Whether opening makes a store where there is none.
    pub fn create(mut self, yes: bool) -> ConfigBuilder {
        self.settings.create = yes;
        self
    }

    /// Opens a store for reading only: nothing is written to its devices.
    pub fn read_only(mut self, yes: bool) -> ConfigBuilder {
        self.settings.read_only = yes;
        self
    }

    /// What opening does about a data tier that is missing.
    pub fn missing_tiers(mut self, choice: MissingTiers) -> ConfigBuilder {
        self.settings.missing_tiers = choice;
        self
    }

    /// Whether an open store serves a control socket in its directory, for other processes of its
    /// user to ask about it.
    pub fn control_socket(mut self, yes: bool) -> ConfigBuilder {
        self.settings.control_socket = yes;
        self
    }

    /// Bytes a second that the background scrub reads at most; 0: there is none.
    pub fn scrub_bytes_per_second(self, rate: impl Into<Size>) -> ConfigBuilder {
        self.with_size("scrub_bytes_per_second", rate, |settings, bytes| {
            settings.scrub.bytes_per_second = bytes;
        })
    }

    /// From the end of one pass of the scrub to the begin of the next, 10 ms to 365 days.
    pub fn scrub_interval(mut self, interval: Duration) -> ConfigBuilder {
        self.settings.scrub.interval = interval;
        self
    }

    /// The configuration. Errors: `InvalidConfig` with the first thing that is wrong.
    pub fn build(self) -> Result<Config> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let mut tiers = Vec::with_capacity(self.tiers.len());
        for (expected, (number, draft)) in self.tiers.into_iter().enumerate() {
            if number != expected {
                fail!(InvalidConfig, "tier.{number} is configured and tier.{expected} is not");
            }
            tiers.push(finish_tier(number, draft)?);
        }
        let config = Config { tiers, settings: self.settings };
        validate::validate(&config)?;
        Ok(config)
    }

    fn with_size(
        mut self,
        key: &str,
        size: impl Into<Size>,
        assign: impl FnOnce(&mut Settings, u64),
    ) -> ConfigBuilder {
        match size.into().0 {
            Ok(bytes) => assign(&mut self.settings, bytes),
            Err(error) => {
                let named = Error::new(error.kind(), format!("{key}: {}", error.message()));
                self.error = self.error.or(Some(named));
            }
        }
        self
    }
}

fn finish_tier(number: usize, draft: TierDraft) -> Result<TierConfig> {
    let Some(kind) = draft.kind else {
        fail!(InvalidConfig, "tier.{number}.kind is missing; it is one of dram, nvme, hdd");
    };
    let (watermark_low, watermark_high) = draft.watermarks();
    Ok(TierConfig {
        kind,
        path: draft.path,
        capacity: draft.capacity,
        watermark_low,
        watermark_high,
    })
}
