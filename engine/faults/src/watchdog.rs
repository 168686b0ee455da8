//! Ends the process when a step takes too long: a hang is a failure, and must not hang whoever runs it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

const STEP_MAX: Duration = Duration::from_secs(180);

/// What is being done, and since when.
pub struct Watchdog(Arc<Mutex<(Instant, String)>>);

impl Watchdog {
    /// Starts to watch. It does so until the process ends.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start() -> std::io::Result<Watchdog> {
        let step = Arc::new(Mutex::new((Instant::now(), String::from("the start"))));
        let watched = step.clone();
        std::thread::Builder::new().name("watchdog".into()).spawn(move || {
            loop {
                std::thread::sleep(Duration::from_secs(1));
                let (since, what) = watched.lock().clone();
                if since.elapsed() > STEP_MAX {
                    eprintln!("HANGS: {what}, for {} s", since.elapsed().as_secs());
                    // The disk ends with it, and whoever waits for that gets an error.
                    std::process::abort();
                }
            }
        })?;
        Ok(Watchdog(step))
    }

    /// A step begins.
    pub fn feed(&self, what: &str) {
        *self.0.lock() = (Instant::now(), what.into());
    }
}
