//! Making a kernel ring with the best flags that this kernel takes, and saying why not.

use std::fs;
use std::io::{self, Error, ErrorKind};

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
    let mut flags = vec![Flag::Clamp, Flag::SubmitAll, Flag::SingleIssuer, Flag::DeferTaskrun];
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

/// What the failure to make a ring means for whoever runs this machine.
pub(crate) fn explain(error: &Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOSYS) => {
            "the kernel has no io_uring, or a seccomp filter hides it (ENOSYS)".to_owned()
        }
        Some(libc::EPERM | libc::EACCES) => {
            match fs::read_to_string("/proc/sys/kernel/io_uring_disabled") {
                Ok(level) if level.trim() != "0" => {
                    format!("the sysctl kernel.io_uring_disabled is {} (EPERM)", level.trim())
                }
                _ => "a seccomp filter or security module forbids io_uring (EPERM)".to_owned(),
            }
        }
        Some(libc::ENOMEM) => {
            format!("the locked-memory limit (ulimit -l) is too small for a ring: {error}")
        }
        Some(libc::EMFILE | libc::ENFILE) => format!("no file descriptor left for a ring: {error}"),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes io_uring_setup fail on the calling thread, as container runtimes do.
    fn forbid_rings(errno: u32) {
        let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
        let mut program = [
            step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
            step(
                libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
                0,
                1,
                libc::SYS_io_uring_setup as u32,
            ),
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

    #[test]
    fn a_machine_that_forbids_rings_is_told_why() {
        for (errno, reason) in [(libc::EPERM, "EPERM"), (libc::ENOSYS, "ENOSYS")] {
            let explained = std::thread::spawn(move || {
                forbid_rings(errno as u32);
                let no_devices: crate::io::Devices = std::sync::Arc::new([]);
                crate::io::uring::available(&no_devices).unwrap_err()
            });
            let explained = explained.join().unwrap();
            assert!(explained.contains(reason), "{explained}");
        }
    }
}
