//! The engines that are compared, each with the settings of a row of the table.

pub mod isotherm;
pub mod lmdb;
pub mod plain;
pub mod redb;
pub mod rocksdb;
pub mod sqlite;

use std::path::Path;

use crate::Outcome;
use crate::pairs::Pair;

/// An engine under certain settings: one row of the table.
pub trait Engine {
    /// The word that the command line knows it by.
    fn name(&self) -> &'static str;

    /// What the table calls it.
    fn title(&self) -> &'static str;

    /// Settings, and what there is to know about them.
    fn note(&self) -> &'static str;

    /// Its version. `store` is a store that it has built.
    fn version(&self, store: &Path) -> Outcome<String>;

    /// Makes a store of these pairs in an empty directory, has it synced, and closes it.
    fn build(&self, directory: &Path, pairs: &[Pair]) -> Outcome;

    /// Opens the store, as a program would that expects it to be there.
    fn open(&self, directory: &Path) -> Outcome<Box<dyn Reader>>;
}

/// A store that is open. Dropping it closes it.
pub trait Reader {
    /// The value of a key; `None` if the store says that there is none.
    fn get(&mut self, key: &[u8]) -> Outcome<Option<Vec<u8>>>;
}

/// The word for the engine that is wrong on purpose.
pub const PLANTED: &str = "plain";
/// The word for our own.
pub const OURS: &str = "isotherm";

/// All of them, in the order of the table.
pub fn all() -> Vec<Box<dyn Engine>> {
    vec![
        Box::new(isotherm::Isotherm),
        Box::new(sqlite::Sqlite { checked: false }),
        Box::new(sqlite::Sqlite { checked: true }),
        Box::new(lmdb::Lmdb),
        Box::new(redb::Redb { checked: false }),
        Box::new(redb::Redb { checked: true }),
        Box::new(rocksdb::Rocksdb::Log),
        Box::new(rocksdb::Rocksdb::StrictLog),
        Box::new(rocksdb::Rocksdb::Tables),
        Box::new(plain::Plain),
    ]
}

/// The engine of this name.
pub fn find(name: &str) -> Outcome<Box<dyn Engine>> {
    let found = all().into_iter().find(|engine| engine.name() == name);
    found.ok_or_else(|| {
        let names: Vec<&str> = all().iter().map(|engine| engine.name()).collect();
        format!("there is no engine {name}, but {}", names.join(", ")).into()
    })
}

/// The version of a crate in this package's lock file, for those that do not tell it themselves.
fn locked_version(package: &str) -> Outcome<String> {
    let lock = include_str!("../../Cargo.lock");
    let begin = format!("name = \"{package}\"\nversion = \"");
    let rest = lock.split_once(&begin).map(|(_, rest)| rest);
    let version = rest.and_then(|rest| rest.split('"').next());
    Ok(version.ok_or_else(|| format!("Cargo.lock has no {package}"))?.to_owned())
}
