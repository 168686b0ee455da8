//! Reads one version of a value from any place on, in bounded memory: a window that grows while the
//! reader goes straight on, and the next windows on their way through a shard's ring meanwhile.

use std::collections::VecDeque;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;

use crate::api::bucket::Bucket;
use crate::api::change::not_found;
use crate::api::held::{self, Held};
use crate::api::read::{self, Reader};
use crate::core::Request;
use crate::error::{Error, ErrorKind, Result};
use crate::io::wait::{Receiver, oneshot};
use crate::types::Version;

/// The first window after a seek; each further one is twice as long, up to the last.
const WINDOW_BYTES_FIRST: u64 = 256 << 10;
const WINDOW_BYTES_MAX: u64 = 4 << 20;
/// Windows on their way beside the one that is read.
const WINDOWS_AHEAD: usize = 2;

/// A value, read from one version of the blob: whatever overwrites or deletes it meanwhile. It keeps
/// that version's space until it is dropped, or all of it in memory if that is one buffer.
pub struct BlobReader {
    bucket: Bucket,
    held: Arc<Held>,
    position: u64,
    /// Bytes in memory, and where they begin.
    window: Vec<u8>,
    window_start: u64,
    window_bytes: u64,
    ahead: VecDeque<Ahead>,
}

/// A window on its way.
struct Ahead {
    range: Range<u64>,
    bytes: Receiver<Result<Vec<u8>>>,
}

impl BlobReader {
    pub(super) fn new(bucket: &Bucket, key: &[u8]) -> Result<BlobReader> {
        bucket.check(key)?;
        let core = bucket.core();
        let Some(mut held) = held::hold(core, bucket.state(), key, 0..u64::MAX) else {
            return Err(not_found(bucket.state(), key));
        };
        let mut window = Vec::new();
        if held.state.lone().is_some() {
            // Nothing could move it while somebody keeps it in its place.
            let whole = 0..held.state.len;
            let reading = read_range(bucket, &held, whole, Reader::Caller);
            window = core.runtime.block_on(reading)?;
            held.unpin();
        } else {
            held.unpin_clean(core);
        }
        Ok(BlobReader {
            bucket: bucket.clone(),
            held: Arc::new(held),
            position: 0,
            window,
            window_start: 0,
            window_bytes: WINDOW_BYTES_FIRST / 2,
            ahead: VecDeque::new(),
        })
    }

