//! `isotherm-compare bitflip`: the same damage to isotherm and to its peers.

use std::path::Path;
use std::process::ExitCode;

use isotherm_compare::arguments::Arguments;
use isotherm_compare::reading::{CHILD, read_store};
use isotherm_compare::{Outcome, bitflip, engines, table};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("isotherm-compare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, engine, directory] = &arguments[..]
        && first == CHILD
    {
        return read_store(&*engines::find(engine)?, Path::new(directory));
    }
    let arguments = Arguments::parse(arguments.into_iter())?;
    let rows = bitflip::run(&arguments)?;
    print!("{}", table::markdown(&rows));
    bitflip::assess(&rows)
}
