//! The files of a store in memory, from which damaged copies are made.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::Outcome;

/// The unit of damage.
pub const SECTOR: usize = 512;
/// Pages of zeros are left out of the copies: they read the same.
const PAGE: usize = 4096;

/// A file of the store.
pub struct StoredFile {
    /// Relative to the store's directory.
    pub path: PathBuf,
    /// All of it.
    pub bytes: Vec<u8>,
}

/// Every regular file of a store, by path.
pub struct Image {
    /// The files.
    pub files: Vec<StoredFile>,
}

/// A sector that is not all zeros.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sector {
    /// Which file.
    pub file: usize,
    /// Where it begins.
    pub at: usize,
    /// Less than [`SECTOR`] only at the end of the file.
    pub len: usize,
}

/// What is done to a copy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// These bytes stand there instead.
    Overwrite {
        /// Which file.
        file: usize,
        /// Where they begin.
        at: usize,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// The file ends there.
    Truncate {
        /// Which file.
        file: usize,
        /// Its new length.
        len: usize,
    },
}

impl Image {
    /// The image of a closed store.
    pub fn of(directory: &Path) -> Outcome<Image> {
        let mut files = Vec::new();
        read_files(directory, Path::new(""), &mut files)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Image { files })
    }

    /// The sectors in use, of all files in order: those that are not all zeros. What was allocated
    /// and never written can tell nothing, whichever engine has left it.
    pub fn sectors(&self) -> Vec<Sector> {
        let mut found = Vec::new();
        for (file, StoredFile { bytes, .. }) in self.files.iter().enumerate() {
            let sectors = bytes.chunks(SECTOR).enumerate();
            let used = sectors.filter(|(_, sector)| sector.iter().any(|byte| *byte != 0));
            found.extend(used.map(|(number, sector)| Sector {
                file,
                at: number * SECTOR,
                len: sector.len(),
            }));
        }
        found
    }

    /// The bytes of a sector.
    pub fn bytes(&self, sector: Sector) -> &[u8] {
        &self.files[sector.file].bytes[sector.at..][..sector.len]
    }

    /// A change in words, for whoever looks for its cause.
    pub fn describe(&self, change: &Change) -> String {
        match change {
            Change::Overwrite { file, at, bytes } => {
                format!("{} bytes at {at} of {}", bytes.len(), self.files[*file].path.display())
            }
            Change::Truncate { file, len } => {
                format!("{} cut to {len} bytes", self.files[*file].path.display())
            }
        }
    }

    /// Writes the files into an empty directory, changed.
    pub fn write(&self, directory: &Path, changes: &[Change]) -> Outcome {
        let mut copies = Vec::new();
        for StoredFile { path, bytes } in &self.files {
            let path = directory.join(path);
            fs::create_dir_all(path.parent().ok_or("a file without a directory")?)?;
            let file = File::create(path)?;
            file.set_len(bytes.len() as u64)?;
            for (number, page) in bytes.chunks(PAGE).enumerate() {
                if page.iter().any(|byte| *byte != 0) {
                    file.write_all_at(page, (number * PAGE) as u64)?;
                }
            }
            copies.push(file);
        }
        for change in changes {
            match change {
                Change::Overwrite { file, at, bytes } => {
                    copies[*file].write_all_at(bytes, *at as u64)?;
                }
                Change::Truncate { file, len } => copies[*file].set_len(*len as u64)?,
            }
        }
        Ok(())
    }
}

fn read_files(directory: &Path, below: &Path, files: &mut Vec<StoredFile>) -> Outcome {
    for entry in fs::read_dir(directory.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            read_files(directory, &path, files)?;
        } else if kind.is_file() {
            let bytes = fs::read(entry.path())?;
            files.push(StoredFile { path, bytes });
        }
    }
    Ok(())
}
