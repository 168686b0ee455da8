//! What the keys may hold, from what the program has told. A thread changes keys of its own, so after a
//! kill all of them are as its last acknowledged change has left them, or as the one under way would.

use crate::support::content::Content;

/// As in the program.
pub const THREADS: usize = 3;
pub const KEYS: usize = 12;

/// The keys of one thread.
pub type Keys = Vec<Option<Content>>;

/// A change, as the program tells of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Change {
    Put {
        key: usize,
        seed: u64,
        len: u64,
    },
    PutAt {
        key: usize,
        at: u64,
        seed: u64,
        len: u64,
    },
    Append {
        key: usize,
        seed: u64,
        len: u64,
    },
    Truncate {
        key: usize,
        len: u64,
    },
    Delete {
        key: usize,
    },
    Rename {
        key: usize,
        to: usize,
    },
    /// Two puts and an append, to this key and the two after it.
    Batch {
        key: usize,
        seed: u64,
        len: u64,
    },
}

/// What a thread has had acknowledged, and what it has begun.
#[derive(Clone)]
struct Thread {
    keys: Keys,
    under_way: Option<Change>,
}

pub struct Oracle {
    threads: Vec<Thread>,
    /// The store was open once, so it is there.
    pub opened: bool,
    pub acknowledged: u64,
    /// Changes under way at a kill that were found made, and not made.
    pub found_made: u64,
    pub found_not_made: u64,
}

impl Oracle {
    pub fn new() -> Oracle {
        let thread = Thread { keys: vec![None; KEYS], under_way: None };
        let threads = vec![thread; THREADS];
        Oracle { threads, opened: false, acknowledged: 0, found_made: 0, found_not_made: 0 }
    }

    /// Takes in what a program has told. A line it did not end was not told.
    pub fn hear(&mut self, lines: &str) {
        for line in lines.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            let mut words = line.split(' ');
            let name = words.next().unwrap_or_default();
            let n: Vec<u64> = words.map(|word| word.parse().unwrap()).collect();
            match name {
                "opened" => self.opened = true,
                "closed" => {}
                "ack" => self.acknowledge(n[0] as usize),
                name => self.threads[n[0] as usize].under_way = Some(Change::told(name, &n)),
            }
        }
    }

    fn acknowledge(&mut self, thread: usize) {
        let thread = &mut self.threads[thread];
        thread.under_way.take().unwrap().make(&mut thread.keys);
        self.acknowledged += 1;
    }

    /// Compares the keys of a thread with what was found, and goes on from there. What a change under
    /// way came to is known then.
    pub fn settle(&mut self, thread: usize, found: &[Option<Vec<u8>>]) -> Result<(), String> {
        let thread = &mut self.threads[thread];
        let Err(difference) = same(&thread.keys, found) else {
            self.found_not_made += u64::from(thread.under_way.take().is_some());
            return Ok(());
        };
        let Some(change) = thread.under_way.take() else {
            return Err(format!("nothing was under way, and {difference}"));
        };
        let mut after = thread.keys.clone();
        change.make(&mut after);
        same(&after, found).map_err(|second| {
            format!("without {change:?}, which was under way, {difference}; with it, {second}")
        })?;
        thread.keys = after;
        self.found_made += 1;
        Ok(())
    }
}

impl Change {
    fn told(name: &str, n: &[u64]) -> Change {
        let key = n[2] as usize;
        match name {
            "put" => Change::Put { key, seed: n[3], len: n[4] },
            "put_at" => Change::PutAt { key, at: n[3], seed: n[4], len: n[5] },
            "append" => Change::Append { key, seed: n[3], len: n[4] },
            "truncate" => Change::Truncate { key, len: n[3] },
            "delete" => Change::Delete { key },
            "rename" => Change::Rename { key, to: n[3] as usize },
            "batch" => Change::Batch { key, seed: n[3], len: n[4] },
            _ => panic!("no change of the program: {name} {n:?}"),
        }
    }

    fn make(self, keys: &mut Keys) {
        let append = |content: &mut Option<Content>, seed, len| {
            let content = content.get_or_insert_default();
            content.write(content.len(), seed, len);
        };
        match self {
            Change::Put { key, seed, len } => keys[key] = Some(Content::of(seed, len)),
            Change::PutAt { key, at, seed, len } => {
                keys[key].get_or_insert_default().write(at, seed, len);
            }
            Change::Append { key, seed, len } => append(&mut keys[key], seed, len),
            Change::Truncate { key, len } => keys[key].get_or_insert_default().truncate(len),
            Change::Delete { key } => keys[key] = None,
            Change::Rename { key, to } => keys[to] = keys[key].take(),
            Change::Batch { key, seed, len } => {
                keys[key] = Some(Content::of(seed, len));
                keys[(key + 1) % KEYS] = Some(Content::of(seed + 1, len));
                append(&mut keys[(key + 2) % KEYS], seed + 2, len);
            }
        }
    }
}

fn same(keys: &Keys, found: &[Option<Vec<u8>>]) -> Result<(), String> {
    for (key, (expected, found)) in keys.iter().zip(found).enumerate() {
        match (expected, found) {
            (None, None) => {}
            (Some(content), Some(value)) if content.len() == value.len() as u64 => {
                content.check(0, value).map_err(|wrong| format!("key {key}: {wrong}"))?;
            }
            _ => {
                let lens = (expected.as_ref().map(Content::len), found.as_ref().map(Vec::len));
                return Err(format!("key {key}: expected and found lengths are {lens:?}"));
            }
        }
    }
    Ok(())
}
