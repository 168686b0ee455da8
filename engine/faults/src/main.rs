//! `isotherm-crash-images`: stores on real file systems, whose disk loses power.
//!
//! A file system in user space ([`fuse`]) has one file, a loop device lies on it, XFS or ext4 on that,
//! and a store there ([`mounts`]). The [`disk`] records every write and flush in order while callers
//! use the store ([`workload`]) and note when each change was acknowledged ([`history`]). A crash image is
//! what the last flush covers, and a part of the writes since; it is mounted, the store opened and
//! compared ([`life`]). Or the disk begins to fail while the store is in use ([`failing`]).

mod disk;
mod failing;
mod fuse;
mod history;
mod life;
mod mounts;
mod watchdog;
mod workload;

use std::process::ExitCode;
use std::time::Instant;

use disk::Fault;
use life::{Plan, Report};
use mounts::{FileSystem, Outcome};
use watchdog::Watchdog;

const USAGE: &str = "\
isotherm-crash-images [--images N] [--seed S] [--fs xfs|ext4|both] [--lying | --failing]
  --images N   crash images on each file system (100)
  --seed S     of the first life; each life has the next one, and 250 images (1)
  --fs F       the file systems (both)
  --lying      the disk takes back seven of eight flushes: a run without a loss fails
  --failing    no crash images: reads, writes, flushes, and all three, fail under a store
It needs root, /dev/fuse and loop devices; without them it ends with 77. A life's calls follow from its
seed, their interleaving does not: the image of a loss is kept as a file beside the report.";

const IMAGES_OF_A_LIFE: usize = 250;
const NOT_RUN: u8 = 77;

struct Arguments {
    images: usize,
    seed: u64,
    file_systems: Vec<FileSystem>,
    is_lying: bool,
    is_failing: bool,
}

fn arguments() -> Outcome<Arguments> {
    let both = vec![FileSystem::Xfs, FileSystem::Ext4];
    let mut read =
        Arguments { images: 100, seed: 1, file_systems: both, is_lying: false, is_failing: false };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if word == "--lying" {
            read.is_lying = true;
            continue;
        }
        if word == "--failing" {
            read.is_failing = true;
            continue;
        }
        let value = words.next().ok_or(USAGE)?;
        match (word.as_str(), value.as_str()) {
            ("--images", _) => read.images = value.parse()?,
            ("--seed", _) => read.seed = value.parse()?,
            ("--fs", "xfs") => read.file_systems = vec![FileSystem::Xfs],
            ("--fs", "ext4") => read.file_systems = vec![FileSystem::Ext4],
            ("--fs", "both") => {}
            _ => return Err(USAGE.into()),
        }
    }
    Ok(read)
}

fn main() -> ExitCode {
    match arguments().and_then(|arguments| run(&arguments)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Outcome<ExitCode> {
    if let Some(lacking) = mounts::lacking(&arguments.file_systems) {
        println!("NOT RUN: {lacking}");
        return Ok(ExitCode::from(NOT_RUN));
    }
    mounts::clean_up();
    let watchdog = Watchdog::start()?;
    match arguments.is_failing {
        true => let_disks_fail(arguments, &watchdog),
        false => crash(arguments, &watchdog),
    }
}

fn let_disks_fail(arguments: &Arguments, watchdog: &Watchdog) -> Outcome<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for &file_system in &arguments.file_systems {
        for fault in [Fault::Reads, Fault::Writes, Fault::Flushes, Fault::All] {
            match failing::fail(file_system, fault, arguments.seed, watchdog) {
                Ok(seen) => println!("{seen}"),
                Err(error) => {
                    println!("WRONG: {}, {fault:?} fail: {error}", file_system.name());
                    code = ExitCode::FAILURE;
                }
            }
        }
    }
    Ok(code)
}

fn crash(arguments: &Arguments, watchdog: &Watchdog) -> Outcome<ExitCode> {
    let mut losses = 0;
    for &file_system in &arguments.file_systems {
        let start = Instant::now();
        let mut sum = Report::default();
        let mut seed = arguments.seed;
        let mut left = arguments.images;
        while left > 0 {
            let images = IMAGES_OF_A_LIFE.min(left);
            left -= images;
            let plan = Plan { seed, file_system, images, is_lying: arguments.is_lying };
            let report =
                life::live(plan, watchdog).map_err(|error| format!("{plan:?}: {error}"))?;
            for loss in &report.losses {
                println!("LOSS: {loss}");
            }
            sum.add(&report);
            seed += 1;
        }
        tell(file_system, &sum, start.elapsed().as_secs_f64());
        losses += sum.losses.len();
    }
    let is_as_it_should_be = (losses > 0) == arguments.is_lying;
    Ok(if is_as_it_should_be { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn tell(file_system: FileSystem, sum: &Report, seconds: f64) {
    println!(
        "{}: {} images, {} losses, {:.1} images/s, {seconds:.0} s; {} durable changes compared, {} others \
         of which {} were there; recorded: {} changes, {} writes and flushes, {} of them flushes, {} \
         demotions, {} cleanings; {} writes torn, {} images refused by the file system and made again",
        file_system.name(),
        sum.images,
        sum.losses.len(),
        sum.images as f64 / seconds,
        sum.judged.durable,
        sum.judged.volatile,
        sum.judged.volatile_found,
        sum.changes,
        sum.events,
        sum.flushes,
        sum.behind.demotions,
        sum.behind.cleanings,
        sum.torn,
        sum.refused,
    );
}
