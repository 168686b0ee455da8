//! Which keys a load touches, and in which order: drawn before the clock starts.

/// A reproducible stream of random numbers (splitmix64).
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    /// The stream of a seed. Streams of neighbouring seeds have nothing in common.
    pub fn new(seed: u64) -> Random {
        let mut mixed = Random(seed ^ 0xD1B5_4A32_D192_ED03);
        Random(mixed.draw() ^ mixed.draw().rotate_left(32))
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// The next number below a bound.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.draw()) * bound as u128) >> 64) as usize
    }

    /// The next number in 0..1.
    fn unit(&mut self) -> f64 {
        (self.draw() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Numbers of keys in the order of access, to be gone through in a circle.
pub struct Picks(Vec<u32>);

/// Draws of one thread: 512 KiB of them, so that reading them costs the cache little.
const DRAWS: usize = 1 << 17;
/// The skew of YCSB.
const THETA: f64 = 0.99;

impl Picks {
    /// Zipf-distributed draws from so many keys. Which keys are hot is the same for all seeds,
    /// and has nothing to do with their numbers.
    pub fn zipf(keys: usize, seed: u64) -> Picks {
        let mut total = 0.0;
        let cumulative: Vec<f64> = (0..keys)
            .map(|rank| {
                total += 1.0 / ((rank + 1) as f64).powf(THETA);
                total
            })
            .collect();
        let by_rank = permutation(keys, 1);
        let mut random = Random::new(seed);
        let draw = |_| {
            let at = random.unit() * total;
            by_rank[cumulative.partition_point(|sum| *sum < at).min(keys - 1)]
        };
        Picks((0..DRAWS).map(draw).collect())
    }

    /// All draws, once around.
    pub fn as_slice(&self) -> &[u32] {
        &self.0
    }
}

fn permutation(count: usize, seed: u64) -> Vec<u32> {
    let mut numbers: Vec<u32> = (0..count as u32).collect();
    let mut random = Random::new(seed);
    for at in (1..count).rev() {
        numbers.swap(at, random.below(at + 1));
    }
    numbers
}

/// The 16-byte key of a number.
pub fn key(number: usize) -> [u8; 16] {
    let mut key = *b"key-000000000000";
    let mut rest = number;
    for digit in key[4..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

/// Fills a value with bytes that do not compress.
pub fn fill(value: &mut [u8], seed: u64) {
    let mut random = Random::new(seed);
    for chunk in value.chunks_mut(8) {
        chunk.copy_from_slice(&random.draw().to_le_bytes()[..chunk.len()]);
    }
}

/// Whether a value is what [`fill`] makes of a seed.
pub fn is_filled(value: &[u8], seed: u64) -> bool {
    let mut random = Random::new(seed);
    value.chunks(8).all(|chunk| *chunk == random.draw().to_le_bytes()[..chunk.len()])
}

/// Marks a value as that of a key. A value has at least 8 bytes.
#[inline]
pub fn stamp(value: &mut [u8], number: u32) {
    value[..8].copy_from_slice(&u64::from(number).to_le_bytes());
}

/// Whether a value is that of a key.
#[inline]
pub fn is_stamped(value: &[u8], number: u32) -> bool {
    value[..8] == u64::from(number).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_keys_take_most_of_a_zipf_load_and_every_draw_is_a_key() {
        let picks = Picks::zipf(100_000, 7);
        let mut counts = vec![0u32; 100_000];
        picks.as_slice().iter().for_each(|pick| counts[*pick as usize] += 1);
        counts.sort_unstable_by(|a, b| b.cmp(a));
        let top: u32 = counts[..1000].iter().sum();
        let part = f64::from(top) / picks.as_slice().len() as f64;
        assert!((0.5..0.7).contains(&part), "{part}");
    }

    #[test]
    fn a_filled_value_is_known_by_its_seed_down_to_the_last_byte() {
        let mut value = vec![0; 100_003];
        fill(&mut value, 7);
        assert!(is_filled(&value, 7) && !is_filled(&value, 8));
        value[100_002] ^= 1;
        assert!(!is_filled(&value, 7));
    }

    #[test]
    fn keys_are_distinct_and_ordered_as_their_numbers() {
        assert_eq!(&key(42), b"key-000000000042");
        assert!(key(99_999) < key(100_000));
    }
}
