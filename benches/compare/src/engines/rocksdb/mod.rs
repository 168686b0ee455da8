//! RocksDB, of the system: a small store stands in its log, a larger one in table files.

mod handle;
mod sys;

use std::fs;
use std::path::Path;

use super::{Engine, Reader};
use crate::Outcome;
use crate::pairs::Pair;
use handle::{Handle, Settings};

/// The engine.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Rocksdb {
    /// As its defaults leave a store of this size: in the log.
    Log,
    /// The same, with the strictest recovery of the log.
    StrictLog,
    /// Flushed into a table file before the close.
    Tables,
}

impl Engine for Rocksdb {
    fn name(&self) -> &'static str {
        match self {
            Rocksdb::Log => "rocksdb",
            Rocksdb::StrictLog => "rocksdb-strict",
            Rocksdb::Tables => "rocksdb-tables",
        }
    }

    fn title(&self) -> &'static str {
        match self {
            Rocksdb::Log => "RocksDB, in its log",
            Rocksdb::StrictLog => "RocksDB, in its log, strict",
            Rocksdb::Tables => "RocksDB, in a table file",
        }
    }

    fn note(&self) -> &'static str {
        match self {
            Rocksdb::Log => {
                "`paranoid_checks` and `verify_checksums` (the defaults), synced puts, default \
                 recovery `kPointInTimeRecovery`: the log ends where it is damaged, and nobody is \
                 told"
            }
            Rocksdb::StrictLog => "the same with recovery `kAbsoluteConsistency`",
            Rocksdb::Tables => "the same as the first, flushed before the close",
        }
    }

    /// The C interface does not tell, but the store's own report begins with it.
    fn version(&self, store: &Path) -> Outcome<String> {
        let report = fs::read_to_string(store.join("LOG"))?;
        let told = report.lines().find_map(|line| line.split_once("RocksDB version: "));
        Ok(told.ok_or("RocksDB does not tell its version")?.1.trim().to_owned())
    }

    fn build(&self, directory: &Path, pairs: &[Pair]) -> Outcome {
        let handle = Handle::open(directory, self.settings(true))?;
        for Pair { key, value } in pairs {
            handle.put(key, value)?;
        }
        match self {
            Rocksdb::Tables => handle.flush(),
            Rocksdb::Log | Rocksdb::StrictLog => Ok(()),
        }
    }

    fn open(&self, directory: &Path) -> Outcome<Box<dyn Reader>> {
        Ok(Box::new(Handle::open(directory, self.settings(false))?))
    }
}

impl Rocksdb {
    fn settings(self, create: bool) -> Settings {
        Settings { create, absolute_consistency: self == Rocksdb::StrictLog }
    }
}

impl Reader for Handle {
    fn get(&mut self, key: &[u8]) -> Outcome<Option<Vec<u8>>> {
        Handle::get(self, key)
    }
}
