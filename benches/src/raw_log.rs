//! The ceiling of durable puts: one thread that writes N of them and a header at once into a
//! zero-written file, with O_DIRECT and RWF_DSYNC. No mailbox, wake-up, index or checksum.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::picks::fill;
use crate::rounds::Sample;
use crate::usage::cpu_time;
use crate::writers::histogram;

/// Bytes of a put, and of what O_DIRECT aligns to.
pub const BLOCK: usize = 4096;

/// Memory that O_DIRECT accepts.
pub struct Aligned {
    bytes: Vec<u8>,
    skip: usize,
    len: usize,
}

impl Aligned {
    /// So many zeros.
    pub fn new(len: usize) -> Aligned {
        let bytes = vec![0; len + BLOCK];
        let skip = bytes.as_ptr().align_offset(BLOCK);
        Aligned { bytes, skip, len }
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[self.skip..self.skip + self.len]
    }

    /// The bytes.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[self.skip..self.skip + self.len]
    }
}

/// A log file that is written in a circle.
pub struct RawLog {
    file: File,
    len: u64,
    at: u64,
}

impl RawLog {
    /// Makes the file and writes it full of zeros.
    pub fn create(path: &Path, len: u64) -> Outcome<RawLog> {
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .custom_flags(libc::O_DIRECT)
            .open(path)?;
        let zeros = Aligned::new(1 << 20);
        for _ in 0..len >> 20 {
            file.write_all(zeros.as_slice())?;
        }
        file.sync_all()?;
        Ok(RawLog { file, len: len >> 20 << 20, at: 0 })
    }

    /// Durable puts per second when `puts` of 4 KiB go into each write.
    pub fn run(&mut self, puts: usize, time: Duration) -> Outcome<Sample> {
        let mut batch = Aligned::new((puts + 1) * BLOCK);
        fill(batch.as_mut_slice(), puts as u64);
        let mut seen = histogram()?;
        let (start, cpu) = (Instant::now(), cpu_time());
        while start.elapsed() < time {
            let began = Instant::now();
            self.append(batch.as_slice())?;
            seen.saturating_record(began.elapsed().as_nanos() as u64);
        }
        let cpu = cpu_time().saturating_sub(cpu);
        let mut sample = Sample::of(seen.len() * puts as u64, start.elapsed(), Some(cpu));
        sample.p50_us = Some(seen.value_at_quantile(0.5) as f64 / 1e3);
        Ok(sample)
    }

    /// Writes a batch; durable on return.
    pub fn append(&mut self, batch: &[u8]) -> Outcome {
        if self.at + batch.len() as u64 > self.len {
            self.at = 0;
        }
        let part =
            libc::iovec { iov_base: batch.as_ptr() as *mut libc::c_void, iov_len: batch.len() };
        // SAFETY: the one part is `batch`, which is only read and outlives the call.
        let written = unsafe {
            libc::pwritev2(
                self.file.as_raw_fd(),
                &raw const part,
                1,
                self.at as i64,
                libc::RWF_DSYNC,
            )
        };
        if written != batch.len() as isize {
            return Err(format!("raw log: {}", io::Error::last_os_error()).into());
        }
        self.at += batch.len() as u64;
        Ok(())
    }
}
