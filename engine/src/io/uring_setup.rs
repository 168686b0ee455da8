//! Making a kernel ring with the best flags that this kernel takes, and saying why not.

use std::fmt;
use std::fs;
use std::io::{self, Error, ErrorKind};
use std::path::Path;

use io_uring::{IoUring, Probe, opcode};

/// A ring and the flags that the kernel refused.
pub(crate) struct Made {
    pub(crate) ring: IoUring,
    pub(crate) refused: Vec<&'static str>,
}

#[derive(Clone, Copy, PartialEq)]
enum Flag {
    /// With TASKRUN_FLAG: without it, `submit` would not know that completions wait, and the
    /// kernel takes that flag only together with a kind of deferred task running.
    DeferTaskrun,
    SingleIssuer,
    SubmitAll,
    Clamp,
}

impl Flag {
    fn name(self) -> &'static str {
        match self {
            Flag::DeferTaskrun => "DEFER_TASKRUN",
            Flag::SingleIssuer => "SINGLE_ISSUER",
            Flag::SubmitAll => "SUBMIT_ALL",
            Flag::Clamp => "CLAMP",
        }
    }
}

/// Makes a ring. Flags are dropped one at a time while the kernel answers EINVAL, the youngest
/// first: a kernel that knows one of them knows all that follow it.
pub(crate) fn make(entries: u32) -> io::Result<Made> {
    make_with(entries, vec![Flag::Clamp, Flag::SubmitAll, Flag::SingleIssuer, Flag::DeferTaskrun])
}

/// The same for a ring that several threads use, one at a time. The kernel completes what one of them
/// has submitted also while that one is elsewhere.
pub(crate) fn make_shared(entries: u32) -> io::Result<Made> {
    make_with(entries, vec![Flag::Clamp, Flag::SubmitAll])
}

fn make_with(entries: u32, mut flags: Vec<Flag>) -> io::Result<Made> {
    let mut refused = Vec::new();
    loop {
        match build(entries, &flags) {
            Ok(ring) => {
                refuse_too_old(&ring)?;
                return Ok(Made { ring, refused });
            }
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => match flags.pop() {
                Some(flag) => refused.push(flag.name()),
                None => return Err(error),
            },
            Err(error) => return Err(error),
        }
    }
}

fn build(entries: u32, flags: &[Flag]) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    // A forked child must not see the parent's ring.
    builder.dontfork();
    for flag in flags {
        match flag {
            Flag::DeferTaskrun => builder.setup_defer_taskrun().setup_taskrun_flag(),
            Flag::SingleIssuer => builder.setup_single_issuer(),
            Flag::SubmitAll => builder.setup_submit_all(),
            Flag::Clamp => builder.setup_clamp(),
        };
    }
    builder.build(entries)
}

fn refuse_too_old(ring: &IoUring) -> io::Result<()> {
    let params = ring.params();
    if !params.is_feature_ext_arg() || !params.is_feature_nodrop() {
        let message = "this kernel's io_uring lacks EXT_ARG or NODROP (Linux 5.11)";
        return Err(Error::new(ErrorKind::Unsupported, message));
    }
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    let needed = [
        ("READ", opcode::Read::CODE),
        ("WRITE", opcode::Write::CODE),
        ("FSYNC", opcode::Fsync::CODE),
    ];
    for (name, code) in needed {
        if !probe.is_supported(code) {
            let message = format!("this kernel's io_uring lacks the operation {name}");
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
    }
    Ok(())
}

/// Why io_uring does not work here, for whoever runs this machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unavailable {
    /// What forbids it or lacks, with the value.
    pub reason: String,
    /// What to do about it.
    pub fix: &'static str,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

const FIX_KERNEL: &str = "use Linux 6.1 or later, built with CONFIG_IO_URING";
const FIX_KERNEL_OR_SECCOMP: &str = "use Linux 6.1 or later, built with CONFIG_IO_URING; in a \
                                     container, a seccomp profile that allows the io_uring calls";
const FIX_SYSCTL: &str = "sysctl kernel.io_uring_disabled=0 (as root)";
const FIX_SECCOMP: &str = "run the container with a seccomp profile that allows io_uring_setup, \
                           io_uring_enter and io_uring_register";
const FIX_LOCKED: &str = "raise the locked-memory limit: ulimit -l unlimited";
const FIX_DESCRIPTORS: &str = "raise the limit of open files: ulimit -n";

impl Unavailable {
    /// A simulated device is nothing for the kernel.
    pub(crate) fn simulated(device: &Path) -> Unavailable {
        let reason = format!("{} has no descriptor", device.display());
        Unavailable { reason, fix: "name a file or a block device" }
    }
}

/// What a failure while `doing` something with a ring means.
pub(crate) fn explain(doing: &str, error: &Error) -> Unavailable {
    let (reason, fix) = match error.raw_os_error() {
        Some(libc::ENOSYS) => {
            let reason = "the kernel has no io_uring, or a seccomp filter hides it (ENOSYS)";
            (reason.to_owned(), FIX_KERNEL_OR_SECCOMP)
        }
        Some(libc::EPERM | libc::EACCES) => {
            match fs::read_to_string("/proc/sys/kernel/io_uring_disabled") {
                Ok(level) if level.trim() != "0" => {
                    let level = level.trim();
                    let reason = format!("the sysctl kernel.io_uring_disabled is {level} (EPERM)");
                    (reason, FIX_SYSCTL)
                }
                _ => {
                    let reason = "a seccomp filter or security module forbids io_uring (EPERM)";
                    (reason.to_owned(), FIX_SECCOMP)
                }
            }
        }
        Some(libc::ENOMEM) => {
            let reason = "the locked-memory limit (ulimit -l) is too small for a ring (ENOMEM)";
            (reason.to_owned(), FIX_LOCKED)
        }
        Some(libc::EMFILE | libc::ENFILE) => {
            (format!("no file descriptor left for a ring: {error}"), FIX_DESCRIPTORS)
        }
        _ => (error.to_string(), FIX_KERNEL),
    };
    Unavailable { reason: format!("{doing}: {reason}"), fix }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes a system call fail on the calling thread, as container runtimes do.
    fn forbid(call: libc::c_long, errno: u32) {
        let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
        let mut program = [
            step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
            step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, call as u32),
            step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno),
            step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
        ];
        let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        // SAFETY: the filter describes `program`, which outlives both calls; they affect the
        // calling thread only.
        let set = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &filter)
        };
        assert_eq!(set, 0, "{}", Error::last_os_error());
    }

    /// What the probe says on a thread that may not make this call.
    fn found_without(call: libc::c_long, errno: i32) -> Unavailable {
        let probe = move || {
            forbid(call, errno as u32);
            crate::io::probe::io_uring().unwrap_err()
        };
        std::thread::spawn(probe).join().unwrap()
    }

    #[test]
    fn a_machine_that_forbids_rings_is_told_why_and_what_to_do() {
        for (errno, reason) in [(libc::EPERM, "EPERM"), (libc::ENOSYS, "ENOSYS")] {
            let found = found_without(libc::SYS_io_uring_setup, errno);
            assert!(found.reason.contains(reason) && !found.fix.is_empty(), "{found:?}");
        }
    }

    #[test]
    fn a_ring_that_may_be_made_but_not_entered_is_not_available() {
        if crate::io::probe::io_uring().is_err() {
            return;
        }
        let found = found_without(libc::SYS_io_uring_enter, libc::EPERM);
        assert!(found.reason.contains("entering") && found.reason.contains("EPERM"), "{found}");
        assert!(found.fix.contains("io_uring_enter"), "{found:?}");
    }
}
