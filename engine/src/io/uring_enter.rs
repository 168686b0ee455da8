//! What the errors of `io_uring_enter` mean for the ring that met them.

use std::io::Error;

/// What a call that failed leaves behind.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Failure {
    /// What was not submitted is still queued, and the next turn tries again.
    Passing,
    /// Nobody can say any more what the kernel has and what it has not: the ring is lost. Why.
    Lasting(String),
}

/// Judges an error by its number.
pub(crate) fn judge(error: &Error) -> Failure {
    let meaning = match error.raw_os_error() {
        // Time is up, or a signal came.
        Some(libc::ETIME | libc::EINTR) => return Failure::Passing,
        // The kernel is short of something.
        Some(libc::EAGAIN | libc::EBUSY | libc::ENOMEM) => return Failure::Passing,
        Some(libc::EBADR) => "the kernel had no memory to keep a completion",
        Some(libc::EBADF) => "something in this process has closed the ring's descriptor",
        Some(libc::EOPNOTSUPP) => "something in this process has replaced the ring's descriptor",
        Some(libc::EBADFD | libc::ENXIO | libc::EOWNERDEAD) => "the kernel has shut the ring down",
        Some(libc::EEXIST) => "the ring was entered by a thread that did not make it",
        Some(libc::EPERM | libc::EACCES | libc::ENOSYS) => "a filter now forbids io_uring",
        Some(libc::EFAULT | libc::EINVAL) => "the kernel does not take the engine's arguments",
        _ => "the kernel's documentation does not name this error",
    };
    Failure::Lasting(format!("io_uring_enter: {error}: {meaning}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_tried_again_and_everything_else_is_named() {
        for errno in 1..=133 {
            let error = Error::from_raw_os_error(errno);
            match (errno, judge(&error)) {
                (
                    libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY | libc::ENOMEM,
                    Failure::Passing,
                ) => {}
                (_, Failure::Lasting(why)) => assert!(why.contains(&format!("error {errno}"))),
                (_, judged) => panic!("{error} is {judged:?}"),
            }
        }
    }
}
