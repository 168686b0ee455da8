//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

const AFTER_HELP: &str = "\
Sizes are bytes or carry a unit: 4096, 64MiB, 1.5GiB.
info, stats, where, check, flush and top ask the process that has the store open, if there is one.
Exit codes: 0 done, 1 error (on stderr), 2 usage, 3 no such store, bucket or blob,
4 salvage: done, and something is lost or may be.";

/// Stores byte strings across DRAM, NVMe and HDD, and gives them back byte for byte.
#[derive(Parser, Debug)]
#[command(name = "isotherm", version, after_help = AFTER_HELP)]
pub struct Arguments {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Args, Debug)]
pub struct Global {
    /// The store's directory
    #[arg(short, long, global = true, value_name = "DIR", env = "ISOTHERM_STORE")]
    pub store: Option<PathBuf>,
    /// Configuration file (TOML)
    #[arg(short, long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// One setting, such as tier.0.capacity=64MiB; may be given several times
    #[arg(long = "set", global = true, value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    /// What a put survives: memory, written or durable
    #[arg(long, global = true, value_name = "LEVEL")]
    pub durability: Option<String>,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Store a file, standard input, or with -r a directory; makes the store if there is none
    Put(Put),
    /// Fetch a blob to standard output or a file, or with -r a bucket into a directory
    Get(Get),
    /// List the buckets, or the blobs of one
    Ls(Ls),
    /// Describe a bucket or a blob
    Stat(Stat),
    /// Remove blobs, or with -r all of a bucket whose keys begin alike
    Rm(Rm),
    /// Give a blob another name, in this bucket or another
    Mv(NewName),
    /// Make another blob of the same value; the two share what they have in common
    Cp(NewName),
    /// Free the space of what was removed, now
    Compact(Json),
    /// Attributes of a blob: read, set, remove or list them
    #[command(subcommand)]
    Attr(Attr),
    /// Show the tiers: capacity, used and live bytes
    Df(Json),
    /// Show which buffer of a blob is on which tier
    Where(Where),
    /// Describe the store and how it runs
    Info(Json),
    /// Show everything counted since the store was opened
    Stats(Json),
    /// Read everything and compare it with its checksums, also while the store is in use
    Check(Check),
    /// Make everything that a process has put durable
    Flush(Flush),
    /// Show what a store in use does, second by second
    Top(Json),
    /// Copy what is provably right of a damaged store into a new one; the damaged one stays as it is
    Salvage(Salvage),
    /// Check this host for what the engine needs, with the fix for each
    Doctor(Json),
}

/// `put BUCKET KEY [FILE|-]`, `put -r BUCKET DIR`.
#[derive(Args, Debug)]
pub struct Put {
    /// Store every file below a directory; keys are relative paths
    #[arg(short, long)]
    pub recursive: bool,
    /// The bucket; made if there is none
    pub bucket: String,
    /// The key; with -r the directory
    #[arg(value_name = "KEY|DIR")]
    pub key: OsString,
    /// The file; - or nothing is standard input
    #[arg(conflicts_with = "recursive")]
    pub file: Option<PathBuf>,
}

/// `get BUCKET KEY [-o FILE]`, `get -r BUCKET DIR`.
#[derive(Args, Debug)]
pub struct Get {
    /// Fetch every blob of the bucket into a directory; keys are relative paths
    #[arg(short, long)]
    pub recursive: bool,
    /// The bucket
    pub bucket: String,
    /// The key; with -r the directory
    #[arg(value_name = "KEY|DIR")]
    pub key: OsString,
    /// The file to write; standard output if not given
    #[arg(short, long, value_name = "FILE", conflicts_with = "recursive")]
    pub output: Option<PathBuf>,
}

/// `ls [BUCKET [PREFIX]]`.
#[derive(Args, Debug)]
pub struct Ls {
    /// List this bucket's blobs
    pub bucket: Option<String>,
    /// Only keys that begin so
    pub prefix: Option<OsString>,
}

