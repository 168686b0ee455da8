//! The other end: asks the process that has a store open.

use std::io::{self, BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::Value;

use crate::control::SOCKET_FILE;
use crate::control::socket::{connect, send_all};
use crate::error::{Error, ErrorKind, Result, fail};

/// Bytes of a line of an answer.
const ANSWER_LEN_MAX: u64 = 64 << 20;

/// A connection to the owner of a store.
pub struct Remote {
    stream: BufReader<UnixStream>,
}

impl Remote {
    /// Connects to the owner of the store in a directory. `None` if nobody listens there.
    pub fn connect(directory: impl AsRef<Path>) -> Result<Option<Remote>> {
        let directory = directory.as_ref();
        match connect(directory) {
            Ok(stream) => Ok(Some(Remote { stream: BufReader::new(stream) })),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(None),
                _ => {
                    let path = directory.join(SOCKET_FILE);
                    let what = format!("connection to {}", path.display());
                    Err(Error::from_io(what, &error))
                }
            },
        }
    }

    /// Asks, and waits for the answer. Progress is handed on as it comes; if told to stop, the
    /// connection is of no more use.
    ///
    /// # Errors
    /// The owner's; `Closed` if it has gone, `Cancelled` if told to stop.
    pub fn ask(
        &mut self,
        request: &Value,
        progress: &mut dyn FnMut(&Value) -> ControlFlow<()>,
    ) -> Result<Value> {
        // Who is turned away may not be able to send, and is still told why.
        let sent = send_all(self.stream.get_ref(), format!("{request}\n").as_bytes(), None);
        loop {
            let mut line = match self.next_line() {
                Ok(line) => line,
                Err(error) => return Err(sent.map_or_else(|failed| gone(&failed), |()| error)),
            };
            if let Some(answer) = line.get_mut("answer") {
                return Ok(answer.take());
            }
            if let Some(error) = line.get("error") {
                return Err(error_of(error));
            }
            match line.get("progress") {
                Some(done) if progress(done).is_continue() => {}
                Some(_) => fail!(Cancelled, "the request was given up"),
                None => fail!(Format, "the owner of the store answers {line}, which is no answer"),
            }
        }
    }

    fn next_line(&mut self) -> Result<Value> {
        let mut line = Vec::new();
        let read = (&mut self.stream).take(ANSWER_LEN_MAX).read_until(b'\n', &mut line);
        if let Err(error) = read {
            return Err(gone(&error));
        }
        if line.is_empty() {
            return Err(gone(&io::ErrorKind::UnexpectedEof.into()));
        }
        serde_json::from_slice(&line).map_err(|error| {
            let message = format!("the owner of the store answers what is not JSON: {error}");
            Error::new(ErrorKind::Format, message)
        })
    }
}

fn gone(error: &io::Error) -> Error {
    let message = format!("the process that has the store open has closed the connection: {error}");
    Error::new(ErrorKind::Closed, message)
}

fn error_of(error: &Value) -> Error {
    let code = error.get("code").and_then(Value::as_i64).and_then(|code| i32::try_from(code).ok());
    let kind = code.and_then(ErrorKind::from_code).unwrap_or(ErrorKind::Internal);
    let message = error.get("message").and_then(Value::as_str).unwrap_or("no reason was given");
    Error::new(kind, message)
}
