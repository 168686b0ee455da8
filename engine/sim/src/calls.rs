//! The changes of one blob: what each makes of a value, and how the engine is asked for it.

use std::sync::Arc;

use isotherm::api::edit::Edit;
use isotherm::{AttributeChanges, AttributeValue, Batch, Bucket, ErrorKind, PutOptions, Result};

use crate::options::Options;
use crate::oracle::{Blob, Value};
use crate::rng::Rng;

/// Ranges of one put.
const RANGES_MAX: u64 = 4;
/// The attribute that blobs have, or have not.
const RANK: &str = "rank";

/// A change of one blob.
pub enum Call {
    /// This is the value.
    Put(Arc<[u8]>),
    /// These bytes stand there.
    PutAt(u64, Arc<[u8]>),
    /// The same of several ranges, in one version.
    PutRanges(Vec<(u64, Arc<[u8]>)>),
    /// These bytes follow.
    Append(Arc<[u8]>),
    /// The value is so long.
    Truncate(u64),
    /// The blob has this rank.
    Rank(i64),
    /// There is no blob.
    Delete,
}

impl Call {
    /// Draws one for a value of this length.
    pub fn draw(rng: &mut Rng, len: u64, options: &Options) -> Call {
        let near = |rng: &mut Rng| rng.below(len + len / 8 + 2);
        let bytes = |rng: &mut Rng| {
            let len = options.value_len(rng);
            bytes(rng, len)
        };
        // A whole value, or none, leaves nothing of the map that the changes in part have made.
        let pick = if options.is_patchy && len > 0 && !rng.one_in(8) {
            10 + rng.below(7)
        } else {
            rng.below(24)
        };
        match pick {
            10..13 => Call::PutAt(near(rng), bytes(rng)),
            13..15 if len < 2 * options.value_max => Call::Append(bytes(rng)),
            15..17 => Call::Truncate(near(rng)),
            17..19 => Call::Delete,
            19 | 20 => {
                let count = 1 + rng.below(RANGES_MAX);
                let range = |_| (near(rng), bytes(rng));
                Call::PutRanges((0..count).map(range).collect())
            }
            21 | 22 => Call::Rank(rng.next() as i64),
            _ => Call::Put(bytes(rng)),
        }
    }

    /// Whether it is refused where there is no blob.
    pub fn needs_blob(&self) -> bool {
        matches!(self, Call::Truncate(_) | Call::Delete | Call::Rank(_))
    }

    /// What it makes of a value. Attributes stay as long as the blob does.
    pub fn applied(&self, before: &Value) -> Value {
        let (mut bytes, mut rank) = match before {
            Some(blob) => (blob.bytes.to_vec(), blob.rank),
            None => (Vec::new(), None),
        };
        match self {
            Call::Put(new) => return Some(Blob { bytes: new.clone(), rank }),
            Call::Delete => return None,
            Call::PutAt(at, new) => write(&mut bytes, *at, new),
            Call::PutRanges(ranges) => {
                ranges.iter().for_each(|(at, new)| write(&mut bytes, *at, new));
            }
            Call::Append(new) => bytes.extend_from_slice(new),
            Call::Truncate(len) => bytes.resize(*len as usize, 0),
            Call::Rank(new) => rank = Some(*new),
        }
        Some(Blob { bytes: bytes.into(), rank })
    }

    /// Asks for it.
    pub async fn make(&self, bucket: &Bucket, name: &[u8], options: PutOptions) -> Result<()> {
        let edit = match self {
            Call::Put(bytes) => Edit::Replace(bytes),
            Call::PutAt(at, bytes) => Edit::PutAt(*at, bytes),
            Call::Append(bytes) => Edit::Append(bytes),
            Call::Truncate(len) => Edit::Truncate(*len),
            Call::Delete => Edit::Delete,
            Call::Rank(rank) => {
                let changes = AttributeChanges::new().set(RANK, *rank);
                let done = bucket.edit(name, Edit::Attributes(&changes), options).await;
                return done.map(drop);
            }
            Call::PutRanges(ranges) => {
                let ranges: Vec<(u64, &[u8])> =
                    ranges.iter().map(|(at, bytes)| (*at, &bytes[..])).collect();
                return bucket.put_ranges_async(name, &ranges, options).await.map(drop);
            }
        };
        bucket.edit(name, edit, options).await.map(drop)
    }

    /// Adds it to a batch. False if batches have no such step.
    pub fn add_to(&self, batch: &mut Batch, bucket: &Bucket, name: &[u8]) -> bool {
        match self {
            Call::PutRanges(_) => return false,
            Call::Put(bytes) => batch.put(bucket, name, bytes.to_vec()),
            Call::PutAt(at, bytes) => batch.put_at(bucket, name, *at, bytes.to_vec()),
            Call::Append(bytes) => batch.append(bucket, name, bytes.to_vec()),
            Call::Truncate(len) => batch.truncate(bucket, name, *len),
            Call::Delete => batch.delete(bucket, name),
            Call::Rank(rank) => {
                batch.set_attributes(bucket, name, AttributeChanges::new().set(RANK, *rank))
            }
        };
        true
    }
}

fn write(bytes: &mut Vec<u8>, at: u64, new: &[u8]) {
    let at = at as usize;
    bytes.resize(bytes.len().max(at + new.len()), 0);
    bytes[at..at + new.len()].copy_from_slice(new);
}

/// So many bytes that are nowhere else.
pub fn bytes(rng: &mut Rng, len: u64) -> Arc<[u8]> {
    let mut word = rng.next();
    let mut bytes = Vec::with_capacity(len as usize + 8);
    while bytes.len() < len as usize {
        bytes.extend_from_slice(&word.to_le_bytes());
        word = word.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
    }
    bytes.truncate(len as usize);
    bytes.into()
}

/// What a key holds; none where there is no blob.
pub async fn get(bucket: &Bucket, name: &[u8]) -> Result<Value> {
    blob(bucket, name, bucket.get_async(name).await)
}

/// The blob whose value was got.
pub fn blob(bucket: &Bucket, name: &[u8], bytes: Result<Vec<u8>>) -> Result<Value> {
    let bytes = match bytes {
        Ok(bytes) => bytes.into(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let rank = match bucket.attribute(name, RANK)? {
        Some(AttributeValue::Integer(rank)) => Some(rank),
        Some(_) | None => None,
    };
    Ok(Some(Blob { bytes, rank }))
}
