//! The text forms of settings: sizes, durations, fractions and names, both ways.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::config::{IoChoice, MissingTiers, OrganizerChoice};
use crate::error::{Error, ErrorKind, Result, fail};
use crate::types::{Durability, TierKind};

/// Units of a size, largest first. Decimal ones are accepted and never printed.
const SIZE_UNITS: [(&str, u64); 14] = [
    ("EiB", 1 << 60),
    ("PiB", 1 << 50),
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("T", 1 << 40),
    ("G", 1 << 30),
    ("M", 1 << 20),
    ("K", 1 << 10),
];

/// A size in bytes, given as a number or as text such as `64MiB`.
///
/// A text that is no size is kept as its error until [`build`](crate::config::ConfigBuilder::build)
/// reports it.
#[derive(Clone, Debug)]
pub struct Size(pub(crate) Result<u64>);

impl From<u64> for Size {
    fn from(bytes: u64) -> Size {
        Size(Ok(bytes))
    }
}

impl From<&str> for Size {
    fn from(text: &str) -> Size {
        Size(parse_size(text))
    }
}

impl From<String> for Size {
    fn from(text: String) -> Size {
        Size(parse_size(&text))
    }
}

/// Bytes of a size such as `4096`, `64MiB`, `1.5GiB` or `2GB` (case does not matter).
pub fn parse_size(text: &str) -> Result<u64> {
    let trimmed = text.trim();
    let (number, unit_bytes) = split_unit(trimmed);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let is_decimal = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_decimal(whole) || !is_decimal(fraction) || number.ends_with('.') {
        fail!(
            InvalidConfig,
            "'{text}' is not a size; write bytes or a unit, such as 4096 or 64MiB"
        );
    }
    let too_large =
        || Error::new(ErrorKind::InvalidConfig, format!("'{text}' is larger than 2^64 - 1 bytes"));
    let whole_bytes = whole
        .parse::<u64>()
        .ok()
        .and_then(|count| count.checked_mul(unit_bytes))
        .ok_or_else(too_large)?;
    whole_bytes.checked_add(fraction_of(fraction, unit_bytes)).ok_or_else(too_large)
}

/// The number before the unit, and the unit's bytes.
fn split_unit(text: &str) -> (&str, u64) {
    for (unit, bytes) in SIZE_UNITS.into_iter().chain([("B", 1)]) {
        let Some(at) = text.len().checked_sub(unit.len()) else { continue };
        if let (Some(number), Some(suffix)) = (text.get(..at), text.get(at..))
            && suffix.eq_ignore_ascii_case(unit)
        {
            return (number.trim_end(), bytes);
        }
    }
    (text, 1)
}

/// Bytes of the digits after the point, rounded down; digits beyond the twelfth do not count.
fn fraction_of(digits: &str, unit_bytes: u64) -> u64 {
    let digits = digits.get(..12).unwrap_or(digits);
    let Ok(numerator) = digits.parse::<u128>() else { return 0 };
    let denominator = 10u128.pow(digits.len() as u32);
    (u128::from(unit_bytes) * numerator / denominator) as u64
}

/// A size that [`parse_size`] reads back exactly: `64MiB`, `4095`.
pub fn format_size(bytes: u64) -> String {
    let exact =
        SIZE_UNITS[..6].iter().find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit));
    match exact {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => bytes.to_string(),
    }
}

const NANOS_OF_DAY: u64 = 86_400_000_000_000;

/// A duration such as `200ms`, `1s`, `1.5s` or `2min`.
pub fn parse_duration(text: &str) -> Result<Duration> {
    const UNITS: [(&str, u64); 6] = [
        ("ms", 1_000_000),
        ("us", 1_000),
        ("ns", 1),
        ("min", 60_000_000_000),
        ("s", 1_000_000_000),
        ("d", NANOS_OF_DAY),
    ];
    let trimmed = text.trim();
    for (unit, unit_nanos) in UNITS {
        let Some(number) = trimmed.strip_suffix(unit) else { continue };
        let nanos = number.trim_end().parse::<f64>().ok().filter(|value| *value >= 0.0);
        let nanos = nanos.map(|value| value * unit_nanos as f64);
        return match nanos {
            Some(nanos) if nanos <= u64::MAX as f64 => Ok(Duration::from_nanos(nanos as u64)),
            _ => break,
        };
    }
    fail!(
        InvalidConfig,
        "'{text}' is not a duration; write a number and ms, s, min or d, such as 200ms"
    )
}

/// A duration that [`parse_duration`] reads back exactly.
pub fn format_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    match nanos {
        1.. if nanos.is_multiple_of(NANOS_OF_DAY.into()) => {
            format!("{}d", nanos / u128::from(NANOS_OF_DAY))
        }
        _ if nanos.is_multiple_of(1_000_000_000) => format!("{}s", nanos / 1_000_000_000),
        _ if nanos.is_multiple_of(1_000_000) => format!("{}ms", nanos / 1_000_000),
        _ => format!("{nanos}ns"),
    }
}

/// A share of a whole: `0.9` or `90%`.
pub fn parse_fraction(text: &str) -> Result<f64> {
    let trimmed = text.trim();
    let (number, divisor) = match trimmed.strip_suffix('%') {
        Some(percent) => (percent.trim_end(), 100.0),
        None => (trimmed, 1.0),
    };
    match number.parse::<f64>() {
        Ok(value) if (0.0..=divisor).contains(&value) => Ok(value / divisor),
        _ => fail!(InvalidConfig, "'{text}' is not a share; write 0 to 1, or 0% to 100%"),
    }
}

