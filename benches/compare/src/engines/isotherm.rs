//! isotherm itself, through its Rust interface, with the defaults and small tiers.

use std::path::Path;

use isotherm::config::{Config, Tier};
use isotherm::{Bucket, Durability, ErrorKind, Store};

use super::{Engine, OURS, Reader};
use crate::Outcome;
use crate::pairs::Pair;

const BUCKET: &str = "pairs";

/// The engine.
pub struct Isotherm;

fn open_store(directory: &Path, create: bool) -> Outcome<Store> {
    let tiers = Config::builder().tier(Tier::dram("8MiB")).tier(Tier::nvme("64MiB"));
    Ok(Store::open(directory, tiers.create(create).build()?)?)
}

impl Engine for Isotherm {
    fn name(&self) -> &'static str {
        OURS
    }

    fn title(&self) -> &'static str {
        "isotherm"
    }

    fn note(&self) -> &'static str {
        "defaults, 8 MiB of DRAM and a device tier of 64 MiB; durable puts, closed. A bucket that \
         is gone counts as keys missing"
    }

    fn version(&self, _store: &Path) -> Outcome<String> {
        super::locked_version("isotherm")
    }

    fn build(&self, directory: &Path, pairs: &[Pair]) -> Outcome {
        let store = open_store(directory, true)?;
        let bucket = store.bucket(BUCKET)?;
        for Pair { key, value } in pairs {
            bucket.put_with(key, value, Durability::Durable.into())?;
        }
        Ok(store.close()?)
    }

    fn open(&self, directory: &Path) -> Outcome<Box<dyn Reader>> {
        let store = open_store(directory, false)?;
        // Makes the bucket if there is none: its keys are then missing without an error.
        let bucket = store.bucket(BUCKET)?;
        Ok(Box::new(Open { bucket, _store: store }))
    }
}

struct Open {
    bucket: Bucket,
    _store: Store,
}

impl Reader for Open {
    fn get(&mut self, key: &[u8]) -> Outcome<Option<Vec<u8>>> {
        match self.bucket.get(key) {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
