//! The bytes of a put: a regular file as one slice, anything else as a stream.
//!
//! A put takes the whole value; the engine copies it out buffer by buffer. A large file is therefore
//! mapped, so that its pages come and go with the copy and memory stays bounded.

use std::fs::{self, File};
use std::io::{self, Read};
use std::ops::Deref;
use std::path::Path;

use memmap2::Mmap;

use crate::failure::{Failure, Outcome};

/// Files up to this size are read: cheaper than mapping, and safe against being cut short.
const READ_WHOLE_MAX: u64 = 64 << 20;

/// What a put is given.
pub enum Input {
    /// The value, whole.
    Whole(Source),
    /// Bytes that come until they end, and where from.
    Stream(Box<dyn Read>, String),
}

impl Input {
    /// A file; standard input where none is named, or `-`.
    pub fn of(file: Option<&Path>) -> Outcome<Input> {
        let Some(path) = file.filter(|path| *path != Path::new("-")) else {
            return Ok(Input::Stream(Box::new(io::stdin().lock()), "standard input".to_string()));
        };
        let failure = |error| Failure::of_file("read of", path, &error);
        if fs::metadata(path).map_err(failure)?.is_file() {
            return Source::file(path).map(Input::Whole);
        }
        // A pipe or a device: only the reading finds its end.
        let stream = File::open(path).map_err(failure)?;
        Ok(Input::Stream(Box::new(stream), path.display().to_string()))
    }
}

/// A value to put.
pub enum Source {
    /// Read into memory.
    Read(Vec<u8>),
    /// Mapped from a file.
    Mapped(Mmap),
}

impl Source {
    /// A regular file's content.
    pub fn file(path: &Path) -> Outcome<Source> {
        let failure = |error| Failure::of_file("read of", path, &error);
        let mut file = File::open(path).map_err(failure)?;
        let metadata = file.metadata().map_err(failure)?;
        if metadata.len() > READ_WHOLE_MAX {
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
