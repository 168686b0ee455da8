//! What a run does to the machine, each undone by a guard: a directory, a loop device, mounts. What a
//! run that was killed has left is undone by the next one.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::disk::Disk;
use crate::fuse::{FILE, Served};

/// What fails here ends the run: it is told to somebody, and nobody decides by its kind.
pub type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Directories of runs, and the number of the process behind it.
const PREFIX: &str = "isotherm-crash-images-";

/// How long it may take until nobody has a file open any more.
const LET_GO_MAX: Duration = Duration::from_secs(10);

/// A file system to put the store on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileSystem {
    /// XFS as `mkfs.xfs` makes it.
    Xfs,
    /// ext4 as `mkfs.ext4` makes it, with a journal.
    Ext4,
}

impl FileSystem {
    /// As `mount -t` calls it.
    pub fn name(self) -> &'static str {
        match self {
            FileSystem::Xfs => "xfs",
            FileSystem::Ext4 => "ext4",
        }
    }

    /// What makes one. Without discards, which the disk does not do, and with nothing left to do later.
    fn make(self, device: &Path) -> Command {
        let mut made = match self {
            FileSystem::Xfs => command("mkfs.xfs", ["-q", "-f", "-K"]),
            FileSystem::Ext4 => command(
                "mkfs.ext4",
                ["-q", "-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"],
            ),
        };
        made.arg(device);
        made
    }
}

/// A command with arguments and no input.
pub fn command<const N: usize>(program: &str, arguments: [&str; N]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs it; what it prints, or what it complains about.
pub fn run(command: &mut Command) -> Outcome<String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{command:?}: {}: {}", output.status, said.trim()).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().into())
}

/// Why the machine cannot do this at all.
pub fn lacking(file_systems: &[FileSystem]) -> Option<String> {
    let user = run(&mut command("id", ["-u"])).unwrap_or_default();
    if user != "0" {
        return Some("only root can mount".into());
    }
    for device in ["/dev/fuse", "/dev/loop-control"] {
        if let Err(error) = fs::OpenOptions::new().read(true).write(true).open(device) {
            return Some(format!("{device}: {error}"));
        }
    }
    let makers = file_systems.iter().map(|system| format!("mkfs.{}", system.name()));
    for tool in makers.chain(["losetup", "mount", "umount"].map(String::from)) {
        if command(&tool, ["-V"]).stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            return Some(format!("there is no {tool}"));
        }
    }
    None
}

/// Something mounted at a path, until it is dropped.
pub struct Mounted(PathBuf);

impl Mounted {
    /// What is mounted there already.
    pub fn at(path: &Path) -> Mounted {
        Mounted(path.into())
    }

