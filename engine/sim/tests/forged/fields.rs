//! Every field of a structure, without knowing them: every place where one of some width may stand.

use isotherm_sim::rng::Rng;

use crate::bench::stride;

/// Changes of one structure that are tried at least, as far as it has them.
const LEAST: usize = 12;

/// What a field is given.
pub struct Change {
    pub at: usize,
    pub name: &'static str,
    bytes: Vec<u8>,
}

impl Change {
    pub fn made(&self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        bytes[self.at..self.at + self.bytes.len()].copy_from_slice(&self.bytes);
        bytes
    }

    pub fn shown(&self) -> String {
        format!("{} bytes at {}: {}", self.bytes.len(), self.at, self.name)
    }
}

/// Every field of every width that may stand in these bytes, with every hostile value.
fn all(bytes: &[u8], rng: &mut Rng) -> Vec<Change> {
    let mut all = Vec::new();
    for width in [8, 4, 2, 1] {
        for at in (0..bytes.len()).step_by(width).filter(|at| at + width <= bytes.len()) {
            let mut wide = [0; 8];
            wide[..width].copy_from_slice(&bytes[at..at + width]);
            let old = u64::from_le_bytes(wide);
            let highest = 1 << (8 * width - 1);
            for (name, new) in [
                ("0", 0),
                ("1", 1),
                ("the largest", u64::MAX),
                ("one more", old.wrapping_add(1)),
                ("one less", old.wrapping_sub(1)),
                ("the highest bit", old ^ highest),
                ("random", rng.next()),
            ] {
                let new = &new.to_le_bytes()[..width];
                if *new != bytes[at..at + width] {
                    all.push(Change { at, name, bytes: new.to_vec() });
                }
            }
        }
    }
    all
}

/// Those of them that are tried.
pub fn changes(bytes: &[u8], rng: &mut Rng) -> Vec<Change> {
    let all = all(bytes, rng);
    let step = stride().min(all.len() / LEAST).max(1);
    let first = rng.below(step as u64) as usize;
    all.into_iter().skip(first).step_by(step).collect()
}
