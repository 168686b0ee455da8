//! How one blob came out of the kill, and how many came out how.

use std::sync::atomic::{AtomicU64, Ordering};

use isotherm::Bucket;
use isotherm::error::ErrorKind;
use isotherm_cli::failure::Failure;
use isotherm_cli::output::printable;
use isotherm_cli::progress::Progress;
use isotherm_cli::transfer::copy_out;
use sha2::{Digest, Sha256};

use crate::data::{self, Hash};

/// How one blob came out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The bytes of the newest acknowledged put.
    Right,
    /// Those of the put after it, whose acknowledgement the kill has forestalled.
    Later,
    /// Others, with what is wrong.
    Wrong(String),
    /// It is not there.
    Missing,
}

impl Verdict {
    fn of_failure(failure: &Failure) -> Verdict {
        match failure {
            Failure::Engine(error) if error.kind() == ErrorKind::NotFound => Verdict::Missing,
            failure => Verdict::Wrong(failure.to_string()),
        }
    }
}

/// Reads a source that was stored once, and compares its hash with the one taken before.
pub fn of_source(
    bucket: &Bucket,
    key: &[u8],
    wanted: Option<Hash>,
    progress: &Progress,
) -> Verdict {
    let mut hasher = Sha256::new();
    let read = copy_out(bucket, key, progress, &mut |piece| {
        hasher.update(piece);
        Ok(())
    });
    match read {
        Ok(()) if Some(hasher.finalize().into()) == wanted => Verdict::Right,
        Ok(()) => Verdict::Wrong("has other bytes".to_string()),
        Err(failure) => Verdict::of_failure(&failure),
    }
}

/// Reads a key that was overwritten until the kill, and compares it with the newest put of it that
/// was acknowledged.
pub fn of_overwritten(
    bucket: &Bucket,
    key: &[u8],
    acknowledged: u64,
    progress: &Progress,
) -> Verdict {
    match (bucket.get(key), data::part_number(key)) {
        (Ok(value), Some(number)) => {
            progress.advance(value.len() as u64);
            judge(&value, number, acknowledged)
        }
        (Ok(_), None) => Verdict::Wrong("is no key of the writer".to_string()),
        (Err(error), _) => Verdict::of_failure(&Failure::from(error)),
    }
}

/// The writer notes each put before it begins the next, so one put can be there without a note.
fn judge(value: &[u8], number: u64, acknowledged: u64) -> Verdict {
    match data::generation_of(value) {
        Some(found) if value != data::overwrite(number, found) => {
            Verdict::Wrong("has the bytes of no put".to_string())
        }
        Some(found) if found == acknowledged => Verdict::Right,
        Some(found) if found == acknowledged + 1 => Verdict::Later,
        Some(found) => {
            let message = format!("has generation {found}, {acknowledged} was acknowledged last");
            Verdict::Wrong(message)
        }
        None => Verdict::Wrong(format!("has {} bytes", value.len())),
    }
}

/// How many came out how.
#[derive(Default)]
pub struct Count {
    right: AtomicU64,
    later: AtomicU64,
    wrong: AtomicU64,
    missing: AtomicU64,
}

/// The numbers of a [`Count`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Totals {
    /// As acknowledged last.
    pub right: u64,
    /// One put later.
    pub later: u64,
    /// With other bytes, or unreadable.
    pub wrong: u64,
    /// Not there.
    pub missing: u64,
}

impl Count {
    /// Counts a blob, and complains of it where there is reason.
    pub fn note(&self, key: &[u8], verdict: &Verdict) {
        let (counter, complaint) = match verdict {
            Verdict::Right => (&self.right, None),
            Verdict::Later => (&self.later, None),
            Verdict::Wrong(complaint) => (&self.wrong, Some(complaint.as_str())),
            Verdict::Missing => (&self.missing, Some("is missing")),
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if let Some(complaint) = complaint {
            eprintln!("'{}' {complaint}", printable(key));
        }
    }

    /// The numbers so far.
    pub fn totals(&self) -> Totals {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Totals {
            right: value(&self.right),
            later: value(&self.later),
            wrong: value(&self.wrong),
            missing: value(&self.missing),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_acknowledged_overwrite_is_wrong_and_an_unacknowledged_one_may_be_there() {
        assert_eq!(judge(&data::overwrite(5, 3), 5, 3), Verdict::Right);
        assert_eq!(judge(&data::overwrite(5, 4), 5, 3), Verdict::Later);
        for lost_or_invented in [2, 5] {
            let verdict = judge(&data::overwrite(5, lost_or_invented), 5, 3);
            assert!(matches!(verdict, Verdict::Wrong(_)), "{verdict:?}");
        }
    }

    #[test]
    fn bytes_of_another_key_or_of_two_puts_are_wrong() {
        let mut torn = data::overwrite(5, 3);
        torn[4096..].copy_from_slice(&data::overwrite(5, 2)[4096..]);
        for value in [data::overwrite(6, 3), torn, Vec::new()] {
            assert!(matches!(judge(&value, 5, 3), Verdict::Wrong(_)));
        }
    }
}
