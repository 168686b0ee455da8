//! redb: one table, with the defaults, and with everything looked through at the opening.

use std::path::Path;

use redb::{Database, ReadableDatabase, TableDefinition};

use super::{Engine, Reader};
use crate::Outcome;
use crate::pairs::Pair;

const FILE: &str = "pairs.redb";
const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("pairs");

/// The engine.
pub struct Redb {
    /// Whether `check_integrity` must be content before a key is read.
    pub checked: bool,
}

impl Engine for Redb {
    fn name(&self) -> &'static str {
        if self.checked { "redb-checked" } else { "redb" }
    }

    fn title(&self) -> &'static str {
        if self.checked { "redb, check_integrity" } else { "redb" }
    }

    fn note(&self) -> &'static str {
        if self.checked {
            "the same file; `check_integrity` at the opening compares every page with its checksum. \
             That it repaired something counts as an opening that is refused"
        } else {
            "defaults, one transaction. Its checksums are compared after a crash, and not at reads"
        }
    }

    fn version(&self, _store: &Path) -> Outcome<String> {
        super::locked_version("redb")
    }

    fn build(&self, directory: &Path, pairs: &[Pair]) -> Outcome {
        let database = Database::create(directory.join(FILE))?;
        let transaction = database.begin_write()?;
        {
            let mut table = transaction.open_table(TABLE)?;
            for Pair { key, value } in pairs {
                table.insert(key.as_slice(), value.as_slice())?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn open(&self, directory: &Path) -> Outcome<Box<dyn Reader>> {
        let mut database = Database::open(directory.join(FILE))?;
        if self.checked && !database.check_integrity()? {
            return Err("the check has found damage, and repaired it".into());
        }
        Ok(Box::new(Open(database)))
    }
}

struct Open(Database);

impl Reader for Open {
    fn get(&mut self, key: &[u8]) -> Outcome<Option<Vec<u8>>> {
        let table = self.0.begin_read()?.open_table(TABLE)?;
        Ok(redb::ReadableTable::get(&table, key)?.map(|value| value.value().to_vec()))
    }
}
