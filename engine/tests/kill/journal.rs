//! What a writer notes about itself: one line per event, each a single `write` to a file, which
//! the page cache keeps when the process is killed.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use isotherm::Durability;

/// A change of one key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Put { seed: u64, len: u64 },
    PutAt { at: u64, seed: u64, len: u64 },
    Append { seed: u64, len: u64 },
    Truncate { len: u64 },
    Delete,
}

/// What a writer has noted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// The store is open.
    Opened,
    /// What a key held right after the open: length and hash, or nothing.
    Found { key: u64, value: Option<(u64, u64)> },
    /// All keys that were asked for have been reported.
    Reported,
    /// A thread is about to change a key.
    Intent { thread: u64, key: u64, level: Durability, kind: Kind },
    /// That change was acknowledged; its version if the call told.
    Ack { thread: u64, version: u64 },
    /// A thread is about to flush; everything acknowledged until here counts.
    FlushIntent { thread: u64 },
    /// That flush has returned.
    FlushAck { thread: u64 },
    /// All keys of a group are about to get this stamp.
    GroupIntent { group: u64, stamp: u64 },
    /// They have.
    GroupAck { group: u64, stamp: u64 },
    /// The stamp that an open has found.
    GroupFound { group: u64, stamp: u64 },
    /// The wandering blob of a group is about to get its next name.
    WandererIntent { group: u64 },
    /// It is there.
    WandererAck { group: u64, at: u64 },
    /// Where an open has found it.
    WandererFound { group: u64, at: u64 },
    /// Counters so far.
    Stats { cleanings: u64, demotions: u64, batches: u64 },
    /// A clean close has returned.
    Closed,
}

/// The writer's end.
pub struct Journal(File);

impl Journal {
    pub fn open(path: &Path) -> Journal {
        Journal(OpenOptions::new().append(true).create(true).open(path).unwrap())
    }

    pub fn note(&self, event: Event) {
        let line = encode(event);
        let wrote = (&self.0).write(line.as_bytes()).unwrap();
        assert_eq!(wrote, line.len(), "the journal is full");
    }
}

/// All whole lines of a journal.
pub fn read(path: &Path) -> Vec<Event> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    text[..whole].lines().map(decode).collect()
}

fn encode(event: Event) -> String {
    let mut line = String::new();
    let mut put = |name: &str, numbers: &[u64]| {
        line.push_str(name);
        numbers.iter().for_each(|number| write!(line, " {number}").unwrap());
    };
    match event {
        Event::Opened => put("opened", &[]),
        Event::Found { key, value: None } => put("absent", &[key]),
        Event::Found { key, value: Some((len, hash)) } => put("found", &[key, len, hash]),
        Event::Reported => put("reported", &[]),
        Event::Intent { thread, key, level, kind } => {
            let level = level as u64;
            match kind {
                Kind::Put { seed, len } => put("put", &[thread, key, level, seed, len]),
                Kind::PutAt { at, seed, len } => {
                    put("put_at", &[thread, key, level, at, seed, len])
                }
                Kind::Append { seed, len } => put("append", &[thread, key, level, seed, len]),
                Kind::Truncate { len } => put("truncate", &[thread, key, level, len]),
                Kind::Delete => put("delete", &[thread, key, level]),
            }
        }
        Event::Ack { thread, version } => put("ack", &[thread, version]),
        Event::FlushIntent { thread } => put("flush", &[thread]),
        Event::FlushAck { thread } => put("flushed", &[thread]),
        Event::Stats { cleanings, demotions, batches } => {
            put("stats", &[cleanings, demotions, batches])
        }
        Event::GroupIntent { group, stamp } => put("group", &[group, stamp]),
        Event::GroupAck { group, stamp } => put("group_ack", &[group, stamp]),
        Event::GroupFound { group, stamp } => put("group_found", &[group, stamp]),
        Event::WandererIntent { group } => put("wanderer", &[group]),
        Event::WandererAck { group, at } => put("wanderer_ack", &[group, at]),
        Event::WandererFound { group, at } => put("wanderer_found", &[group, at]),
        Event::Closed => put("closed", &[]),
    }
    line.push('\n');
    line
}

fn decode(line: &str) -> Event {
    let mut words = line.split(' ');
    let name = words.next().unwrap_or_default();
    let n: Vec<u64> = words.map(|word| word.parse().unwrap()).collect();
    let intent = |kind| {
        let level = [Durability::Memory, Durability::Written, Durability::Durable][n[2] as usize];
        Event::Intent { thread: n[0], key: n[1], level, kind }
    };
    match name {
        "opened" => Event::Opened,
        "absent" => Event::Found { key: n[0], value: None },
        "found" => Event::Found { key: n[0], value: Some((n[1], n[2])) },
        "reported" => Event::Reported,
        "put" => intent(Kind::Put { seed: n[3], len: n[4] }),
        "put_at" => intent(Kind::PutAt { at: n[3], seed: n[4], len: n[5] }),
        "append" => intent(Kind::Append { seed: n[3], len: n[4] }),
        "truncate" => intent(Kind::Truncate { len: n[3] }),
        "delete" => intent(Kind::Delete),
        "ack" => Event::Ack { thread: n[0], version: n[1] },
        "flush" => Event::FlushIntent { thread: n[0] },
        "flushed" => Event::FlushAck { thread: n[0] },
        "stats" => Event::Stats { cleanings: n[0], demotions: n[1], batches: n[2] },
        "group" => Event::GroupIntent { group: n[0], stamp: n[1] },
        "group_ack" => Event::GroupAck { group: n[0], stamp: n[1] },
        "group_found" => Event::GroupFound { group: n[0], stamp: n[1] },
        "wanderer" => Event::WandererIntent { group: n[0] },
        "wanderer_ack" => Event::WandererAck { group: n[0], at: n[1] },
        "wanderer_found" => Event::WandererFound { group: n[0], at: n[1] },
        "closed" => Event::Closed,
        _ => panic!("a line of the journal is no event: {line}"),
    }
}
