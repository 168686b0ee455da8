//! `isotherm-inputs DIRECTORY`: writes the inputs that a fuzzer begins with, a directory a target.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use isotherm_sim::fuzz::inputs;

fn main() -> ExitCode {
    let Some(directory) = std::env::args_os().nth(1) else {
        eprintln!("usage: isotherm-inputs DIRECTORY");
        return ExitCode::FAILURE;
    };
    match write(&PathBuf::from(directory)) {
        Ok(count) => {
            println!("{count} inputs");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("isotherm-inputs: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write(directory: &std::path::Path) -> io::Result<usize> {
    let inputs = inputs();
    for input in &inputs {
        let of_target = directory.join(input.target);
        fs::create_dir_all(&of_target)?;
        fs::write(of_target.join(&input.name), &input.bytes)?;
    }
    Ok(inputs.len())
}
