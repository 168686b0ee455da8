//! The command line of the table.

use std::path::PathBuf;
use std::time::Duration;

use crate::Outcome;

/// What is to be measured, and how thoroughly.
#[derive(Clone, Debug)]
pub struct Arguments {
    /// Few rounds, short ones, fewer blobs: to see that it works.
    pub quick: bool,
    /// Rows to run: those whose name contains one of these; all if empty.
    pub only: Vec<String>,
    /// Where stores and files are made.
    pub directory: PathBuf,
    /// Rounds of every row.
    pub rounds: usize,
    /// Time of one measurement.
    pub time: Duration,
    /// What a child process of the table is to measure.
    pub child: Option<String>,
}

/// How it is called.
pub const USAGE: &str = "isotherm-table [--quick] [--only ROW]... [--directory DIR] [--rounds N]
rows: dram-get-{64,4k,1m} dram-put-{64,4k,1m} c-call cold-get cold-queue stream-put durable-put batch copy idle rss open-empty";

impl Arguments {
    /// Reads them.
    pub fn parse(arguments: impl Iterator<Item = String>) -> Outcome<Arguments> {
        let mut parsed = Arguments {
            quick: false,
            only: Vec::new(),
            directory: PathBuf::from("."),
            rounds: 0,
            time: Duration::ZERO,
            child: None,
        };
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--quick" => parsed.quick = true,
                "--only" => parsed.only.extend(value()?.split(',').map(str::to_owned)),
                "--directory" => parsed.directory = PathBuf::from(value()?),
                "--rounds" => parsed.rounds = value()?.parse()?,
                "--child" => parsed.child = Some(value()?),
                _ => return Err(format!("{argument}?\n{USAGE}").into()),
            }
        }
        if parsed.rounds == 0 {
            parsed.rounds = if parsed.quick { 2 } else { 5 };
        }
        parsed.time = Duration::from_millis(if parsed.quick { 300 } else { 2000 });
        Ok(parsed)
    }

    /// Whether a row is to be run.
    pub fn wants(&self, row: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| row.contains(part.as_str()))
    }
}
