//! The `isotherm` command: a store from the shell.

use std::process::ExitCode;

use clap::Parser;
use isotherm_cli::args::{Arguments, Command};
use isotherm_cli::failure::{Failure, Outcome};
use isotherm_cli::{
    attributes, check, compact, doctor, facts, inspect, list, name, remove, salvage, top, transfer,
    tree,
};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads our output has read enough.
        Err(Failure::BrokenPipe) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("isotherm: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(arguments: &Arguments) -> Outcome {
    let global = &arguments.global;
    match &arguments.command {
        Command::Put(put) if put.recursive => tree::put(global, put),
        Command::Put(put) => transfer::put(global, put),
        Command::Get(get) if get.recursive => tree::get(global, get),
        Command::Get(get) => transfer::get(global, get),
        Command::Ls(ls) => list::ls(global, ls),
        Command::Stat(stat) => list::stat(global, stat),
        Command::Rm(rm) if rm.recursive => remove::many(global, rm),
        Command::Rm(rm) => remove::some(global, rm),
        Command::Mv(new_name) => name::mv(global, new_name),
        Command::Cp(new_name) => name::cp(global, new_name),
        Command::Compact(compact) => compact::run(global, compact.json),
        Command::Attr(attr) => attributes::attr(global, attr),
        Command::Df(df) => inspect::df(global, df.json),
        Command::Where(place) => inspect::where_is(global, place),
        Command::Info(info) => facts::show(global, "info", info.json),
        Command::Stats(stats) => facts::show(global, "stats", stats.json),
        Command::Check(check) => check::check(global, check),
        Command::Flush(flush) => facts::flush(global, flush),
        Command::Top(top) => top::top(global, top.json),
        Command::Salvage(salvage) => salvage::run(global, salvage),
        Command::Doctor(doctor) => doctor::run(global, doctor.json),
    }
}
