//! One thread of the process waits for clients of all its open stores. It is there while there is a
//! store with a control socket, and sleeps in the kernel until somebody connects.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

use crate::control::door::Door;
use crate::io::runtime::block_all_signals;

/// How long clients wait where the process has no descriptor or no memory left for them.
const SHORTAGE: Duration = Duration::from_millis(100);

struct Watched {
    doors: Vec<Arc<Door>>,
    /// Wakes the thread, as long as it runs.
    bell: Option<Arc<OwnedFd>>,
    /// The process that the thread runs in: a child that was forked has the memory, not the thread.
    process: u32,
}

static WATCHED: Mutex<Watched> = Mutex::new(Watched { doors: Vec::new(), bell: None, process: 0 });

/// Lets clients in at a door from now on.
pub(super) fn add(door: &Arc<Door>) -> io::Result<()> {
    let mut watched = WATCHED.lock();
    if watched.process != std::process::id() {
        *watched = Watched { doors: Vec::new(), bell: None, process: std::process::id() };
    }
    if watched.bell.is_none() {
        let bell = Arc::new(new_bell()?);
        let own = bell.clone();
        thread::Builder::new().name("isotherm-ctl".into()).spawn(move || watch(&own))?;
        watched.bell = Some(bell);
    }
    watched.doors.push(door.clone());
    watched.ring();
    Ok(())
}

/// Lets nobody in there any more.
pub(super) fn remove(door: &Arc<Door>) {
    let mut watched = WATCHED.lock();
    watched.doors.retain(|other| !Arc::ptr_eq(other, door));
    watched.ring();
}

impl Watched {
    fn ring(&self) {
        let Some(bell) = &self.bell else { return };
        let one = 1u64;
        // SAFETY: the pointer and length describe `one`. It fails only where the bell rings already.
        unsafe { libc::write(bell.as_raw_fd(), (&raw const one).cast(), size_of::<u64>()) };
    }
}

fn new_bell() -> io::Result<OwnedFd> {
    // SAFETY: a plain system call; the descriptor it returns is owned by nobody else.
    unsafe {
        let bell = libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK);
        if bell < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(bell)) }
    }
}

fn watch(bell: &OwnedFd) {
    block_all_signals();
    loop {
        let mut waiting = vec![interest(bell.as_raw_fd())];
        {
            let mut watched = WATCHED.lock();
            if watched.doors.is_empty() {
                watched.bell = None;
                return;
            }
            waiting.extend(watched.doors.iter().map(|door| interest(door.descriptor())));
        }
        wait(&mut waiting);
        silence(bell);
        let is_ready = |descriptor: RawFd| {
            waiting.iter().any(|entry| entry.fd == descriptor && entry.revents != 0)
        };
        // Under the lock: a door that has been removed meanwhile is not here any more.
        let watched = WATCHED.lock();
        let mut all_let_in = true;
        for door in watched.doors.iter().filter(|door| is_ready(door.descriptor())) {
            all_let_in &= door.let_in().is_ok();
        }
        drop(watched);
        if !all_let_in {
            thread::sleep(SHORTAGE);
        }
    }
}

fn interest(descriptor: RawFd) -> libc::pollfd {
    libc::pollfd { fd: descriptor, events: libc::POLLIN, revents: 0 }
}

fn wait(descriptors: &mut [libc::pollfd]) {
    let count = descriptors.len() as libc::nfds_t;
    // SAFETY: the pointer and count describe `descriptors`.
    let found = unsafe { libc::poll(descriptors.as_mut_ptr(), count, -1) };
    if found < 0 {
        // The kernel has no memory for it, or so.
        thread::sleep(SHORTAGE);
    }
}

fn silence(bell: &OwnedFd) {
    let mut rung = 0u64;
    // SAFETY: the pointer and length describe `rung`. A bell that has not rung has nothing to read.
    unsafe { libc::read(bell.as_raw_fd(), (&raw mut rung).cast(), size_of::<u64>()) };
}
