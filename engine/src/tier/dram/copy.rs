//! Copies into and out of memory that other threads may be looking at.
//!
//! An optimistic reader copies a slot that may be reused meanwhile, and discards the copy then.
//! For that to be defined, neither side may be a plain `memcpy`: short copies here are relaxed
//! atomic words; long ones are assembly, which the memory model sees as such words in some order.
//! On other processors, and in Miri, which cannot look into assembly, all copies are words.

use std::sync::atomic::{AtomicU64, Ordering};

/// Below this, the start-up of a copy that is assembly costs more than a loop of words.
const LONG_MIN: usize = 256;

/// Stores `bytes` at `to`. On return non-temporal stores are fenced, so any release orders them.
///
/// # Safety
/// `to` must be valid for `bytes.len()` bytes rounded out to whole aligned 8-byte words, those
/// words must be written by nobody else meanwhile, and read only by atomic words, or by
/// [`load`].
#[inline]
pub(super) unsafe fn store(to: *mut u8, bytes: &[u8]) {
    if bytes.len() < LONG_MIN {
        // SAFETY: the caller's contract is that of both.
        unsafe { store_words(to, bytes) }
    } else {
        // SAFETY: as above.
        unsafe { long::store(to, bytes) }
    }
}

/// Fills `dst` from `from`. If a writer was at work meanwhile the bytes are arbitrary, and the
/// caller finds that out by validating afterwards.
///
/// # Safety
/// `from` must be valid for `dst.len()` bytes rounded out to whole aligned 8-byte words, written
/// meanwhile only by atomic words or by [`store`].
#[inline]
pub(super) unsafe fn load(from: *const u8, dst: &mut [u8]) {
    if dst.len() < LONG_MIN {
        // SAFETY: the caller's contract is that of both.
        unsafe { load_words(from, dst) }
    } else {
        // SAFETY: as above.
        unsafe { long::load(from, dst) }
    }
}

/// Fills `dst` from words, beginning at byte `at`: [`load`] for what is very short.
#[inline]
pub(super) fn load_short(from: &[AtomicU64], at: usize, dst: &mut [u8]) {
    let word = |from: &AtomicU64| from.load(Ordering::Relaxed).to_ne_bytes();
    let (words, tail) = dst.as_chunks_mut::<8>();
    if at == 0 {
        let mut from = from.iter();
        for (to, from) in words.iter_mut().zip(&mut from) {
            *to = word(from);
        }
        if let Some(from) = from.next() {
            // Not `copy_from_slice`, which is a call.
            tail.iter_mut().zip(word(from)).for_each(|(to, byte)| *to = byte);
        }
        return;
    }
    for (index, byte) in dst.iter_mut().enumerate() {
        let at = at + index;
        *byte = word(&from[at / 8])[at % 8];
    }
}

unsafe fn store_words(to: *mut u8, bytes: &[u8]) {
    let skew = to.addr() & 7;
    let (first, rest) = bytes.split_at(bytes.len().min((8 - skew) & 7));
    // SAFETY: the words touched cover the caller's range rounded out, and are aligned.
    unsafe {
        patch(to.sub(skew), skew, first);
        let mut to = to.add(first.len());
        let (words, tail) = rest.as_chunks::<8>();
        for word in words {
            AtomicU64::from_ptr(to.cast()).store(u64::from_ne_bytes(*word), Ordering::Relaxed);
            to = to.add(8);
        }
        patch(to, 0, tail);
    }
}

/// Replaces some bytes of one aligned word. The caller is its only writer.
unsafe fn patch(word: *mut u8, at: usize, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    // SAFETY: the caller passes an aligned, valid word.
    let word = unsafe { AtomicU64::from_ptr(word.cast()) };
    let mut value = word.load(Ordering::Relaxed).to_ne_bytes();
    value[at..at + bytes.len()].copy_from_slice(bytes);
    word.store(u64::from_ne_bytes(value), Ordering::Relaxed);
}

