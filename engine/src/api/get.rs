//! Gets: what DRAM answers on the calling thread, and what is read.

use std::time::Duration;

use crate::api::bucket::{Bucket, SAMPLE};
use crate::api::change;
use crate::api::held;
use crate::api::ranges;
use crate::api::read::{self, Got, Reader};
use crate::api::reader::BlobReader;
use crate::core::Core;
use crate::error::{Error, Result, fail};
use crate::io::runtime::Nanos;
use crate::tier::dram::DramGet;

impl Bucket {
    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Result<Vec<u8>> {
        let mut value = Vec::new();
        if self.hit_whole(key, &mut value)?.is_none() {
            self.wait(self.read_with(key, 0, Target::Grow(&mut value), Reader::Caller))?;
        }
        Ok(value)
    }

    /// [`get`](Self::get), asynchronous.
    #[doc(hidden)]
    pub async fn get_async(&self, key: &[u8]) -> Result<Vec<u8>> {
        let mut value = Vec::new();
        self.read_with(key, 0, Target::Grow(&mut value), Reader::Caller).await?;
        Ok(value)
    }

    /// The whole value, if DRAM has it.
    pub(super) fn hit_whole(&self, key: &[u8], value: &mut Vec<u8>) -> Result<Option<Got>> {
        self.check(key)?;
        let start = self.sample();
        let hash = self.core.index.hash(self.state.id, key);
        let Some((_, len)) = self.core.dram.head_info(hash, self.state.id, key) else {
            return Ok(None);
        };
        resize(&self.core, value, len)?;
        match self.core.dram.get(hash, self.state.id, key, 0, value) {
            DramGet::Hit { copied, value_len }
                if copied as u64 == value_len && value_len == len =>
            {
                self.count_hit(copied, start);
                Ok(Some(Got { copied, value_len }))
            }
            _ => Ok(None),
        }
    }

    /// Copies the value into `dst` and returns its length.
    ///
    /// # Errors
    /// `BufferTooSmall` if the value is longer than `dst`; [`Error::needed`] has its length.
    pub fn get_into(&self, key: &[u8], dst: &mut [u8]) -> Result<usize> {
        let got = self.read(key, 0, dst, true)?;
        Ok(got.copied)
    }

    /// Copies bytes from `offset` on into `dst`. Returns how many there were: fewer than asked
    /// for at the end of the value, none beyond it.
    pub fn get_at(&self, key: &[u8], offset: u64, dst: &mut [u8]) -> Result<usize> {
        Ok(self.read(key, offset, dst, false)?.copied)
    }

    /// Copies bytes from several offsets on, all of one version. Of each range, how many there were.
    pub fn get_ranges(&self, key: &[u8], ranges: &mut [(u64, &mut [u8])]) -> Result<Vec<usize>> {
        self.wait(self.get_ranges_async(key, ranges))
    }

    /// [`get_ranges`](Self::get_ranges), asynchronous.
    #[doc(hidden)]
    pub async fn get_ranges_async(
        &self,
        key: &[u8],
        ranges: &mut [(u64, &mut [u8])],
    ) -> Result<Vec<usize>> {
        ranges::get(self, key, ranges, Reader::Caller).await.map(|(counts, _)| counts)
    }

    /// Reads a value piece by piece, in bounded memory, all of the version that is visible now.
    pub fn reader(&self, key: &[u8]) -> Result<BlobReader> {
        BlobReader::new(self, key)
    }

    /// [`get_at`](Self::get_at), asynchronous, with the value's length.
    #[doc(hidden)]
    pub async fn read_async(
        &self,
        key: &[u8],
        offset: u64,
        dst: &mut [u8],
        whole: bool,
    ) -> Result<Got> {
        let target = if whole { Target::Whole(dst) } else { Target::Part(dst) };
        self.read_with(key, offset, target, Reader::Caller).await
    }

    /// Every get that DRAM has not answered.
    pub(super) async fn read_with(
        &self,
        key: &[u8],
        offset: u64,
        target: Target<'_>,
        reader: Reader<'_>,
    ) -> Result<Got> {
        self.check(key)?;
        let _operation = self.core.begin_operation()?;
        let start = self.core.runtime.now();
        let end = target.end(offset);
        let Some(held) = held::hold(&self.core, &self.state, key, offset..end) else {
            return Err(change::not_found(&self.state, key));
        };
        let value_len = held.state.len;
        let dst = target.fit(&self.core, value_len)?;
        let range = offset.min(value_len)..end.min(value_len);
        let copied = (range.end - range.start) as usize;
        read::read_held(&self.core, &self.state, &held, range, &mut dst[..copied], reader).await?;
        self.count_miss(copied, self.core.runtime.now().since(start));
        Ok(Got { copied, value_len })
    }

