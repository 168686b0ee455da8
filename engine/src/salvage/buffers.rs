//! Buffers: what is said of each, by everything that could be read, and its bytes.
//!
//! A buffer never changes, it only moves. So all definitions of one agree, and all places that were
//! ever said to hold it are worth a look: what lies there is it if its checksums say so.

use std::collections::HashMap;

use crate::error::Result;
use crate::limits::CHECK_BLOCK;
use crate::log::map::ENCODING_RAW;
use crate::log::record::BufferDef;
use crate::salvage::medium::Medium;
use crate::types::{BufferId, Location, Place, TierId};

/// What is said of a buffer.
struct Known {
    stored_len: u32,
    logical_crc: u32,
    /// Empty: they stand in the extent pages that name it.
    checks: Box<[u32]>,
    is_page: bool,
    /// Two definitions say different things: neither is believed.
    is_disputed: bool,
}

/// All buffers.
#[derive(Default)]
pub(super) struct Buffers {
    known: HashMap<BufferId, Known>,
    /// Where they lie or have lain, the latest last. Also of buffers that nothing has defined yet.
    places: HashMap<BufferId, Vec<Location>>,
}

/// The bytes of a buffer, as far as they could be verified.
pub(super) struct Stored {
    /// All of them. What lies in bad blocks is zero.
    pub bytes: Vec<u8>,
    /// By check block: whether it is bad.
    bad: Vec<bool>,
    /// What is wrong with the bad ones.
    pub why: String,
}

impl Stored {
    /// The first part of a range that is good all through, or bad all through: its end, and which.
    pub fn part(&self, from: usize, to: usize) -> (usize, bool) {
        let is_bad = |at: usize| self.bad.get(at / CHECK_BLOCK).copied().unwrap_or(true);
        let bad = is_bad(from);
        let mut end = from;
        while end < to && is_bad(end) == bad {
            end = (end / CHECK_BLOCK + 1) * CHECK_BLOCK;
        }
        (end.min(to), bad)
    }

    fn is_whole(&self) -> bool {
        !self.bad.contains(&true)
    }
}

impl Buffers {
    /// A definition, from a structure whose checksum was right.
    pub fn define(&mut self, def: &BufferDef, is_page: bool) {
        self.place(def.id, def.location);
        let known = self.known.entry(def.id).or_insert_with(|| Known {
            stored_len: def.stored_len,
            logical_crc: def.logical_crc,
            checks: Box::default(),
            is_page: false,
            is_disputed: false,
        });
        known.is_page |= is_page;
        let same = (known.stored_len, known.logical_crc) == (def.stored_len, def.logical_crc);
        let agrees =
            known.checks.is_empty() || def.checks.is_empty() || *known.checks == *def.checks;
        if !same || !agrees || def.encoding != ENCODING_RAW || def.raw_len != def.stored_len {
            known.is_disputed = true;
        } else if known.checks.is_empty() {
            known.checks = def.checks.as_slice().into();
        }
    }

    /// A definition by a segment's summary: what records and images say stands. False if they say
    /// something else.
    pub fn define_unless_known(&mut self, def: &BufferDef) -> bool {
        if let Some(known) = self.known.get(&def.id) {
            return (known.stored_len, known.logical_crc) == (def.stored_len, def.logical_crc);
        }
        self.define(def, false);
        true
    }

    /// A place where a segment says that a buffer was written: worth a look after all others.
    pub fn find(&mut self, id: BufferId, location: Location) {
        let places = self.places.entry(id).or_default();
        if !places.contains(&location) {
            places.insert(0, location);
        }
    }

    /// A place that a buffer has, or has had.
    pub fn place(&mut self, id: BufferId, location: Location) {
        let places = self.places.entry(id).or_default();
        places.retain(|known| *known != location);
        places.push(location);
    }

    /// Whether a buffer is known to have lain at a place.
    pub fn is_at(&self, id: BufferId, location: Location) -> bool {
        self.known.contains_key(&id)
            && self.places.get(&id).is_some_and(|places| places.contains(&location))
    }

    /// Whether a move of this buffer has come to its end: its bytes are at the place it went to. What
    /// nobody knows has nothing to be compared with.
    pub fn has_arrived(&self, medium: &Medium, id: BufferId, location: Location) -> bool {
        let Some(known) = self.known.get(&id) else { return true };
        let def = BufferDef {
            id,
            raw_len: known.stored_len,
            stored_len: known.stored_len,
            location,
            encoding: ENCODING_RAW,
            logical_crc: known.logical_crc,
            checks: known.checks.to_vec(),
        };
        has_landed(medium, &def)
    }

