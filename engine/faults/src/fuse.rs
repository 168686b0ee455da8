//! A file system with one file, `disk`, spoken over `/dev/fuse`: every transfer and flush of it
//! reaches a [`Disk`], in one order. No library, for it takes a dozen of the kernel's requests.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::disk::{Disk, Fault};
use crate::mounts::{self, Mounted, Outcome};

/// What the file is called.
pub const FILE: &str = "disk";

const ROOT_NODE: u64 = 1;
const FILE_NODE: u64 = 2;
const WRITE_MAX: u32 = 1 << 20;
/// Of a request: its length, operation, number, node and who asks.
const HEADER: usize = 40;
/// How long nobody asks about names and attributes again: they never change.
const VALID_SECONDS: u64 = 1 << 30;

const ENOENT: i32 = 2;
const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const ENOSYS: i32 = 38;
const EOPNOTSUPP: i32 = 95;

/// Operations, as the kernel numbers them.
mod operation {
    pub const LOOKUP: u32 = 1;
    pub const FORGET: u32 = 2;
    pub const GETATTR: u32 = 3;
    pub const SETATTR: u32 = 4;
    pub const OPEN: u32 = 14;
    pub const READ: u32 = 15;
    pub const WRITE: u32 = 16;
    pub const STATFS: u32 = 17;
    pub const RELEASE: u32 = 18;
    pub const FSYNC: u32 = 20;
    pub const INIT: u32 = 26;
    pub const INTERRUPT: u32 = 36;
    pub const BATCH_FORGET: u32 = 42;
    pub const FALLOCATE: u32 = 43;
}