    #[inline]
    fn read(&self, key: &[u8], offset: u64, dst: &mut [u8], whole: bool) -> Result<Got> {
        match self.hit(key, offset, dst, whole)? {
            Some(got) => Ok(got),
            None => self.read_miss(key, offset, dst, whole),
        }
    }

    /// What DRAM answers, without a lock; `None` if it does not.
    #[inline]
    pub(super) fn hit(
        &self,
        key: &[u8],
        offset: u64,
        dst: &mut [u8],
        whole: bool,
    ) -> Result<Option<Got>> {
        self.check(key)?;
        let start = self.sample();
        let hash = self.core.index.hash(self.state.id, key);
        if let DramGet::Hit { copied, value_len } =
            self.core.dram.get(hash, self.state.id, key, offset, dst)
        {
            if whole && value_len > dst.len() as u64 {
                return Err(Error::buffer_too_small(dst.len() as u64, value_len));
            }
            self.count_hit(copied, start);
            return Ok(Some(Got { copied, value_len }));
        }
        Ok(None)
    }

    /// Apart from the hits, which would pay for its frame.
    #[inline(never)]
    fn read_miss(&self, key: &[u8], offset: u64, dst: &mut [u8], whole: bool) -> Result<Got> {
        self.wait(self.read_async(key, offset, dst, whole))
    }

    /// The time, if this thread's next hit stands for others.
    #[inline]
    fn sample(&self) -> Option<Nanos> {
        self.core.counters.dram_hits.is_sampled(SAMPLE).then(|| self.clock())
    }

    /// Apart from the hits, few of which read it.
    #[cold]
    fn clock(&self) -> Nanos {
        self.core.runtime.now()
    }

    #[inline]
    fn count_hit(&self, bytes: usize, start: Option<Nanos>) {
        self.core.counters.dram_hits.count(bytes as u64);
        if let Some(start) = start {
            self.time_hit(start);
        }
    }

    #[cold]
    fn time_hit(&self, start: Nanos) {
        self.core.counters.get.record_for(SAMPLE, self.core.runtime.now().since(start));
    }

    pub(super) fn count_miss(&self, bytes: usize, took: Duration) {
        let counters = &self.core.counters;
        counters.dram_misses.count(bytes as u64);
        counters.get.record(took);
    }
}

/// Makes `value` as long as a value to be read. A sparse one may be long beyond all memory, and the
/// system grants what it does not have: the budget says what is too much.
pub(super) fn resize(core: &Core, value: &mut Vec<u8>, len: u64) -> Result<()> {
    let size = usize::try_from(len).unwrap_or(usize::MAX);
    let more = size.saturating_sub(value.len());
    if len > core.settings.memory_budget || value.try_reserve_exact(more).is_err() {
        fail!(
            NoMemory,
            "no memory for a value of {len} bytes (memory_budget is {}); read it in pieces with get_at",
            core.settings.memory_budget
        );
    }
    value.resize(size, 0);
    Ok(())
}

/// Where the bytes of a get go.
pub(super) enum Target<'a> {
    /// As many as fit.
    Part(&'a mut [u8]),
    /// The whole value, which must fit.
    Whole(&'a mut [u8]),
    /// The whole value, whatever its length.
    Grow(&'a mut Vec<u8>),
}

impl<'a> Target<'a> {
    /// Where what is asked for from an offset on ends, if the value is as long.
    pub(super) fn end(&self, offset: u64) -> u64 {
        match self {
            Target::Part(dst) | Target::Whole(dst) => offset.saturating_add(dst.len() as u64),
            Target::Grow(_) => u64::MAX,
        }
    }

    /// The memory, for a value of this length.
    pub(super) fn fit(self, core: &Core, value_len: u64) -> Result<&'a mut [u8]> {
        match self {
            Target::Whole(dst) if value_len > dst.len() as u64 => {
                Err(Error::buffer_too_small(dst.len() as u64, value_len))
            }
            Target::Part(dst) | Target::Whole(dst) => Ok(dst),
            Target::Grow(value) => {
                resize(core, value, value_len)?;
                Ok(value)
            }
        }
    }
}
