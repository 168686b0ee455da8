//! A value as the writes that made it: the bytes of a write follow from its seed, so the model of
//! gigabytes is a few numbers per blob.

use std::collections::BTreeMap;
use std::ops::Range;

use super::rng::mix;

/// Bytes generated at a time when values are compared.
const SCRATCH: usize = 64 << 10;

/// Writes the bytes `from..from + out.len()` of the stream that `seed` names.
pub fn fill(seed: u64, from: u64, out: &mut [u8]) {
    let word = |index: u64| mix(seed ^ index.wrapping_mul(0x9E37_79B9_7F4A_7C15)).to_le_bytes();
    let skip = (from % 8) as usize;
    let mut index = from / 8;
    let mut rest = out;
    if skip != 0 {
        let head = rest.len().min(8 - skip);
        let (first, after) = rest.split_at_mut(head);
        first.copy_from_slice(&word(index)[skip..skip + head]);
        rest = after;
        index += 1;
    }
    let mut words = rest.chunks_exact_mut(8);
    for out in &mut words {
        out.copy_from_slice(&word(index));
        index += 1;
    }
    let tail = words.into_remainder();
    let len = tail.len();
    tail.copy_from_slice(&word(index)[..len]);
}

/// What a blob's value must be.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Content {
    len: u64,
    /// By first byte in the value; they do not overlap. What none covers is zeros.
    pieces: BTreeMap<u64, Piece>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Piece {
    len: u64,
    seed: u64,
    /// The piece's first byte in the stream of its seed.
    from: u64,
}

impl Content {
    /// A value written at once.
    pub fn of(seed: u64, len: u64) -> Content {
        let mut content = Content::default();
        content.write(0, seed, len);
        content
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    /// Bytes that some write has supplied.
    pub fn written(&self) -> u64 {
        self.pieces.values().map(|piece| piece.len).sum()
    }

    /// The first `len` bytes of the seed's stream, written at `at`.
    pub fn write(&mut self, at: u64, seed: u64, len: u64) {
        self.clear(at..at + len);
        if len > 0 {
            self.pieces.insert(at, Piece { len, seed, from: 0 });
        }
        self.len = self.len.max(at + len);
    }

    pub fn truncate(&mut self, len: u64) {
        if len < self.len {
            self.clear(len..self.len);
        }
        self.len = len;
    }

    fn clear(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let before = self.pieces.range(..range.start).next_back().map(|(at, _)| *at);
        let first = before.unwrap_or(range.start);
        let hit: Vec<u64> = self.pieces.range(first..range.end).map(|(at, _)| *at).collect();
        for at in hit {
            let Some(piece) = self.pieces.remove(&at) else { continue };
            let end = at + piece.len;
            if at < range.start {
                let kept = end.min(range.start) - at;
                self.pieces.insert(at, Piece { len: kept, ..piece });
            }
            if end > range.end {
                let cut = range.end.max(at) - at;
                let kept = Piece { len: piece.len - cut, from: piece.from + cut, ..piece };
                self.pieces.insert(at + cut, kept);
            }
        }
    }

    /// The bytes from `at` on.
    pub fn read(&self, at: u64, out: &mut [u8]) {
        out.fill(0);
        let end = at + out.len() as u64;
        let before = self.pieces.range(..=at).next_back().map_or(at, |(first, _)| *first);
        for (first, piece) in self.pieces.range(before..end) {
            let from = (*first).max(at);
            let to = (first + piece.len).min(end);
            if from < to {
                let part = &mut out[(from - at) as usize..(to - at) as usize];
                fill(piece.seed, piece.from + from - first, part);
            }
        }
    }

    /// Whether these are the bytes from `at` on; else what differs.
    pub fn check(&self, at: u64, bytes: &[u8]) -> Result<(), String> {
        let mut scratch = [0; SCRATCH];
        for (number, part) in bytes.chunks(SCRATCH).enumerate() {
            let start = at + (number * SCRATCH) as u64;
            let expected = &mut scratch[..part.len()];
            self.read(start, expected);
            if expected == part {
                continue;
            }
            let differs = |(a, b): (&u8, &u8)| a != b;
            let first = part.iter().zip(&*expected).position(differs).unwrap_or(0);
            let count = part.iter().zip(&*expected).filter(|pair| differs(*pair)).count();
            let zeros = part[first..].iter().take_while(|byte| **byte == 0).count();
            let near =
                |bytes: &[u8]| format!("{:02x?}", &bytes[first..bytes.len().min(first + 16)]);
            return Err(format!(
                "byte {} of {} differs ({count} bytes of its {} do): found {} ({zeros} zeros), \
                 expected {}; found at other places: {:?}; the pieces around it: {:?}",
                start + first as u64,
                self.len,
                part.len(),
                near(part),
                near(expected),
                self.origin(&part[first..]),
                self.around(start + first as u64),
            ));
        }
        Ok(())
    }

    /// Where else in this value the bytes at hand stand: tells a shifted read from a stale one.
    fn origin(&self, bytes: &[u8]) -> Vec<u64> {
        let Some(needle) = bytes.get(..16) else { return Vec::new() };
        if needle.iter().all(|byte| *byte == 0) {
            return Vec::new();
        }
        let mut whole = vec![0; self.len as usize];
        self.read(0, &mut whole);
        let places = whole.windows(16).enumerate().filter(|(_, window)| *window == needle);
        places.map(|(at, _)| at as u64).take(4).collect()
    }

    fn around(&self, at: u64) -> Vec<(u64, Piece)> {
        let before = self.pieces.range(..=at).rev().take(3);
        let mut near: Vec<_> = before.map(|(at, piece)| (*at, *piece)).collect();
        near.reverse();
        near.extend(self.pieces.range(at + 1..).take(2).map(|(at, piece)| (*at, *piece)));
        near
    }
}

#[test]
fn content_is_what_the_writes_make_of_a_vector() {
    let mut rng = super::rng::Rng::new(1);
    for _ in 0..50 {
        let (mut content, mut bytes) = (Content::default(), Vec::new());
        for _ in 0..60 {
            let (seed, at, len) = (rng.next(), rng.below(300), rng.below(200));
            if rng.one_in(4) {
                content.truncate(at);
                bytes.resize(at as usize, 0);
            } else {
                content.write(at, seed, len);
                bytes.resize(bytes.len().max((at + len) as usize), 0);
                fill(seed, 0, &mut bytes[at as usize..(at + len) as usize]);
            }
            assert_eq!(content.len(), bytes.len() as u64);
            let from = rng.below(content.len()) as usize;
            content.check(0, &bytes).unwrap();
            content.check(from as u64, &bytes[from..]).unwrap();
        }
    }
}
