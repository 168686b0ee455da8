//! The table of configuration keys: name, meaning, and how to read and write each.

use crate::config::Settings;
use crate::config::builder::TierDraft;
use crate::config::values::{
    format_duration, format_size, parse_bool, parse_duration, parse_fraction, parse_size,
};
use crate::error::{Error, ErrorKind, Result, fail};
use crate::limits::TIERS_MAX;

/// The text that stands for "let the engine choose".
const AUTO: &str = "auto";

/// One configuration key, for discovery: help texts, completion, other languages.
#[derive(Clone, Copy, Debug)]
pub struct KeyDoc {
    /// The key; `N` in a tier's key stands for its number, counted from 0.
    pub name: &'static str,
    /// The default, as text.
    pub default: &'static str,
    /// What it means and what is allowed.
    pub doc: &'static str,
}

/// A key of the value type `T` (the store's settings, or a tier's draft).
struct Entry<T> {
    doc: KeyDoc,
    get: fn(&T) -> String,
    set: fn(&mut T, &str) -> Result<()>,
}

/// Every configuration key with its default and meaning.
pub fn keys() -> Vec<KeyDoc> {
    let tier_docs = TIER_KEYS.iter().map(|entry| entry.doc);
    tier_docs.chain(STORE_KEYS.iter().map(|entry| entry.doc)).collect()
}

fn assign<T>(place: &mut T, value: Result<T>) -> Result<()> {
    *place = value?;
    Ok(())
}

fn auto_or<T>(text: &str, parse: impl Fn(&str) -> Result<T>) -> Result<Option<T>> {
    if text.trim().eq_ignore_ascii_case(AUTO) { Ok(None) } else { parse(text).map(Some) }
}

fn or_auto<T>(value: Option<T>, format: impl Fn(T) -> String) -> String {
    value.map_or_else(|| AUTO.to_string(), format)
}

fn parse_shards(text: &str) -> Result<u16> {
    match text.trim().parse() {
        Ok(shards) => Ok(shards),
        Err(_) => fail!(InvalidConfig, "'{text}' is not a number of shards; write 1 to 8, or auto"),
    }
}

