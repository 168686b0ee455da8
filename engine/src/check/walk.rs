//! The walk of a check: bucket by bucket, blob by blob in the order of keys, buffer by buffer.
//!
//! A blob is held as a get holds it: its buffers stay what and where they are until it is done. Of a
//! paged map one page at a time is in memory.

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::api::held::{Held, hold_state};
use crate::api::read::{Reader, read_blocks};
use crate::buckets::BucketState;
use crate::check::{CheckProgress, CheckReport, Fault, FaultyPart, Recount};
use crate::core::{BufferName, Core};
use crate::error::{Error, ErrorKind, Result};
use crate::index::extents::clip;
use crate::index::pages::part;
use crate::index::state::{Buffer, Checks, Value, whole};
use crate::io::buffer::AlignedBuf;
use crate::io::exec::LocalFuture;
use crate::limits::CHECK_BLOCK;
use crate::log::page::PageImage;
use crate::paging::cache::Page;
use crate::paging::load::blocks_of;
use crate::survey::{self, Survey};
use crate::types::{BufferId, Place, TierId};

/// Keys fetched at a time.
const KEYS: usize = 256;
/// A step ends after so many bytes, or so many things done.
const STEP_BYTES: u64 = 1 << 20;
const STEP_THINGS: usize = 256;
/// How often bytes are read again before they are called corrupt.
const READ_RETRIES: usize = 2;

/// A check under way.
pub struct Walk {
    core: Arc<Core>,
    /// Those still to come.
    buckets: VecDeque<Arc<BucketState>>,
    /// The bucket being walked, the last key fetched of it, and those to come.
    bucket: Option<Arc<BucketState>>,
    after: Option<Arc<[u8]>>,
    keys: VecDeque<Arc<[u8]>>,
    blob: Option<Blob>,
    /// What the engine keeps for itself; `None` once it has been looked at.
    survey: Option<Survey>,
    report: CheckReport,
}

/// The callers' thread as a reader of structures.
struct Reads(Arc<Core>);

impl survey::Reads for Reads {
    fn read(&self, tier: TierId, offset: u64, len: usize) -> LocalFuture<'_, Result<AlignedBuf>> {
        Box::pin(read_blocks(&self.0, tier, offset, len, Reader::Caller))
    }
}

/// The blob being checked.
struct Blob {
    held: Held,
    /// The next page of its map, if that is paged.
    next_page: usize,
    /// Buffers to be read.
    targets: VecDeque<Target>,
    /// Those named last, ascending: neighbouring extents often share one.
    named: Vec<BufferId>,
}

/// A buffer to be read.
struct Target {
    value_offset: u64,
    buffer: BufferId,
    /// Its checksums, where a page has them.
    checks: Option<Checks>,
}

/// What was wrong: why, and where on the device.
type Wrong = (Error, Option<Buffer>, u64);

impl Walk {
    /// A check that has seen nothing yet.
    pub fn new(core: Arc<Core>) -> Walk {
        let buckets = core.buckets.list().into();
        let survey = Some(Survey::new(core.clone()));
        Walk {
            core,
            survey,
            buckets,
            bucket: None,
            after: None,
            keys: VecDeque::new(),
            blob: None,
            report: CheckReport::default(),
        }
    }

    /// How far it has come.
    pub fn progress(&self) -> CheckProgress {
        CheckProgress {
            blobs: self.report.blobs,
            blobs_total: self.core.buckets.blob_count(),
            bytes: self.report.bytes + self.report.structures.bytes,
            bytes_total: self.core.space.tiers().iter().map(|tier| tier.live_bytes()).sum(),
            faults: self.report.fault_count + self.report.structures.fault_count,
        }
    }

    /// What has been found, though not everything has been seen.
    pub fn cancelled(self) -> CheckReport {
        CheckReport { cancelled: true, ..self.report }
    }

    /// What has been found. Without a recount, it was told to stop.
    pub fn finished(self, recount: Option<Recount>) -> CheckReport {
        match recount {
            Some(recount) => CheckReport { recount, ..self.report },
            None => self.cancelled(),
        }
    }

