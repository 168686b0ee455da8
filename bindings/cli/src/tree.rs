//! `put -r` and `get -r`: a directory tree as a bucket whose keys are relative paths.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use isotherm::error::{Error, ErrorKind};
use isotherm::{Bucket, ScanRange};

use crate::args::{Get, Global, Put};
use crate::failure::{Failure, Outcome};
use crate::output::printable;
use crate::parallel;
use crate::progress::Progress;
use crate::session::{Access, with_bucket, with_store};
use crate::source::Source;
use crate::transfer::{get_to_file, warn_of_dram_only};

/// A regular file below a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TreeFile {
    /// The path below the directory, as bytes: the blob's key.
    pub key: Vec<u8>,
    /// The path to open.
    pub path: PathBuf,
    /// Bytes.
    pub len: u64,
}

/// What a directory holds.
#[derive(Debug, Default)]
pub struct Tree {
    /// The regular files, in the order of their paths.
    pub files: Vec<TreeFile>,
    /// Links, sockets, devices: a blob cannot be one.
    pub skipped: u64,
}

impl Tree {
    /// Lists a directory and everything below it. Links are not followed.
    pub fn list(directory: &Path) -> Outcome<Tree> {
        let mut tree = Tree::default();
        let mut pending = vec![directory.to_path_buf()];
        while let Some(at) = pending.pop() {
            let failure = |error| Failure::of_file("list of", &at, &error);
            for entry in fs::read_dir(&at).map_err(failure)? {
                let entry = entry.map_err(failure)?;
                let kind = entry.file_type().map_err(failure)?;
                if kind.is_dir() {
                    pending.push(entry.path());
                } else if kind.is_file() {
                    tree.files.push(tree_file(directory, entry.path())?);
                } else {
                    tree.skipped += 1;
                }
            }
        }
        tree.files.sort_unstable_by(|left, right| left.key.cmp(&right.key));
        Ok(tree)
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.len).sum()
    }
}

fn tree_file(directory: &Path, path: PathBuf) -> Outcome<TreeFile> {
    let metadata =
        fs::metadata(&path).map_err(|error| Failure::of_file("read of", &path, &error))?;
    let below = path.strip_prefix(directory).unwrap_or(&path);
    let key = below.to_path_buf().into_os_string().into_vec();
    Ok(TreeFile { key, path, len: metadata.len() })
}

/// `put -r BUCKET DIR`.
pub fn put(global: &Global, put: &Put) -> Outcome {
    let tree = Tree::list(Path::new(&put.key))?;
    if tree.skipped > 0 {
        eprintln!("isotherm: {} links and special files are left out", tree.skipped);
    }
    with_store(global, Access::Create, |store| {
        warn_of_dram_only(store);
        let bucket = store.bucket(&put.bucket)?;
        let progress = Progress::new("storing", Some(tree.bytes()));
        parallel::for_each(tree.files.iter().map(Ok), |file| {
            let source = Source::file(&file.path)?;
            bucket.put(&file.key, &source).map_err(|error| failed_put(&file.path, &error))?;
            progress.advance(source.len() as u64);
            Ok(())
        })
    })
}

/// An engine's error, with the file it met.
fn failed_put(path: &Path, error: &Error) -> Failure {
    let (path, message) = (path.display(), error.message());
    let fix = match error.kind() {
        ErrorKind::InvalidArgument => "; the key is the path below the directory: shorten it",
        _ => "",
    };
    Failure::Other(format!("put of {path}: {message}{fix}"))
}

/// `get -r BUCKET DIR`.
pub fn get(global: &Global, get: &Get) -> Outcome {
    let directory = Path::new(&get.key);
    with_bucket(global, &get.bucket, |bucket| {
        fs::create_dir_all(directory)
            .map_err(|error| Failure::of_file("make directory", directory, &error))?;
        let progress = Progress::new("fetching", Some(bucket.bucket_stat()?.bytes));
        let refused = AtomicU64::new(0);
        let items = bucket.scan(ScanRange::all()).map(|item| item.map_err(Failure::from));
        parallel::for_each(items, |item| {
            let fetched = fetch(bucket, &item.key, directory, &progress);
            if let Err(Failure::Other(message)) = fetched {
                // The other files are still worth having.
                eprintln!("isotherm: {message}");
                refused.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
            fetched
        })?;
        match refused.into_inner() {
            0 => Ok(()),
            count => Err(Failure::Other(format!("{count} blobs were not written; see above"))),
        }
    })
}

fn fetch(bucket: &Bucket, key: &[u8], directory: &Path, progress: &Progress) -> Outcome {
    let Some(below) = safe_path(key) else {
        let key = printable(key);
        let message = format!("key '{key}' is no path below {}; skipped", directory.display());
        return Err(Failure::Other(message));
    };
    make_parents(directory, below)?;
    get_to_file(bucket, key, &directory.join(below), progress)
}

/// The key as a relative path that cannot leave the directory it is joined to; `None` for keys
/// that are absolute, step upwards, or that a file system would spell differently.
fn safe_path(key: &[u8]) -> Option<&Path> {
    let path = Path::new(OsStr::from_bytes(key));
    let names = key.split(|byte| *byte == b'/');
    let plain =
        names.into_iter().all(|name| !matches!(name, b"" | b"." | b"..") && !name.contains(&0));
    let normal = path.components().all(|part| matches!(part, Component::Normal(_)));
    (plain && normal).then_some(path)
}

/// Makes the directories above a file, refusing to walk through a link: it may lead elsewhere.
fn make_parents(directory: &Path, below: &Path) -> Outcome {
    let mut at = directory.to_path_buf();
    for part in below.parent().into_iter().flat_map(Path::components) {
        at.push(part);
        match fs::create_dir(&at) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                let is_directory = at.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
                if !is_directory {
                    let at = at.display();
                    return Err(Failure::Other(format!("{at} is not a directory; skipped")));
                }
            }
            Err(error) => return Err(Failure::of_file("make directory", &at, &error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_relative_paths_leave_the_store() {
        for key in ["a", "a/b.txt", "...", "a/..b", "ä/ö"] {
            assert!(safe_path(key.as_bytes()).is_some(), "{key}");
        }
        for key in
            ["", "/", "/etc/passwd", "..", "../a", "a/../../b", "a/..", "a//b", "a/", "./a", "a\0b"]
        {
            assert!(safe_path(key.as_bytes()).is_none(), "{key:?}");
        }
    }

    #[test]
    fn a_link_on_the_way_is_not_walked_through() {
        let base = std::env::temp_dir().join(format!("isotherm-tree-{}", std::process::id()));
        let inside = base.join("inside");
        fs::create_dir_all(&inside).unwrap();
        std::os::unix::fs::symlink(&base, inside.join("link")).unwrap();
        assert!(make_parents(&inside, Path::new("link/x/file")).is_err());
        assert!(!base.join("x").exists());
        make_parents(&inside, Path::new("a/b/file")).unwrap();
        assert!(inside.join("a/b").is_dir());
        let tree = Tree::list(&inside).unwrap();
        assert_eq!((tree.files.len(), tree.skipped), (0, 1));
        fs::remove_dir_all(&base).unwrap();
    }
}
