//! A small store, values of it, and what a crash would leave of it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::fs;
use std::path::Path;

use isotherm::Store;
use isotherm::config::{Config, Tier};

fn open_at(path: &Path) -> Store {
    let config = Config::builder()
        .tier(Tier::dram("8MiB"))
        .tier(Tier::nvme("64MiB"))
        .shards(1)
        .buffer_size("64KiB")
        .page_extents(4)
        .build();
    Store::open(path, config.unwrap()).unwrap()
}

pub fn open(place: &tempfile::TempDir) -> Store {
    open_at(&place.path().join("store"))
}

/// The store as a crash would leave it now, opened elsewhere.
pub fn crashed(place: &tempfile::TempDir, number: usize) -> Store {
    let copy = place.path().join(format!("copy{number}"));
    fs::create_dir(&copy).unwrap();
    for name in ["STORE", "nvme0.tier"] {
        fs::copy(place.path().join("store").join(name), copy.join(name)).unwrap();
    }
    open_at(&copy)
}

pub fn value(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| ((at * 31) ^ (at >> 7) ^ seed) as u8).collect()
}
