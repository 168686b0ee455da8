//! Damage of the [small store](crate::small), one at a time: bits flipped, sectors overwritten, devices
//! cut short.

use isotherm::io::sim_disk::{Disk, SECTOR};

use crate::rng::Rng;
use crate::small::{Small, capacities};

/// A store with one damage.
pub struct Damaged<'a> {
    /// Of what kind it is.
    pub kind: &'a str,
    /// Where it is: device, and offset or length.
    pub place: (usize, u64),
    /// The devices.
    pub disks: &'a [Disk],
    /// Their lengths.
    pub lens: &'a [u64],
}

/// The two moments of a small store.
pub fn moments(small: &Small) -> [(&'static str, &[Disk]); 2] {
    [("crashed", &small.crashed), ("closed", &small.closed)]
}

/// The sectors that hold anything.
fn sectors(disk: &Disk) -> Vec<u64> {
    let ranges = disk.written().into_iter();
    let all = ranges.flat_map(|range| range.step_by(SECTOR));
    all.filter(|at| sector(disk, *at).iter().any(|byte| *byte != 0)).collect()
}

fn sector(disk: &Disk, at: u64) -> [u8; SECTOR] {
    let mut bytes = [0; SECTOR];
    disk.read(at, &mut bytes);
    bytes
}

/// The devices with one sector damaged.
fn with(disks: &[Disk], device: usize, at: u64, bytes: &[u8]) -> Vec<Disk> {
    let mut copy = disks.to_vec();
    copy[device].damage(at, bytes);
    copy
}

/// Flips one bit of every `stride`. Returns how many there are.
pub fn flip_bits(disks: &[Disk], stride: u64, each: &mut dyn FnMut(&Damaged<'_>)) -> u64 {
    let lens = capacities();
    let (mut sectors_end, mut next) = (0, 0);
    for (device, disk) in disks.iter().enumerate() {
        for at in sectors(disk) {
            let first = sectors_end;
            sectors_end += SECTOR as u64 * 8;
            while next < sectors_end {
                let bit = next - first;
                let mut bytes = sector(disk, at);
                bytes[bit as usize / 8] ^= 1 << (bit % 8);
                let (damaged, place) = (with(disks, device, at, &bytes), (device, at + bit / 8));
                each(&Damaged { kind: "a bit", place, disks: &damaged, lens: &lens });
                next += stride;
            }
        }
    }
    sectors_end
}

/// Overwrites one sector of every so many, in several ways; `older` are the devices at an earlier time.
pub fn overwrite_sectors(
    disks: &[Disk],
    older: &[Disk],
    every: usize,
    rng: &mut Rng,
    each: &mut dyn FnMut(&Damaged<'_>),
) {
    let lens = capacities();
    for (device, disk) in disks.iter().enumerate() {
        let sectors = sectors(disk);
        for at in sectors.iter().copied().step_by(every) {
            let random: Vec<u8> = (0..SECTOR).map(|_| rng.next() as u8).collect();
            let other = sector(disk, sectors[rng.below(sectors.len() as u64) as usize]);
            let older = sector(&older[device], at);
            for (kind, bytes) in [
                ("zeros", &[0; SECTOR][..]),
                ("ones", &[0xFF; SECTOR][..]),
                ("random", &random[..]),
                ("another sector", &other[..]),
                ("an older one", &older[..]),
            ] {
                let (damaged, place) = (with(disks, device, at, bytes), (device, at));
                each(&Damaged { kind, place, disks: &damaged, lens: &lens });
            }
        }
    }
}

/// Cuts each device shorter and shorter.
pub fn cut_short(disks: &[Disk], each: &mut dyn FnMut(&Damaged<'_>)) {
    let mut lens = capacities();
    for device in 0..lens.len() {
        let whole = lens[device];
        while lens[device] >= 4096 {
            lens[device] = (lens[device] * 9 / 10) / 4096 * 4096;
            let place = (device, lens[device]);
            each(&Damaged { kind: "cut short", place, disks, lens: &lens });
        }
        lens[device] = whole;
    }
}

/// Every how many'th bit is flipped: ISOTHERM_DAMAGE_STRIDE, 1 for each. What is no number is the
/// default.
pub fn stride() -> u64 {
    let named = std::env::var("ISOTHERM_DAMAGE_STRIDE");
    named.ok().and_then(|stride| stride.parse().ok()).unwrap_or(19_997)
}
