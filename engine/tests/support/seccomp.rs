//! Denies io_uring, as container runtimes do.

use std::io::{Error, Result};

/// The environment variable that says so to whoever runs under the denial.
pub const DENIED: &str = "ISOTHERM_URING_DENIED";

/// Makes `io_uring_setup` fail with EPERM in the calling thread, and in all threads and processes
/// that it starts from now on. Only makes system calls, so it may run between fork and exec.
pub fn deny_io_uring() -> Result<()> {
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let answer = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    let mut program = [
        // The number of the system call is the first word of what a filter sees.
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, libc::SYS_io_uring_setup as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, answer),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: `filter` describes `program`, and both outlive the calls, which read them and change
    // nothing but the calling thread's permissions.
    let set = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &filter)
    };
    if set == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}
