//! One life of the C program, from its start to its end.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::installed::{compile, program};

const SOURCE: &str = "ffi/tests/programs/killed.c";
/// Of the store's device.
pub const CAPACITY: &str = "96MiB";
/// A program that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// What ends a program.
#[derive(Clone, Copy, Debug)]
pub enum Death {
    /// Nothing: it makes its changes and closes the store.
    None,
    /// A signal, so long after its start.
    After(Duration),
    /// A signal as any of its threads enters its Nth of these system calls, of strace's names.
    AtCall(&'static str, u64),
}

/// What a program is to do.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    pub death: Death,
    /// Changes of each of its threads; 0: without end.
    pub steps: u64,
}

/// What a program has told, and whether it came to its good end.
pub struct Told {
    pub lines: String,
    pub survived: bool,
}

/// Whether this host has strace and lets it trace.
pub fn strace() -> Result<(), String> {
    let tried = Command::new("strace").args(["-f", "-qq", "-o", "/dev/null", "true"]).output();
    let output = tried.map_err(|error| format!("strace cannot be started: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

impl Life {
    /// Lives it. Ends the test if the program ends in another way than it should.
    pub fn live(&self, store: &Path, io: &str, seed: u64) -> Told {
        let mut command = self.command();
        command.arg(store).args([CAPACITY, &seed.to_string(), &self.steps.to_string()]);
        command.env("CHECK_IO", io).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let told = drain(child.stdout.take().unwrap());
        let complaints = drain(child.stderr.take().unwrap());
        if let Death::After(delay) = self.death {
            std::thread::sleep(delay);
            child.kill().unwrap();
        }
        let status = wait(&mut child, self);
        let (lines, complaints) = (told.join().unwrap(), complaints.join().unwrap());
        let was_killed = status.signal() == Some(libc::SIGKILL);
        let may_be_killed = !matches!(self.death, Death::None);
        let is_as_meant = status.success() || (was_killed && may_be_killed);
        assert!(is_as_meant, "{self:?} on {io}, seed {seed}: {status}\n{complaints}");
        Told { lines, survived: status.success() }
    }

    fn command(&self) -> Command {
        let Death::AtCall(calls, number) = self.death else { return program(killed()) };
        let mut command = program("strace");
        // Not with --seccomp-bpf, which is faster and loses count of the calls.
        command.args(["-f", "-qq", "-o", "/dev/null"]);
        command.args(["-e", &format!("trace={calls}")]);
        command.args(["-e", &format!("inject={calls}:signal=KILL:when={number}")]);
        command.arg(killed());
        command
    }
}

/// The program, compiled at the first call.
fn killed() -> PathBuf {
    static DIRECTORY: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let made = DIRECTORY.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let program = compile(SOURCE, &[], directory.path());
        (directory, program)
    });
    made.1.clone()
}

/// Reads all that comes, for a full pipe would hold the program up.
fn drain(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = String::new();
        from.read_to_string(&mut text).unwrap();
        text
    })
}

fn wait(child: &mut Child, life: &Life) -> ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if start.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("{life:?} hangs");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
