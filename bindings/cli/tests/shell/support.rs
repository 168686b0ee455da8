//! Runs the command on a small store in a directory of its own.

use std::ffi::OsStr;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The settings of a store that is made quickly.
pub const SMALL: [&str; 8] = [
    "--set",
    "tier.0.kind=dram",
    "--set",
    "tier.0.capacity=8MiB",
    "--set",
    "tier.1.kind=nvme",
    "--set",
    "tier.1.capacity=64MiB",
];

/// A directory, and the store that commands use there.
pub struct Shell {
    directory: TempDir,
}

/// What a command came to.
pub struct Ran {
    /// Its exit code.
    pub code: i32,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: String,
}

impl Shell {
    /// A directory without a store.
    pub fn empty() -> Shell {
        Shell { directory: tempfile::tempdir().unwrap() }
    }

    /// A store with the blob `b/k` of these bytes.
    pub fn with_blob(bytes: &[u8]) -> Shell {
        let shell = Shell::empty();
        shell.put("b", "k", bytes);
        shell
    }

    /// A path in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The command on this store.
    pub fn isotherm(&self) -> Command {
        let mut command = bare();
        command.arg("-s").arg(self.path("store"));
        command
    }

    /// Runs the command on this store.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Ran {
        ran(self.isotherm().args(arguments).output().unwrap())
    }

    /// Stores a blob from standard input; makes the store if there is none.
    pub fn put(&self, bucket: &str, key: impl AsRef<OsStr>, bytes: &[u8]) {
        let mut command = self.isotherm();
        command.args(SMALL).arg("put").arg(bucket).arg(key);
        feed(command, bytes).expect_code(0);
    }

    /// Runs a command that prints JSON.
    pub fn json(&self, arguments: &[&str]) -> Value {
        self.run(&[arguments, &["--json"]].concat()).expect_code(0).json()
    }
}

/// The command without a store.
pub fn bare() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_isotherm"));
    command.env_remove("ISOTHERM_STORE").stdin(Stdio::null());
    command
}

/// Runs a command with these bytes on its standard input.
pub fn feed(mut command: Command, bytes: &[u8]) -> Ran {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that refuses its arguments does not read.
    let _ = child.stdin.take().unwrap().write_all(bytes);
    ran(child.wait_with_output().unwrap())
}

/// What an ended command came to.
pub fn ran(output: Output) -> Ran {
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: output.stdout,
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Ran {
    /// Requires this exit code. Whatever fails says why, and nothing else does.
    pub fn expect_code(self, code: i32) -> Ran {
        assert_eq!(self.code, code, "{}{}", self.text(), self.stderr);
        assert_eq!(self.stderr.is_empty(), code == 0, "{}", self.stderr);
        self
    }

    /// Its standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Its standard output as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap()
    }
}

/// Bytes without a pattern that a compressor or a mistake in an offset would miss.
pub fn noise(len: usize) -> Vec<u8> {
    let mut state = len as u64 + 1;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// The names of a JSON object's fields, in order.
pub fn fields(object: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = object.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}
