//! Packing buffers into chunks: what one device write moves.

use crate::io::buffer::AlignedBuf;
use crate::limits::BLOCK;
use crate::organizer::occupants::Occupant;

/// Most bytes of a chunk: the largest buffer fits.
pub const CHUNK_MAX: usize = crate::limits::BUFFER_SIZE_MAX;

/// Where a buffer of `len` bytes goes behind `used` bytes: small ones are packed and lie in one
/// block, so that reading one takes one block; others begin with a block.
pub fn spot(used: usize, len: usize) -> usize {
    if len >= BLOCK {
        return used.next_multiple_of(BLOCK);
    }
    let at = used.next_multiple_of(8);
    match at % BLOCK + len > BLOCK {
        true => at.next_multiple_of(BLOCK),
        false => at,
    }
}

/// Buffers on their way to one place.
pub struct Chunk {
    buf: AlignedBuf,
    used: usize,
    items: Vec<(Occupant, usize)>,
}

impl Chunk {
    /// An empty chunk over memory of at least [`CHUNK_MAX`] bytes.
    pub fn new(buf: AlignedBuf) -> Chunk {
        Chunk { buf, used: 0, items: Vec::new() }
    }

    /// Whether a buffer of `len` bytes has room.
    pub fn fits(&self, len: usize) -> bool {
        spot(self.used, len) + len <= CHUNK_MAX.min(self.buf.capacity())
    }

    /// Adds a buffer that fits.
    pub fn push(&mut self, occupant: Occupant, bytes: &[u8]) {
        let at = spot(self.used, bytes.len());
        let end = at + bytes.len();
        // The memory has been used before: what lies between buffers must not reach the device.
        let next = if bytes.len() < BLOCK { end } else { end.next_multiple_of(BLOCK) };
        let memory = self.buf.as_mut_slice();
        memory[self.used..at].fill(0);
        memory[at..end].copy_from_slice(bytes);
        memory[end..next].fill(0);
        self.used = next;
        self.items.push((occupant, at));
    }

    /// The buffers and where they lie in the chunk.
    pub fn items(&self) -> &[(Occupant, usize)] {
        &self.items
    }

    /// Bytes, in whole blocks.
    pub fn padded_len(&self) -> usize {
        self.used.next_multiple_of(BLOCK)
    }

    /// The memory to write, padded with zeros, and the buffers.
    pub fn finish(mut self) -> (AlignedBuf, Vec<(Occupant, usize)>) {
        let padded = self.padded_len();
        self.buf.as_mut_slice()[self.used..padded].fill(0);
        (self.buf, self.items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::organizer::occupants::testing::occupant;

    #[test]
    fn large_buffers_begin_with_a_block_and_small_ones_never_straddle_one() {
        let mut used = 0;
        for n in 0..5000usize {
            let len = 1 + n * 37 % 9000;
            let at = spot(used, len);
            assert!(at >= used);
            if len >= BLOCK {
                assert_eq!(at % BLOCK, 0);
            } else {
                assert_eq!(at % 8, 0);
                assert_eq!(at / BLOCK, (at + len - 1) / BLOCK);
            }
            used = at + len;
        }
    }

    #[test]
    fn a_chunk_holds_its_buffers_and_zeros() {
        let mut dirty = AlignedBuf::alloc(CHUNK_MAX);
        dirty.as_mut_slice().fill(0xEE);
        let mut chunk = Chunk::new(dirty);
        let lens = [100, 5000, 4000, 200, 4096, 1];
        for (n, len) in lens.into_iter().enumerate() {
            assert!(chunk.fits(len));
            chunk.push(occupant(n as u64, len as u32), &vec![n as u8 + 1; len]);
        }
        let padded = chunk.padded_len();
        let (buf, items) = chunk.finish();
        let mut expected = vec![0; padded];
        for (n, (item, at)) in items.iter().enumerate() {
            assert_eq!(item.buffer.id.0, n as u64);
            expected[*at..at + lens[n]].fill(n as u8 + 1);
        }
        assert!(buf.as_slice()[..padded] == expected);
    }

    #[test]
    fn the_largest_buffer_fills_a_chunk() {
        let mut chunk = Chunk::new(AlignedBuf::alloc(CHUNK_MAX));
        assert!(chunk.fits(CHUNK_MAX));
        chunk.push(occupant(1, CHUNK_MAX as u32), &vec![1; CHUNK_MAX]);
        assert!(!chunk.fits(1));
        assert_eq!(chunk.padded_len(), CHUNK_MAX);
    }
}
