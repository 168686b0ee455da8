//! `isotherm-plants [--seconds N]`: plants one bug after the other, and says how soon the simulator
//! finds each. Needs a build with the feature `plant`.

use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use isotherm::plant::{Plant, plant};
use isotherm_sim::options::Options;
use isotherm_sim::run::run;
use serde::{Deserialize, Serialize};

const USAGE: &str = "\
isotherm-plants [--seconds N] [--jobs N] [--from SEED] [--only NAME] [--json]
  --seconds N   how long each bug is looked for (60)
  --jobs N      seeds at a time (the cores there are)
  --from SEED   the first seed (0)
  --only NAME   this bug alone, or `none`: there must be nothing to find
  --json        the findings as JSON, a line each";

const OPERATIONS: u64 = 400;
/// A seed that is under way when the time is over may end; one that does not is a finding.
const GRACE: Duration = Duration::from_secs(60);

struct Arguments {
    seconds: u64,
    jobs: usize,
    from: u64,
    only: Option<String>,
    json: bool,
}

/// What came of one bug.
#[derive(Serialize, Deserialize)]
struct Finding {
    bug: String,
    found: bool,
    seconds: f64,
    seeds: u64,
    crash_states: u64,
    damaged_states: u64,
    what: String,
}

fn main() -> ExitCode {
    let arguments = match parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(what) => {
            eprintln!("isotherm-plants: {what}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let all_as_due = match &arguments.only {
        Some(name) => hunt_one(name, &arguments),
        None => hunt_all(&arguments),
    };
    match all_as_due {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(what) => {
            eprintln!("isotherm-plants: {what}");
            ExitCode::from(2)
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let jobs = thread::available_parallelism().map_or(1, usize::from);
    let mut arguments = Arguments { seconds: 60, jobs, from: 0, only: None, json: false };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} wants a value"));
        let number = |text: String| text.parse().map_err(|error| format!("{text:?}: {error}"));
        match &*word {
            "--seconds" => arguments.seconds = number(value()?)?,
            "--jobs" => arguments.jobs = number(value()?)?.clamp(1, 1024) as usize,
            "--from" => arguments.from = number(value()?)?,
            "--only" => arguments.only = Some(value()?),
            "--json" => arguments.json = true,
            other => return Err(format!("{other:?} is no option")),
        }
    }
    Ok(arguments)
}

/// Each bug in a process of its own: it may never come back, and takes what it broke with it.
fn hunt_all(arguments: &Arguments) -> Result<bool, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let names = Plant::ALL.iter().map(|bug| bug.name()).chain(["none"]);
    let mut all_as_due = true;
    for name in names {
        let start = Instant::now();
        let output = Command::new(&program)
            .args(["--only", name, "--json", "--seconds", &arguments.seconds.to_string()])
            .args(["--jobs", &arguments.jobs.to_string(), "--from", &arguments.from.to_string()])
            .output()
            .map_err(|error| error.to_string())?;
        let line = String::from_utf8_lossy(&output.stdout);
        let finding: Finding = match serde_json::from_str(line.trim()) {
            Ok(finding) => finding,
            // The process was ended by what was planted.
            Err(_) => Finding {
                bug: name.to_owned(),
                found: true,
                seconds: start.elapsed().as_secs_f64(),
                seeds: 0,
                crash_states: 0,
                damaged_states: 0,
                what: format!("the process ended: {}", output.status),
            },
        };
        all_as_due &= finding.is_as_due();
        print(&finding, arguments.json)?;
    }
    Ok(all_as_due)
}

fn hunt_one(name: &str, arguments: &Arguments) -> Result<bool, String> {
    let bug = Plant::ALL.iter().find(|bug| bug.name() == name);
    if bug.is_none() && name != "none" {
        let names: Vec<&str> = Plant::ALL.iter().map(|bug| bug.name()).collect();
        return Err(format!("there is no bug {name:?}; there are {}", names.join(", ")));
    }
    plant(bug.copied());
    // It is told in one line.
    std::panic::set_hook(Box::new(|_| {}));
    let finding = hunt(name, arguments);
    print(&finding, arguments.json)?;
    Ok(finding.is_as_due())
}

/// What the threads of a hunt share.
#[derive(Default)]
struct Hunt {
    next: AtomicU64,
    is_over: AtomicBool,
    seeds: AtomicU64,
    crash_states: AtomicU64,
    damaged_states: AtomicU64,
    /// What was found, after which time; the threads that have ended.
    state: Mutex<(Option<(String, Duration)>, usize)>,
    changed: Condvar,
}

impl Hunt {
    fn work(&self, start: Instant, most: Duration) {
        while !self.is_over.load(Ordering::Relaxed) && start.elapsed() < most {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            let outcome = run(&Options::draw(seed, OPERATIONS));
            self.seeds.fetch_add(1, Ordering::Relaxed);
            self.crash_states.fetch_add(outcome.counts.crash_states, Ordering::Relaxed);
            self.damaged_states.fetch_add(outcome.counts.damaged_states, Ordering::Relaxed);
            if let Some(what) = outcome.violation {
                self.is_over.store(true, Ordering::Relaxed);
                let mut state = self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                state.0.get_or_insert((format!("seed {seed}: {what}"), start.elapsed()));
            }
        }
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).1 += 1;
        self.changed.notify_all();
    }
}

fn hunt(name: &str, arguments: &Arguments) -> Finding {
    let (start, most) = (Instant::now(), Duration::from_secs(arguments.seconds));
    let hunt = Arc::new(Hunt { next: AtomicU64::new(arguments.from), ..Hunt::default() });
    for _ in 0..arguments.jobs {
        let hunt = hunt.clone();
        thread::spawn(move || hunt.work(start, most));
    }
    let mut state = hunt.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let end = most + GRACE;
    while state.0.is_none() && state.1 < arguments.jobs && start.elapsed() < end {
        let left = end.saturating_sub(start.elapsed());
        state = match hunt.changed.wait_timeout(state, left.min(Duration::from_millis(200))) {
            Ok((state, _)) => state,
            Err(poisoned) => poisoned.into_inner().0,
        };
    }
    let hangs = (state.1 < arguments.jobs).then(|| ("a run does not end".to_owned(), most));
    let found = state.0.take().or(hangs);
    let seconds = found.as_ref().map_or(start.elapsed(), |(_, after)| *after).as_secs_f64();
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    Finding {
        bug: name.to_owned(),
        found: found.is_some(),
        seconds,
        seeds: load(&hunt.seeds),
        crash_states: load(&hunt.crash_states),
        damaged_states: load(&hunt.damaged_states),
        what: found.map_or(String::new(), |(what, _)| what),
    }
}

impl Finding {
    /// A bug is to be found; where there is none, nothing.
    fn is_as_due(&self) -> bool {
        self.found == (self.bug != "none")
    }
}

fn print(finding: &Finding, json: bool) -> Result<(), String> {
    if json {
        let line = serde_json::to_string(finding).map_err(|error| error.to_string())?;
        println!("{line}");
        return Ok(());
    }
    let Finding { bug, found, seconds, seeds, crash_states, damaged_states, what } = finding;
    let found = if *found { "found" } else { "not found" };
    let what: String = what.lines().next().unwrap_or_default().chars().take(120).collect();
    println!(
        "{bug:26} {found:9} {seconds:5.1} s {seeds:5} seeds {crash_states:6} crash states \
         {damaged_states:5} damaged  {what}"
    );
    Ok(())
}
