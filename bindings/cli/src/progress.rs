//! A progress bar on standard error, for transfers that a person waits for.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Transfers smaller than this end before a bar could be read.
const LONG_TRANSFER: u64 = 64 << 20;

/// Counts the bytes of a transfer; shows a bar when the transfer is long and stderr a terminal.
pub struct Progress(ProgressBar);

impl Progress {
    /// A transfer of `total` bytes; `None` where that is not known.
    pub fn new(total: Option<u64>) -> Progress {
        if total.is_some_and(|bytes| bytes < LONG_TRANSFER) {
            return Progress(ProgressBar::hidden());
        }
        // The target hides itself where stderr is no terminal.
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        let template = match total {
            Some(_) => {
                "{bar:32} {binary_bytes} of {binary_total_bytes} {binary_bytes_per_sec} {eta}"
            }
            None => "{spinner} {binary_bytes} {binary_bytes_per_sec}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Progress(bar)
    }

    /// So many more bytes are done.
    pub fn advance(&self, bytes: u64) {
        self.0.inc(bytes);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
