//! Makes the README's table of figures: `make bench-table`.

use std::process::ExitCode;

use isotherm_benches::Outcome;
use isotherm_benches::arguments::Arguments;
use isotherm_benches::rows::{c_call, cold, dram, durable, group, idle, open, stream};
use isotherm_benches::usage::machine;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("isotherm-table: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome {
    let arguments = Arguments::parse(std::env::args().skip(1))?;
    if let Some(what) = &arguments.child {
        return idle::run_child(what, &arguments.directory);
    }
    println!("{}.", machine());
    println!(
        "Medians of {} interleaved rounds (least-most), CPU of the whole process per operation, \
         ratios: median of the rounds' own.\n",
        arguments.rounds
    );
    let mut failed = Vec::new();
    for section in [
        idle::run,
        open::run,
        dram::run,
        c_call::run,
        cold::run,
        durable::run,
        group::run,
        stream::run,
    ] {
        match section(&arguments) {
            Ok(section) => print!("{}", section.markdown()),
            Err(error) => {
                eprintln!("failed: {error}");
                failed.push(error.to_string());
            }
        }
    }
    match failed.len() {
        0 => Ok(()),
        _ => Err(format!("{} sections failed: {}", failed.len(), failed.join("; ")).into()),
    }
}
