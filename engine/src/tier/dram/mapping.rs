//! One anonymous mapping, reached through offsets and atomic words only.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use crate::error::{Error, Result};

/// Alignment of the first byte: a huge page, so that the data region can be backed by them.
pub(super) const HUGE_PAGE: usize = 2 << 20;
const SMALL_PAGE: usize = 4096;
/// Miri knows no other flags, and has memory for what tests ask for.
const UNRESERVED: libc::c_int = if cfg!(miri) { 0 } else { libc::MAP_NORESERVE };

/// Zeroed memory that is not backed until it is touched.
///
/// Everything that may be read while another thread writes it goes through [`word`](Self::word),
/// [`half`](Self::half) and [`byte`](Self::byte), or through `copy.rs`, which behaves like them.
/// A word is never also accessed as a half or a byte.
pub(super) struct Mapping {
    raw: NonNull<u8>,
    raw_len: usize,
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is plain memory owned by this value alone until drop; shared access is
// atomic, or ruled by the slot states (see slot.rs).
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Reserves `len` bytes of address space, zero-filled on demand; not inherited by forks.
    pub(super) fn anonymous(len: usize) -> Result<Mapping> {
        let raw_len = len + HUGE_PAGE;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice aliases nothing.
        let raw = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                raw_len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | UNRESERVED,
                -1,
                0,
            )
        };
        let failed = || {
            let what = format!("mmap of {raw_len} bytes for the DRAM tier");
            Error::from_io(what, &std::io::Error::last_os_error())
        };
        if raw == libc::MAP_FAILED {
            return Err(failed());
        }
        let raw = NonNull::new(raw.cast::<u8>()).ok_or_else(failed)?;
        let skip = raw.as_ptr().align_offset(HUGE_PAGE);
        assert!(skip < HUGE_PAGE, "a byte pointer can always be aligned");
        // SAFETY: `skip` is less than the HUGE_PAGE bytes mapped beyond `len`.
        let base = unsafe { raw.add(skip) };
        let mapping = Mapping { raw, raw_len, base, len };
        mapping.advise(0, len, libc::MADV_DONTFORK);
        Ok(mapping)
    }

    /// Asks for huge pages from `at` to the end. A refusal costs speed only.
    pub(super) fn want_huge_pages(&self, at: usize, len: usize) {
        self.advise(at, len, libc::MADV_HUGEPAGE);
    }

    /// Backs a range with memory, so that no later access to it faults.
    pub(super) fn populate(&self, at: usize, len: usize) {
        if self.advise(at, len, libc::MADV_POPULATE_WRITE) {
            return;
        }
        // Kernels before 5.14. Adding zero keeps whatever another thread has put there.
        for page in (at..at + len).step_by(SMALL_PAGE) {
            self.word(page).fetch_add(0, Ordering::Relaxed);
        }
    }

    fn advise(&self, at: usize, len: usize, advice: libc::c_int) -> bool {
        let start = self.pointer(at, len);
        // Miri has no such call. All advices may be refused.
        if cfg!(miri) {
            return false;
        }
        // SAFETY: the range lies in this mapping; none of the advices used changes its contents.
        unsafe { libc::madvise(start.cast(), len, advice) == 0 }
    }

    /// The 64-bit word at a byte offset.
    #[inline]
    pub(super) fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at.is_multiple_of(8) && at < self.len, "word offset out of the mapping");
        // SAFETY: aligned and inside (the length is a multiple of 8); the bytes live as long as
        // self; concurrent access to this word is atomic everywhere.
        unsafe { &*self.base.as_ptr().add(at).cast::<AtomicU64>() }
    }

    /// Begins to load the cache line at a byte offset, and waits for nothing.
    #[inline]
    pub(super) fn prefetch(&self, at: usize) {
        #[cfg(target_arch = "x86_64")]
        if at < self.len {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: the address is inside the mapping; the instruction reads nothing that the
            // program could see, and every x86-64 has it.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(self.base.as_ptr().add(at).cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = at;
    }

    /// So many words from a byte offset on, in one check; `None` unless all are inside.
    #[inline]
    pub(super) fn words(&self, at: usize, count: usize) -> Option<&[AtomicU64]> {
        let room = self.len.checked_sub(at)? / 8;
        if !at.is_multiple_of(8) || count > room {
            return None;
        }
        // SAFETY: as for `word`, for each of them.
        Some(unsafe {
            std::slice::from_raw_parts(self.base.as_ptr().add(at).cast::<AtomicU64>(), count)
        })
    }

    /// The 32-bit word at a byte offset.
    #[inline]
    pub(super) fn half(&self, at: usize) -> &AtomicU32 {
        assert!(at.is_multiple_of(4) && at < self.len, "half offset out of the mapping");
        // SAFETY: as for `word`.
        unsafe { &*self.base.as_ptr().add(at).cast::<AtomicU32>() }
    }

    /// The byte at an offset.
    #[inline]
    pub(super) fn byte(&self, at: usize) -> &AtomicU8 {
        assert!(at < self.len, "byte offset out of the mapping");
        // SAFETY: as for `word`.
        unsafe { &*self.base.as_ptr().add(at).cast::<AtomicU8>() }
    }

    /// The address of `len` bytes at an offset, checked to lie inside.
    #[inline]
    pub(super) fn pointer(&self, at: usize, len: usize) -> *mut u8 {
        assert!(at <= self.len && len <= self.len - at, "range out of the mapping");
        // SAFETY: `at` is at most the length of the mapping.
        unsafe { self.base.as_ptr().add(at) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: maps exactly what `anonymous` mapped; no borrow of it outlives self.
        unsafe { libc::munmap(self.raw.as_ptr().cast(), self.raw_len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_is_zeroed_aligned_and_keeps_what_it_holds_when_populated() {
        let mapping = Mapping::anonymous(4 << 20).unwrap();
        assert!(mapping.pointer(0, 1).addr().is_multiple_of(HUGE_PAGE));
        mapping.word(8192).store(7, Ordering::Relaxed);
        mapping.populate(0, 1 << 20);
        assert_eq!(mapping.word(8192).load(Ordering::Relaxed), 7);
        assert_eq!(mapping.word((4 << 20) - 8).load(Ordering::Relaxed), 0);
    }

    #[test]
    #[should_panic(expected = "out of the mapping")]
    fn an_offset_beyond_the_end_is_refused() {
        Mapping::anonymous(4096).unwrap().word(4096);
    }
}
