//! One blob: read, and put into the new store.

use std::convert::Infallible;

use isotherm::{
    AttributeChanges, Bucket, Error, ErrorKind, Piece, Salvage, SalvagedBlob, Standing, Store,
};

use crate::failure::{Failure, Outcome};
use crate::salvage::MARK;

/// Values up to this size are put whole; of larger ones so much is put at a time.
const PIECE_MAX: usize = 8 << 20;

/// A part of a value that is lost.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unreadable {
    /// Where it begins in the value.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
    /// Why it cannot be read.
    pub why: String,
}

/// What became of a blob.
pub struct Copied {
    /// Whether it stands in the new store, or would.
    pub is_copied: bool,
    /// Whether nobody wanted it.
    pub is_left_out: bool,
    /// Why it does not stand there although it was wanted and can be read.
    pub refused: Option<String>,
    /// What of it is lost.
    pub unreadable: Vec<Unreadable>,
}

impl Copied {
    /// A blob that was not wanted.
    pub fn left_out() -> Copied {
        Copied { is_copied: false, is_left_out: true, refused: None, unreadable: Vec::new() }
    }
}

/// Reads a blob and keeps nothing.
pub fn read(salvage: &Salvage, blob: &SalvagedBlob<'_>) -> Copied {
    let mut sink = Sink { bucket: None, key: blob.key, at: 0, pending: Vec::new() };
    let mut unreadable = Vec::new();
    let Ok(()) = salvage.read(blob, &mut |piece| -> Result<(), Infallible> {
        sink.skip(&piece, &mut unreadable);
        Ok(())
    });
    let is_copied = unreadable.is_empty();
    Copied { is_copied, is_left_out: false, refused: None, unreadable }
}

/// Copies a blob. One that cannot be read whole is not there afterwards unless `partial`.
pub fn copy(
    store: &Store,
    salvage: &Salvage,
    blob: &SalvagedBlob<'_>,
    partial: bool,
) -> Outcome<Copied> {
    let bucket = store.open_bucket(blob.bucket)?;
    let mut unreadable = Vec::new();
    let mut sink = Sink { bucket: Some(&bucket), key: blob.key, at: 0, pending: Vec::new() };
    salvage.read(blob, &mut |piece| -> Outcome { sink.take(&piece, &mut unreadable) })?;
    let is_whole = unreadable.is_empty();
    if !is_whole && !partial {
        remove(&bucket, blob.key)?;
        return Ok(Copied { is_copied: false, is_left_out: false, refused: None, unreadable });
    }
    sink.finish()?;
    let refused = match bucket.set_attributes(blob.key, &marks(blob, is_whole)) {
        Ok(_) => None,
        // A blob that nothing tells from a current one is worse than none.
        Err(error) if is_too_much(&error) => {
            remove(&bucket, blob.key)?;
            Some(format!("there is no room for its attribute {MARK:?}: {}", error.message()))
        }
        Err(error) => return Err(error.into()),
    };
    Ok(Copied { is_copied: refused.is_none(), is_left_out: false, refused, unreadable })
}

fn is_too_much(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::LimitExceeded | ErrorKind::InvalidArgument)
}

/// Removes what was put of a blob, if anything was.
fn remove(bucket: &Bucket, key: &[u8]) -> Outcome {
    match bucket.delete(key) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Its attributes and its score, and what is to be known of it.
fn marks(blob: &SalvagedBlob<'_>, is_whole: bool) -> AttributeChanges {
    let mut changes = AttributeChanges::new();
    for (name, value) in blob.attributes() {
        changes = changes.set(&name, value);
    }
    if let Some(score) = blob.score() {
        changes = changes.score(score);
    }
    match mark(blob, is_whole) {
        Some(mark) => changes.set(MARK, mark),
        None => changes,
    }
}

/// What is to be known of a blob that is not what it was last, or may not be.
fn mark(blob: &SalvagedBlob<'_>, is_whole: bool) -> Option<&'static str> {
    match (blob.standing, is_whole) {
        (Standing::Current, true) => None,
        (Standing::Current, false) => Some("partial"),
        (Standing::MaybeStale(_), true) => Some("maybe-stale"),
        (Standing::MaybeStale(_), false) => Some("maybe-stale, partial"),
    }
}

/// Puts pieces one behind the other, some at a time. Holes stay holes.
struct Sink<'a> {
    /// None: nothing is put.
    bucket: Option<&'a Bucket>,
    key: &'a [u8],
    /// Where the next piece belongs.
    at: u64,
    /// Bytes that end there and have not been put.
    pending: Vec<u8>,
}

impl Sink<'_> {
    fn take(&mut self, piece: &Piece<'_>, unreadable: &mut Vec<Unreadable>) -> Outcome {
        if let Piece::Bytes(bytes) = piece {
            self.pending.extend_from_slice(bytes);
        }
        self.skip(piece, unreadable);
        let is_gap = !matches!(piece, Piece::Bytes(_));
        if self.pending.len() >= PIECE_MAX || is_gap {
            let end = if is_gap { self.at - gap_len(piece) } else { self.at };
            self.put(end)?;
        }
        Ok(())
    }

    /// Goes behind a piece, and notes it if it is lost.
    fn skip(&mut self, piece: &Piece<'_>, unreadable: &mut Vec<Unreadable>) {
        if let Piece::Unreadable { len, why } = piece {
            unreadable.push(Unreadable { offset: self.at, len: *len, why: (*why).to_owned() });
        }
        self.at += match piece {
            Piece::Bytes(bytes) => bytes.len() as u64,
            Piece::Hole(_) | Piece::Unreadable { .. } => gap_len(piece),
        };
    }

    /// Puts what has gathered and ends at `end`.
    fn put(&mut self, end: u64) -> Outcome {
        let Some(bucket) = self.bucket.filter(|_| !self.pending.is_empty()) else { return Ok(()) };
        let start = end - self.pending.len() as u64;
        bucket.put_at(self.key, start, &self.pending)?;
        self.pending.clear();
        Ok(())
    }

    /// The value ends here.
    fn finish(mut self) -> Outcome {
        self.put(self.at)?;
        let Some(bucket) = self.bucket else { return Ok(()) };
        match bucket.stat(self.key) {
            Ok(stat) if stat.len == self.at => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {
                bucket.put(self.key, b"")?;
            }
            Err(error) => return Err(Failure::from(error)),
        }
        bucket.truncate(self.key, self.at)?;
        Ok(())
    }
}

/// Bytes of a piece that has none.
fn gap_len(piece: &Piece<'_>) -> u64 {
    match piece {
        Piece::Bytes(_) => 0,
        Piece::Hole(len) | Piece::Unreadable { len, .. } => *len,
    }
}
