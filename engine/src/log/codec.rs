//! Fixed-width little-endian fields: a writer that appends, a reader that checks bounds.

use crate::error::{Error, ErrorKind, Result, fail};
use crate::limits::TIERS_MAX;
use crate::types::{Location, Place, TierId, Uuid};

/// Device offsets are below this: [`Location`] holds 56 bits.
pub const DEVICE_OFFSET_END: u64 = 1 << 56;

/// Bytes of a checksum field.
const CRC_LEN: usize = 4;

/// `len` rounded up to a multiple of 8, the alignment of everything variable.
pub const fn pad8(len: usize) -> usize {
    len.next_multiple_of(8)
}

/// Whether all bytes are zero. By chunks: a search byte by byte takes as long as reading them.
pub fn is_zeros(bytes: &[u8]) -> bool {
    bytes.chunks(64).all(|chunk| chunk.iter().fold(0, |any, byte| any | byte) == 0)
}

/// CRC-32 (IEEE) of `bytes`, with the four bytes at `hole` taken as zero: a structure's own
/// checksum field does not take part in it.
///
/// `hole + 4` must not exceed the length.
pub fn crc_with_hole(bytes: &[u8], hole: usize) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..hole]);
    hasher.update(&[0; CRC_LEN]);
    hasher.update(&bytes[hole + CRC_LEN..]);
    hasher.finalize()
}

/// Writes the checksum of `bytes` into the four bytes at `hole` and returns it.
pub fn seal(bytes: &mut [u8], hole: usize) -> u32 {
    let crc = crc_with_hole(bytes, hole);
    bytes[hole..hole + CRC_LEN].copy_from_slice(&crc.to_le_bytes());
    crc
}

/// Checks the checksum that [`seal`] wrote and returns it.
pub fn check_seal(what: &str, bytes: &[u8], hole: usize) -> Result<u32> {
    let Some(stored) = bytes.get(hole..).and_then(|tail| tail.first_chunk::<CRC_LEN>()) else {
        fail!(Corrupt, "{what}: {} bytes hold no checksum at byte {hole}", bytes.len());
    };
    let stored = u32::from_le_bytes(*stored);
    let actual = crc_with_hole(bytes, hole);
    if stored != actual {
        fail!(Corrupt, "{what}: checksum is {stored:#010x}, its bytes give {actual:#010x}");
    }
    Ok(stored)
}

/// Appends fields to a vector. Padding counts from where the encoder was made.
pub struct Encoder<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Encoder<'a> {
    /// An encoder that appends to `out`.
    pub fn new(out: &'a mut Vec<u8>) -> Encoder<'a> {
        let start = out.len();
        Encoder { out, start }
    }

    /// Bytes appended so far.
    pub fn position(&self) -> usize {
        self.out.len() - self.start
    }

    /// Appends a byte.
    pub fn u8(&mut self, value: u8) {
        self.out.push(value);
    }

    /// Appends two bytes.
    pub fn u16(&mut self, value: u16) {
        self.bytes(&value.to_le_bytes());
    }

    /// Appends four bytes.
    pub fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    /// Appends eight bytes.
    pub fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    /// Appends a 16-bit count or length. Callers have validated it; one that does not fit is
    /// written as the maximum, which every decoder refuses, never as a smaller number.
    pub fn len16(&mut self, value: usize) {
        self.u16(u16::try_from(value).unwrap_or(u16::MAX));
    }

    /// Appends a 32-bit count or length, see [`len16`](Self::len16).
    pub fn len32(&mut self, value: usize) {
        self.u32(u32::try_from(value).unwrap_or(u32::MAX));
    }

    /// Appends bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Appends an identity.
    pub fn uuid(&mut self, uuid: Uuid) {
        self.bytes(&uuid.0);
    }

    /// Appends a packed location.
    pub fn location(&mut self, location: Location) {
        self.u64(location.to_bits());
    }

    /// Appends zeros.
    pub fn zeros(&mut self, len: usize) {
        self.out.resize(self.out.len() + len, 0);
    }

    /// Appends zeros up to `position`; nothing if it is passed already.
    pub fn zeros_to(&mut self, position: usize) {
        self.zeros(position.saturating_sub(self.position()));
    }

    /// Appends zeros up to the next multiple of 8.
    pub fn pad_to_8(&mut self) {
        self.zeros_to(pad8(self.position()));
    }
}

/// Reads fields off a slice. Every read names its field, so that an error says what was expected
/// and at which byte of the enclosing structure.
pub struct Decoder<'a> {
    what: &'static str,
    bytes: &'a [u8],
    at: usize,
    base: usize,
}

