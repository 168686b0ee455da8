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

/// Files up to this size are read: cheaper than mapping, and safe against being cut short.
const READ_WHOLE_MAX: u64 = 64 << 20;

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
        let mut bytes = Vec::with_capacity(metadata.len() as usize);
        file.read_to_end(&mut bytes).map_err(failure)?;
        Ok(Source::Read(bytes))
    }

    /// Everything that standard input has, held in memory: its length must be known to put it.
    pub fn standard_input() -> Outcome<Source> {
        let mut bytes = Vec::new();
        let read = io::stdin().lock().read_to_end(&mut bytes);
        read.map_err(|error| Failure::Other(format!("read of standard input: {error}")))?;
        Ok(Source::Read(bytes))
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
