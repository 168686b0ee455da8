//! Checks of the kernel and of this process's limits.

use std::fs;
use std::io;

use isotherm::config::{IoChoice, OrganizerChoice, host};
use isotherm::io::probe::{self, OrganizerBackend};

use super::Finding;
use crate::output::human_size;

/// Least memory for the embedded default of a 256 MiB DRAM tier, a quarter of the limit.
const MEMORY_COMFORTABLE: u64 = 1 << 30;

/// The version: io_uring grew what the engine prefers in 6.1, and what it needs in
/// 5.11. Whether it is allowed, [`io_uring`] says.
pub(super) fn kernel() -> Finding {
    const NAME: &str = "kernel";
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    match version_of(release) {
        Some(version) if version >= (6, 1) => Finding::good(NAME, release),
        Some(version) if version >= (5, 11) => Finding::warning(
            NAME,
            format!("{release}: io_uring lacks what came with 6.1"),
            "upgrade to Linux 6.1 or later for cheaper completions",
        ),
        Some(_) => Finding::warning(
            NAME,
            format!("{release}: its io_uring is too old; the engine uses threads"),
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

/// What the shards' I/O runs on: the engine's own probe, and what is configured.
pub(super) fn io_uring(choice: IoChoice) -> Finding {
    const NAME: &str = "io_uring";
    match (probe::io_uring(), choice) {
        (_, IoChoice::Threads) => {
            Finding::good(NAME, "not used: the configuration says io = \"threads\"")
        }
        (Ok(()), _) => Finding::good(NAME, "available: rings can be made and entered"),
        (Err(found), IoChoice::Uring) => Finding::bad(
            NAME,
            format!("{found}; io = \"uring\" is configured, so the store will not open"),
            found.fix,
        ),
        (Err(found), IoChoice::Auto) => {
            Finding::warning(NAME, format!("{found}; the engine uses threads"), found.fix)
        }
    }
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

const GLOMMIO_FIX: &str = "allow io_uring and locked memory: the fixes of io_uring and memlock";

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

/// What the organizer runs on: an organizer without work is started, and what is configured.
pub(super) fn glommio(choice: OrganizerChoice) -> Finding {
    const NAME: &str = "glommio";
    if choice == OrganizerChoice::Threads {
        return Finding::good(NAME, "not used: the configuration says organizer = \"threads\"");
    }
    let fix =
        if cfg!(feature = "glommio") { GLOMMIO_FIX } else { "build with the default features" };
    let reason = match probe::organizer() {
        Ok(OrganizerBackend { reason: None, .. }) => {
            return Finding::good(NAME, "available: an organizer started on it");
        }
        Ok(OrganizerBackend { reason: Some(reason), .. }) => reason,
        Err(error) => {
            return Finding::bad(NAME, error.message(), "raise the limit of threads: ulimit -u");
        }
    };
    match choice {
        OrganizerChoice::Glommio => Finding::bad(
            NAME,
            format!("{reason}; organizer = \"glommio\" is configured, so the store will not open"),
            fix,
        ),
        _ => Finding::warning(NAME, format!("{reason}; the organizer runs on a thread"), fix),
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
        assert_eq!(version_of("5.11"), Some((5, 11)));
        assert_eq!(version_of("linux"), None);
    }
}