#[inline]
unsafe fn load_words(from: *const u8, dst: &mut [u8]) {
    let skew = from.addr() & 7;
    let count = dst.len().min((8 - skew) & 7);
    let (first, rest) = dst.split_at_mut(count);
    // SAFETY: the words touched cover the caller's range rounded out, and are aligned; they are
    // only read, although `from_ptr` wants a mutable pointer.
    unsafe {
        let word_at = |at: *const u8| {
            AtomicU64::from_ptr(at.cast_mut().cast()).load(Ordering::Relaxed).to_ne_bytes()
        };
        if count > 0 {
            first.copy_from_slice(&word_at(from.sub(skew))[skew..skew + count]);
        }
        let mut from = from.add(count);
        let (words, tail) = rest.as_chunks_mut::<8>();
        for word in words {
            *word = word_at(from);
            from = from.add(8);
        }
        if !tail.is_empty() {
            tail.copy_from_slice(&word_at(from)[..tail.len()]);
        }
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod long {
    use super::store_words;

    /// Above this, stores bypass the cache: 1.6-2.4x faster into memory that is not read soon.
    const NON_TEMPORAL_MIN: usize = 64 << 10;

    /// See [`super::store`].
    #[inline]
    pub(super) unsafe fn store(to: *mut u8, bytes: &[u8]) {
        match bytes.len() {
            // SAFETY: the caller's contract is that of both.
            0..NON_TEMPORAL_MIN => unsafe { string_move(to, bytes.as_ptr(), bytes.len()) },
            // SAFETY: as above.
            _ => unsafe { store_non_temporal(to, bytes) },
        }
    }

    /// See [`super::load`].
    #[inline]
    pub(super) unsafe fn load(from: *const u8, dst: &mut [u8]) {
        // SAFETY: the caller's contract; `dst` is exclusively borrowed.
        unsafe { string_move(dst.as_mut_ptr(), from, dst.len()) }
    }

    /// `rep movsb`: on any x86-64 of the last decade about as fast as the best vector loop.
    unsafe fn string_move(to: *mut u8, from: *const u8, len: usize) {
        // SAFETY: the caller vouches for both ranges; the direction flag is clear by the ABI. Racing
        // accesses are relaxed word accesses to the memory model: it cannot see inside.
        unsafe {
            std::arch::asm!(
                "rep movsb",
                inout("rcx") len => _,
                inout("rdi") to => _,
                inout("rsi") from => _,
                options(nostack, preserves_flags)
            );
        }
    }

    unsafe fn store_non_temporal(to: *mut u8, bytes: &[u8]) {
        const LINE: usize = 64;
        let lead = to.align_offset(LINE).min(bytes.len());
        let (first, rest) = bytes.split_at(lead);
        let lines = rest.len() / LINE;
        let (body, tail) = rest.split_at(lines * LINE);
        // SAFETY: the three parts tile the caller's range; the loop runs over `lines` > 0 whole,
        // aligned lines, since a non-temporal copy is far longer than two lines.
        unsafe {
            store_words(to, first);
            let to = to.add(lead);
            std::arch::asm!(
                "2:",
                "movdqu {a}, [{from}]",
                "movdqu {b}, [{from} + 16]",
                "movdqu {c}, [{from} + 32]",
                "movdqu {d}, [{from} + 48]",
                "movntdq [{to}], {a}",
                "movntdq [{to} + 16], {b}",
                "movntdq [{to} + 32], {c}",
                "movntdq [{to} + 48], {d}",
                "add {from}, 64",
                "add {to}, 64",
                "dec {lines}",
                "jnz 2b",
                "sfence",
                from = inout(reg) body.as_ptr() => _,
                to = inout(reg) to => _,
                lines = inout(reg) lines => _,
                a = out(xmm_reg) _,
                b = out(xmm_reg) _,
                c = out(xmm_reg) _,
                d = out(xmm_reg) _,
                options(nostack)
            );
            store_words(to.add(body.len()), tail);
        }
    }
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
mod long {
    // Only the side that is shared may be touched in words beyond the bytes that are copied.
    pub(super) use super::{load_words as load, store_words as store};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_and_alignment_copies_exactly_its_bytes() {
        let source: Vec<u8> = (0..200_000u32).map(|i| ((i * 31) >> 3) as u8).collect();
        let mut memory = vec![0u64; 26_000];
        let base = memory.as_mut_ptr().cast::<u8>();
        let lens = [0, 1, 7, 8, 9, 63, 64, 255, 256, 257, 4096, 65_535, 65_536, 65_601, 131_077];
        // In Miri all copies are words, however long.
        for len in lens.into_iter().filter(|len| !cfg!(miri) || *len <= 257) {
            for at in [0, 1, 5, 8, 13, 64, 77] {
                // SAFETY: `memory` holds 208000 bytes, is not shared, and is initialised.
                unsafe {
                    base.write_bytes(0xEE, 208_000);
                    store(base.add(at), &source[at..at + len]);
                    let mut back = vec![0; len];
                    load(base.add(at), &mut back);
                    assert_eq!(back, source[at..at + len], "{len} at {at}");
                    assert!(at == 0 || *base.add(at - 1) == 0xEE);
                    assert_eq!(*base.add(at + len), 0xEE);
                }
            }
        }
    }
}