const STORE_KEYS: &[Entry<Settings>] = &[
    Entry {
        doc: KeyDoc {
            name: "shards",
            default: AUTO,
            doc: "I/O shards, 1 to 8; auto: one per four cores of the process's cpuset",
        },
        get: |settings| or_auto(settings.shards, |shards| shards.to_string()),
        set: |settings, text| assign(&mut settings.shards, auto_or(text, parse_shards)),
    },
    Entry {
        doc: KeyDoc {
            name: "segment_size",
            default: AUTO,
            doc: "bytes of a segment, a power of two from 4MiB to 64MiB, fixed at creation; \
                  auto: 1/64 of the smallest device tier",
        },
        get: |settings| or_auto(settings.segment_size, format_size),
        set: |settings, text| assign(&mut settings.segment_size, auto_or(text, parse_size)),
    },
    Entry {
        doc: KeyDoc {
            name: "buffer_size",
            default: "1MiB",
            doc: "bytes of a buffer, the unit that is placed and moved; \
                  a multiple of 16KiB from 64KiB to 1MiB",
        },
        get: |settings| format_size(settings.buffer_size),
        set: |settings, text| assign(&mut settings.buffer_size, parse_size(text)),
    },
    Entry {
        doc: KeyDoc {
            name: "durability",
            default: AUTO,
            doc: "level of puts that name none: memory, written or durable; \
                  auto: written, or memory where DRAM is the only tier",
        },
        get: |settings| or_auto(settings.durability, |level| level.name().to_string()),
        set: |settings, text| assign(&mut settings.durability, auto_or(text, str::parse)),
    },
    Entry {
        doc: KeyDoc {
            name: "flush_interval",
            default: "200ms",
            doc: "a Memory put is written behind within this time; 1ms to 60min",
        },
        get: |settings| format_duration(settings.flush_interval),
        set: |settings, text| assign(&mut settings.flush_interval, parse_duration(text)),
    },
    Entry {
        doc: KeyDoc {
            name: "memory_budget",
            default: AUTO,
            doc: "bytes for DRAM tier, index, caches and queues together, at least the DRAM tier \
                  and 32MiB; auto: the DRAM tier and 512MiB, within 3/4 of the memory limit",
        },
        get: |settings| or_auto(settings.memory_budget, format_size),
        set: |settings, text| assign(&mut settings.memory_budget, auto_or(text, parse_size)),
    },
    Entry {
        doc: KeyDoc {
            name: "io",
            default: AUTO,
            doc: "I/O backend of the shards: auto, uring or threads; \
                  auto: uring where the kernel allows it",
        },
        get: |settings| settings.io.name().to_string(),
        set: |settings, text| assign(&mut settings.io, text.parse()),
    },
    Entry {
        doc: KeyDoc {
            name: "organizer",
            default: AUTO,
            doc: "what the organizer runs on: auto, glommio or threads; \
                  auto: glommio where io_uring works",
        },
        get: |settings| settings.organizer.name().to_string(),
        set: |settings, text| assign(&mut settings.organizer, text.parse()),
    },
    Entry {
        doc: KeyDoc {
            name: "checksum_at_entry",
            default: "false",
            doc: "checksum Memory puts when they enter, not at write-behind",
        },
        get: |settings| settings.checksum_at_entry.to_string(),
        set: |settings, text| assign(&mut settings.checksum_at_entry, parse_bool(text)),
    },
    Entry {
        doc: KeyDoc { name: "create", default: "true", doc: "make a store where there is none" },
        get: |settings| settings.create.to_string(),
        set: |settings, text| assign(&mut settings.create, parse_bool(text)),
    },
    Entry {
        doc: KeyDoc {
            name: "read_only",
            default: "false",
            doc: "open for reading only: nothing is written to tiers or directory (but the \
                  control socket), changes are refused",
        },
        get: |settings| settings.read_only.to_string(),
        set: |settings, text| assign(&mut settings.read_only, parse_bool(text)),
    },
    Entry {
        doc: KeyDoc {
            name: "missing_tiers",
            default: "fail",
            doc: "a tier other than the fastest is missing, foreign or unreadable: fail refuses \
                  to open; degraded opens without it, its blobs can be listed and deleted",
        },
        get: |settings| settings.missing_tiers.name().to_string(),
        set: |settings, text| assign(&mut settings.missing_tiers, text.parse()),
    },
    Entry {
        doc: KeyDoc {
            name: "control_socket",
            default: "true",
            doc: "serve the socket CONTROL in the store's directory, where other processes of the \
                  same user may ask about the open store",
        },
        get: |settings| settings.control_socket.to_string(),
        set: |settings, text| assign(&mut settings.control_socket, parse_bool(text)),
    },
    Entry {
        doc: KeyDoc {
            name: "scrub_bytes_per_second",
            default: "16MiB",
            doc: "what the background scrub reads of the device tiers at most, to find rot before \
                  anybody reads it; 0: no scrub",
        },
        get: |settings| format_size(settings.scrub.bytes_per_second),
        set: |settings, text| assign(&mut settings.scrub.bytes_per_second, parse_size(text)),
    },
    Entry {
        doc: KeyDoc {
            name: "scrub_interval",
            default: "7d",
            doc: "from the end of one pass of the scrub to the begin of the next, 10ms to 365d; the \
                  first one begins ten minutes after the opening, or sooner if this is shorter",
        },
        get: |settings| format_duration(settings.scrub.interval),
        set: |settings, text| assign(&mut settings.scrub.interval, parse_duration(text)),
    },
];

