//! The bytes of a put: a file or standard input, as one slice.
//!
//! A put is atomic and takes the whole value; the engine copies it out buffer by buffer. A large
//! file is therefore mapped, so that its pages come and go with the copy and memory stays bounded.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Deref;
use std::path::Path;

use memmap2::Mmap;

use crate::failure::{Failure, Outcome};
use crate::progress::Progress;

/// Files up to this size are read: cheaper than mapping, and safe against being cut short.
const READ_WHOLE_MAX: u64 = 64 << 20;
/// Bytes read between two looks at the progress.
const PIECE: u64 = 4 << 20;

/// A value to put.
pub enum Source {
    /// Read into memory.
    Read(Vec<u8>),
    /// Mapped from a file.
    Mapped(Mmap),
}

impl Source {
    /// A file's content.
    pub fn file(path: &Path) -> Outcome<Source> {
        let failure = |error| Failure::of_file("read of", path, &error);
        let mut file = File::open(path).map_err(failure)?;
        let metadata = file.metadata().map_err(failure)?;
        if metadata.is_file() && metadata.len() > READ_WHOLE_MAX {
            // SAFETY: the map is private and read-only. That nobody cuts the file short while it
            // is mapped is the user's part, as with any copy: the process would get SIGBUS, and
            // the put, which is atomic, would not have happened.
            let map = unsafe { Mmap::map(&file) }.map_err(failure)?;
            // Advice only: without it the copy is merely slower.
            let _ = map.advise(memmap2::Advice::Sequential);
            return Ok(Source::Mapped(map));
        }
        if !metadata.is_file() {
            return read_on(file).map(Source::Read).map_err(failure);
        }
        let mut bytes = Vec::with_capacity(metadata.len() as usize);
        file.read_to_end(&mut bytes).map_err(failure)?;
        Ok(Source::Read(bytes))
    }

    /// Everything that standard input has, held in memory: its length must be known to put it.
    pub fn standard_input() -> Outcome<Source> {
        let failure = |error| Failure::Other(format!("read of standard input: {error}"));
        read_on(io::stdin().lock()).map(Source::Read).map_err(failure)
    }
}

/// Everything up to the end, which only the reading finds.
fn read_on(mut reader: impl Read) -> io::Result<Vec<u8>> {
    let (mut bytes, progress) = (Vec::new(), Progress::new("reading", None));
    loop {
        match reader.by_ref().take(PIECE).read_to_end(&mut bytes)? {
            0 => return Ok(bytes),
            read => progress.advance(read as u64),
        }
    }
}

impl Deref for Source {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Source::Read(bytes) => bytes,
            Source::Mapped(map) => map,
        }
    }
}