    /// Unmounts, and says what stands in the way. The kernel lets go of a ring's files a moment after
    /// the ring.
    pub fn unmount(self) -> Outcome<()> {
        let start = Instant::now();
        while let Err(error) = run(command("umount", []).arg(&self.0)) {
            if start.elapsed() > LET_GO_MAX {
                return Err(format!("{error}; open are {:?}", open_under(&self.0)).into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        std::mem::forget(self);
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if run(command("umount", []).arg(&self.0)).is_err() {
            let _ = run(command("umount", ["-l"]).arg(&self.0));
        }
    }
}

/// Files of this process under a path.
fn open_under(path: &Path) -> Vec<PathBuf> {
    let descriptors = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let files = descriptors.filter_map(|descriptor| fs::read_link(descriptor.path()).ok());
    files.filter(|file| file.starts_with(path)).collect()
}

/// A loop device, until it is dropped.
struct Loop(PathBuf);

impl Loop {
    fn attach(file: &Path) -> Outcome<Loop> {
        let options = ["--find", "--show", "--direct-io=on"];
        Ok(Loop(run(command("losetup", options).arg(file))?.into()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = run(command("losetup", ["-d"]).arg(&self.0));
    }
}

/// An empty directory of this process, until it is dropped.
struct Directory(PathBuf);

impl Directory {
    fn make(path: PathBuf) -> Outcome<Directory> {
        fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Directory(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // Never what is in it: that could be a file system that is mounted still.
        let _ = fs::remove_dir(&self.0);
    }
}

/// A disk in memory as a block device with a file system. Dropped, it leaves nothing behind.
pub struct Bench {
    // In the order of their undoing.
    device: Loop,
    _served: Served,
    file_system_at: Directory,
    _served_at: Directory,
    _directory: Directory,
    file_system: FileSystem,
    /// What lies under it.
    pub disk: Arc<Disk>,
}

impl Bench {
    /// An empty file system of this many bytes.
    pub fn make(file_system: FileSystem, len: u64) -> Outcome<Bench> {
        let path = std::env::temp_dir().join(format!("{PREFIX}{}", std::process::id()));
        let directory = Directory::make(path.clone())?;
        let served_at = Directory::make(path.join("fuse"))?;
        let file_system_at = Directory::make(path.join("files"))?;
        let disk = Arc::new(Disk::new(len));
        let served = Served::mount(disk.clone(), &served_at.0)?;
        let device = Loop::attach(&served_at.0.join(FILE))?;
        run(&mut file_system.make(&device.0))?;
        Ok(Bench {
            device,
            _served: served,
            file_system_at,
            _served_at: served_at,
            _directory: directory,
            file_system,
            disk,
        })
    }

    /// Mounts the file system, which replays its journal where there is one.
    pub fn mount(&self) -> Outcome<Mounted> {
        let options = ["-t", self.file_system.name(), "-o", "noatime"];
        run(command("mount", options).arg(&self.device.0).arg(&self.file_system_at.0))?;
        Ok(Mounted::at(&self.file_system_at.0))
    }

    /// Where it is mounted.
    pub fn files(&self) -> &Path {
        &self.file_system_at.0
    }
}

/// Undoes what runs have left whose processes are gone.
pub fn clean_up() {
    let Ok(mounts) = fs::read_to_string("/proc/self/mountinfo") else { return };
    let prefix = std::env::temp_dir().join(PREFIX);
    let prefix = prefix.to_string_lossy();
    let mut left = Vec::new();
    for line in mounts.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let (Some(device), Some(path)) = (words.get(2), words.get(4)) else { continue };
        let Some(rest) = path.strip_prefix(&*prefix) else { continue };
        let process = rest.split('/').next().unwrap_or_default();
        if !is_alive(process) {
            left.push((device.to_string(), path.to_string()));
        }
    }
    // Whoever still waits for the disk gets an error, so that all can be let go.
    for (device, _) in &left {
        let connection = device.trim_start_matches("0:");
        let _ = fs::write(format!("/sys/fs/fuse/connections/{connection}/abort"), "1");
    }
    // While the files are still there by name; a device that is in use goes when it no longer is.
    detach_left(&prefix);
    // The last one mounted may lie on those before.
    for (_, path) in left.iter().rev() {
        let _ = run(&mut command("umount", ["-l", path]));
    }
    remove_left(&prefix);
}

fn detach_left(prefix: &str) {
    let listed = command("losetup", ["--list", "--noheadings", "--output", "NAME,BACK-FILE"]);
    let Ok(devices) = run(&mut { listed }) else { return };
    for line in devices.lines() {
        let Some((device, file)) = line.trim().split_once(char::is_whitespace) else { continue };
        let rest = file.trim().strip_prefix(prefix);
        if rest.is_some_and(|rest| !is_alive(rest.split('/').next().unwrap_or_default())) {
            let _ = run(&mut command("losetup", ["-d", device]));
        }
    }
}

fn remove_left(prefix: &str) {
    let Some(parent) = Path::new(prefix).parent() else { return };
    let Ok(entries) = fs::read_dir(parent) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.to_string_lossy();
        let Some(process) = name.strip_prefix(prefix) else { continue };
        if !is_alive(process) {
            let _ = fs::remove_dir(path.join("files"));
            let _ = fs::remove_dir(path.join("fuse"));
            let _ = fs::remove_dir(&path);
        }
    }
}

/// Whether it runs: one that was killed and still waits for its disk does not.
fn is_alive(process: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let state = stat.rsplit(") ").next().unwrap_or_default();
    !stat.is_empty() && !state.starts_with(['Z', 'X'])
}
