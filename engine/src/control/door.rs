//! The door of a store: who is let in, how many at a time, and that all are out when it closes.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use parking_lot::Mutex;

use crate::control::conversation::refusal;
use crate::control::socket::{peer_uid, send_all};
use crate::control::{CLIENTS_MAX, guest};
use crate::error::{Error, ErrorKind};
use crate::store::facts::Facts;

/// Clients let in before other stores have their turn.
const TURN: usize = 64;

/// See the module.
pub(super) struct Door {
    listener: UnixListener,
    /// What clients are told of.
    pub facts: Arc<Facts>,
    /// The only user who may ask.
    uid: u32,
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    closed: bool,
    guests: Vec<Guest>,
}

struct Guest {
    stream: Arc<UnixStream>,
    thread: JoinHandle<()>,
}

impl Door {
    pub fn new(listener: UnixListener, facts: Arc<Facts>) -> Door {
        // SAFETY: the call has no arguments and only reads the process's identity.
        let uid = unsafe { libc::geteuid() };
        Door { listener, facts, uid, inside: Mutex::default() }
    }

    /// What to wait on.
    pub fn descriptor(&self) -> RawFd {
        self.listener.as_raw_fd()
    }

    /// Lets in who waits outside. An error if there is no room for them in this process.
    pub fn let_in(self: &Arc<Door>) -> io::Result<()> {
        for _ in 0..TURN {
            match self.listener.accept() {
                Ok((stream, _)) => self.admit(&Arc::new(stream))?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn admit(self: &Arc<Door>, stream: &Arc<UnixStream>) -> io::Result<()> {
        let uid = peer_uid(stream)?;
        if uid != self.uid {
            let message = format!(
                "user {uid} may not ask about a store of user {}; ask as that user",
                self.uid
            );
            turn_away(stream, &Error::new(ErrorKind::PermissionDenied, message));
            return Ok(());
        }
        let mut inside = self.inside.lock();
        if inside.closed {
            return Ok(());
        }
        if inside.guests.len() >= CLIENTS_MAX {
            let message = format!("{CLIENTS_MAX} clients are connected; try again later");
            turn_away(stream, &Error::new(ErrorKind::Busy, message));
            return Ok(());
        }
        let (door, own) = (self.clone(), stream.clone());
        let thread = thread::Builder::new()
            .name("isotherm-guest".into())
            .spawn(move || guest::serve(&door, &own))?;
        inside.guests.push(Guest { stream: stream.clone(), thread });
        Ok(())
    }

    /// A client has gone, by its own thread.
    pub fn left(&self, stream: &Arc<UnixStream>) {
        let mut inside = self.inside.lock();
        inside.guests.retain(|guest| !Arc::ptr_eq(&guest.stream, stream));
    }

    /// Puts everybody out and waits until they have gone.
    pub fn close(&self) {
        let guests = {
            let mut inside = self.inside.lock();
            inside.closed = true;
            std::mem::take(&mut inside.guests)
        };
        for guest in &guests {
            // It wakes whoever reads or writes there. One that has gone by itself is as good.
            let _ = guest.stream.shutdown(Shutdown::Both);
        }
        for guest in guests {
            // A panic there was told when it happened, and has touched nothing of the store.
            let _ = guest.thread.join();
        }
    }
}

/// Tells a client why, without waiting for it: its socket is empty, so the line fits.
fn turn_away(stream: &UnixStream, why: &Error) {
    if stream.set_nonblocking(true).is_ok() {
        // Who has gone need not be told.
        let _ = send_all(stream, format!("{}\n", refusal(why)).as_bytes(), None);
    }
}
