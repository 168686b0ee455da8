//! The file of a get: there whole, or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Outcome};

/// A file that appears under its name when it is complete. A pipe or device is written directly.
pub struct Target {
    path: PathBuf,
    partial: Option<PathBuf>,
    file: File,
}

impl Target {
    /// Begins a file.
    pub fn create(path: &Path) -> Outcome<Target> {
        let failure = |error| Failure::of_file("write of", path, &error);
        if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            let file = OpenOptions::new().write(true).open(path).map_err(failure)?;
            return Ok(Target { path: path.to_path_buf(), partial: None, file });
        }
        let partial = partial_name(path);
        // Never through a link or into a file that somebody else made.
        let file = OpenOptions::new().write(true).create_new(true).open(&partial);
        let file = file.map_err(failure)?;
        Ok(Target { path: path.to_path_buf(), partial: Some(partial), file })
    }

    /// Gives the file its name.
    pub fn finish(mut self) -> Outcome {
        if let Some(partial) = self.partial.take() {
            fs::rename(&partial, &self.path).map_err(|error| {
                // It would be left for ever otherwise.
                let _ = fs::remove_file(&partial);
                Failure::of_file("write of", &self.path, &error)
            })?;
        }
        Ok(())
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(partial) = &self.partial {
            // A get that failed leaves nothing behind; if it cannot, its name says what it is.
            let _ = fs::remove_file(partial);
        }
    }
}

/// A name beside the file that no other get of this moment uses.
fn partial_name(path: &Path) -> PathBuf {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    path.with_file_name(format!(".isotherm-{}-{number}.partial", std::process::id()))
}
