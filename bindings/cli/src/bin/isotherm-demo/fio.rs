//! fio on a file beside the store: what the device does without isotherm.

use std::path::{Path, PathBuf};
use std::process::Command;

use isotherm_cli::failure::{Failure, Outcome};
use serde_json::Value;

/// A file that fio writes and reads.
pub struct Fio {
    file: PathBuf,
    bytes: u64,
}

impl Fio {
    /// A file of `bytes` in `directory`; the first job must be the write.
    pub fn new(directory: &Path, bytes: u64) -> Fio {
        Fio { file: directory.join("fio.dat"), bytes }
    }

    /// Bytes per second of a sequential write in pieces of 1 MiB, four at a time.
    pub fn write(&self) -> Outcome<f64> {
        let report = self.run(&["--rw=write", "--bs=1M", "--ioengine=libaio", "--iodepth=4"])?;
        number(&report, "write", "bw_bytes")
    }

    /// Bytes per second of a sequential read in pieces of 1 MiB, four at a time.
    pub fn read(&self) -> Outcome<f64> {
        let report = self.run(&["--rw=read", "--bs=1M", "--ioengine=libaio", "--iodepth=4"])?;
        number(&report, "read", "bw_bytes")
    }

    /// Random reads of 4 KiB per second, one at a time, for so many seconds.
    pub fn random_read(&self, seconds: u64) -> Outcome<f64> {
        let runtime = format!("--runtime={seconds}");
        let report =
            self.run(&["--rw=randread", "--bs=4k", "--ioengine=psync", "--time_based", &runtime])?;
        number(&report, "read", "iops")
    }

    fn run(&self, job: &[&str]) -> Outcome<Value> {
        let failure = |reason: String| Failure::Other(format!("fio: {reason}"));
        let output = Command::new("fio")
            .args(["--name=demo", "--direct=1", "--output-format=json"])
            .arg(format!("--filename={}", self.file.display()))
            .arg(format!("--size={}", self.bytes))
            .args(job)
            .output()
            .map_err(|error| failure(format!("{error}; install it")))?;
        if !output.status.success() {
            return Err(failure(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        // Notes may stand before the report.
        let start = output.stdout.iter().position(|byte| *byte == b'{').unwrap_or(0);
        serde_json::from_slice(&output.stdout[start..]).map_err(|error| failure(error.to_string()))
    }
}

impl Drop for Fio {
    fn drop(&mut self) {
        // The work directory is removed as a whole; this only makes room earlier.
        let _ = std::fs::remove_file(&self.file);
    }
}

fn number(report: &Value, direction: &str, name: &str) -> Outcome<f64> {
    let value = report["jobs"][0][direction][name].as_f64();
    value.ok_or_else(|| Failure::Other(format!("fio reports no {direction}.{name}")))
}
