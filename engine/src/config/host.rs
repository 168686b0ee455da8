//! Facts of this host that defaults and bounds come from: cores, memory, free disk space.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result, fail};

/// Cores this process may run on: its cpuset (`sched_getaffinity`), and no more than a cgroup's
/// CPU quota pays for.
pub(crate) fn usable_cores() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get())
}

/// Bytes of memory this process may use: the machine's, or a cgroup's limit where lower.
/// `None` where neither can be read.
pub fn memory_limit() -> Option<u64> {
    let membership = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let cgroup = cgroup_memory_limit(&membership, Path::new("/sys/fs/cgroup"));
    [cgroup, machine_memory()].into_iter().flatten().min()
}

/// MemTotal of the machine, in bytes.
fn machine_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The lowest memory limit of the process's cgroup and its ancestors, of version 1 or 2.
///
/// `membership` is the text of `/proc/self/cgroup`. Inside a container the path it names may not
/// exist below `root`; the walk to the root then finds the limit that does.
fn cgroup_memory_limit(membership: &str, root: &Path) -> Option<u64> {
    membership.lines().filter_map(|line| limit_of_hierarchy(line, root)).min()
}

/// The limit of one line of `/proc/self/cgroup`: `id:controllers:path`.
fn limit_of_hierarchy(line: &str, root: &Path) -> Option<u64> {
    let mut fields = line.splitn(3, ':');
    let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    let (top, file) = match controllers {
        "" => (root.to_path_buf(), "memory.max"),
        _ if controllers.split(',').any(|name| name == "memory") => {
            (root.join("memory"), "memory.limit_in_bytes")
        }
        _ => return None,
    };
    let group = top.join(path.trim_start_matches('/'));
    let groups = group.ancestors().take_while(|ancestor| ancestor.starts_with(&top));
    groups
        .filter_map(|ancestor| fs::read_to_string(ancestor.join(file)).ok())
        // "max" and version 1's huge number both mean no limit; the machine's memory bounds it.
        .filter_map(|text| text.trim().parse::<u64>().ok())
        .min()
}

/// A file system's identity and what an ordinary user may still write, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FreeSpace {
    pub(crate) file_system: u64,
    pub(crate) free_bytes: u64,
}

/// Free space where `path` lies, or would lie: its nearest existing ancestor is asked.
pub(crate) fn free_space(path: &Path) -> Result<FreeSpace> {
    let existing = nearest_existing(path)?;
    let what = || format!("free space of {}", existing.display());
    let metadata = fs::metadata(&existing).map_err(|error| Error::from_io(what(), &error))?;
    let Ok(name) = CString::new(existing.as_os_str().as_bytes()) else {
        fail!(InvalidConfig, "path {existing:?} holds a zero byte");
    };
    // SAFETY: all-zero bytes are a valid statvfs, a struct of integers.
    let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: `name` is a C string and `stat` a writable statvfs; both outlive the call.
    if unsafe { libc::statvfs(name.as_ptr(), &mut stat) } != 0 {
        return Err(Error::from_io(what(), &io::Error::last_os_error()));
    }
    let free_bytes = stat.f_bavail.saturating_mul(stat.f_frsize);
    Ok(FreeSpace { file_system: metadata.dev(), free_bytes })
}

/// `path` itself, or the closest directory above it that exists.
fn nearest_existing(path: &Path) -> Result<PathBuf> {
    let absolute = std::path::absolute(path)
        .map_err(|error| Error::from_io(format!("path {}", path.display()), &error))?;
    match absolute.ancestors().find(|ancestor| ancestor.exists()) {
        Some(ancestor) => Ok(ancestor.to_path_buf()),
        None => fail!(InvalidConfig, "no directory exists above {}", path.display()),
    }
}

/// `path` with links resolved as far as it exists, so that two spellings of a place are equal.
pub(crate) fn canonical(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    for ancestor in absolute.ancestors() {
        if let Ok(resolved) = ancestor.canonicalize() {
            let rest = absolute.strip_prefix(ancestor).unwrap_or(Path::new(""));
            return if rest.as_os_str().is_empty() { resolved } else { resolved.join(rest) };
        }
    }
    absolute
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::TestDir;

    #[test]
    fn the_lowest_limit_of_a_version_2_group_and_its_ancestors_counts() {
        let root = TestDir::new("cgroup2");
        fs::create_dir_all(root.path().join("a/b")).unwrap();
        fs::write(root.path().join("a/b/memory.max"), "max\n").unwrap();
        fs::write(root.path().join("a/memory.max"), "536870912\n").unwrap();
        assert_eq!(cgroup_memory_limit("0::/a/b\n", root.path()), Some(512 << 20));
        // A container sees the host's path, which does not exist below its own root.
        fs::write(root.path().join("memory.max"), "1048576\n").unwrap();
        assert_eq!(cgroup_memory_limit("0::/docker/x\n", root.path()), Some(1 << 20));
    }

    #[test]
    fn a_version_1_memory_controller_is_found_among_the_others() {
        let root = TestDir::new("cgroup1");
        fs::create_dir_all(root.path().join("memory/job")).unwrap();
        fs::write(root.path().join("memory/job/memory.limit_in_bytes"), "4194304\n").unwrap();
        let membership = "9:name=systemd:/\n4:cpu,memory:/job\n1:cpuset:/\n0::/\n";
        assert_eq!(cgroup_memory_limit(membership, root.path()), Some(4 << 20));
        assert_eq!(cgroup_memory_limit("1:cpuset:/\n", root.path()), None);
    }

    #[test]
    fn this_host_has_cores_memory_and_space() {
        assert!(usable_cores() >= 1);
        assert!(memory_limit().unwrap() > 1 << 20);
        let here = free_space(&std::env::temp_dir().join("not/there/yet")).unwrap();
        assert!(here.free_bytes > 0);
    }
}
