//! Where the store of a run stands: a new directory, gone at the end with all tiers' files.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::failure::{Failure, Outcome};

/// A directory for a store.
pub struct Place {
    directory: TempDir,
    /// Files of the store's tiers, in the directory or elsewhere.
    tier_files: Vec<PathBuf>,
}

impl Place {
    /// A new one in this directory.
    pub fn new(directory: &Path) -> Outcome<Place> {
        let made = tempfile::Builder::new().prefix("isotherm-bench-").tempdir_in(directory);
        let directory = made.map_err(|error| {
            Failure::Run(format!("--directory={}: {error}", directory.display()))
        })?;
        Ok(Place { directory, tier_files: Vec::new() })
    }

    /// The store's path.
    pub fn store(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    /// Takes the files of tiers over from a store that was made here. `info` is what it says of itself.
    pub fn own_tiers(&mut self, info: &Value) {
        let tiers = info["tiers"].as_array().into_iter().flatten();
        self.tier_files =
            tiers.filter_map(|tier| tier["path"].as_str()).map(PathBuf::from).collect();
    }

    /// Whether the store has tiers that keep what it is given when it is closed.
    pub fn is_persistent(&self) -> bool {
        !self.tier_files.is_empty()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for file in &self.tier_files {
            // Those in the directory go with it as well; of the others nobody can be told more.
            let _ = std::fs::remove_file(file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nothing_stays_of_a_place_and_of_tiers_elsewhere() {
        let around = tempfile::tempdir().unwrap();
        let elsewhere = around.path().join("tier");
        std::fs::write(&elsewhere, "a tier").unwrap();
        let mut place = Place::new(around.path()).unwrap();
        assert!(!place.is_persistent());
        place.own_tiers(&json!({ "tiers": [{ "path": null }, { "path": elsewhere }] }));
        assert!(place.is_persistent());
        std::fs::create_dir(place.store()).unwrap();
        drop(place);
        assert_eq!(std::fs::read_dir(around.path()).unwrap().count(), 0);
    }
}
