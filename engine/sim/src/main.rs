//! `isotherm-sim --seeds A..B --ops N [--json]`: runs the seeds and says what came of it.

use std::ops::Range;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use isotherm_sim::options::Options;
use isotherm_sim::run::{Outcome, run};
use serde::Serialize;

const USAGE: &str = "\
isotherm-sim --seeds A..B [--ops N] [--jobs N] [--json] [--options]
  --seeds A..B   the seeds, B left out; one number for a single one
  --ops N        operations of each seed (400)
  --jobs N       seeds at a time (the cores there are)
  --json         the report as JSON
  --options      print the options that each seed drew, and do not run it";

/// Between two words on a run that goes on.
const TELLS_EVERY: Duration = Duration::from_secs(60);

struct Arguments {
    seeds: Range<u64>,
    operations: u64,
    jobs: usize,
    json: bool,
    only_options: bool,
}

/// The sums over all seeds.
#[derive(Default, Serialize)]
struct Report {
    seeds: u64,
    operations: u64,
    promises: u64,
    opens: u64,
    crash_states: u64,
    damaged_states: u64,
    damaged_refused: u64,
    damaged_blobs: u64,
    seconds: f64,
    violations: Vec<Violation>,
    #[serde(skip)]
    told_at: Option<Instant>,
}

#[derive(Serialize)]
struct Violation {
    options: Options,
    what: String,
}

impl Report {
    fn add(&mut self, options: Options, outcome: Outcome) {
        self.seeds += 1;
        self.operations += outcome.operations;
        self.promises += outcome.promises;
        self.opens += outcome.opens;
        self.crash_states += outcome.counts.crash_states;
        self.damaged_states += outcome.counts.damaged_states;
        self.damaged_refused += outcome.counts.damaged_refused;
        self.damaged_blobs += outcome.counts.damaged_blobs;
        if let Some(what) = outcome.violation {
            self.violations.push(Violation { options, what });
        }
    }

    fn print(&self) {
        for Violation { options, what } in &self.violations {
            println!("seed {}: {what}\n  {options:?}", options.seed);
        }
        println!("{}", self.totals());
    }

    /// Of a long run something is left also if it is cut short.
    fn tell_now_and_then(&mut self, start: Instant) {
        if self.told_at.unwrap_or(start).elapsed() >= TELLS_EVERY {
            self.told_at = Some(Instant::now());
            self.seconds = start.elapsed().as_secs_f64();
            eprintln!("so far: {}", self.totals());
        }
    }

    fn totals(&self) -> String {
        format!(
            "{} seeds, {} operations, {} promises, {} openings, {} crash states, {} damaged states \
             ({} refused, {} blobs reported), {} violations, {:.1} s, {:.0} states a second",
            self.seeds,
            self.operations,
            self.promises,
            self.opens,
            self.crash_states,
            self.damaged_states,
            self.damaged_refused,
            self.damaged_blobs,
            self.violations.len(),
            self.seconds,
            (self.crash_states + self.damaged_states) as f64 / self.seconds,
        )
    }
}

fn main() -> ExitCode {
    let arguments = match parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(what) => {
            eprintln!("isotherm-sim: {what}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    if arguments.only_options {
        for seed in arguments.seeds.clone() {
            println!("{:?}", Options::draw(seed, arguments.operations));
        }
        return ExitCode::SUCCESS;
    }
    let report = run_all(&arguments);
    if arguments.json {
        match serde_json::to_string_pretty(&report) {
            Ok(text) => println!("{text}"),
            Err(error) => eprintln!("isotherm-sim: {error}"),
        }
    } else {
        report.print();
    }
    if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_all(arguments: &Arguments) -> Report {
    let start = Instant::now();
    let next = AtomicU64::new(arguments.seeds.start);
    let report = Mutex::new(Report::default());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= arguments.seeds.end {
                return;
            }
            let options = Options::draw(seed, arguments.operations);
            let outcome = run(&options);
            if let Some(what) = &outcome.violation {
                eprintln!("seed {seed}: {what}");
            }
            if let Ok(mut report) = report.lock() {
                report.add(options, outcome);
                report.tell_now_and_then(start);
            }
        }
    };
    std::thread::scope(|scope| {
        (0..arguments.jobs).for_each(|_| drop(scope.spawn(work)));
    });
    let mut report = report.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    report.violations.sort_by_key(|violation| violation.options.seed);
    report.seconds = start.elapsed().as_secs_f64();
    report
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let mut arguments =
        Arguments { seeds: 0..0, operations: 400, jobs, json: false, only_options: false };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} wants a value"));
        match &*word {
            "--seeds" => arguments.seeds = seeds(&value()?)?,
            "--ops" => arguments.operations = number(&value()?)?,
            "--jobs" => arguments.jobs = number(&value()?)?.clamp(1, 1024) as usize,
            "--json" => arguments.json = true,
            "--options" => arguments.only_options = true,
            other => return Err(format!("{other:?} is no option")),
        }
    }
    if arguments.seeds.is_empty() {
        return Err("--seeds A..B is missing, or names none".to_owned());
    }
    Ok(arguments)
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|error| format!("{text:?}: {error}"))
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    match text.split_once("..") {
        Some((first, end)) => Ok(number(first)?..number(end)?),
        None => {
            let seed = number(text)?;
            Ok(seed..seed.saturating_add(1))
        }
    }
}
