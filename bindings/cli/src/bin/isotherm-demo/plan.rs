//! How large everything is, so that it fits the disk.

use std::fmt;
use std::fs;
use std::path::Path;

use isotherm_cli::doctor::free_bytes;
use isotherm_cli::failure::{Failure, Outcome};
use isotherm_cli::output::human_size;
use isotherm_cli::tree::TreeFile;

use crate::data::PART_LEN;

/// The store's directory in the work directory.
pub const STORE: &str = "store";
/// The store's configuration in the work directory.
pub const CONFIG: &str = "store.toml";

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// 3 GiB of checkpoint in parts of 128 MiB.
const PARTS_MAX: u64 = 24;
/// Fewer would not leave the DRAM tier and the NVMe tier full.
const PARTS_MIN: u64 = 4;
const BENCH_BYTES: u64 = GIB;

/// The sizes of the demo, in bytes.
pub struct Plan {
    free: u64,
    dram: u64,
    nvme: u64,
    hdd: u64,
    tree_files: usize,
    tree_bytes: u64,
    /// Blobs of the checkpoint, of [`PART_LEN`] bytes each.
    pub checkpoint_parts: u64,
    /// Tree and checkpoint together.
    pub data_bytes: u64,
    /// Written and read per tier when it is measured.
    pub bench_bytes: u64,
}

impl Plan {
    /// Fits the demo into the free space of the work directory and writes the store's
    /// configuration.
    pub fn make(work: &Path, files: &[TreeFile]) -> Outcome<Plan> {
        let free =
            free_bytes(work).map_err(|error| Failure::of_file("free space of", work, &error))?;
        let tree_bytes = files.iter().map(|file| file.len).sum();
        let plan = Plan::fit(free, files.len(), tree_bytes)?;
        let path = work.join(CONFIG);
        fs::write(&path, plan.configuration())
            .map_err(|error| Failure::of_file("write of", &path, &error))?;
        Ok(plan)
    }

    fn fit(free: u64, tree_files: usize, tree_bytes: u64) -> Outcome<Plan> {
        // A tenth stays free for others.
        let room = free / 10 * 9;
        let nvme = GIB.min(room / 6);
        // Small files fill segments with more than their bytes; a third of the room is for that.
        let wanted = (tree_bytes + PARTS_MAX * PART_LEN) * 3 / 2;
        let hdd = (6 * GIB).max(wanted.saturating_sub(nvme)).min(room.saturating_sub(nvme));
        let capacity_for_data = (nvme + hdd) / 3 * 2;
        let parts = capacity_for_data.saturating_sub(tree_bytes) / PART_LEN;
        if parts < PARTS_MIN {
            let needed = (tree_bytes + PARTS_MIN * PART_LEN) * 2;
            return Err(Failure::Other(format!(
                "{} free, about {} needed for a tree of {}; free space or name a smaller one with DIR=",
                human_size(free),
                human_size(needed),
                human_size(tree_bytes)
            )));
        }
        let checkpoint_parts = parts.min(PARTS_MAX);
        Ok(Plan {
            free,
            dram: (256 * MIB).min(nvme / 4),
            nvme,
            hdd,
            tree_files,
            tree_bytes,
            checkpoint_parts,
            data_bytes: tree_bytes + checkpoint_parts * PART_LEN,
            bench_bytes: BENCH_BYTES.min(nvme),
        })
    }

    fn configuration(&self) -> String {
        let tiers = [("dram", self.dram), ("nvme", self.nvme), ("hdd", self.hdd)];
        // Whole MiB, so that no tier is cut in the middle of a segment unit.
        let tier = |(kind, bytes): (&str, u64)| {
            format!("[[tier]]\nkind = \"{kind}\"\ncapacity = \"{}MiB\"\n", bytes / MIB)
        };
        tiers.map(tier).join("\n")
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = human_size;
        writeln!(f, "tree        {} files, {}", self.tree_files, size(self.tree_bytes))?;
        let checkpoint_bytes = self.checkpoint_parts * PART_LEN;
        writeln!(
            f,
            "checkpoint  {} blobs of {}, {}",
            self.checkpoint_parts,
            size(PART_LEN),
            size(checkpoint_bytes)
        )?;
        write!(
            f,
            "store       DRAM {}, NVMe {}, HDD {} (files; the kinds are declared, the device is one)",
            size(self.dram),
            size(self.nvme),
            size(self.hdd)
        )?;
        if self.nvme < GIB || self.hdd < 6 * GIB || self.checkpoint_parts < PARTS_MAX {
            write!(f, "\n            made smaller: only {} are free", size(self.free))?;
        }
        Ok(())
    }
}

/// Removes the store, to make room for the measurements.
pub fn remove_store(work: &Path) -> Outcome {
    let store = work.join(STORE);
    fs::remove_dir_all(&store).map_err(|error| Failure::of_file("removal of", &store, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_room_the_demo_has_its_full_size() {
        let plan = Plan::fit(100 * GIB, 1000, GIB).unwrap();
        assert_eq!((plan.dram, plan.nvme, plan.hdd), (256 * MIB, GIB, 6 * GIB));
        assert_eq!(plan.checkpoint_parts, PARTS_MAX);
    }

    #[test]
    fn a_small_disk_makes_it_smaller_and_a_tiny_one_is_refused() {
        let plan = Plan::fit(5 * GIB, 1000, GIB).unwrap();
        assert!(plan.nvme + plan.hdd <= 5 * GIB && plan.checkpoint_parts < PARTS_MAX);
        assert!(plan.data_bytes > plan.dram + plan.nvme, "larger than DRAM and NVMe");
        assert!(plan.to_string().contains("made smaller"));
        assert!(Plan::fit(2 * GIB, 1000, GIB).is_err());
    }
}
