//! Stores whose devices rot: a byte of a tier's file changes behind the store's back.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;

use isotherm::Store;
use isotherm::config::{Config, ConfigBuilder, Tier};

use super::content::fill;

/// Bytes of the device tier.
pub const TIER: u64 = 64 << 20;

/// DRAM and one device. Pages of four extents, over buffers of 64 KiB, so that a value of 900 KB has some.
pub fn config() -> ConfigBuilder {
    let tiers = Config::builder().tier(Tier::dram("8MiB")).tier(Tier::nvme(TIER));
    tiers.shards(1).buffer_size("64KiB").page_extents(4)
}

/// So many bytes that are nowhere else.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fill(seed, 0, &mut bytes);
    bytes
}

/// The file of the device tier.
pub fn tier_file(store: &Store) -> File {
    let path = store.info().tiers[1].path.clone().unwrap();
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

/// Changes a byte; again, and it is as before.
pub fn flip(file: &File, at: u64) {
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}
