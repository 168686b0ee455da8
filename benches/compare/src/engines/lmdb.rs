//! LMDB, which has one way to read and no checksums.

use std::path::Path;

use heed::types::Bytes;
use heed::{CommitOrAbort, Env, EnvOpenOptions};

use super::{Engine, Reader};
use crate::Outcome;
use crate::pairs::Pair;

const DATABASE: &str = "pairs";
const MAP_SIZE: usize = 64 << 20;

/// The engine.
pub struct Lmdb;

fn open_environment(directory: &Path) -> Outcome<Env> {
    let mut options = EnvOpenOptions::new();
    options.map_size(MAP_SIZE).max_dbs(1);
    // SAFETY: nobody else changes the files while they are mapped. That their content may be
    // damaged is the question asked, in a process that may die of it.
    Ok(unsafe { options.open(directory)? })
}

impl Engine for Lmdb {
    fn name(&self) -> &'static str {
        "lmdb"
    }

    fn title(&self) -> &'static str {
        "LMDB"
    }

    fn note(&self) -> &'static str {
        "defaults (synced commits), one transaction, a named database; through the crate heed. No \
         checksums and no check: there is no safer setting (a branch that is not released, \
         mdb.master3, has checksums, and was not tried). A database that is gone counts as an \
         opening that is refused"
    }

    fn version(&self, _store: &Path) -> Outcome<String> {
        let heed::LmdbVersion { major, minor, patch, .. } = heed::lmdb_version();
        Ok(format!("{major}.{minor}.{patch}"))
    }

    fn build(&self, directory: &Path, pairs: &[Pair]) -> Outcome {
        let environment = open_environment(directory)?;
        let transaction = environment.write_txn()?;
        environment.create_databases_and_commit(
            transaction,
            |opener, transaction| -> Outcome<_> {
                let database =
                    opener.create_database::<Bytes, Bytes>(transaction, Some(DATABASE))?;
                for Pair { key, value } in pairs {
                    database.put(transaction, key, value)?;
                }
                Ok(CommitOrAbort::<_, ()>::Commit(database))
            },
        )?;
        Ok(())
    }

    fn open(&self, directory: &Path) -> Outcome<Box<dyn Reader>> {
        let mut open = Open(open_environment(directory)?);
        open.with_database(|_, _| Ok(()))?;
        Ok(Box::new(open))
    }
}

struct Open(Env);

type Database<'e> = heed::Database<'e, Bytes, Bytes>;
type Transaction<'e> = heed::RoTxn<'e, heed::WithTls>;

impl Open {
    /// The handle of the database lives no longer than the transaction that opened it.
    fn with_database<T>(
        &mut self,
        call: impl FnOnce(&Database<'_>, &Transaction<'_>) -> Outcome<T>,
    ) -> Outcome<T> {
        let transaction = self.0.read_txn()?;
        let ended = self.0.open_databases_and_commit(
            transaction,
            |opener, transaction| -> Outcome<CommitOrAbort<(), T>> {
                let database = opener.open_database(transaction, Some(DATABASE))?;
                let database = database.ok_or("the database is gone")?;
                Ok(CommitOrAbort::Abort(call(&database, transaction)?))
            },
        )?;
        match ended {
            CommitOrAbort::Abort(value) => Ok(value),
            CommitOrAbort::Commit(()) => Err("the transaction was not ended as asked".into()),
        }
    }
}

impl Reader for Open {
    fn get(&mut self, key: &[u8]) -> Outcome<Option<Vec<u8>>> {
        self.with_database(|database, transaction| {
            Ok(database.get(transaction, key)?.map(<[u8]>::to_vec))
        })
    }
}
