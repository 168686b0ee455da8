//! Runs a command with io_uring denied, as many containers do: `without_uring COMMAND...`.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

#[path = "../tests/support/seccomp.rs"]
mod seccomp;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(command) = arguments.next() else {
        eprintln!("usage: without_uring COMMAND [ARGUMENT...]");
        return ExitCode::from(2);
    };
    if let Err(error) = seccomp::deny_io_uring() {
        eprintln!("cannot deny io_uring: {error}");
        return ExitCode::FAILURE;
    }
    let error = Command::new(&command).args(arguments).env(seccomp::DENIED, "1").exec();
    eprintln!("cannot run {}: {error}", command.display());
    ExitCode::FAILURE
}
