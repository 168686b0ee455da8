//! The harness: `isotherm-bench --rw=randread --bs=4k --size=64MiB --runtime=10 --time_based`.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use isotherm_benches::harness::failure::{Failure, Outcome};
use isotherm_benches::harness::options::{Format, Options};
use isotherm_benches::harness::plan::Plan;
use isotherm_benches::harness::run;

fn main() -> ExitCode {
    match measure(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("isotherm-bench: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn measure(options: Options) -> Outcome {
    let plan = Plan::of(options)?;
    let report = run::run(&plan)?;
    print(&match plan.options.output_format {
        Format::Normal => report.text(),
        Format::Json => format!("{:#}\n", report.json()),
    })?;
    match report.figures.mismatches {
        0 => Ok(()),
        count => Err(Failure::Run(format!("{count} blocks were not what was written"))),
    }
}

fn print(text: &str) -> Outcome {
    let written = io::stdout().lock().write_all(text.as_bytes());
    written.map_err(|error| Failure::Run(format!("write to standard output: {error}")))
}