    /// Does a piece of the work. False when there is nothing left to do.
    pub async fn step(&mut self) -> Result<bool> {
        let core = self.core.clone();
        // A step at a time, so that closing does not wait for the whole of it.
        let _operation = core.begin_operation()?;
        if let Some(survey) = &mut self.survey {
            if !survey.step(&Reads(core.clone())).await {
                self.survey = None;
            } else {
                self.report.structures = survey.report().clone();
            }
            return Ok(true);
        }
        let goal = self.report.bytes + STEP_BYTES;
        for _ in 0..STEP_THINGS {
            if self.report.bytes >= goal {
                break;
            }
            if !self.advance().await {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// One buffer, one page, or on to the next blob.
    async fn advance(&mut self) -> bool {
        let Some(blob) = &mut self.blob else { return self.begin_blob() };
        if let Some(target) = blob.targets.pop_front() {
            self.check_buffer(target).await;
            return true;
        }
        let pages = blob.held.state.paged().map_or(0, |map| map.pages().len());
        if blob.next_page < pages {
            blob.next_page += 1;
            self.check_page(blob_page(self.blob.as_ref())).await;
            return true;
        }
        self.blob = None;
        self.report.blobs += 1;
        true
    }

    /// Takes the next blob up. False if there is none.
    fn begin_blob(&mut self) -> bool {
        let Some(bucket) = self.bucket.clone() else {
            self.bucket = self.buckets.pop_front();
            self.after = None;
            self.report.buckets += u64::from(self.bucket.is_some());
            return self.bucket.is_some();
        };
        let Some(key) = self.keys.pop_front() else {
            let from = self.after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            self.keys = bucket.keys.page(from, Bound::Unbounded, KEYS).into();
            self.after = self.keys.back().cloned();
            if self.keys.is_empty() {
                self.bucket = None;
            }
            return true;
        };
        self.blob = hold_cold(&self.core, &bucket, &key).map(Blob::new);
        true
    }

    async fn check_buffer(&mut self, target: Target) {
        let Some(blob) = &self.blob else { return };
        match verify(&self.core, &blob.held, &target).await {
            Ok(Some(buffer)) => {
                self.report.buffers += 1;
                self.report.bytes += u64::from(buffer.stored_len);
            }
            Ok(None) => self.report.in_memory += 1,
            Err(wrong) => {
                self.note(FaultyPart::Buffer, target.buffer, target.value_offset, wrong);
            }
        }
    }

    async fn check_page(&mut self, page: Option<(BufferId, std::ops::Range<u64>)>) {
        let Some((id, own)) = page else { return };
        match read_page(&self.core, id).await {
            Ok((buffer, page)) => {
                self.report.pages += 1;
                self.report.bytes += u64::from(buffer.stored_len);
                if let Some(blob) = &mut self.blob {
                    blob.take_page(&page, own);
                }
            }
            Err(wrong) => self.note(FaultyPart::ExtentPage, id, own.start, wrong),
        }
    }

    fn note(&mut self, part: FaultyPart, id: BufferId, value_offset: u64, wrong: Wrong) {
        let (error, buffer, into) = wrong;
        let (Some(bucket), Some(blob)) = (&self.bucket, &self.blob) else { return };
        let (tier, device_offset) = match buffer.as_ref().map(|buffer| buffer.location.place()) {
            Some(Place::Device { tier, offset }) => (Some(tier), Some(offset + into)),
            Some(Place::Dram(_)) | None => (None, None),
        };
        if let Some(buffer) = &buffer
            && error.kind() == ErrorKind::Corrupt
        {
            let name = BufferName {
                bucket: bucket.id,
                key: blob.held.key().clone(),
                version: blob.held.state.version,
                value_offset,
                table: blob.held.state.lone().is_none(),
            };
            self.core.organizer.note_damage(&self.core, &name, buffer, &error);
        }
        // It was tried, and counts for the rate.
        self.report.bytes += buffer.map_or(0, |buffer| u64::from(buffer.stored_len));
        self.report.note(Fault {
            bucket: String::from_utf8_lossy(&bucket.name()).into_owned(),
            key: blob.held.key().clone(),
            part,
            kind: error.kind(),
            buffer: id,
            value_offset,
            tier,
            device_offset,
            message: error.message().to_owned(),
        });
    }
}

impl Blob {
    fn new(held: Held) -> Blob {
        let extents = match &held.state.value {
            Value::Lone(lone) => vec![whole(lone)],
            Value::Mapped(map) => map.extents().to_vec(),
            Value::Absent | Value::Zeros | Value::Paged(_) => Vec::new(),
        };
        let mut blob = Blob { held, next_page: 0, targets: VecDeque::new(), named: Vec::new() };
        blob.take(extents.iter().map(|extent| (extent.value_offset, extent.buffer, None)));
        blob
    }

    /// The buffers that a page names, of the part of the value that is its own.
    fn take_page(&mut self, page: &Page, own: std::ops::Range<u64>) {
        self.take(clip(&page.extents, own).map(|extent| {
            (extent.value_offset, extent.buffer, page.checks_of(extent.buffer).cloned())
        }));
    }

    fn take(&mut self, named: impl Iterator<Item = (u64, BufferId, Option<Checks>)>) {
        let before = std::mem::take(&mut self.named);
        for (value_offset, buffer, checks) in named {
            let Err(at) = self.named.binary_search(&buffer) else { continue };
            self.named.insert(at, buffer);
            if before.binary_search(&buffer).is_err() {
                self.targets.push_back(Target { value_offset, buffer, checks });
            }
        }
    }
}

/// The page before the next one, and the part of the value that it is about. `None` for a hole.
fn blob_page(blob: Option<&Blob>) -> Option<(BufferId, std::ops::Range<u64>)> {
    let blob = blob?;
    let pages = blob.held.state.paged()?.pages();
    let at = blob.next_page.checked_sub(1)?;
    Some((pages[at].page?, part(pages, at)))
}

/// Holds the visible version of a blob, as a get does, but does not make the blob warmer.
fn hold_cold(core: &Core, bucket: &BucketState, key: &Arc<[u8]>) -> Option<Held> {
    let hash = core.index.hash(bucket.id, key);
    let mut stripe = core.index.lock(hash);
    let entry = stripe.get(hash, bucket.id, key).filter(|entry| entry.visible.exists())?;
    let state = entry.visible.clone();
    Some(hold_state(core, &stripe.dir, bucket, hash, key.clone(), state, 0..0))
}

/// Reads a buffer and compares it. `None` if no device has it yet.
async fn verify(
    core: &Core,
    held: &Held,
    target: &Target,
) -> std::result::Result<Option<Buffer>, Wrong> {
    let (mut buffer, _pin) = match held.state.lone() {
        Some(lone) => (lone.clone(), None),
        None => core.table.pin(target.buffer).ok_or_else(|| gone(target.buffer))?,
    };
    if buffer.is_dirty() {
        return Ok(None);
    }
    if let Some(checks) = &target.checks {
        buffer.checks = checks.clone();
    }
    read_verified(core, &buffer).await?;
    Ok(Some(buffer))
}

/// Reads an extent page from its device, also one that the cache has.
async fn read_page(core: &Core, id: BufferId) -> std::result::Result<(Buffer, Page), Wrong> {
    let (buffer, _pin) = core.table.pin(id).ok_or_else(|| gone(id))?;
    let (bytes, skip) = read_verified(core, &buffer).await?;
    let stored = &bytes.as_slice()[skip..skip + buffer.stored_len as usize];
    let image = PageImage::decode(stored, core.settings.store, id);
    match image.and_then(|image| core.table.check_page(&image).map(|()| image)) {
        Ok(image) => Ok((buffer, Page::new(image))),
        Err(error) => Err((error, Some(buffer), 0)),
    }
}

fn gone(id: BufferId) -> Wrong {
    let message = format!("buffer {} of a held version is gone; report this defect", id.0);
    (Error::new(ErrorKind::Internal, message), None, 0)
}

/// Reads the whole blocks that a buffer lies in and compares all of its bytes. Returns the blocks,
/// and where in them it begins.
async fn read_verified(
    core: &Core,
    buffer: &Buffer,
) -> std::result::Result<(AlignedBuf, usize), Wrong> {
    let (tier, blocks) = blocks_of(buffer).map_err(|error| (error, Some(buffer.clone()), 0))?;
    let Place::Device { offset, .. } = buffer.location.place() else { return Err(gone(buffer.id)) };
    let (len, skip) = ((blocks.end - blocks.start) as usize, (offset - blocks.start) as usize);
    let mut tries = 0;
    loop {
        let wrong = match read_blocks(core, tier, blocks.start, len, Reader::Caller).await {
            Ok(bytes) => match first_mismatch(buffer, &bytes.as_slice()[skip..]) {
                None => return Ok((bytes, skip)),
                Some(block) => (mismatch(buffer, block), (block * CHECK_BLOCK) as u64),
            },
            Err(error) => (error, 0),
        };
        if tries == READ_RETRIES {
            let is_corrupt = wrong.0.kind() == ErrorKind::Corrupt;
            core.counters.corruptions.fetch_add(u64::from(is_corrupt), Ordering::Relaxed);
            return Err((wrong.0, Some(buffer.clone()), wrong.1));
        }
        tries += 1;
    }
}

/// The first check block of a buffer that is not what its checksum says, or has none.
fn first_mismatch(buffer: &Buffer, bytes: &[u8]) -> Option<usize> {
    let checks = buffer.checks.as_slice();
    let blocks = bytes[..buffer.stored_len as usize].chunks(CHECK_BLOCK);
    blocks
        .enumerate()
        .find_map(|(at, block)| (checks.get(at) != Some(&crc32fast::hash(block))).then_some(at))
}

fn mismatch(buffer: &Buffer, block: usize) -> Error {
    let message = format!(
        "check block {block} of buffer {} at {:?} does not match its checksum; put the blob again",
        buffer.id.0, buffer.location
    );
    Error::new(ErrorKind::Corrupt, message)
}
