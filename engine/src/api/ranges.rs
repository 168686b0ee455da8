//! Several ranges of one value in one call: written in one version, read from one version.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::Ordering;

use crate::api::admission::{Reservation, device_bytes, room_for};
use crate::api::bucket::{Bucket, PutOptions};
use crate::api::change::{Claim, Draft, claim, complete, log, not_found, write_pieces};
use crate::api::edit::{Edit, pieces};
use crate::api::held::{self, Held};
use crate::api::paged::pages_of_pieces;
use crate::api::read::{self, Reader};
use crate::core::Change;
use crate::engine::flush_everything;
use crate::error::{Result, fail};
use crate::shard::io::all;
use crate::types::{Durability, Version};

/// Bytes at an offset of the value, by ascending offsets; no two overlap or touch.
type Flat<'a> = Vec<(u64, Cow<'a, [u8]>)>;

/// Writes ranges of a value, the later ones over the earlier. The version made.
pub(super) async fn put(
    bucket: &Bucket,
    key: &[u8],
    ranges: &[(u64, &[u8])],
    options: PutOptions,
    reader: Reader<'_>,
) -> Result<Version> {
    let level = check(bucket, key, ranges, options)?;
    let (core, state) = (bucket.core(), bucket.state());
    let _operation = core.begin_operation()?;
    let _change = state.begin_change().await?;
    let buffer_size = state.buffer_size(core);
    let flat = flatten(ranges);
    let count: usize =
        flat.iter().map(|(offset, bytes)| pieces(*offset, bytes.len(), buffer_size).count()).sum();
    let _room = room_for(core, key, count.saturating_mul(buffer_size as usize), buffer_size)?;
    let data: u64 =
        flat.iter().map(|(offset, bytes)| device_bytes(*offset, bytes.len(), buffer_size)).sum();
    let bytes = data + pages_of_pieces(core, key.len(), count, buffer_size);
    let _reservation = match bytes {
        0 => None,
        bytes => Some(Reservation::take(core, bytes).await?),
    };
    let mut claim = claim(core, state, key, reader).await?;
    options.condition.check(state, key, claim.before.present())?;
    let end = ranges.iter().map(|(offset, bytes)| offset + bytes.len() as u64).max().unwrap_or(0);
    let len = claim.before.len.max(end);
    if flat.is_empty() && claim.before.exists() && claim.before.len == len {
        let version = claim.before.version;
        drop(claim);
        flush_everything(core).await?;
        return Ok(version);
    }
    claim.set_aside_len(Some(len))?;
    let change = write(bucket, &mut claim, &flat, len, buffer_size).await?;
    let version = log(core, claim, change, level).await?;
    let stored = flat.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    core.counters.logged_put_bytes.fetch_add(stored, Ordering::Relaxed);
    Ok(version)
}

/// The level, if the arguments are in bounds and the store takes changes.
fn check(
    bucket: &Bucket,
    key: &[u8],
    ranges: &[(u64, &[u8])],
    options: PutOptions,
) -> Result<Durability> {
    for (offset, bytes) in ranges {
        bucket.check_bounds(key, Edit::PutAt(*offset, bytes))?;
    }
    bucket.check(key)?;
    bucket.core().check_writable()?;
    if !bucket.core().is_persistent() {
        fail!(
            Unsupported,
            "a store with DRAM alone has no puts of ranges; use put_at, or add a tier"
        );
    }
    Ok(bucket.level(options)?.max(Durability::Written))
}

/// Writes the bytes, and says what the blob becomes.
async fn write(
    bucket: &Bucket,
    claim: &mut Claim<'_>,
    flat: &Flat<'_>,
    len: u64,
    buffer_size: u32,
) -> Result<Change> {
    let core = bucket.core();
    let mut draft = Draft::default();
    let mut cuts: Vec<Range<u64>> = Vec::with_capacity(flat.len());
    for (offset, bytes) in flat {
        write_pieces(core, claim, &mut draft, *offset, bytes, buffer_size, true).await?;
        cuts.push(*offset..offset + bytes.len() as u64);
    }
    if cuts.is_empty() {
        // No bytes, only zeros at the end.
        cuts.push(claim.before.len..len);
    }
    complete(core, bucket.state(), claim, draft, &cuts, len, buffer_size).await
}

