//! What a damaged [small store](crate::small) shows, held against what it has.

use std::collections::BTreeSet;

use isotherm::ErrorKind;

use crate::small::{Blob, Shown};

/// What came of one damage.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Verdict {
    /// Everything was there.
    Right,
    /// Some blobs answered with an error, the others were right.
    SomeRefused,
    /// The store did not open.
    StoreRefused,
    /// A blob was not there, and nobody said so.
    Missing,
    /// A blob was another.
    Wrong,
    /// The engine panicked.
    Panicked,
}

/// A verdict and its reasons.
#[derive(Debug)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// What is missing or wrong.
    pub told: String,
    /// Blobs that answered with an error.
    pub refused: usize,
}

impl Judgement {
    /// Of what needs no more words.
    pub fn of(verdict: Verdict) -> Judgement {
        Judgement { verdict, told: String::new(), refused: 0 }
    }

    fn told(verdict: Verdict, told: String) -> Judgement {
        Judgement { verdict, told, refused: 0 }
    }
}

/// Holds what is shown against the blobs that the store has.
pub fn judge(blobs: &BTreeSet<Blob>, shown: Shown) -> Judgement {
    let found = match shown {
        Shown::Refused(error) | Shown::Unlisted(error) => {
            assert_ne!(error.kind(), ErrorKind::NotFound);
            return Judgement::of(Verdict::StoreRefused);
        }
        Shown::Blobs(found) => found,
    };
    let mut names: BTreeSet<(String, Vec<u8>)> = BTreeSet::new();
    let mut refused = 0;
    for blob in found {
        match blob {
            Ok(blob) if blobs.contains(&blob) => {
                names.insert((blob.bucket, blob.key));
            }
            Ok(blob) => {
                let name = String::from_utf8_lossy(&blob.key).into_owned();
                let told = format!("{name}: {} {}", blob.value.len(), blob.marks);
                return Judgement::told(Verdict::Wrong, told);
            }
            Err((bucket, key, error)) if error.kind() == ErrorKind::NotFound => {
                return Judgement::told(Verdict::Missing, format!("{bucket} {key:?}: {error}"));
            }
            Err((bucket, key, _)) => {
                refused += 1;
                names.insert((bucket, key));
            }
        }
    }
    let is_listed = |blob: &&Blob| names.contains(&(blob.bucket.clone(), blob.key.clone()));
    if let Some(blob) = blobs.iter().find(|blob| !is_listed(blob)) {
        let name = String::from_utf8_lossy(&blob.key);
        return Judgement::told(Verdict::Missing, format!("{} {name} is not listed", blob.bucket));
    }
    let verdict = if refused == 0 { Verdict::Right } else { Verdict::SomeRefused };
    Judgement { refused, ..Judgement::of(verdict) }
}