/// `stat BUCKET [KEY]`.
#[derive(Args, Debug)]
pub struct Stat {
    /// The bucket
    pub bucket: String,
    /// The blob; the bucket itself if not given
    pub key: Option<OsString>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `rm BUCKET KEY...`, `rm -r BUCKET [PREFIX]`.
#[derive(Args, Debug)]
pub struct Rm {
    /// Remove every blob whose key begins so; all of the bucket if no prefix is given
    #[arg(short, long)]
    pub recursive: bool,
    /// The bucket
    pub bucket: String,
    /// The blobs; with -r one prefix or none
    #[arg(required_unless_present = "recursive", value_name = "KEY|PREFIX")]
    pub keys: Vec<OsString>,
}

/// `mv BUCKET KEY NEW_KEY [--to BUCKET]`, `cp` likewise.
#[derive(Args, Debug)]
pub struct NewName {
    /// The bucket
    pub bucket: String,
    /// The blob
    pub key: OsString,
    /// Its other key; a blob of that name is replaced
    pub new_key: OsString,
    /// Its other bucket; made if there is none
    #[arg(long, value_name = "BUCKET")]
    pub to: Option<String>,
}

/// `attr get|set|rm|ls`.
#[derive(Subcommand, Debug)]
pub enum Attr {
    /// Print the value of an attribute
    Get {
        /// The bucket
        bucket: String,
        /// The blob
        key: OsString,
        /// The attribute
        name: String,
    },
    /// Give an attribute a value
    Set {
        /// The bucket
        bucket: String,
        /// The blob
        key: OsString,
        /// The attribute
        name: String,
        /// The value
        #[arg(allow_hyphen_values = true)]
        value: String,
        /// Its type; if not given, a number where it reads as one, else text
        #[arg(long = "type", value_name = "TYPE")]
        kind: Option<AttrType>,
    },
    /// Remove attributes
    Rm {
        /// The bucket
        bucket: String,
        /// The blob
        key: OsString,
        /// The attributes
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// List the attributes of a blob
    Ls {
        /// The bucket
        bucket: String,
        /// The blob
        key: OsString,
    },
}

/// The type of an attribute.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum AttrType {
    /// An integer
    Int,
    /// A number with a fraction
    Float,
    /// Text
    Text,
}

/// `where BUCKET KEY`.
#[derive(Args, Debug)]
pub struct Where {
    /// The bucket
    pub bucket: String,
    /// The blob
    pub key: OsString,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `check`.
#[derive(Args, Debug)]
pub struct Check {
    /// Bytes a second to read at most; 256MiB if not given
    #[arg(long, value_name = "SIZE")]
    pub rate: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `salvage STORE DESTINATION`.
#[derive(Args, Debug)]
pub struct Salvage {
    /// The damaged store's directory
    pub damaged: PathBuf,
    /// The new store's directory, which must not exist; its tiers are those of the damaged one unless
    /// --config or --set name others
    #[arg(required_unless_present = "dry_run")]
    pub destination: Option<PathBuf>,
    /// Read and report everything, make nothing
    #[arg(long, conflicts_with = "destination")]
    pub dry_run: bool,
    /// Leave out blobs that may be stale
    #[arg(long)]
    pub current_only: bool,
    /// Copy blobs that cannot be read whole, too: what is lost of them reads as zeros
    #[arg(long)]
    pub partial: bool,
    /// Where the file of a tier is, if not where the store says; may be given several times
    #[arg(long, value_name = "NUMBER=FILE")]
    pub tier: Vec<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `flush [BUCKET]`.
#[derive(Args, Debug)]
pub struct Flush {
    /// The bucket; the whole store if not given
    pub bucket: Option<String>,
}

/// A command whose only option is `--json`.
#[derive(Args, Debug)]
pub struct Json {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn options_of_every_command_may_stand_before_or_after_it() {
        for line in ["isotherm -s /tmp/s ls", "isotherm ls -s /tmp/s"] {
            let arguments = Arguments::try_parse_from(line.split(' ')).unwrap();
            assert_eq!(arguments.global.store, Some(PathBuf::from("/tmp/s")));
        }
    }

    #[test]
    fn a_tree_takes_no_file() {
        let line = "isotherm -s s put -r bucket dir file";
        assert!(Arguments::try_parse_from(line.split(' ')).is_err());
    }
}
