//! How a store is configured: what the user builds, and what the engine gets.
//!
//! ```
//! use isotherm::config::{Config, Tier};
//!
//! let config = Config::builder()
//!     .tier(Tier::dram("256MiB"))
//!     .tier(Tier::nvme("1GiB"))
//!     .flush_interval(std::time::Duration::from_millis(100))
//!     .build()?;
//! assert_eq!(config.get("tier.1.capacity")?, "1GiB");
//! # Ok::<(), isotherm::error::Error>(())
//! ```
//!
//! The builder, a TOML file and key/value strings all go through one table of keys ([`keys`]) and
//! one validation. A [`Config`] may leave things open ("auto"); [`Config::resolve`] fills them in
//! from the host when a store is created, and [`reconcile`](crate::manifest::reconcile) from the
//! store itself when it is reopened.

mod builder;
pub mod host;
mod keys;
pub mod resolve;
mod toml_text;
pub(crate) mod validate;
pub mod values;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::Result;
use crate::limits::{BUFFER_SIZE_DEFAULT, PAGE_EXTENTS_DEFAULT, SCRUB_INTERVAL_MAX};
use crate::types::{Durability, TierKind};

pub use builder::{ConfigBuilder, Tier};
pub use keys::{KeyDoc, keys};
pub use resolve::{ResolvedConfig, ResolvedDram, ResolvedTier};
pub use values::Size;

/// Flush interval where none is configured.
pub const FLUSH_INTERVAL_DEFAULT: Duration = Duration::from_millis(200);

/// How the background scrub goes about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScrubSettings {
    /// Bytes a second that it reads from devices at most; 0: there is no scrub.
    pub bytes_per_second: u64,
    /// From the end of one pass to the begin of the next.
    pub interval: Duration,
}

impl ScrubSettings {
    /// No scrub.
    pub const OFF: ScrubSettings =
        ScrubSettings { bytes_per_second: 0, interval: SCRUB_INTERVAL_MAX };
}

impl Default for ScrubSettings {
    fn default() -> ScrubSettings {
        ScrubSettings { bytes_per_second: 16 << 20, interval: Duration::from_secs(7 * 86_400) }
    }
}

/// The low and the high watermark of a tier where none is configured. DRAM is emptied in
/// microseconds, so little of it need be free.
pub fn default_watermarks(kind: Option<TierKind>) -> (f64, f64) {
    match kind {
        Some(TierKind::Dram) => (0.875, 0.9375),
        _ => (0.8, 0.9),
    }
}

/// Which I/O backend the shards use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum IoChoice {
    /// io_uring where the kernel allows it, else threads; the store's info says which and why.
    #[default]
    Auto,
    /// io_uring, or an error.
    Uring,
    /// pread and pwrite on worker threads.
    Threads,
}

impl IoChoice {
    /// `auto`, `uring` or `threads`.
    pub fn name(self) -> &'static str {
        match self {
            IoChoice::Auto => "auto",
            IoChoice::Uring => "uring",
            IoChoice::Threads => "threads",
        }
    }
}

/// What the organizer runs on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OrganizerChoice {
    /// glommio where it runs, a plain thread elsewhere.
    #[default]
    Auto,
    /// glommio, or an error.
    Glommio,
    /// A plain thread.
    Threads,
}

impl OrganizerChoice {
    /// `auto`, `glommio` or `threads`.
    pub fn name(self) -> &'static str {
        match self {
            OrganizerChoice::Auto => "auto",
            OrganizerChoice::Glommio => "glommio",
            OrganizerChoice::Threads => "threads",
        }
    }
}

/// What opening does about a data tier that is missing, foreign or unreadable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum MissingTiers {
    /// Refuses, and says which tier is wrong and how.
    #[default]
    Fail,
    /// Opens without it. Blobs with bytes there are listed and can be deleted or replaced; reading
    /// them answers `TierMissing`. When the tier is back, the next open finds it as it was.
    Degraded,
}

impl MissingTiers {
    /// `fail` or `degraded`.
    pub fn name(self) -> &'static str {
        match self {
            MissingTiers::Fail => "fail",
            MissingTiers::Degraded => "degraded",
        }
    }
}

/// A validated configuration. Tiers stand from fast to slow; no tiers means the embedded default:
/// a DRAM tier and one file under the store's directory, or the tiers of the store that exists.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Config {
    pub(crate) tiers: Vec<TierConfig>,
    pub(crate) settings: Settings,
}

/// One tier of a [`Config`].
#[derive(Clone, PartialEq, Debug)]
pub struct TierConfig {
    pub(crate) kind: TierKind,
    pub(crate) path: Option<PathBuf>,
    pub(crate) capacity: Option<u64>,
    pub(crate) watermark_low: f64,
    pub(crate) watermark_high: f64,
}

