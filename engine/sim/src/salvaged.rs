//! What salvage makes of a damaged [small store](crate::small), held against all that its blobs have ever
//! been. What it calls current is that; what it says may be stale was so once; of no value is any byte
//! another.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};

use isotherm::io::sim_disk::Disk;
use isotherm::{Doubt, ErrorKind, Piece, Result, Salvage, SalvagedBlob, Standing};

use crate::run::message_of;
use crate::small::{Blob, Small, salvage, states};
use crate::trial::Name;

/// A blob's state, its value as a number.
type State = (Vec<u8>, u64, u64, Option<String>);

/// All that the small store has held.
pub struct Truth {
    now: BTreeMap<Name, Blob>,
    /// Of each bucket's name.
    ever: BTreeSet<(String, State)>,
}

/// What came of one salvage.
#[derive(Clone, Copy, Default, Debug)]
pub struct Tally {
    /// Blobs that are current and whole.
    pub current: u64,
    /// Blobs that may be stale and are whole, and are the newest nevertheless.
    pub in_doubt: u64,
    /// Blobs that are an older version, and said to be perhaps.
    pub stale: u64,
    /// Blobs that cannot be read to their ends.
    pub partial: u64,
    /// Blobs of the store that are not listed.
    pub missing: u64,
}

/// A value, as far as it could be read.
struct Read {
    /// Bytes that could be, by their beginning.
    parts: Vec<(u64, Vec<u8>)>,
    is_whole: bool,
}

fn digest(value: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn state(key: &[u8], value: &[u8], marks: Option<&str>) -> State {
    (key.to_vec(), value.len() as u64, digest(value), marks.map(str::to_owned))
}

impl Truth {
    /// Of a small store.
    pub fn of(small: &Small) -> Result<Truth> {
        let mut ever = BTreeSet::new();
        let mut learn = |blob: Blob| {
            let Blob { bucket, key, value, marks } = blob;
            // A value that a segment alone has comes without its attributes.
            for marks in [Some(&marks[..]), None] {
                ever.insert((bucket.clone(), state(&key, &value, marks)));
            }
        };
        states(small.rounds, &mut learn)?;
        small.blobs.iter().cloned().for_each(learn);
        let named = |blob: &Blob| ((blob.bucket.clone(), blob.key.clone()), blob.clone());
        Ok(Truth { now: small.blobs.iter().map(named).collect(), ever })
    }

    /// Salvages these devices. What is wrong, if anything; `excused`: blobs that a forgery is about,
    /// whatever becomes of them.
    pub fn try_on(
        &self,
        disks: &[Option<Disk>],
        lens: &[u64],
        excused: &dyn Fn(&Name) -> bool,
    ) -> std::result::Result<Tally, String> {
        let tried = catch_unwind(AssertUnwindSafe(|| match salvage(disks, lens) {
            Ok(salvage) => self.judge(&salvage, excused),
            // Forged: a newer format is not ours to judge.
            Err(error) if error.kind() == ErrorKind::Format => Ok(Tally::default()),
            Err(error) => Err(format!("salvage refuses: {error}")),
        }));
        tried.unwrap_or_else(|panic| Err(format!("a panic: {}", message_of(&panic))))
    }

    fn judge(
        &self,
        salvage: &Salvage,
        excused: &dyn Fn(&Name) -> bool,
    ) -> std::result::Result<Tally, String> {
        let mut tally = Tally::default();
        let mut listed = BTreeSet::new();
        for blob in salvage.blobs() {
            let name = (blob.bucket.to_owned(), blob.key.to_vec());
            let read = read(salvage, &blob)?;
            if !excused(&name) {
                self.judge_blob(&name, &blob, &read, &mut tally)?;
            }
            listed.insert(name);
        }
        let lost = salvage.report().lost.iter();
        let told: BTreeSet<Name> =
            lost.map(|lost| (lost.bucket.clone(), lost.key.to_vec())).collect();
        for name in self.now.keys().filter(|name| !listed.contains(name) && !excused(name)) {
            tally.missing += 1;
            if !salvage.report().has_losses() && !told.contains(name) {
                return Err(format!("{name:?} is missing, and nothing is said to be lost"));
            }
        }
        Ok(tally)
    }

    fn judge_blob(
        &self,
        name: &Name,
        blob: &SalvagedBlob<'_>,
        read: &Read,
        tally: &mut Tally,
    ) -> std::result::Result<(), String> {
        let marks = format!("{:?} {:?}", blob.score(), blob.attributes());
        let now = self.now.get(name);
        if blob.standing == Standing::Current {
            let Some(now) = now else { return Err(format!("{name:?} is no more, and current")) };
            if now.value.len() as u64 != blob.len || now.marks != marks {
                return Err(format!("{name:?} is an older one, and current"));
            }
            let is_there = |(at, part): &(u64, Vec<u8>)| {
                now.value.get(*at as usize..).is_some_and(|value| value.starts_with(part))
            };
            if !read.parts.iter().all(is_there) {
                return Err(format!("{name:?} has another value, and is current"));
            }
        }
        if !read.is_whole {
            tally.partial += 1;
            return Ok(());
        }
        if blob.standing == Standing::Current {
            tally.current += 1;
            return Ok(());
        }
        let value: Vec<u8> = read.parts.iter().flat_map(|(_, part)| part.clone()).collect();
        let is_scanned = blob.standing == Standing::MaybeStale(Doubt::Scanned);
        let found = state(blob.key, &value, (!is_scanned).then_some(&marks[..]));
        let has_own_name = !blob.bucket.ends_with(')');
        let was = self
            .ever
            .iter()
            .any(|(bucket, state)| *state == found && (!has_own_name || bucket == blob.bucket));
        if !was {
            return Err(format!("{name:?} has never been so: {:?}", blob.standing));
        }
        match now.is_some_and(|now| now.value == value && now.marks == marks) {
            true => tally.in_doubt += 1,
            false => tally.stale += 1,
        }
        Ok(())
    }
}

fn read(salvage: &Salvage, blob: &SalvagedBlob<'_>) -> std::result::Result<Read, String> {
    let mut read = Read { parts: Vec::new(), is_whole: true };
    let mut at = 0;
    // Forged ones claim to have terabytes of holes.
    let mut take = |piece: Piece<'_>| -> std::result::Result<(), Infallible> {
        let len = match piece {
            Piece::Bytes(bytes) => {
                read.parts.push((at, bytes.to_vec()));
                bytes.len() as u64
            }
            Piece::Hole(len) if len > 64 << 20 => len,
            Piece::Hole(len) => {
                read.parts.push((at, vec![0; len as usize]));
                len
            }
            Piece::Unreadable { len, .. } => {
                read.is_whole = false;
                len
            }
        };
        at += len;
        Ok(())
    };
    let Ok(()) = salvage.read(blob, &mut take);
    match at == blob.len {
        true => Ok(read),
        false => Err(format!("{at} bytes of {} were handed out", blob.len)),
    }
}

impl Tally {
    /// The two in sum.
    pub fn add(&mut self, other: &Tally) {
        self.current += other.current;
        self.in_doubt += other.in_doubt;
        self.stale += other.stale;
        self.partial += other.partial;
        self.missing += other.missing;
    }
}
