//! The keys and values that every store holds: the same for all engines and in every process.

use crate::random::Random;

/// How many there are.
pub const PAIRS: usize = 200;

/// Lengths of values, in turn: less than a record, more than a sector, more than a page of most
/// engines, and more than what isotherm puts into its log.
const LENS: [usize; 5] = [24, 200, 1000, 5000, 20_000];

/// A key and its value.
pub struct Pair {
    /// The key.
    pub key: Vec<u8>,
    /// The value: random, so that no engine compresses it and no sector of it is zero.
    pub value: Vec<u8>,
}

/// All of them.
pub fn pairs() -> Vec<Pair> {
    let mut random = Random::new(0x0150_7E12);
    let pair = |number: usize| Pair {
        key: format!("pair-{number:06}").into_bytes(),
        value: random.bytes(LENS[number % LENS.len()]),
    };
    (0..PAIRS).map(pair).collect()
}
