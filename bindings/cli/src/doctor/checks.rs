//! Checks of the kernel and of this process's limits.

use std::fs;
use std::io;

use io_uring::IoUring;
use isotherm::config::host;

use super::Finding;
use crate::output::human_size;

/// glommio asks for this much locked memory for each of its executors, in bytes.
const GLOMMIO_LOCKED_MIN: u64 = 512 << 10;
/// Least memory for the embedded default of a 256 MiB DRAM tier, a quarter of the limit.
const MEMORY_COMFORTABLE: u64 = 1 << 30;

/// The version: io_uring grew what the engine prefers in 6.1, and is usable from 5.10.
pub(super) fn kernel() -> Finding {
    const NAME: &str = "kernel";
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    match version_of(release) {
        Some(version) if version >= (6, 1) => Finding::good(NAME, release),
        Some(version) if version >= (5, 10) => Finding::warning(
            NAME,
            format!("{release}: io_uring lacks what came with 6.1"),
            "upgrade to Linux 6.1 or later for cheaper completions",
        ),
        Some(_) => Finding::warning(
            NAME,
            format!("{release}: too old for io_uring; the engine uses threads"),
            "upgrade to Linux 6.1 or later",
        ),
        None => Finding::warning(
            NAME,
            format!("version '{release}' was not understood"),
            "use Linux 6.1 or later",
        ),
    }
}

fn version_of(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Whether this process may make a ring, and who forbids it.
pub(super) fn io_uring() -> Finding {
    const NAME: &str = "io_uring";
    let error = match IoUring::new(8) {
        Ok(_) => return Finding::good(NAME, "available"),
        Err(error) => error,
    };
    let found = format!("not available ({error}); the engine uses threads");
    let sysctl = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    let fix = match (error.raw_os_error(), sysctl.trim()) {
        (_, "1" | "2") => "sysctl kernel.io_uring_disabled=0 (as root)",
        (Some(libc::EPERM | libc::EACCES), _) => {
            "a seccomp filter forbids it: run the container with a profile that allows \
             io_uring_setup, io_uring_enter and io_uring_register"
        }
        (Some(libc::ENOMEM), _) => "raise the locked-memory limit: ulimit -l unlimited",
        _ => "use a kernel with CONFIG_IO_URING, Linux 6.1 or later",
    };
    Finding::warning(NAME, found, fix)
}

/// The limit of locked memory, in bytes; `None`: unlimited.
fn locked_memory_limit() -> io::Result<Option<u64>> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a writable rlimit and outlives the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur))
}

const LOCKED_FIX: &str = "ulimit -l unlimited, or 'memlock unlimited' in /etc/security/limits.conf; \
                          in a container --ulimit memlock=-1";

/// Locked memory: registered buffers and glommio's rings count against it.
pub(super) fn locked_memory() -> Finding {
    const NAME: &str = "memlock";
    match locked_memory_limit() {
        Ok(None) => Finding::good(NAME, "unlimited"),
        Ok(Some(bytes)) if bytes >= 8 << 20 => Finding::good(NAME, human_size(bytes)),
        Ok(Some(bytes)) => {
            Finding::warning(NAME, format!("{} is little", human_size(bytes)), LOCKED_FIX)
        }
        Err(error) => Finding::warning(NAME, format!("not readable: {error}"), LOCKED_FIX),
    }
}

/// Whether the organizer can run on glommio.
pub(super) fn glommio(has_uring: bool) -> Finding {
    const NAME: &str = "glommio";
    if !cfg!(feature = "glommio") {
        return Finding::warning(
            NAME,
            "not built in; the organizer runs on a thread",
            "build with the default features",
        );
    }
    if !has_uring {
        return Finding::warning(
            NAME,
            "needs io_uring; the organizer runs on a thread",
            "as for io_uring",
        );
    }
    match locked_memory_limit() {
        Ok(Some(bytes)) if bytes < GLOMMIO_LOCKED_MIN => Finding::warning(
            NAME,
            format!("needs 512 KiB of locked memory, {} allowed", human_size(bytes)),
            LOCKED_FIX,
        ),
        _ => Finding::good(NAME, "built in, and io_uring and locked memory allow it"),
    }
}

/// Memory that this process may use, cgroup included.
pub(super) fn memory() -> Finding {
    const NAME: &str = "memory";
    match host::memory_limit() {
        Some(bytes) if bytes >= MEMORY_COMFORTABLE => Finding::good(NAME, human_size(bytes)),
        Some(bytes) => Finding::warning(
            NAME,
            format!("{}; the default DRAM tier is a quarter of it", human_size(bytes)),
            "raise the cgroup's limit (memory.max), or configure a small DRAM tier",
        ),
        None => Finding::warning(
            NAME,
            "neither /proc/meminfo nor a cgroup could be read",
            "mount /proc; or set tier.0.capacity and memory_budget",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_are_understood() {
        assert_eq!(version_of("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(version_of("5.10"), Some((5, 10)));
        assert_eq!(version_of("linux"), None);
    }
}
