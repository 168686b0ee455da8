//! A small file system in an image, mounted on a loop device for as long as it is needed.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Of the image: the least that all of them can be made in.
const IMAGE_LEN: u64 = 320 << 20;
/// Directories of this name and a process's number hold images and mounts.
const PREFIX: &str = "isotherm-mounts-";

/// A mounted file system. It is unmounted, and its loop device released, when this is dropped.
pub struct Mounted {
    directory: PathBuf,
}

impl Mounted {
    /// Makes and mounts a file system. Says why if this host cannot.
    pub fn new(kind: &str) -> Result<Mounted, String> {
        if fs::metadata("/proc/self").map_err(|error| error.to_string())?.uid() != 0 {
            return Err("only root may mount".to_owned());
        }
        remove_leftovers();
        let name = format!("{PREFIX}{}", std::process::id());
        let mounted = Mounted { directory: std::env::temp_dir().join(name) };
        fs::create_dir_all(mounted.path()).map_err(|error| error.to_string())?;
        let image = mounted.directory.join("image");
        let made = File::create(&image).and_then(|file| file.set_len(IMAGE_LEN));
        made.map_err(|error| error.to_string())?;
        let options: &[&str] =
            if kind == "ext4" { &["-q", "-F", "-m", "0"] } else { &["-q", "-f"] };
        run(Command::new(format!("mkfs.{kind}")).args(options).arg(&image))?;
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(mounted.path()))?;
        Ok(mounted)
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.directory.join("mounted")
    }

    /// Takes all but so many bytes of it, as if others had.
    pub fn leave(&self, free: u64) {
        let taken = self.free().checked_sub(free).unwrap().to_string();
        let others = self.path().join("taken-by-others");
        run(Command::new("fallocate").args(["-l", &taken]).arg(others)).unwrap();
    }

    /// Bytes that may still be taken of it.
    pub fn free(&self) -> u64 {
        let mut df = Command::new("df");
        let told = run(df.args(["--output=avail", "-B1"]).arg(self.path())).unwrap();
        told.lines().last().unwrap().trim().parse().unwrap()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        remove(&self.directory);
    }
}

/// Those of tests that were killed.
fn remove_leftovers() {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            remove(&entry.path());
        }
    }
}

/// Lazily, for a test that failed may have files open: with the last of them the loop device goes.
fn remove(directory: &Path) {
    // The directory is removed only where nothing is mounted any more.
    let mounted = directory.join("mounted");
    let _ = run(Command::new("umount").arg("--lazy").arg(&mounted));
    if fs::remove_dir(&mounted).is_ok() {
        let _ = fs::remove_dir_all(directory);
    }
}

/// What it prints, or why it failed.
fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("{command:?}: {}: {}", output.status, said.trim())),
    }
}
