//! Progress bars on standard error, for transfers that a person waits for.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use isotherm::Store;

/// Transfers smaller than this end before a bar could be read.
const LONG_TRANSFER: u64 = 64 << 20;
/// How often a bar moves.
const TICK: Duration = Duration::from_millis(200);

const WITH_TOTAL: &str =
    "{msg} {bar:32} {binary_bytes} of {binary_total_bytes} {binary_bytes_per_sec} {eta}";
const WITHOUT_TOTAL: &str = "{msg} {spinner} {binary_bytes} {binary_bytes_per_sec}";

/// Counts the bytes of a transfer; shows a bar when the transfer is long and stderr a terminal.
pub struct Progress(ProgressBar);

impl Progress {
    /// A transfer of `total` bytes. Where that is not known, it is long once it has been.
    pub fn new(what: &'static str, total: Option<u64>) -> Progress {
        let progress = Progress(ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden()));
        let template = if total.is_some() { WITH_TOTAL } else { WITHOUT_TOTAL };
        if let Ok(style) = ProgressStyle::with_template(template) {
            progress.0.set_style(style);
        }
        progress.0.set_message(what);
        if total.is_some_and(|bytes| bytes >= LONG_TRANSFER) {
            progress.show();
        }
        progress
    }

    /// A transfer whose bar nobody should see.
    pub fn hidden() -> Progress {
        Progress(ProgressBar::hidden())
    }

    fn show(&self) {
        // The target hides itself where stderr is no terminal.
        self.0.set_draw_target(ProgressDrawTarget::stderr());
        self.0.enable_steady_tick(TICK);
    }

    /// So many more bytes are done.
    pub fn advance(&self, bytes: u64) {
        let before = self.0.position();
        self.0.inc(bytes);
        let is_long_now = before < LONG_TRANSFER && before + bytes >= LONG_TRANSFER;
        if is_long_now && self.0.length().is_none() {
            self.show();
        }
    }

    /// Bytes done.
    pub fn done(&self) -> u64 {
        self.0.position()
    }

    /// So many bytes are done in all; once it is everything, `then` is what goes on.
    fn reach(&self, bytes: u64, then: &'static str) {
        let total = self.0.length().unwrap_or(bytes);
        self.0.set_position(bytes.min(total));
        if bytes >= total {
            self.0.set_message(then);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Does `work`, which stores `len` bytes at once, beside a bar of what the devices have taken.
///
/// A put is whole or not at all, so there is no share of it to report: what moves the bar is the
/// traffic it causes. The log's own writes count too, and the bar is ahead by these.
pub fn follow<T>(store: &Store, len: u64, work: impl FnOnce() -> T) -> T {
    if len < LONG_TRANSFER {
        return work();
    }
    let progress = Progress::new("writing", Some(len));
    let before = written_bytes(store);
    thread::scope(|scope| {
        let (working, ended) = mpsc::channel::<()>();
        scope.spawn(move || {
            while ended.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                progress.reach(written_bytes(store).saturating_sub(before), "committing");
            }
        });
        let done = work();
        drop(working);
        done
    })
}

/// Bytes written to the devices, without what the organizer moved.
fn written_bytes(store: &Store) -> u64 {
    let stats = store.stats();
    let written: u64 = stats.tiers.iter().map(|tier| tier.written_bytes).sum();
    written.saturating_sub(stats.organizer.written_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_never_passes_its_total_and_then_names_what_goes_on() {
        let progress = Progress::new("writing", Some(100));
        progress.reach(60, "committing");
        assert_eq!((progress.0.position(), progress.0.message().as_str()), (60, "writing"));
        progress.reach(130, "committing");
        assert_eq!((progress.0.position(), progress.0.message().as_str()), (100, "committing"));
    }

    #[test]
    fn what_is_written_meanwhile_moves_a_bar_up_to_the_value() {
        let directory = tempfile::tempdir().unwrap();
        let tier = isotherm::config::Tier::nvme("256MiB");
        let config = isotherm::config::Config::builder().tier(tier).build().unwrap();
        let store = Store::open(directory.path().join("store"), config).unwrap();
        let (value, before) = (vec![7; LONG_TRANSFER as usize], written_bytes(&store));
        let bucket = store.bucket("b").unwrap();
        follow(&store, LONG_TRANSFER, || bucket.put(b"k", &value)).unwrap();
        let written = written_bytes(&store) - before;
        assert!((LONG_TRANSFER..LONG_TRANSFER * 2).contains(&written), "{written}");
    }
}
