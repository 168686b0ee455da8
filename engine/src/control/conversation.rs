//! Requests and answers as JSON, wherever they come from and go to.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::api::Bucket;
use crate::check::{self, CheckOptions, CheckProgress};
use crate::control::request::Request;
use crate::control::{PROTOCOL, facts_json};
use crate::error::{Error, ErrorKind, Result, fail};
use crate::io::runtime::Nanos;
use crate::stats::Stats;
use crate::store::facts::Facts;
use crate::store::{Scope, Store, flush};

/// Progress is told this often.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// Buffers of a blob that are looked for: their list is the owner's memory.
const BUFFERS_MAX: u64 = 256 << 10;

/// What is said between one client and a store.
pub struct Conversation {
    facts: Arc<Facts>,
    /// What the next `top` is compared with.
    last_top: Option<(Nanos, Stats)>,
}

impl Conversation {
    /// With a store that this process has open.
    pub fn with(store: &Store) -> Conversation {
        Conversation::over(store.facts().clone())
    }

    pub(super) fn over(facts: Arc<Facts>) -> Conversation {
        Conversation { facts, last_top: None }
    }

    /// Does what a request asks for. A long one tells its progress, and ends early if told to.
    ///
    /// # Errors
    /// `InvalidArgument` and `Unsupported` for what is no request; those of what it asks for.
    pub fn ask(
        &mut self,
        request: &Value,
        progress: &mut dyn FnMut(&Value) -> ControlFlow<()>,
    ) -> Result<Value> {
        let core = &self.facts.core;
        core.check_open()?;
        match Request::read(request)? {
            Request::Info => Ok(facts_json::info(&self.facts.info())),
            Request::Stats => Ok(facts_json::stats(&self.facts.stats())),
            Request::Where { bucket, key } => {
                let Some(state) = core.buckets.by_name(bucket.as_bytes()) else {
                    fail!(BucketNotFound, "there is no bucket {bucket:?}")
                };
                let bucket = Bucket::new(core.clone(), state);
                let buffers = bucket.stat(&key)?.buffers;
                if buffers > BUFFERS_MAX {
                    fail!(
                        LimitExceeded,
                        "the blob has {buffers} buffers, an answer is about {BUFFERS_MAX} at most; \
                         'isotherm where' lists them once the store is closed here"
                    );
                }
                Ok(facts_json::places(&bucket.locate(&key)?))
            }
            Request::Check { bytes_per_second } => self.check(bytes_per_second, progress),
            Request::Flush { bucket } => {
                let scope = bucket.as_deref().map_or(Scope::Store, Scope::Bucket);
                core.runtime.block_on(flush(core, scope))?;
                Ok(json!({}))
            }
            Request::Top => Ok(self.top()),
        }
    }

    /// Answers a line with lines, each handed to `send` without its end. Over if `send` says so.
    pub fn answer(
        &mut self,
        line: &[u8],
        send: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let answer = match serde_json::from_slice(line) {
            Ok(request) => self.ask(&request, &mut |progress| {
                send(&json!({ "protocol": PROTOCOL, "progress": progress }).to_string())
            }),
            Err(error) => {
                let message = format!("the request is not JSON: {error}");
                Err(Error::new(ErrorKind::InvalidArgument, message))
            }
        };
        let line = match answer {
            Ok(answer) => json!({ "protocol": PROTOCOL, "answer": answer }),
            Err(error) => refusal(&error),
        };
        send(&line.to_string())
    }

    fn check(
        &self,
        bytes_per_second: Option<u64>,
        progress: &mut dyn FnMut(&Value) -> ControlFlow<()>,
    ) -> Result<Value> {
        let mut options = CheckOptions::default();
        if let Some(rate) = bytes_per_second {
            options.bytes_per_second_max = rate;
        }
        let core = &self.facts.core;
        let mut due = Nanos(0);
        let mut now_and_then = |done: &CheckProgress| {
            let now = core.runtime.now();
            if now < due {
                return ControlFlow::Continue(());
            }
            due = now.after(PROGRESS_INTERVAL);
            progress(&facts_json::progress(done))
        };
        check::check(core, &options, &mut now_and_then).map(|report| facts_json::report(&report))
    }

    fn top(&mut self) -> Value {
        let (now, stats) = (self.facts.core.runtime.now(), self.facts.stats());
        let last = self.last_top.take();
        // The store's clock began when it was opened, like its counters.
        let since = now.since(last.as_ref().map_or(Nanos(0), |(then, _)| *then));
        let answer = facts_json::top(last.as_ref().map(|(_, stats)| stats), &stats, since);
        self.last_top = Some((now, stats));
        answer
    }
}

/// The line that refuses.
pub(super) fn refusal(error: &Error) -> Value {
    json!({
        "protocol": PROTOCOL,
        "error": {
            "kind": format!("{:?}", error.kind()),
            "code": error.kind().code(),
            "message": error.message(),
        },
    })
}