/// Everything that is not about one tier. `None` is "auto".
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Settings {
    pub(crate) shards: Option<u16>,
    pub(crate) segment_size: Option<u64>,
    pub(crate) buffer_size: u64,
    pub(crate) durability: Option<Durability>,
    pub(crate) flush_interval: Duration,
    pub(crate) memory_budget: Option<u64>,
    pub(crate) io: IoChoice,
    pub(crate) organizer: OrganizerChoice,
    pub(crate) checksum_at_entry: bool,
    pub(crate) page_extents: u32,
    pub(crate) create: bool,
    pub(crate) read_only: bool,
    pub(crate) missing_tiers: MissingTiers,
    pub(crate) control_socket: bool,
    pub(crate) scrub: ScrubSettings,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            shards: None,
            segment_size: None,
            buffer_size: BUFFER_SIZE_DEFAULT as u64,
            durability: None,
            flush_interval: FLUSH_INTERVAL_DEFAULT,
            memory_budget: None,
            io: IoChoice::Auto,
            organizer: OrganizerChoice::Auto,
            checksum_at_entry: false,
            page_extents: PAGE_EXTENTS_DEFAULT,
            create: true,
            read_only: false,
            missing_tiers: MissingTiers::Fail,
            control_socket: true,
            scrub: ScrubSettings::default(),
        }
    }
}

impl Config {
    /// An empty builder: everything at its default.
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder::default()
    }

    /// The configuration in a TOML text. Errors: `InvalidConfig`, naming the key or the line.
    pub fn from_toml(text: &str) -> Result<Config> {
        ConfigBuilder::from_toml(text)?.build()
    }

    /// The configuration in a TOML file. Errors: `InvalidConfig`, and those of reading the file.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Config> {
        ConfigBuilder::from_file(path)?.build()
    }

    /// The value of one of [`keys`], as text that [`ConfigBuilder::set`] reads back.
    /// Errors: `InvalidConfig` for an unknown key or a tier that is not configured.
    pub fn get(&self, key: &str) -> Result<String> {
        self.clone().into_builder().get(key)
    }

    /// A builder that starts from this configuration.
    pub fn into_builder(self) -> ConfigBuilder {
        ConfigBuilder::from_config(self)
    }

    /// The tiers, fast to slow; empty for the default.
    pub fn tiers(&self) -> &[TierConfig] {
        &self.tiers
    }

    /// The number of shards; `None`: one per four cores of the process's cpuset.
    pub fn shards(&self) -> Option<u16> {
        self.settings.shards
    }

    /// Bytes of a segment; `None`: from the capacity of the smallest device tier.
    pub fn segment_size(&self) -> Option<u64> {
        self.settings.segment_size
    }

    /// Bytes of a buffer, the unit that is placed and moved.
    pub fn buffer_size(&self) -> u32 {
        // Validation bounds it by BUFFER_SIZE_MAX.
        u32::try_from(self.settings.buffer_size).unwrap_or(BUFFER_SIZE_DEFAULT as u32)
    }

    /// The level of puts that name none; `None`: Written, or Memory where DRAM is the only tier.
    pub fn durability(&self) -> Option<Durability> {
        self.settings.durability
    }

    /// A Memory put is written behind within this time.
    pub fn flush_interval(&self) -> Duration {
        self.settings.flush_interval
    }

    /// Bytes of memory for DRAM tier, index, caches and queues together.
    pub fn memory_budget(&self) -> Option<u64> {
        self.settings.memory_budget
    }

    /// The I/O backend of the shards.
    pub fn io(&self) -> IoChoice {
        self.settings.io
    }

    /// What the organizer runs on.
    pub fn organizer(&self) -> OrganizerChoice {
        self.settings.organizer
    }

    /// Whether a Memory put is checksummed when it enters, not at write-behind.
    pub fn checksum_at_entry(&self) -> bool {
        self.settings.checksum_at_entry
    }

    /// Whether opening makes a store where there is none.
    pub fn create(&self) -> bool {
        self.settings.create
    }

    /// Whether the store is opened for reading only: nothing is written to its devices.
    pub fn read_only(&self) -> bool {
        self.settings.read_only
    }

    /// What opening does about a data tier that is missing.
    pub fn missing_tiers(&self) -> MissingTiers {
        self.settings.missing_tiers
    }

    /// Whether an open store serves a control socket in its directory.
    pub fn control_socket(&self) -> bool {
        self.settings.control_socket
    }

    /// How the background scrub goes about it.
    pub fn scrub(&self) -> ScrubSettings {
        self.settings.scrub
    }
}

impl TierConfig {
    /// What the tier is made of.
    pub fn kind(&self) -> TierKind {
        self.kind
    }

    /// The tier's file, or an existing directory for it; `None`: in the store's directory.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Bytes; `None`: from the host's memory or the free space of the file system.
    pub fn capacity(&self) -> Option<u64> {
        self.capacity
    }

    /// Demotion stops when the tier is no fuller than this share of what blobs can use of it.
    pub fn watermark_low(&self) -> f64 {
        self.watermark_low
    }

    /// Demotion starts when the tier is fuller than this share of what blobs can use of it.
    pub fn watermark_high(&self) -> f64 {
        self.watermark_high
    }
}
