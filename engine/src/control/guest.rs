//! One client, on a thread of its own: a line in, lines out, each within bounds of length and time.

use std::io::{self, Read};
use std::ops::ControlFlow;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Instant;

use crate::control::conversation::{Conversation, refusal};
use crate::control::door::Door;
use crate::control::socket::{send_all, time_left};
use crate::control::{PATIENCE, REQUEST_LEN_MAX};
use crate::error::{Error, ErrorKind};
use crate::io::runtime::block_all_signals;

/// Bytes asked for at a time.
const READ: usize = 4096;

/// Serves a client until it goes, or oversteps a bound.
pub(super) fn serve(door: &Arc<Door>, stream: &Arc<UnixStream>) {
    block_all_signals();
    // Also if this thread panics: it must not take one of the few places for ever.
    let _leaving = Leaving { door, stream };
    let mut lines = Lines { stream, read: Vec::new() };
    let mut conversation = Conversation::over(door.facts.clone());
    let mut send = |line: &str| send_line(stream, line);
    loop {
        let goes_on = match lines.next() {
            Ok(Some(line)) => conversation.answer(&line, &mut send),
            Ok(None) => return,
            Err(error) => {
                // The last word; whether it arrives is the client's affair.
                let _ = send(&refusal(&error).to_string());
                return;
            }
        };
        if goes_on.is_break() {
            return;
        }
    }
}

struct Leaving<'a> {
    door: &'a Door,
    stream: &'a Arc<UnixStream>,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.door.left(self.stream);
        // The other end sees it now, not when the last reference goes.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

fn send_line(stream: &UnixStream, line: &str) -> ControlFlow<()> {
    let sent = send_all(stream, format!("{line}\n").as_bytes(), Some(Instant::now() + PATIENCE));
    // It has gone, or takes no answers.
    if sent.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// What a client sends, line by line.
struct Lines<'a> {
    stream: &'a UnixStream,
    /// Read, and not taken yet.
    read: Vec<u8>,
}

impl Lines<'_> {
    /// The next line, without its end. `None` if the client has gone.
    fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let until = Instant::now() + PATIENCE;
        let mut searched = 0;
        loop {
            let end = self.read[searched..].iter().position(|byte| *byte == b'\n');
            if let Some(at) = end.map(|at| at + searched).filter(|at| *at < REQUEST_LEN_MAX) {
                let rest = self.read.split_off(at + 1);
                let mut line = std::mem::replace(&mut self.read, rest);
                line.truncate(at);
                return Ok(Some(line));
            }
            if self.read.len() >= REQUEST_LEN_MAX {
                let message = format!("a request has at most {REQUEST_LEN_MAX} bytes a line");
                return Err(Error::new(ErrorKind::LimitExceeded, message));
            }
            searched = self.read.len();
            match self.read_more(until) {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(error) if is_timeout(&error) => return Err(too_slow()),
                Err(_) => return Ok(None),
            }
        }
    }

    fn read_more(&mut self, until: Instant) -> io::Result<usize> {
        let mut bytes = [0; READ];
        let got = loop {
            self.stream.set_read_timeout(time_left(Some(until))?)?;
            let mut stream = self.stream;
            match stream.read(&mut bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => break done?,
            }
        };
        self.read.extend_from_slice(&bytes[..got]);
        Ok(got)
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn too_slow() -> Error {
    let seconds = PATIENCE.as_secs();
    let message = format!("no whole request came within {seconds} s; connect again and ask");
    Error::new(ErrorKind::Cancelled, message)
}
