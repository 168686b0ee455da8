//! fio as a child process, on a file of its own in the store's directory.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::Outcome;
use crate::rounds::Sample;

/// A file, written once from end to end, that fio reads and writes with O_DIRECT.
pub struct Fio {
    file: PathBuf,
    bytes: u64,
}

/// What a job does most of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Reads.
    Read,
    /// Writes.
    Write,
}

impl Fio {
    /// Writes the file.
    pub fn create(path: &Path, bytes: u64) -> Outcome<Fio> {
        let fio = Fio { file: path.to_owned(), bytes };
        fio.once(Kind::Write, &["--rw=write", "--bs=1M", "--ioengine=psync", "--end_fsync=1"])?;
        Ok(fio)
    }

    /// A job that ends after a time.
    pub fn timed(&self, kind: Kind, time: Duration, job: &[&str]) -> Outcome<Sample> {
        let runtime = format!("--runtime={}ms", time.as_millis());
        let mut job = job.to_vec();
        job.extend(["--time_based", &runtime]);
        self.once(kind, &job)
    }

    /// A job that ends when it has gone through the file.
    pub fn once(&self, kind: Kind, job: &[&str]) -> Outcome<Sample> {
        let output = Command::new("fio")
            .args(["--name=bench", "--direct=1", "--thread", "--group_reporting"])
            .args(["--output-format=json", "--lat_percentiles=1", "--clat_percentiles=0"])
            .args(["--norandommap", "--randrepeat=0", "--overwrite=1", "--fallocate=none"])
            .arg(format!("--filename={}", self.file.display()))
            .arg(format!("--size={}", self.bytes))
            .args(job)
            .output()
            .map_err(|error| format!("fio: {error}; install it"))?;
        if !output.status.success() {
            return Err(format!("fio: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        // Notes may stand before the report.
        let start = output.stdout.iter().position(|byte| *byte == b'{').unwrap_or(0);
        let report: Value = serde_json::from_slice(&output.stdout[start..])?;
        sample(kind, &report["jobs"][0])
    }
}

fn sample(kind: Kind, job: &Value) -> Outcome<Sample> {
    let direction = &job[if kind == Kind::Read { "read" } else { "write" }];
    let number = |value: &Value, name: &str| {
        value[name].as_f64().ok_or_else(|| format!("fio reports no {name}"))
    };
    // Percent of the job's threads' time, all of them added up.
    let busy = (number(job, "usr_cpu")? + number(job, "sys_cpu")?) / 100.0;
    let cpu_us =
        busy * number(job, "job_runtime")? * 1e3 / number(direction, "total_ios")?.max(1.0);
    let p50 = direction["lat_ns"]["percentile"]["50.000000"].as_f64();
    Ok(Sample {
        rate: number(direction, "iops")?,
        cpu_us: Some(cpu_us),
        p50_us: p50.map(|nanos| nanos / 1e3),
    })
}

impl Drop for Fio {
    fn drop(&mut self) {
        // The directory is removed as a whole; this only makes room earlier.
        let _ = std::fs::remove_file(&self.file);
    }
}
