//! The control socket: a second process asks the one that has a store open. docs/control.md is its
//! description for those who ask.
//!
//! * `socket`: the file, and how to reach it. `watch`: one thread of the process waits for clients
//!   of all its stores. `door`: who is let in, and put out again. `guest`: one client, on a thread
//!   of its own as long as it is there.
//! * `conversation`: requests and answers. `request`: what may be asked. `facts_json`: facts as
//!   JSON. `remote`: the other end.
//!
//! An idle store has no thread and no timer here: the one thread sleeps until somebody connects.

mod conversation;
mod door;
mod facts_json;
mod guest;
mod remote;
mod request;
mod socket;
mod watch;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::control::door::Door;
use crate::control::socket::SocketFile;
use crate::error::{Error, Result};
use crate::store::facts::Facts;

pub use conversation::Conversation;
#[doc(hidden)]
pub use facts_json::{info as info_json, place as place_json, stats as stats_json, tier_name};
pub use remote::Remote;
pub use socket::SOCKET_FILE;

/// The version of requests and answers.
pub const PROTOCOL: u64 = 1;
/// Clients of one store.
pub const CLIENTS_MAX: usize = 16;
/// Bytes of a request, its end of line included.
pub const REQUEST_LEN_MAX: usize = 64 << 10;
/// A client has this long for a request, and for taking an answer.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// The control socket of an open store.
pub(crate) struct Service {
    door: Arc<Door>,
    file: SocketFile,
}

impl Service {
    /// Serves a store from now on. `alone` says that nobody else has it open: whatever stands in the
    /// socket's place is a dead owner's. Beside other readers the first one serves, for the others
    /// this is `None`.
    pub fn start(directory: &Path, alone: bool, facts: Arc<Facts>) -> Result<Option<Service>> {
        let failed = |error: std::io::Error| {
            let what = format!("control socket {}", directory.join(SOCKET_FILE).display());
            Error::from_io(what, &error)
        };
        let Some((file, listener)) = SocketFile::make(directory, alone).map_err(failed)? else {
            return Ok(None);
        };
        let door = Arc::new(Door::new(listener, facts));
        if let Err(error) = watch::add(&door) {
            file.remove();
            return Err(failed(error));
        }
        Ok(Some(Service { door, file }))
    }

    /// Removes the socket, puts clients out and waits until they have gone.
    pub fn stop(self) {
        self.file.remove();
        watch::remove(&self.door);
        self.door.close();
    }
}
