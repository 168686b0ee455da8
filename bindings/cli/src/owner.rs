//! Whom to ask about a store: the process that has it open, through its control socket; else the
//! store itself, which is opened for that.

use std::ops::ControlFlow;

use isotherm::control::{Conversation, Remote};
use isotherm::error::{Error, ErrorKind};
use isotherm::{BufferPlace, Store};
use serde_json::{Value, json};

use crate::args::Global;
use crate::failure::{Failure, Outcome};
use crate::inspect::places_from_json;
use crate::output::printable;
use crate::session::{Access, configuration, store_path};

/// Who answers.
pub enum Owner {
    /// Another process.
    Remote(Box<Remote>),
    /// This one.
    Own(Store, Box<Conversation>),
}

/// Finds who answers, does `work` with it, and closes the store if this process has opened it. The
/// work's error is the one reported.
pub fn with_owner<T>(
    global: &Global,
    access: Access,
    work: impl FnOnce(&mut Owner) -> Outcome<T>,
) -> Outcome<T> {
    let (path, config) = (store_path(global)?, configuration(global, access)?);
    let connected = Remote::connect(path);
    if let Ok(Some(remote)) = connected {
        return work(&mut Owner::Remote(Box::new(remote)));
    }
    let store = Store::open(path, config).map_err(|error| locked(error, connected.err()))?;
    let conversation = Box::new(Conversation::with(&store));
    let done = work(&mut Owner::Own(store.clone(), conversation));
    let closed = store.close();
    let value = done?;
    closed?;
    Ok(value)
}

/// Why the process that has the store open could not be asked, if that is the matter.
fn locked(error: Error, refused: Option<Error>) -> Error {
    if error.kind() != ErrorKind::Locked {
        return error;
    }
    let why = refused.map_or("it serves no control socket".to_owned(), |error| {
        format!("it cannot be asked: {}", error.message())
    });
    Error::new(ErrorKind::Locked, format!("{}; {why}", error.message()))
}

impl Owner {
    /// Asks, and waits for the answer.
    pub fn ask(&mut self, request: &Value) -> Outcome<Value> {
        self.ask_with_progress(request, &mut |_| {})
    }

    /// Asks what takes long.
    pub fn ask_with_progress(
        &mut self,
        request: &Value,
        progress: &mut dyn FnMut(&Value),
    ) -> Outcome<Value> {
        let mut told = |done: &Value| {
            progress(done);
            ControlFlow::Continue(())
        };
        Ok(match self {
            Owner::Remote(remote) => remote.ask(request, &mut told)?,
            Owner::Own(_, conversation) => conversation.ask(request, &mut told)?,
        })
    }

    /// Where the buffers of a blob lie; of a large one in another process the first, with a word
    /// about the others.
    pub fn locate(&mut self, bucket: &str, key: &[u8]) -> Outcome<Vec<BufferPlace>> {
        if let Owner::Own(store, _) = self {
            return Ok(store.open_bucket(bucket)?.locate(key)?);
        }
        let digits: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        let request = json!({ "request": "where", "bucket": bucket, "key_hex": digits });
        let answer = self.ask(&request)?;
        let Some(places) = places_from_json(&answer["buffers"]) else {
            let message = "the process that has the store open answers with places of another kind; \
                           ask with the command of its version";
            return Err(Failure::Other(message.to_owned()));
        };
        let count = answer["count"].as_u64().unwrap_or_default();
        if count > places.len() as u64 {
            let (key, listed) = (printable(key), places.len());
            eprintln!("isotherm: '{key}' has {count} buffers; these are the first {listed}");
        }
        Ok(places)
    }
}
