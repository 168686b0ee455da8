//! How long a store takes to open after a crash.
//!
//! `isotherm-open [--blobs N] [--value-len BYTES] [--rounds N] [--directory DIR]` fills a store in
//! a process that then ends without closing it, and opens it so many times in processes that end
//! the same way. Prints what each open took.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use isotherm::config::{Config, Tier};
use isotherm::{Durability, PutOptions, Scope, Store};
use isotherm_benches::Outcome;
use isotherm_benches::picks::fill;

/// Threads that fill the store.
const WRITERS: usize = 8;

struct Arguments {
    blobs: usize,
    value_len: usize,
    rounds: usize,
    directory: PathBuf,
    child: Option<String>,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("isotherm-open: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Outcome<Arguments> {
    let mut parsed = Arguments {
        blobs: 1_000_000,
        value_len: 1024,
        rounds: 3,
        directory: PathBuf::from("."),
        child: None,
    };
    while let Some(argument) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{argument} needs a value"))?;
        match argument.as_str() {
            "--blobs" => parsed.blobs = value.parse()?,
            "--value-len" => parsed.value_len = value.parse()?,
            "--rounds" => parsed.rounds = value.parse()?,
            "--directory" => parsed.directory = PathBuf::from(value),
            "--child" => parsed.child = Some(value),
            _ => return Err(format!("{argument}? See the first lines of open.rs").into()),
        }
    }
    Ok(parsed)
}

fn run() -> Outcome {
    let arguments = parse(std::env::args().skip(1))?;
    match arguments.child.as_deref() {
        Some("fill") => fill_store(&arguments),
        Some(_) => open_store(&arguments),
        None => measure(&arguments),
    }
}

fn measure(arguments: &Arguments) -> Outcome {
    let place = tempfile::tempdir_in(&arguments.directory)?;
    run_child(arguments, place.path(), "fill")?;
    (0..arguments.rounds).try_for_each(|_| run_child(arguments, place.path(), "open"))
}

fn run_child(arguments: &Arguments, place: &Path, what: &str) -> Outcome {
    let status = Command::new(std::env::current_exe()?)
        .args(["--blobs", &arguments.blobs.to_string()])
        .args(["--value-len", &arguments.value_len.to_string()])
        .args(["--child", what, "--directory"])
        .arg(place)
        .status()?;
    if !status.success() {
        return Err(format!("the process that was to {what} the store: {status}").into());
    }
    Ok(())
}

fn open(arguments: &Arguments) -> Outcome<Store> {
    let bytes = (arguments.blobs * arguments.value_len.next_multiple_of(64)) as u64;
    let capacity = (2 * bytes).next_multiple_of(1 << 30) + (1 << 30);
    let config = Config::builder()
        .tier(Tier::dram("64MiB"))
        .tier(Tier::nvme(capacity))
        .memory_budget("3GiB")
        .build()?;
    Ok(Store::open(arguments.directory.join("store"), config)?)
}

fn fill_store(arguments: &Arguments) -> Outcome {
    let store = open(arguments)?;
    let bucket = store.bucket("bench")?;
    let start = Instant::now();
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| -> Outcome {
        let writers: Vec<_> = (0..WRITERS)
            .map(|_| {
                scope.spawn(|| -> Outcome {
                    let mut value = vec![0; arguments.value_len];
                    loop {
                        let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        if number >= arguments.blobs {
                            return Ok(());
                        }
                        fill(&mut value, number as u64);
                        let key = format!("key{number:012}");
                        let options = PutOptions::from(Durability::Memory);
                        bucket.put_with(key.as_bytes(), &value, options)?;
                    }
                })
            })
            .collect();
        writers.into_iter().try_for_each(|writer| writer.join().map_err(|_| "a writer panicked")?)
    })?;
    store.flush(Scope::Store)?;
    println!("filled in {:.1} s", start.elapsed().as_secs_f64());
    end_without_closing()
}

fn open_store(arguments: &Arguments) -> Outcome {
    let start = Instant::now();
    let store = open(arguments)?;
    let took = start.elapsed();
    println!("{:>10} blobs opened in {:.3} s", store.stats().blobs, took.as_secs_f64());
    end_without_closing()
}

/// What a crash leaves: nothing is closed, no destructor runs.
fn end_without_closing() -> ! {
    // SAFETY: ends the process; nothing in it is used afterwards.
    unsafe { libc::_exit(0) }
}
