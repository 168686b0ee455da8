//! What an open store costs when nothing is asked of it, and how much memory it takes. Each is
//! measured in a process of its own.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use isotherm::config::{Config, Tier};
use isotherm::{Durability, Scope, Store};

use crate::Outcome;
use crate::arguments::Arguments;
use crate::picks::{fill, key};
use crate::table::{Fact, Section};
use crate::usage::{cpu_time, resident};

const DRAM: u64 = 256 << 20;
const BUDGET: u64 = 512 << 20;
const IDLE: Duration = Duration::from_secs(5);

/// Runs them.
pub fn run(arguments: &Arguments) -> Outcome<Section> {
    let note = "A process of its own with one store: 256 MiB of DRAM, a device tier, a budget of 512 \
                MiB. Idle: 5 s beginning 2 s after 10,000 Memory puts of 4 KiB and a flush. Memory: \
                after Memory puts of twice the DRAM tier's size.";
    let mut section = Section::new("At rest", note);
    if arguments.wants("idle") {
        let percent: f64 = child(arguments, "idle")?;
        section.facts.push(Fact {
            what: "CPU of an idle open store".into(),
            value: format!("{percent:.2} % of a core"),
            goal: "0 %".into(),
            met: percent < 0.1,
        });
    }
    if arguments.wants("rss") {
        let most: f64 = child(arguments, "rss")?;
        let part = most / BUDGET as f64;
        section.facts.push(Fact {
            what: "peak resident memory, DRAM tier full".into(),
            value: format!("{:.0} MiB, {part:.2} of the budget", most / f64::from(1 << 20)),
            goal: "<= 1.10 of the budget".into(),
            met: part <= 1.1,
        });
    }
    Ok(section)
}

fn child(arguments: &Arguments, what: &str) -> Outcome<f64> {
    eprintln!("{what}");
    let output = Command::new(std::env::current_exe()?)
        .args(["--child", what, "--directory"])
        .arg(&arguments.directory)
        .output()?;
    if !output.status.success() {
        return Err(format!("{what}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().parse()?)
}

/// The part of a child process: prints one figure.
pub fn run_child(what: &str, directory: &Path) -> Outcome {
    let place = tempfile::tempdir_in(directory)?;
    let config = Config::builder()
        .tier(Tier::dram(DRAM))
        .tier(Tier::nvme("2GiB"))
        .memory_budget(BUDGET)
        .durability(Durability::Memory)
        .build()?;
    let store = Store::open(place.path().join("store"), config)?;
    let bucket = store.bucket("rest")?;
    let mut value = vec![0; 4096];
    fill(&mut value, 1);
    let puts = match what {
        "idle" => 10_000,
        _ => (DRAM * 2) as usize / value.len(),
    };
    for number in 0..puts {
        bucket.put(&key(number), &value)?;
    }
    let figure = match what {
        "idle" => {
            store.flush(Scope::Store)?;
            thread::sleep(Duration::from_secs(2));
            let cpu = cpu_time();
            thread::sleep(IDLE);
            cpu_time().saturating_sub(cpu).as_secs_f64() / IDLE.as_secs_f64() * 100.0
        }
        "rss" => resident()?.1 as f64,
        _ => return Err(format!("there is no child {what}").into()),
    };
    println!("{figure}");
    store.close()?;
    Ok(())
}