/// A mounted disk, served by a thread of its own until it is dropped.
pub struct Served {
    mounted: Option<Mounted>,
    is_over: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

impl Served {
    /// Mounts `disk` at a directory.
    pub fn mount(disk: Arc<Disk>, at: &Path) -> Outcome<Served> {
        let device = OpenOptions::new().read(true).write(true).open("/dev/fuse")?;
        let input = device.try_clone()?;
        let is_over = Arc::new(AtomicBool::new(false));
        let mut served = Served { mounted: None, is_over: is_over.clone(), server: None };
        // Before the mount: whoever mounts may look at what is mounted.
        let server = std::thread::Builder::new().name("disk".into());
        served.server = Some(server.spawn(move || serve(device, &disk, &is_over))?);
        let options = "fd=0,rootmode=40000,user_id=0,group_id=0";
        // The descriptor is handed over as the standard input.
        let mut mount = mounts::command("mount", ["-i", "-t", "fuse", "-o", options, "isotherm"]);
        mounts::run(mount.arg(at).stdin(Stdio::from(input)))?;
        served.mounted = Some(Mounted::at(at));
        Ok(served)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        drop(self.mounted.take());
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

/// Answers until it is unmounted; while nothing is mounted yet the kernel says EPERM.
fn serve(mut device: File, disk: &Disk, is_over: &AtomicBool) {
    let mut buffer = vec![0; WRITE_MAX as usize + 4096];
    loop {
        let len = match device.read(&mut buffer) {
            Ok(len) => len,
            Err(error) => match error.kind() {
                ErrorKind::PermissionDenied if !is_over.load(Ordering::Relaxed) => {
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                }
                // One that was taken back before it was read.
                ErrorKind::Interrupted | ErrorKind::NotFound => continue,
                _ => return,
            },
        };
        let Some(answer) = answer(disk, &buffer[..len]) else { continue };
        // ENOENT: nobody waits for it any more.
        if let Err(error) = device.write_all(&answer)
            && error.kind() != ErrorKind::NotFound
        {
            return;
        }
    }
}

/// The answer to a request, with its header; none where the kernel expects none.
fn answer(disk: &Disk, request: &[u8]) -> Option<Vec<u8>> {
    let number = u64_at(request, 8)?;
    let code = u32_at(request, 4)?;
    if matches!(code, operation::FORGET | operation::BATCH_FORGET | operation::INTERRUPT) {
        return None;
    }
    let done = carry_out(disk, code, u64_at(request, 16)?, request.get(HEADER..)?);
    let (error, body) = match done {
        Ok(body) => (0, body),
        Err(errno) => (-errno, Vec::new()),
    };
    let mut answer = Vec::with_capacity(16 + body.len());
    answer.extend(((16 + body.len()) as u32).to_ne_bytes());
    answer.extend(error.to_ne_bytes());
    answer.extend(number.to_ne_bytes());
    answer.extend(body);
    Some(answer)
}

fn carry_out(disk: &Disk, code: u32, node: u64, body: &[u8]) -> Result<Vec<u8>, i32> {
    match code {
        operation::INIT => Ok(greeting()),
        operation::LOOKUP if body.split(|&byte| byte == 0).next() == Some(FILE.as_bytes()) => {
            Ok(entry(disk))
        }
        operation::LOOKUP => Err(ENOENT),
        // A change of attributes is accepted and makes none.
        operation::GETATTR | operation::SETATTR => Ok(attributes_valid(disk, node)),
        operation::OPEN => Ok(opened()),
        operation::STATFS => Ok(vec![0; 80]),
        operation::RELEASE => Ok(Vec::new()),
        operation::READ if disk.refuses(Fault::Reads) => Err(EIO),
        operation::WRITE | operation::FALLOCATE if disk.refuses(Fault::Writes) => Err(EIO),
        operation::FSYNC if disk.refuses(Fault::Flushes) => Err(EIO),
        operation::READ => read(disk, body),
        operation::WRITE => write(disk, body),
        operation::FALLOCATE => zero(disk, body),
        operation::FSYNC => {
            disk.flush();
            Ok(Vec::new())
        }
        _ => Err(ENOSYS),
    }
}

fn read(disk: &Disk, body: &[u8]) -> Result<Vec<u8>, i32> {
    let (at, len) = u64_at(body, 8).zip(u32_at(body, 16)).ok_or(EIO)?;
    let len = u64::from(len).min(disk.len().saturating_sub(at));
    let mut out = vec![0; len as usize];
    disk.read(at, &mut out);
    Ok(out)
}

fn write(disk: &Disk, body: &[u8]) -> Result<Vec<u8>, i32> {
    let (at, len) = u64_at(body, 8).zip(u32_at(body, 16)).ok_or(EIO)?;
    let bytes = body.get(HEADER..HEADER + len as usize).ok_or(EIO)?;
    if !disk.holds(at, bytes.len()) {
        return Err(ENOSPC);
    }
    disk.write(at, bytes);
    Ok([len, 0].iter().flat_map(|word| word.to_ne_bytes()).collect())
}

/// Zeroing a range and discarding one are writes of zeros.
fn zero(disk: &Disk, body: &[u8]) -> Result<Vec<u8>, i32> {
    const KEEP_SIZE: u32 = 1;
    const PUNCH_HOLE: u32 = 2;
    const ZERO_RANGE: u32 = 16;
    let (at, len) = u64_at(body, 8).zip(u64_at(body, 16)).ok_or(EIO)?;
    let mode = u32_at(body, 24).ok_or(EIO)?;
    if !matches!(mode & !KEEP_SIZE, PUNCH_HOLE | ZERO_RANGE) {
        return Err(EOPNOTSUPP);
    }
    if !disk.holds(at, len as usize) {
        return Err(ENOSPC);
    }
    let zeros = vec![0; WRITE_MAX as usize];
    for done in (0..len).step_by(zeros.len()) {
        disk.write(at + done, &zeros[..zeros.len().min((len - done) as usize)]);
    }
    Ok(Vec::new())
}

/// Version 7.31, big requests, several at once.
fn greeting() -> Vec<u8> {
    const ASYNC_READ: u32 = 1;
    const BIG_WRITES: u32 = 1 << 5;
    const ASYNC_DIO: u32 = 1 << 15;
    const MAX_PAGES: u32 = 1 << 22;
    let mut out = Vec::new();
    let flags = ASYNC_READ | BIG_WRITES | ASYNC_DIO | MAX_PAGES;
    for word in [7, 31, 0, flags] {
        out.extend(u32::to_ne_bytes(word));
    }
    // In the background at most, and when that is many.
    out.extend(64u16.to_ne_bytes());
    out.extend(48u16.to_ne_bytes());
    out.extend(WRITE_MAX.to_ne_bytes());
    out.extend(1u32.to_ne_bytes());
    out.extend(((WRITE_MAX / 4096) as u16).to_ne_bytes());
    out.resize(64, 0);
    out
}

fn entry(disk: &Disk) -> Vec<u8> {
    let mut out = Vec::new();
    for word in [FILE_NODE, 0, VALID_SECONDS, VALID_SECONDS, 0] {
        out.extend(word.to_ne_bytes());
    }
    out.extend(attributes(disk, FILE_NODE));
    out
}

fn attributes_valid(disk: &Disk, node: u64) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(VALID_SECONDS.to_ne_bytes());
    out.extend(0u64.to_ne_bytes());
    out.extend(attributes(disk, node));
    out
}

fn attributes(disk: &Disk, node: u64) -> Vec<u8> {
    const DIRECTORY: u32 = 0o040_700;
    const REGULAR: u32 = 0o100_600;
    let (len, mode) = if node == ROOT_NODE { (0, DIRECTORY) } else { (disk.len(), REGULAR) };
    let mut out = Vec::new();
    // Node, length, sectors, and three times.
    for word in [node, len, len / 512, 0, 0, 0] {
        out.extend(word.to_ne_bytes());
    }
    // Their nanoseconds, mode, links, owner, group, device, block.
    for word in [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0] {
        out.extend(word.to_ne_bytes());
    }
    out
}

/// With direct I/O: nothing is kept in the page cache.
fn opened() -> Vec<u8> {
    const DIRECT_IO: u32 = 1;
    let mut out = Vec::new();
    out.extend(0u64.to_ne_bytes());
    out.extend(DIRECT_IO.to_ne_bytes());
    out.extend(0u32.to_ne_bytes());
    out
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}
