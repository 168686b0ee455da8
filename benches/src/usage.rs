//! What the kernel says a process has used.

use std::fs;
use std::time::Duration;

use crate::Outcome;

/// What a process has used of the processors, all its threads together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CpuTimes {
    /// In the program itself.
    pub user: Duration,
    /// In the kernel, for it.
    pub system: Duration,
}

impl CpuTimes {
    /// Of this process so far.
    pub fn now() -> CpuTimes {
        // SAFETY: `rusage` is plain data for which zeros are valid.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: `usage` is a writable `rusage`.
        unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
        let of = |time: libc::timeval| {
            Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
        };
        CpuTimes { user: of(usage.ru_utime), system: of(usage.ru_stime) }
    }

    /// What has been used since an earlier look.
    pub fn since(self, earlier: CpuTimes) -> CpuTimes {
        CpuTimes {
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
        }
    }

    /// Both.
    pub fn total(self) -> Duration {
        self.user + self.system
    }
}

/// User and system time of this process so far, all its threads together.
pub fn cpu_time() -> Duration {
    CpuTimes::now().total()
}

/// Resident memory of this process now, and the most it ever was, in bytes.
pub fn resident() -> Outcome<(u64, u64)> {
    let status = fs::read_to_string("/proc/self/status")?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib << 10)
    };
    match (field("VmRSS:"), field("VmHWM:")) {
        (Some(now), Some(most)) => Ok((now, most)),
        _ => Err("/proc/self/status has no VmRSS and VmHWM".into()),
    }
}

/// One line on the machine, for the head of a report.
pub fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus.lines().find(|line| line.starts_with("model name"));
    let model = model.and_then(|line| line.split(": ").nth(1)).unwrap_or("unknown CPU");
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{cores} x {model}, Linux {}, load average {load} at the start", kernel.trim())
}