const TIER_KEYS: &[Entry<TierDraft>] = &[
    Entry {
        doc: KeyDoc {
            name: "tier.N.kind",
            default: "required",
            doc: "dram, nvme or hdd; tiers stand from fast to slow, DRAM first and at most once",
        },
        get: |tier| or_auto(tier.kind, |kind| kind.name().to_string()),
        set: |tier, text| assign(&mut tier.kind, text.parse().map(Some)),
    },
    Entry {
        doc: KeyDoc {
            name: "tier.N.path",
            default: AUTO,
            doc: "the tier's file, or an existing directory for it; auto: in the store's directory",
        },
        get: |tier| or_auto(tier.path.as_ref(), |path| path.to_string_lossy().into_owned()),
        set: |tier, text| assign(&mut tier.path, auto_or(text, |path| Ok(path.into()))),
    },
    Entry {
        doc: KeyDoc {
            name: "tier.N.capacity",
            default: AUTO,
            doc: "bytes; auto: 256MiB of DRAM, at most 1/4 of the memory limit; on a device \
                  3/4 of the free space, at most 1TiB",
        },
        get: |tier| or_auto(tier.capacity, format_size),
        set: |tier, text| assign(&mut tier.capacity, auto_or(text, parse_size)),
    },
    Entry {
        doc: KeyDoc {
            name: "tier.N.watermark_low",
            default: "0.8",
            doc: "demotion stops at this share of what blobs can use: the capacity without the \
                  room for log, checkpoints and cleaning; of DRAM all of it, and 0.875",
        },
        get: |tier| tier.watermarks().0.to_string(),
        set: |tier, text| assign(&mut tier.watermark_low, parse_fraction(text).map(Some)),
    },
    Entry {
        doc: KeyDoc {
            name: "tier.N.watermark_high",
            default: "0.9",
            doc: "demotion starts at this share of what blobs can use; of DRAM 0.9375",
        },
        get: |tier| tier.watermarks().1.to_string(),
        set: |tier, text| assign(&mut tier.watermark_high, parse_fraction(text).map(Some)),
    },
];

/// What a key names.
pub(super) enum Target {
    /// A setting of the store, by its place in the table.
    Store(usize),
    /// A setting of a tier: the tier's number, and the key's place in the table.
    Tier(usize, usize),
}

/// Finds a key. Errors: `InvalidConfig`, naming the nearest key there is.
pub(super) fn find(key: &str) -> Result<Target> {
    if let Some(place) = STORE_KEYS.iter().position(|entry| entry.doc.name == key) {
        return Ok(Target::Store(place));
    }
    let Some((number, generic)) = tier_number(key) else { return Err(unknown(key, key, None)) };
    let Some(place) = TIER_KEYS.iter().position(|entry| entry.doc.name == generic) else {
        return Err(unknown(key, &generic, Some(number)));
    };
    if number >= TIERS_MAX {
        fail!(InvalidConfig, "{key}: a store has at most {TIERS_MAX} tiers, numbered from 0");
    }
    Ok(Target::Tier(number, place))
}

/// Splits `tier.3.kind` into 3 and `tier.N.kind`.
fn tier_number(key: &str) -> Option<(usize, String)> {
    let (number, name) = key.strip_prefix("tier.")?.split_once('.')?;
    Some((number.parse().ok()?, format!("tier.N.{name}")))
}

fn unknown(key: &str, generic: &str, number: Option<usize>) -> Error {
    let nearest = keys().into_iter().min_by_key(|doc| edit_distance(doc.name, generic));
    let nearest = nearest.map_or(String::new(), |doc| doc.name.to_string());
    let nearest =
        number.map_or(nearest.clone(), |number| nearest.replacen(".N.", &format!(".{number}."), 1));
    let message = format!("unknown configuration key '{key}'; the nearest one is '{nearest}'");
    Error::new(ErrorKind::InvalidConfig, message)
}

/// How many characters to insert, delete or change to make one word of the other.
fn edit_distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.chars().count()).collect();
    for (i, left_char) in left.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, right_char) in right.chars().enumerate() {
            let changed = diagonal + usize::from(left_char != right_char);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}

pub(super) fn get_store(settings: &Settings, place: usize) -> String {
    (STORE_KEYS[place].get)(settings)
}

pub(super) fn set_store(settings: &mut Settings, place: usize, text: &str) -> Result<()> {
    (STORE_KEYS[place].set)(settings, text)
}

pub(super) fn get_tier(tier: &TierDraft, place: usize) -> String {
    (TIER_KEYS[place].get)(tier)
}

pub(super) fn set_tier(tier: &mut TierDraft, place: usize, text: &str) -> Result<()> {
    (TIER_KEYS[place].set)(tier, text)
}