    /// Bytes of the value.
    pub fn len(&self) -> u64 {
        self.held.state.len
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The version that is read.
    pub fn version(&self) -> Version {
        self.held.state.version
    }

    /// The next bytes, as many as are in memory; none at the end of the value. They count as read.
    pub fn next_piece(&mut self) -> Result<&[u8]> {
        let piece = self.piece()?;
        self.position += piece.len() as u64;
        Ok(&self.window[piece])
    }

    /// Copies the next bytes into `dst`. Returns how many: none at the end of the value alone.
    pub fn read_into(&mut self, dst: &mut [u8]) -> Result<usize> {
        if dst.is_empty() {
            return Ok(0);
        }
        let piece = self.piece()?;
        Ok(self.copy_out(piece, dst))
    }

    /// [`read_into`](Self::read_into), asynchronous.
    #[doc(hidden)]
    pub async fn read_into_async(&mut self, dst: &mut [u8]) -> Result<usize> {
        if !dst.is_empty() && self.wants_window() {
            self.fill().await?;
        }
        let piece = self.rest_of_window();
        Ok(self.copy_out(piece, dst))
    }

    fn copy_out(&mut self, piece: Range<usize>, dst: &mut [u8]) -> usize {
        let count = piece.len().min(dst.len());
        dst[..count].copy_from_slice(&self.window[piece.start..piece.start + count]);
        self.position += count as u64;
        count
    }

    /// Where in the window the bytes from the position on are.
    fn piece(&mut self) -> Result<Range<usize>> {
        if self.wants_window() {
            let runtime = self.bucket.core().runtime.clone();
            runtime.block_on(self.fill())?;
        }
        Ok(self.rest_of_window())
    }

    fn wants_window(&self) -> bool {
        let in_window = self.window_start..self.window_end();
        !in_window.contains(&self.position) && self.position < self.len()
    }

    fn rest_of_window(&self) -> Range<usize> {
        let skip = self.position.saturating_sub(self.window_start);
        let start = usize::try_from(skip).unwrap_or(usize::MAX).min(self.window.len());
        start..self.window.len()
    }

    fn window_end(&self) -> u64 {
        self.window_start + self.window.len() as u64
    }

    /// Gets the window that begins at the position, or holds it.
    async fn fill(&mut self) -> Result<()> {
        let at = self.position;
        while self.ahead.front().is_some_and(|ahead| !ahead.range.contains(&at)) {
            self.ahead.pop_front();
        }
        let goes_on = !self.ahead.is_empty() || at == self.window_end();
        if !goes_on {
            self.window_bytes = WINDOW_BYTES_FIRST / 2;
        }
        let next = self.ahead.pop_front();
        let range = match &next {
            Some(next) => next.range.clone(),
            None => self.range_from(at),
        };
        if goes_on {
            self.read_ahead(range.end).await;
        }
        let bytes = match next {
            Some(next) => next.bytes.await.unwrap_or_else(|_| Err(closed())),
            None => read_range(&self.bucket, &self.held, range.clone(), Reader::Caller).await,
        };
        self.window = bytes?;
        self.window_start = range.start;
        Ok(())
    }

    /// The next window, if it begins here.
    fn range_from(&mut self, at: u64) -> Range<u64> {
        self.window_bytes = (self.window_bytes * 2).min(WINDOW_BYTES_MAX);
        at..(at + self.window_bytes).min(self.len())
    }

    /// Has the windows read that will be wanted next.
    async fn read_ahead(&mut self, from: u64) {
        let core = self.bucket.core().clone();
        let mut from = self.ahead.back().map_or(from, |last| last.range.end);
        while from < self.len() && self.ahead.len() < WINDOWS_AHEAD && core.is_persistent() {
            let range = self.range_from(from);
            from = range.end;
            let (reply, bytes) = oneshot();
            let (bucket, held, wanted) = (self.bucket.clone(), self.held.clone(), range.clone());
            let task = Request::Run(Box::new(move |context| {
                Box::pin(async move {
                    let reader = Reader::Ring(&context.io);
                    reply.send(read_range(&bucket, &held, wanted, reader).await);
                })
            }));
            let shard = (core.shard_of(self.held.hash) + self.ahead.len()) % core.shards.len();
            core.shards[shard].push(task).await;
            self.ahead.push_back(Ahead { range, bytes });
        }
    }
}

/// A range of the held version. While it is the visible one too, what DRAM has of it is used.
async fn read_range(
    bucket: &Bucket,
    held: &Held,
    range: Range<u64>,
    reader: Reader<'_>,
) -> Result<Vec<u8>> {
    let (core, state) = (bucket.core(), bucket.state());
    let _operation = core.begin_operation()?;
    let visible = held::hold(core, state, &held.key, range.clone());
    let visible = visible.filter(|visible| visible.state.version == held.state.version);
    let held = visible.as_ref().unwrap_or(held);
    let mut bytes = vec![0; (range.end - range.start) as usize];
    read::read_past(core, state, held, range, &mut bytes, reader).await?;
    Ok(bytes)
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the store closed during a read")
}

impl Read for BlobReader {
    fn read(&mut self, dst: &mut [u8]) -> io::Result<usize> {
        Ok(self.read_into(dst)?)
    }
}

impl Seek for BlobReader {
    /// Beyond the end there is nothing to read, which is no error.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(distance) => self.len().checked_add_signed(distance),
            SeekFrom::Current(distance) => self.position.checked_add_signed(distance),
        };
        let Some(position) = position else {
            let message = "a seek before the beginning of the value";
            return Err(Error::new(ErrorKind::InvalidArgument, message).into());
        };
        self.position = position;
        Ok(position)
    }
}
