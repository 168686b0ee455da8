//! DRAM get and Memory put beside DashMap and memcpy.

use crate::Outcome;
use crate::arguments::Arguments;
use crate::drive::{Direction, Load};
use crate::memory::{Dash, Isotherm, Memory, Region};
use crate::rounds::{Contender, interleave};
use crate::table::{Goal, Row, Section, Unit};

/// Name, bytes and keys of each size of value.
pub const SIZES: [(&str, usize, usize); 3] =
    [("64", 64, 100_000), ("4k", 4096, 100_000), ("1m", 1 << 20, 512)];
/// Threads that each size is run with.
pub const THREADS: [usize; 2] = [1, 2];

/// Everything that is compared at one size.
pub struct Peers {
    /// A store of DRAM alone, whose Memory puts stay where they are as the peers' do.
    pub isotherm: Isotherm,
    /// A store with a device tier, to which Memory puts are written behind meanwhile.
    pub behind: Isotherm,
    /// DashMap.
    pub dash: Dash,
    /// memcpy.
    pub region: Region,
}

impl Peers {
    /// All of them, with all keys.
    pub fn new(place: &std::path::Path, keys: usize, value_len: usize) -> Outcome<Peers> {
        Ok(Peers {
            isotherm: Isotherm::new(place, keys, value_len, false)?,
            behind: Isotherm::new(place, keys, value_len, true)?,
            dash: Dash::new(keys, value_len)?,
            region: Region::new(keys, value_len, THREADS[THREADS.len() - 1])?,
        })
    }

    /// Those that take part in a direction.
    pub fn in_direction(&self, direction: Direction) -> Vec<&dyn Memory> {
        match direction {
            Direction::Get => vec![&self.isotherm, &self.dash, &self.region],
            Direction::Put => vec![&self.isotherm, &self.dash, &self.region, &self.behind],
        }
    }
}

/// Runs them.
pub fn run(arguments: &Arguments) -> Outcome<Section> {
    let note = "16-byte keys, zipf 0.99 over 100,000 of them (512 at 1 MiB). Gets copy the value into \
                the caller's buffer, puts replace it; DashMap (its default hasher) allocates key and \
                value of a put. `isotherm` is a store of DRAM alone, `isotherm, written behind` has a \
                device tier, to which shards write the puts meanwhile; their CPU is counted.";
    let mut section = Section::new("DRAM", note);
    for (name, value_len, keys) in SIZES {
        let directions = [(Direction::Get, "get"), (Direction::Put, "put")];
        let wanted: Vec<_> = directions
            .into_iter()
            .filter(|(_, verb)| arguments.wants(&format!("dram-{verb}-{name}")))
            .collect();
        if wanted.is_empty() {
            continue;
        }
        let peers = Peers::new(&arguments.directory, keys, value_len)?;
        for (direction, verb) in wanted {
            for threads in THREADS {
                eprintln!("dram-{verb}-{name}, {threads} threads");
                let load = Load::new(direction, keys, value_len, threads);
                section.rows.push(row(arguments, &peers, &load, verb)?);
            }
        }
    }
    Ok(section)
}

fn row(arguments: &Arguments, peers: &Peers, load: &Load, verb: &str) -> Outcome<Row> {
    let contenders = peers.in_direction(load.direction()).into_iter().map(|memory| {
        Contender::new(memory.name(), move || {
            // The others have had the caches.
            load.run_for(memory, arguments.time / 10)?;
            let sample = load.run_for(memory, arguments.time / 2)?;
            memory.settle()?;
            Ok(sample)
        })
    });
    let figures = interleave(arguments.rounds, contenders.collect())?;
    let len = load.value_len();
    let (size, unit) = match len {
        0..1024 => (format!("{len} B"), Unit::Operations),
        1024..0x10_0000 => (format!("{} KiB", len >> 10), Unit::Operations),
        _ => (format!("{} MiB", len >> 20), Unit::Bytes(len as u64)),
    };
    let is_goal = load.direction() == Direction::Get && len <= 4096;
    let goal = is_goal.then(|| Goal { against: "DashMap".into(), at_least: 1.0 });
    Ok(Row { what: format!("{verb} {size}, {} thr", load.threads()), unit, figures, goal })
}
