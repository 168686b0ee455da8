//! Progress bars on standard error, for transfers that a person waits for.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use isotherm::Store;

/// Transfers of fewer bytes than this, and of fewer blobs, end before a bar could be read.
const LONG_TRANSFER: u64 = 64 << 20;
const MANY_BLOBS: u64 = 20_000;
/// How often a bar moves.
const TICK: Duration = Duration::from_millis(200);

const WITH_TOTAL: &str =
    "{msg} {bar:32} {binary_bytes} of {binary_total_bytes} {binary_bytes_per_sec} {eta}";
const WITHOUT_TOTAL: &str = "{msg} {spinner} {binary_bytes} {binary_bytes_per_sec}";
const BLOBS_WITH_TOTAL: &str = "{msg} {bar:32} {pos} of {len} blobs {per_sec} {eta}";
const BLOBS_WITHOUT_TOTAL: &str = "{msg} {spinner} {pos} blobs {per_sec}";

/// Counts the bytes or blobs of a transfer; shows a bar when it is long and stderr a terminal.
pub struct Progress {
    bar: ProgressBar,
    /// From so much on a bar is worth it.
    long: u64,
}

impl Progress {
    /// A transfer of `total` bytes. Where that is not known, it is long once it has been.
    pub fn new(what: &'static str, total: Option<u64>) -> Progress {
        let template = if total.is_some() { WITH_TOTAL } else { WITHOUT_TOTAL };
        Progress::with(what, total, template, LONG_TRANSFER)
    }

    /// The same of so many blobs, whatever their length.
    pub fn of_blobs(what: &'static str, total: Option<u64>) -> Progress {
        let template = if total.is_some() { BLOBS_WITH_TOTAL } else { BLOBS_WITHOUT_TOTAL };
        Progress::with(what, total, template, MANY_BLOBS)
    }

    fn with(what: &'static str, total: Option<u64>, template: &str, long: u64) -> Progress {
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
        let progress = Progress { bar, long };
        if let Ok(style) = ProgressStyle::with_template(template) {
            progress.bar.set_style(style);
        }
        progress.bar.set_message(what);
        if total.is_some_and(|total| total >= long) {
            progress.show();
        }
        progress
    }

    /// A transfer whose bar nobody should see.
    pub fn hidden() -> Progress {
        Progress { bar: ProgressBar::hidden(), long: u64::MAX }
    }

    fn show(&self) {
        // The target hides itself where stderr is no terminal.
        self.bar.set_draw_target(ProgressDrawTarget::stderr());
        self.bar.enable_steady_tick(TICK);
    }

    /// So many more are done.
    pub fn advance(&self, more: u64) {
        let before = self.bar.position();
        self.bar.inc(more);
        let is_long_now = before < self.long && before + more >= self.long;
        if is_long_now && self.bar.length().is_none() {
            self.show();
        }
    }

    /// Bytes done.
    pub fn done(&self) -> u64 {
        self.bar.position()
    }

    /// So many bytes are done in all; once it is everything, `then` is what goes on.
    fn reach(&self, bytes: u64, then: &'static str) {
        let total = self.bar.length().unwrap_or(bytes);
        self.bar.set_position(bytes.min(total));
        if bytes >= total {
            self.bar.set_message(then);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
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
        assert_eq!((progress.bar.position(), progress.bar.message().as_str()), (60, "writing"));
        progress.reach(130, "committing");
        assert_eq!((progress.bar.position(), progress.bar.message().as_str()), (100, "committing"));
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
