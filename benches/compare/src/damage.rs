//! The damages of a store, drawn from a seed: as many of each kind for every engine, spread evenly
//! over the bytes that it uses.

use crate::Outcome;
use crate::image::{Change, Image, SECTOR, Sector};
use crate::random::Random;

/// Draws after which a store is taken to have no two different sectors.
const DRAWS_MAX: usize = 1000;

/// A kind of damage.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// One bit is another.
    Bit,
    /// One sector is all zeros.
    Zeros,
    /// One sector is random.
    Noise,
    /// Two sectors have changed places.
    Swap,
    /// A file ends before one of its sectors in use.
    Cut,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 5] = [Kind::Bit, Kind::Zeros, Kind::Noise, Kind::Swap, Kind::Cut];
}

/// How many of each kind.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Bits.
    pub bits: u64,
    /// Sectors of each of the three kinds, and cuts.
    pub sectors: u64,
    /// Where the positions are drawn from.
    pub seed: u64,
}

/// One damage.
pub struct Damage {
    /// What is done.
    pub kind: Kind,
    /// To which bytes.
    pub changes: Vec<Change>,
}

/// The damages of this image.
pub fn draw(image: &Image, plan: Plan) -> Outcome<Vec<Damage>> {
    let sectors = image.sectors();
    let mut random = Random::new(plan.seed);
    let mut damages = Vec::new();
    let bits_in_all = sectors.iter().map(|sector| sector.len as u64 * 8).sum();
    let mut sector = Cursor { sectors: &sectors, number: 0, before: 0 };
    for bit in spread(bits_in_all, plan.bits, &mut random) {
        damages.push(Damage { kind: Kind::Bit, changes: vec![flip(image, sector.of_bit(bit))] });
    }
    for kind in [Kind::Zeros, Kind::Noise, Kind::Swap, Kind::Cut] {
        for number in spread(sectors.len() as u64, plan.sectors, &mut random) {
            let sector = sectors[number as usize];
            let changes = match kind {
                Kind::Bit | Kind::Zeros => vec![overwrite(sector, vec![0; sector.len])],
                Kind::Noise => vec![overwrite(sector, random.bytes(sector.len))],
                Kind::Swap => swap(image, &sectors, sector, &mut random)?,
                Kind::Cut => vec![Change::Truncate { file: sector.file, len: sector.at }],
            };
            damages.push(Damage { kind, changes });
        }
    }
    Ok(damages)
}

/// So many numbers below `all`, at even distances from a random first; all of them if there are
/// no more.
fn spread(all: u64, count: u64, random: &mut Random) -> impl Iterator<Item = u64> + use<> {
    let count = count.min(all);
    let first = random.below(all.checked_div(count).unwrap_or(1).max(1));
    (0..count).map(move |number| {
        first + (u128::from(number) * u128::from(all) / u128::from(count)) as u64
    })
}

/// Finds the sectors of bits that come in ascending order.
struct Cursor<'a> {
    sectors: &'a [Sector],
    number: usize,
    /// Bits of the sectors before.
    before: u64,
}

impl Cursor<'_> {
    fn of_bit(&mut self, bit: u64) -> (Sector, u64) {
        loop {
            let sector = self.sectors[self.number];
            let bits = sector.len as u64 * 8;
            if bit < self.before + bits {
                return (sector, bit - self.before);
            }
            self.before += bits;
            self.number += 1;
        }
    }
}

fn flip(image: &Image, (sector, bit): (Sector, u64)) -> Change {
    let within = (bit / 8) as usize;
    let byte = image.bytes(sector)[within] ^ (1 << (bit % 8));
    Change::Overwrite { file: sector.file, at: sector.at + within, bytes: vec![byte] }
}

fn overwrite(sector: Sector, bytes: Vec<u8>) -> Change {
    Change::Overwrite { file: sector.file, at: sector.at, bytes }
}

/// The sector and another one, drawn from all files, of other bytes. The short end of a file has
/// nothing to change places with, so one beside it is taken.
fn swap(
    image: &Image,
    sectors: &[Sector],
    one: Sector,
    random: &mut Random,
) -> Outcome<Vec<Change>> {
    let mut one = one;
    for _ in 0..DRAWS_MAX {
        let other = sectors[random.below(sectors.len() as u64) as usize];
        if one.len < SECTOR {
            one = other;
            continue;
        }
        let (a, b) = (image.bytes(one), image.bytes(other));
        if a.len() == b.len() && a != b {
            return Ok(vec![overwrite(one, b.to_vec()), overwrite(other, a.to_vec())]);
        }
    }
    Err("the store has no two different sectors".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::StoredFile;

    /// Two files: a sector of ones, one of zeros, a short one of twos; and one of threes.
    fn image() -> Image {
        let first = [vec![1; SECTOR], vec![0; SECTOR], vec![2; 100]].concat();
        let file = |path: &str, bytes| StoredFile { path: path.into(), bytes };
        Image { files: vec![file("a", first), file("b", vec![3; SECTOR])] }
    }

    #[test]
    fn zeros_are_not_in_use() {
        let sectors = image().sectors();
        let found: Vec<_> = sectors.iter().map(|s| (s.file, s.at, s.len)).collect();
        assert_eq!(found, [(0, 0, SECTOR), (0, 2 * SECTOR, 100), (1, 0, SECTOR)]);
    }

    #[test]
    fn every_bit_in_use_is_flipped_once_if_asked() {
        let image = image();
        let all = (2 * SECTOR + 100) as u64 * 8;
        let plan = Plan { bits: u64::MAX, sectors: 0, seed: 1 };
        let mut seen = std::collections::BTreeSet::new();
        for Damage { changes, .. } in draw(&image, plan).unwrap() {
            let [Change::Overwrite { file, at, bytes }] = &changes[..] else { panic!() };
            let was = image.files[*file].bytes[*at];
            assert_eq!((was ^ bytes[0]).count_ones(), 1);
            assert!(was != 0 && seen.insert((*file, *at, bytes[0])));
        }
        assert_eq!(seen.len() as u64, all);
    }

    #[test]
    fn every_damage_changes_something() {
        let image = image();
        let damages = draw(&image, Plan { bits: 3, sectors: 3, seed: 7 }).unwrap();
        assert_eq!(damages.len(), 15);
        for kind in Kind::ALL {
            assert_eq!(damages.iter().filter(|damage| damage.kind == kind).count(), 3);
        }
        for Damage { kind, changes } in &damages {
            for change in changes {
                match change {
                    Change::Overwrite { file, at, bytes } => {
                        assert_ne!(&image.files[*file].bytes[*at..][..bytes.len()], &bytes[..]);
                    }
                    Change::Truncate { file, len } => {
                        assert!(*kind == Kind::Cut && *len < image.files[*file].bytes.len());
                    }
                }
            }
        }
    }

    #[test]
    fn a_seed_draws_the_same_again() {
        let plan = Plan { bits: 9, sectors: 3, seed: 5 };
        let draw = || draw(&image(), plan).unwrap().into_iter().map(|damage| damage.changes);
        assert!(draw().eq(draw()));
    }
}