impl<'a> Decoder<'a> {
    /// A decoder of a `what` that begins at the first byte of `bytes`.
    pub fn new(what: &'static str, bytes: &'a [u8]) -> Decoder<'a> {
        Decoder::with_base(what, bytes, 0)
    }

    /// A decoder of a part that begins at byte `base` (a multiple of 8) of a larger structure.
    pub fn with_base(what: &'static str, bytes: &'a [u8], base: usize) -> Decoder<'a> {
        Decoder { what, bytes, at: 0, base }
    }

    /// The next byte to be read, as a position in the enclosing structure.
    pub fn position(&self) -> usize {
        self.base + self.at
    }

    /// Bytes not yet read.
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// An error of this structure at the current byte.
    pub fn error(&self, kind: ErrorKind, message: impl std::fmt::Display) -> Error {
        Error::new(kind, format!("{} at byte {}: {message}", self.what, self.position()))
    }

    /// [`error`](Self::error) of damaged bytes.
    pub fn corrupt(&self, message: impl std::fmt::Display) -> Error {
        self.error(ErrorKind::Corrupt, message)
    }

    /// Reads `len` bytes without copying them.
    pub fn bytes(&mut self, len: usize, field: &'static str) -> Result<&'a [u8]> {
        if len > self.remaining() {
            let remaining = self.remaining();
            return Err(self.corrupt(format!("{field} needs {len} bytes, {remaining} remain")));
        }
        let bytes = &self.bytes[self.at..self.at + len];
        self.at += len;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N]> {
        let bytes = self.bytes(N, field)?;
        let mut array = [0; N];
        array.copy_from_slice(bytes);
        Ok(array)
    }

    /// Reads a byte.
    pub fn u8(&mut self, field: &'static str) -> Result<u8> {
        Ok(self.array::<1>(field)?[0])
    }

    /// Reads two bytes.
    pub fn u16(&mut self, field: &'static str) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array(field)?))
    }

    /// Reads four bytes.
    pub fn u32(&mut self, field: &'static str) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array(field)?))
    }

    /// Reads eight bytes.
    pub fn u64(&mut self, field: &'static str) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array(field)?))
    }

    /// Reads an identity.
    pub fn uuid(&mut self, field: &'static str) -> Result<Uuid> {
        Ok(Uuid(self.array(field)?))
    }

    /// Reads a 32-bit count of items that take at least `item_len` bytes each. A count that what
    /// remains cannot hold is refused here, before anyone allocates for it.
    pub fn count(&mut self, item_len: usize, field: &'static str) -> Result<usize> {
        let count = self.u32(field)?;
        let fits = self.remaining() / item_len.max(1);
        match usize::try_from(count) {
            Ok(count) if count <= fits => Ok(count),
            _ => Err(self.corrupt(format!("{field} is {count}, what remains holds {fits}"))),
        }
    }

    /// Reads bytes that must be zero: reserved fields and padding.
    pub fn zeros(&mut self, len: usize, field: &'static str) -> Result<()> {
        if !is_zeros(self.bytes(len, field)?) {
            return Err(self.corrupt(format!("{field} before this byte must be zero")));
        }
        Ok(())
    }

    /// Reads the zero padding up to the next multiple of 8.
    pub fn pad_to_8(&mut self) -> Result<()> {
        self.zeros(pad8(self.position()) - self.position(), "padding")
    }

    /// Reads a location, which must be a byte of a device.
    pub fn location(&mut self, field: &'static str) -> Result<Location> {
        let location = Location::from_bits(self.u64(field)?);
        check_location(location, 0).map_err(|fault| self.corrupt(format!("{field}: {fault}")))?;
        Ok(location)
    }

    /// Reads a tier number.
    pub fn tier(&mut self, field: &'static str) -> Result<TierId> {
        let tier = self.u8(field)?;
        if usize::from(tier) >= TIERS_MAX {
            return Err(self.corrupt(format!("{field} is {tier}, a store has {TIERS_MAX} at most")));
        }
        Ok(TierId(tier))
    }

    /// Checks that nothing is left over.
    pub fn finish(self) -> Result<()> {
        match self.remaining() {
            0 => Ok(()),
            left => Err(self.corrupt(format!("{left} bytes are left over"))),
        }
    }
}

/// What is wrong with a location of `len` bytes that a durable structure names, if anything.
pub fn check_location(location: Location, len: u64) -> std::result::Result<(), String> {
    match location.place() {
        Place::Dram(_) => Err("a place in DRAM cannot be durable".into()),
        Place::Device { tier, .. } if tier.index() >= TIERS_MAX => {
            Err(format!("tier {} does not exist, a store has {TIERS_MAX} at most", tier.0))
        }
        Place::Device { offset, .. } if offset + len > DEVICE_OFFSET_END => {
            Err(format!("{len} bytes at {offset:#x} exceed 56 bits"))
        }
        Place::Device { .. } => Ok(()),
    }
}
