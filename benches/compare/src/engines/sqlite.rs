//! SQLite: one table, with the defaults, and with everything looked through at the opening.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::{Engine, Reader};
use crate::Outcome;
use crate::pairs::Pair;

const FILE: &str = "pairs.sqlite";

/// The engine.
pub struct Sqlite {
    /// Whether `PRAGMA integrity_check` must be content before a key is read.
    pub checked: bool,
}

impl Engine for Sqlite {
    fn name(&self) -> &'static str {
        if self.checked { "sqlite-checked" } else { "sqlite" }
    }

    fn title(&self) -> &'static str {
        if self.checked { "SQLite, integrity_check" } else { "SQLite" }
    }

    fn note(&self) -> &'static str {
        if self.checked {
            "the same file; `cell_size_check`, and `integrity_check` at the opening: it looks at the \
             structure, and no checksum stands beside the values. The checksumming VFS (cksumvfs) is \
             neither in the library nor among Debian's packages, and was not tried"
        } else {
            "defaults: rollback journal, `synchronous=FULL`; a table with a BLOB primary key, one \
             transaction. No checksums in the database file"
        }
    }

    fn version(&self, _store: &Path) -> Outcome<String> {
        Ok(rusqlite::version().to_owned())
    }

    fn build(&self, directory: &Path, pairs: &[Pair]) -> Outcome {
        let mut connection = Connection::open(directory.join(FILE))?;
        let transaction = connection.transaction()?;
        transaction
            .execute("CREATE TABLE pairs (key BLOB PRIMARY KEY, value BLOB NOT NULL)", ())?;
        for Pair { key, value } in pairs {
            transaction.execute("INSERT INTO pairs VALUES (?1, ?2)", (key, value))?;
        }
        transaction.commit()?;
        connection.close().map_err(|(_, error)| error.into())
    }

    fn open(&self, directory: &Path) -> Outcome<Box<dyn Reader>> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
        let connection = Connection::open_with_flags(directory.join(FILE), flags)?;
        if self.checked {
            connection.pragma_update(None, "cell_size_check", true)?;
            let said: String =
                connection.query_row("PRAGMA integrity_check", (), |row| row.get(0))?;
            if said != "ok" {
                return Err(said.into());
            }
        }
        Ok(Box::new(Open(connection)))
    }
}

struct Open(Connection);

impl Reader for Open {
    fn get(&mut self, key: &[u8]) -> Outcome<Option<Vec<u8>>> {
        let mut statement = self.0.prepare_cached("SELECT value FROM pairs WHERE key = ?1")?;
        Ok(statement.query_row([key], |row| row.get(0)).optional()?)
    }
}