/// `true` or `false`.
pub fn parse_bool(text: &str) -> Result<bool> {
    match text.trim() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => fail!(InvalidConfig, "'{text}' is neither true nor false"),
    }
}

/// The value whose name is `text`; the error lists the names.
fn by_name<T: Copy>(text: &str, what: &str, values: &[(&str, T)]) -> Result<T> {
    let wanted = text.trim();
    if let Some((_, value)) = values.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)) {
        return Ok(*value);
    }
    let names: Vec<_> = values.iter().map(|(name, _)| *name).collect();
    fail!(InvalidConfig, "'{text}' is not {what}; it is one of {}", names.join(", "))
}

impl FromStr for TierKind {
    type Err = Error;
    fn from_str(text: &str) -> Result<TierKind> {
        let kinds = [TierKind::Dram, TierKind::Nvme, TierKind::Hdd].map(|kind| (kind.name(), kind));
        by_name(text, "a kind of tier", &kinds)
    }
}

impl Durability {
    /// `memory`, `written` or `durable`.
    pub fn name(self) -> &'static str {
        match self {
            Durability::Memory => "memory",
            Durability::Written => "written",
            Durability::Durable => "durable",
        }
    }
}

impl FromStr for Durability {
    type Err = Error;
    fn from_str(text: &str) -> Result<Durability> {
        let levels = [Durability::Memory, Durability::Written, Durability::Durable];
        by_name(text, "a durability level", &levels.map(|level| (level.name(), level)))
    }
}

impl FromStr for IoChoice {
    type Err = Error;
    fn from_str(text: &str) -> Result<IoChoice> {
        let choices = [IoChoice::Auto, IoChoice::Uring, IoChoice::Threads];
        by_name(text, "an I/O backend", &choices.map(|choice| (choice.name(), choice)))
    }
}

impl FromStr for MissingTiers {
    type Err = Error;
    fn from_str(text: &str) -> Result<MissingTiers> {
        let choices = [MissingTiers::Fail, MissingTiers::Degraded];
        by_name(text, "an answer to missing tiers", &choices.map(|choice| (choice.name(), choice)))
    }
}

impl FromStr for OrganizerChoice {
    type Err = Error;
    fn from_str(text: &str) -> Result<OrganizerChoice> {
        let choices = [OrganizerChoice::Auto, OrganizerChoice::Glommio, OrganizerChoice::Threads];
        by_name(text, "an organizer backend", &choices.map(|choice| (choice.name(), choice)))
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for TierKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_binary_and_decimal_units() {
        for (text, bytes) in [
            ("4096", 4096),
            ("0", 0),
            ("64MiB", 64 << 20),
            ("1GiB", 1 << 30),
            ("1.5 gib", 3 << 29),
            ("2KB", 2000),
            ("7k", 7168),
            ("12B", 12),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse_size(text).unwrap(), bytes, "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "",
            "MiB",
            "-1",
            "+1",
            "1e400",
            "1e3",
            "NaN",
            "inf",
            "16EiB",
            "18446744073709551616",
            "1.",
            ".5GiB",
            "1.5.5",
            "64 M i B",
            "64XiB",
            "0x10",
            "é",
            "MéB",
        ] {
            let error = parse_size(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{text}");
            assert!(error.message().contains(text), "{text}: {error}");
        }
    }

    #[test]
    fn a_printed_size_reads_back_exactly() {
        for bytes in [0, 1, 1023, 1024, 1536, 64 << 20, (64 << 20) + 1, 3 << 40, u64::MAX] {
            assert_eq!(parse_size(&format_size(bytes)).unwrap(), bytes);
        }
    }

    #[test]
    fn durations_read_and_print() {
        assert_eq!(parse_duration("200ms").unwrap(), Duration::from_millis(200));
        assert_eq!(parse_duration("1.5s").unwrap(), Duration::from_millis(1500));
        assert_eq!(parse_duration("7d").unwrap(), Duration::from_secs(7 * 86_400));
        assert_eq!(parse_duration("2min").unwrap(), Duration::from_secs(120));
        for text in ["", "200", "-1s", "1e400s", "NaNs", "infs", "ms"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        for nanos in [0, 1, 1_500_000, 200_000_000, 3_000_000_000, 7 * NANOS_OF_DAY] {
            let duration = Duration::from_nanos(nanos);
            assert_eq!(parse_duration(&format_duration(duration)).unwrap(), duration);
        }
    }

    #[test]
    fn shares_are_fractions_or_percents() {
        assert_eq!(parse_fraction("0.9").unwrap(), 0.9);
        assert_eq!(parse_fraction("90%").unwrap(), 0.9);
        for text in ["-0.1", "1.1", "101%", "NaN", "inf", "1e400", ""] {
            assert!(parse_fraction(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_wrong_name_lists_the_right_ones() {
        let error = "nvem".parse::<TierKind>().unwrap_err();
        assert!(error.message().contains("dram, nvme, hdd"), "{error}");
        assert_eq!("Durable".parse::<Durability>().unwrap(), Durability::Durable);
    }
}
