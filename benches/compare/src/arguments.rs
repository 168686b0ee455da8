//! The command line.

use std::path::PathBuf;

use crate::Outcome;
use crate::damage::Plan;
use crate::engines::{self, Engine, PLANTED};

/// How it is called.
pub const USAGE: &str = "\
isotherm-compare bitflip [--only ENGINE,...] [--bits N] [--sectors N] [--seed N] [--directory DIR]
  --only       engines: isotherm, sqlite, sqlite-checked, lmdb, redb, redb-checked, rocksdb,
               rocksdb-strict, rocksdb-tables; the planted liar `plain` is always there
  --bits       bits flipped, each in a copy of its own (1000)
  --sectors    sectors zeroed, as many made random, swapped, and files cut (100)
  --seed       where the positions are drawn from (1)
  --directory  where stores are made, on the file system to be used (.)";

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Arguments {
    /// Engines to compare, by name; all if empty.
    pub only: Vec<String>,
    /// How much damage.
    pub plan: Plan,
    /// Where stores are made.
    pub directory: PathBuf,
}

impl Arguments {
    /// Reads them.
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Outcome<Arguments> {
        let plan = Plan { bits: 1000, sectors: 100, seed: 1 };
        let mut parsed = Arguments { only: Vec::new(), plan, directory: PathBuf::from(".") };
        match arguments.next().as_deref() {
            Some("bitflip") => {}
            Some(other) => return Err(format!("{other}?\n{USAGE}").into()),
            None => return Err(USAGE.into()),
        }
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--only" => parsed.only.extend(value()?.split(',').map(str::to_owned)),
                "--bits" => parsed.plan.bits = value()?.parse()?,
                "--sectors" => parsed.plan.sectors = value()?.parse()?,
                "--seed" => parsed.plan.seed = value()?.parse()?,
                "--directory" => parsed.directory = PathBuf::from(value()?),
                _ => return Err(format!("{argument}?\n{USAGE}").into()),
            }
        }
        Ok(parsed)
    }

    /// The engines that are asked for. The planted one is always among them.
    pub fn engines(&self) -> Outcome<Vec<Box<dyn Engine>>> {
        for name in &self.only {
            engines::find(name)?;
        }
        let wanted = |name: &str| {
            self.only.is_empty() || name == PLANTED || self.only.iter().any(|only| only == name)
        };
        Ok(engines::all().into_iter().filter(|engine| wanted(engine.name())).collect())
    }
}
