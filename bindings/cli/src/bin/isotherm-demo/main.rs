//! `make demo`: real data across three tiers, killed, reopened, verified, measured.
//!
//! The parts run as processes of their own, because one of them is killed: `write` stores the data
//! until it is killed, `verify` opens what is left.

mod data;
mod fio;
mod plan;
mod throughput;
mod verdict;
mod verifier;
mod writer;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use isotherm_cli::failure::{Failure, Outcome};
use isotherm_cli::output::human_size;

use crate::plan::Plan;

/// How long the writer goes on after it has stored everything, so that the kill meets a write.
const WRITES_ON: Duration = Duration::from_millis(700);

#[derive(Parser)]
#[command(name = "isotherm-demo", about = "Stores, kills, reopens, verifies and measures")]
struct Arguments {
    /// An empty directory for the store and the lists; `make demo` makes and removes it
    #[arg(long)]
    work: PathBuf,
    /// Directories to store
    #[arg(long, required = true)]
    tree: Vec<PathBuf>,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Subcommand)]
enum Part {
    /// Stores everything, then writes on until it is killed
    #[command(hide = true)]
    Write,
    /// Reopens the store and verifies what was acknowledged
    #[command(hide = true)]
    Verify,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let work = &arguments.work;
    let done = match arguments.part {
        None => conduct(&arguments),
        Some(Part::Write) => writer::write(work, &arguments.tree),
        Some(Part::Verify) => verifier::verify(work),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("isotherm-demo: {failure}");
            if arguments.part.is_none() {
                println!("\nFAIL: {failure}");
            }
            ExitCode::FAILURE
        }
    }
}

fn conduct(arguments: &Arguments) -> Outcome {
    let (work, started) = (&arguments.work, Instant::now());
    heading("1. The data and the store");
    let files = data::list_trees(&arguments.tree)?;
    let plan = Plan::make(work, &files)?;
    println!("{plan}");
    let hashed = Instant::now();
    data::write_hash_list(work, &files, plan.checkpoint_parts)?;
    println!("SHA-256 of every source, taken before: {:.1} s", hashed.elapsed().as_secs_f64());

    heading("2. Store it, and kill -9 the writer");
    write_and_kill(arguments)?;

    heading("3. Reopen in a new process and verify every byte");
    require(&part(arguments, "verify").status(), "the verification")?;

    heading("4. What another process sees: isotherm df");
    require(&isotherm(work)?.arg("df").status(), "isotherm df")?;
    plan::remove_store(work)?;

    heading("5. Throughput per tier, beside the same device without isotherm");
    print!("{}", throughput::measure(work, plan.bench_bytes)?);

    println!("\nPASS: every acknowledged blob came back byte for byte after kill -9");
    println!(
        "      {} in three tiers, {:.0} s in all",
        human_size(plan.data_bytes),
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

fn heading(text: &str) {
    println!("\n== {text}");
}

/// This program again, for one part.
fn part(arguments: &Arguments, name: &str) -> Command {
    // Where a program cannot name itself, starting it fails with a message of its own.
    let mut command = Command::new(std::env::current_exe().unwrap_or_default());
    command.arg("--work").arg(&arguments.work);
    for tree in &arguments.tree {
        command.arg("--tree").arg(tree);
    }
    command.arg(name);
    command
}

/// The `isotherm` command that was built beside this program.
fn isotherm(work: &Path) -> Outcome<Command> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::Other(format!("path of this program: {error}")))?;
    let mut command = Command::new(program.with_file_name("isotherm"));
    command.arg("-s").arg(work.join(plan::STORE));
    Ok(command)
}

fn require(status: &std::io::Result<ExitStatus>, what: &str) -> Outcome {
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::Other(format!("{what} failed ({status})"))),
        Err(error) => Err(Failure::Other(format!("{what} did not start: {error}"))),
    }
}

/// Waits until the writer has stored everything, lets it write on, and kills it.
fn write_and_kill(arguments: &Arguments) -> Outcome {
    let failure = |error| Failure::Other(format!("the writer: {error}"));
    let mut writer = part(arguments, "write").stdout(Stdio::piped()).spawn().map_err(failure)?;
    let mut stored = false;
    if let Some(output) = writer.stdout.take() {
        for line in BufReader::new(output).lines() {
            let line = line.map_err(failure)?;
            println!("{line}");
            stored = line.starts_with(writer::STORED);
            if stored {
                break;
            }
        }
    }
    if stored {
        std::thread::sleep(WRITES_ON);
    }
    // SIGKILL: no destructor, no close, no flush.
    writer.kill().map_err(failure)?;
    let status = writer.wait().map_err(failure)?;
    if !stored {
        return Err(Failure::Other(format!("the writer ended before its time ({status})")));
    }
    println!("kill -9 while it was still writing: {status}");
    Ok(())
}