    /// Bytes of a value that lie in a buffer. `checks`: as an extent page says, which is where they
    /// stand if the definition has none.
    pub fn read_value(
        &self,
        medium: &Medium,
        id: BufferId,
        checks: Option<&[u32]>,
    ) -> std::result::Result<Stored, String> {
        self.read(medium, id, checks, false)
    }

    /// The bytes of an extent page.
    pub fn read_page(&self, medium: &Medium, id: BufferId) -> std::result::Result<Vec<u8>, String> {
        let stored = self.read(medium, id, None, true)?;
        match stored.is_whole() {
            true => Ok(stored.bytes),
            false => Err(stored.why),
        }
    }

    fn read(
        &self,
        medium: &Medium,
        id: BufferId,
        checks: Option<&[u32]>,
        is_page: bool,
    ) -> std::result::Result<Stored, String> {
        let number = id.0;
        let Some(known) = self.known.get(&id) else {
            return Err(format!("nothing that could be read defines buffer {number}"));
        };
        if known.is_disputed || known.is_page != is_page {
            return Err(format!("what is said of buffer {number} does not agree"));
        }
        let places = self.places.get(&id).map_or(&[][..], Vec::as_slice);
        match checks.unwrap_or(&known.checks) {
            [] => read_by_crc(medium, known, places, number),
            checks => Ok(read_by_checks(medium, known, checks, places, number)),
        }
    }
}

/// Takes each check block from whichever place has it.
fn read_by_checks(
    medium: &Medium,
    known: &Known,
    checks: &[u32],
    places: &[Location],
    number: u64,
) -> Stored {
    let len = known.stored_len as usize;
    let count = BufferDef::check_count(known.stored_len);
    let mut stored = Stored { bytes: vec![0; len], bad: vec![true; count], why: String::new() };
    for place in places.iter().rev() {
        let whole = medium.read_place(*place, known.stored_len);
        for at in 0..count {
            if !stored.bad[at] {
                continue;
            }
            let (from, to) = (at * CHECK_BLOCK, ((at + 1) * CHECK_BLOCK).min(len));
            let block = match &whole {
                Ok(bytes) => Ok(bytes[from..to].to_vec()),
                // A part of it may be readable.
                Err(_) => read_part(medium, *place, from, to - from),
            };
            let why = match block {
                Ok(block) if checks.get(at) == Some(&crc32fast::hash(&block)) => {
                    stored.bytes[from..to].copy_from_slice(&block);
                    stored.bad[at] = false;
                    continue;
                }
                Ok(_) => format!("buffer {number} at {place:?} does not match its checksum"),
                Err(error) => format!("buffer {number}: {}", error.message()),
            };
            // Of the latest place, which is looked at first.
            if stored.why.is_empty() {
                stored.why = why;
            }
        }
        if stored.is_whole() {
            break;
        }
    }
    if places.is_empty() {
        stored.why = format!("nobody knows where buffer {number} lies");
    }
    stored
}

fn read_part(medium: &Medium, place: Location, from: usize, len: usize) -> Result<Vec<u8>> {
    match place.place() {
        Place::Device { tier, offset } => {
            medium.read_place(Location::device(tier, offset + from as u64), len as u32)
        }
        Place::Dram(_) => medium.read_place(place, len as u32),
    }
}

/// Takes the whole from the place that has it.
fn read_by_crc(
    medium: &Medium,
    known: &Known,
    places: &[Location],
    number: u64,
) -> std::result::Result<Stored, String> {
    let mut why = format!("nobody knows where buffer {number} lies");
    for (at, place) in places.iter().rev().enumerate() {
        let fault = match medium.read_place(*place, known.stored_len) {
            Ok(bytes) if crc32fast::hash(&bytes) == known.logical_crc => {
                let bad = vec![false; BufferDef::check_count(known.stored_len)];
                return Ok(Stored { bytes, bad, why: String::new() });
            }
            Ok(_) => format!("buffer {number} at {place:?} does not match its checksum"),
            Err(error) => format!("buffer {number}: {}", error.message()),
        };
        if at == 0 {
            why = fault;
        }
    }
    Err(why)
}

/// Whether the bytes of a buffer are where its definition says. Those on a lost tier count, as they do
/// for recovery, which cannot look either; not on the log's tier, whose loss is that of the log.
pub(super) fn has_landed(medium: &Medium, def: &BufferDef) -> bool {
    let Place::Device { tier, .. } = def.location.place() else { return false };
    let is_lost = tier != TierId(0) && medium.device(tier).is_err();
    is_lost || medium.read_place(def.location, def.stored_len).is_ok_and(|it| def.matches(&it))
}