/// What the ranges come to where later ones win.
fn flatten<'a>(ranges: &[(u64, &'a [u8])]) -> Flat<'a> {
    let mut top: BTreeMap<u64, &'a [u8]> = BTreeMap::new();
    for (offset, bytes) in ranges.iter().filter(|(_, bytes)| !bytes.is_empty()) {
        cover(&mut top, *offset..offset + bytes.len() as u64);
        top.insert(*offset, bytes);
    }
    let mut flat: Flat<'a> = Vec::with_capacity(top.len());
    for (offset, bytes) in top {
        match flat.last_mut() {
            Some((start, before)) if *start + before.len() as u64 == offset => {
                before.to_mut().extend_from_slice(bytes);
            }
            _ => flat.push((offset, Cow::Borrowed(bytes))),
        }
    }
    flat
}

/// Takes out what lies in a range.
fn cover(top: &mut BTreeMap<u64, &[u8]>, range: Range<u64>) {
    let before = top.range(..range.start).next_back().map(|(start, bytes)| (*start, *bytes));
    if let Some((start, bytes)) = before {
        let end = start + bytes.len() as u64;
        if end > range.start {
            top.insert(start, &bytes[..(range.start - start) as usize]);
        }
        if end > range.end {
            top.insert(range.end, &bytes[(range.end - start) as usize..]);
        }
    }
    while let Some((start, bytes)) = top.range(range.clone()).next().map(|(s, b)| (*s, *b)) {
        top.remove(&start);
        if start + bytes.len() as u64 > range.end {
            top.insert(range.end, &bytes[(range.end - start) as usize..]);
        }
    }
}

/// Copies ranges of a value, all of one version. Of each how many bytes there were, and the length of
/// the value.
pub(super) async fn get(
    bucket: &Bucket,
    key: &[u8],
    ranges: &mut [(u64, &mut [u8])],
    reader: Reader<'_>,
) -> Result<(Vec<usize>, u64)> {
    bucket.check(key)?;
    let core = bucket.core();
    let _operation = core.begin_operation()?;
    let end = |(offset, dst): &(u64, &mut [u8])| offset.saturating_add(dst.len() as u64);
    let from = ranges.iter().map(|(offset, _)| *offset).min().unwrap_or(0);
    let to = ranges.iter().map(end).max().unwrap_or(0);
    let Some(held) = held::hold(core, bucket.state(), key, from..to) else {
        return Err(not_found(bucket.state(), key));
    };
    let reads =
        ranges.iter_mut().map(|(offset, dst)| read_one(bucket, &held, *offset, dst, reader));
    let counts: Result<Vec<usize>> = all(reads.collect()).await.into_iter().collect();
    Ok((counts?, held.state.len))
}

async fn read_one(
    bucket: &Bucket,
    held: &Held,
    offset: u64,
    dst: &mut [u8],
    reader: Reader<'_>,
) -> Result<usize> {
    let len = held.state.len;
    let range = offset.min(len)..offset.saturating_add(dst.len() as u64).min(len);
    let count = (range.end - range.start) as usize;
    read::read_held(bucket.core(), bucket.state(), held, range, &mut dst[..count], reader).await?;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_ranges_win_and_those_that_touch_are_one() {
        let flat = |ranges: &[(u64, &'static [u8])]| -> Vec<(u64, Vec<u8>)> {
            flatten(ranges).into_iter().map(|(at, bytes)| (at, bytes.into_owned())).collect()
        };
        assert_eq!(flat(&[]), []);
        assert_eq!(flat(&[(7, b"")]), []);
        assert_eq!(flat(&[(10, b"aaaa"), (12, b"b")]), [(10, b"aaba".to_vec())]);
        assert_eq!(flat(&[(12, b"b"), (10, b"aaaa")]), [(10, b"aaaa".to_vec())]);
        let scattered = flat(&[(20, b"cc"), (0, b"aa"), (1, b"bb"), (21, b"dd")]);
        assert_eq!(scattered, [(0, b"abb".to_vec()), (20, b"cdd".to_vec())]);
        assert_eq!(flat(&[(0, b"a"), (2, b"c"), (1, b"xyz")]), [(0, b"axyz".to_vec())]);
    }
}
