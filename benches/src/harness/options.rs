//! The command line, in fio's words.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser, ValueEnum};
use isotherm::Durability;
use isotherm::config::values::{parse_duration, parse_size};

const AFTER_HELP: &str = "\
Options are those of fio where fio has them; --size, --iodepth and --runtime are each job's. A block is a \
blob of its own unless --blob_size says that blobs are larger; then it is a range of one. Every job has \
blobs of its own. What is to be read is written before, which is not measured; random orders touch every \
block once in each round. Depth 1 makes synchronous calls, a larger one uses a queue.

The store is made in --directory and removed at the end. Without --set it has the default tiers.

Sizes are bytes or carry a unit: 4096, 4k, 64MiB. Exit codes: 0 done, 1 error or blocks that are not \
what was written (with --verify), 2 usage.";

/// Puts a load on an isotherm store and reports rates, latencies and CPU per operation.
#[derive(Parser, Clone, Debug)]
#[command(name = "isotherm-bench", version, after_help = AFTER_HELP)]
pub struct Options {
    /// What the report calls the run
    #[arg(long, default_value = "isotherm-bench")]
    pub name: String,
    /// What is done to the blocks, and in which order
    #[arg(long, value_enum, default_value_t = Load::Read)]
    pub rw: Load,
    /// Bytes of a block: what one operation reads or writes
    #[arg(long, value_name = "SIZE", default_value = "4k", value_parser = size)]
    pub bs: u64,
    /// Bytes of a blob, a multiple of --bs; a block if not given
    #[arg(long = "blob_size", value_name = "SIZE", value_parser = size)]
    pub blob_size: Option<u64>,
    /// Bytes of a job's blobs together, and what it transfers unless --runtime ends it
    #[arg(long, value_parser = size)]
    pub size: u64,
    /// Threads, each with blobs of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = in_range(1, 1024))]
    pub numjobs: usize,
    /// Operations of a job that are under way at a time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = in_range(1, 65_536))]
    pub iodepth: usize,
    /// Seconds, or a time such as 500ms, after which jobs end
    #[arg(long, value_name = "TIME", value_parser = runtime)]
    pub runtime: Option<Duration>,
    /// Begin again after --size bytes until --runtime is over
    #[arg(long = "time_based", value_name = "0|1", num_args = 0..=1, require_equals = true,
        default_missing_value = "1", default_value = "0", action = ArgAction::Set,
        value_parser = flag)]
    pub time_based: bool,
    /// Percent of a mixed load that are reads
    #[arg(long, value_name = "PERCENT", default_value_t = 50, value_parser = in_range(0, 100))]
    pub rwmixread: usize,
    /// What a write survives when it returns: memory, written or durable; the store's default if not given
    #[arg(long, value_name = "LEVEL", value_parser = durability)]
    pub durability: Option<Durability>,
    /// Where the store is made
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub directory: PathBuf,
    /// One setting of the store, such as tier.0.capacity=64MiB; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    /// Whether the engine is called through Rust or through the C interface
    #[arg(long, value_enum, default_value_t = Interface::Rust)]
    pub engine: Interface,
    /// A libisotherm.so for --engine=c; the C interface in this program if not given
    #[arg(long, value_name = "FILE")]
    pub library: Option<PathBuf>,
    /// Reopen the store before the load, so that it finds nothing in DRAM
    #[arg(long, value_name = "0|1", num_args = 0..=1, require_equals = true,
        default_missing_value = "1", default_value = "0", action = ArgAction::Set,
        value_parser = flag)]
    pub cold: bool,
    /// Compare what is read with what was written; what was written is read back at the end
    #[arg(long, value_name = "0|1", num_args = 0..=1, require_equals = true,
        default_missing_value = "1", default_value = "0", action = ArgAction::Set,
        value_parser = flag)]
    pub verify: bool,
    /// Another number is another order and other bytes
    #[arg(long, alias = "seed", value_name = "N", default_value_t = 1)]
    pub randseed: u64,
    /// Report all jobs as one, as is always done; for scripts that say so to fio
    #[arg(long = "group_reporting", value_name = "0|1", num_args = 0..=1, require_equals = true,
        default_missing_value = "1", default_value = "1", action = ArgAction::Set,
        value_parser = flag, hide = true)]
    pub group_reporting: bool,
    /// How the report is printed
    #[arg(long = "output-format", value_enum, default_value_t = Format::Normal)]
    pub output_format: Format,
}

/// What is done to the blocks of a job.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Load {
    /// Sequential reads
    Read,
    /// Sequential writes
    Write,
    /// Random reads
    Randread,
    /// Random writes
    Randwrite,
    /// Sequential reads and writes
    #[value(alias = "readwrite")]
    Rw,
    /// Random reads and writes
    Randrw,
}

impl Load {
    /// fio's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Load::Read => "read",
            Load::Write => "write",
            Load::Randread => "randread",
            Load::Randwrite => "randwrite",
            Load::Rw => "rw",
            Load::Randrw => "randrw",
        }
    }

    /// Whether the order of the blocks is random.
    pub fn is_random(self) -> bool {
        matches!(self, Load::Randread | Load::Randwrite | Load::Randrw)
    }
}

/// How the engine is called.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interface {
    /// As a Rust program does
    Rust,
    /// As a C program does
    C,
}

impl Interface {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Interface::Rust => "rust",
            Interface::C => "c",
        }
    }
}

/// How the report is printed.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// For people
    Normal,
    /// For programs that read fio's
    Json,
}

fn size(text: &str) -> Result<u64, String> {
    match parse_size(text) {
        Ok(0) => Err("a size here is 1 byte or more".to_owned()),
        Ok(bytes) => Ok(bytes),
        Err(error) => Err(error.message().to_owned()),
    }
}

/// As fio takes it: a number without a unit is seconds.
fn runtime(text: &str) -> Result<Duration, String> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let time = if is_number { parse_duration(&format!("{text}s")) } else { parse_duration(text) };
    match time {
        Ok(time) if !time.is_zero() => Ok(time),
        _ => Err("write seconds or a time above 0, such as 10, 500ms or 2min".to_owned()),
    }
}

fn flag(text: &str) -> Result<bool, String> {
    match text {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err("write 0 or 1, or nothing, which is 1".to_owned()),
    }
}

fn durability(text: &str) -> Result<Durability, String> {
    text.parse::<Durability>().map_err(|error| error.message().to_owned())
}

/// A parser of whole numbers in a range.
fn in_range(
    least: usize,
    most: usize,
) -> impl Fn(&str) -> Result<usize, String> + Clone + Send + Sync + 'static {
    move |text| match text.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("write a whole number from {least} to {most}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Options, clap::Error> {
        Options::try_parse_from(format!("isotherm-bench {line}").split(' '))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn every_word_of_fio_for_a_load_is_known() {
        for word in ["read", "write", "randread", "randwrite", "rw", "randrw"] {
            assert_eq!(parse(&format!("--rw={word} --size=1m")).unwrap().rw.name(), word);
        }
        assert_eq!(parse("--rw readwrite --size 1m").unwrap().rw, Load::Rw);
    }

    #[test]
    fn sizes_have_units_of_1024_as_in_fio_and_times_are_seconds_unless_they_say_so() {
        let options = parse("--bs=4k --size=1M --blob_size=64KiB --runtime=10").unwrap();
        assert_eq!((options.bs, options.size), (4096, 1 << 20));
        assert_eq!(options.blob_size, Some(65_536));
        assert_eq!(options.runtime, Some(Duration::from_secs(10)));
        let time = |text: &str| parse(&format!("--size=1m --runtime={text}")).unwrap().runtime;
        assert_eq!(time("0.5"), Some(Duration::from_millis(500)));
        assert_eq!(time("250ms"), Some(Duration::from_millis(250)));
    }

    #[test]
    fn flags_stand_alone_or_have_0_or_1() {
        assert!(!parse("--size=1m").unwrap().time_based);
        assert!(parse("--size=1m --time_based --verify").unwrap().time_based);
        assert!(parse("--size=1m --time_based=1 --cold=1").unwrap().cold);
        assert!(!parse("--size=1m --verify=0").unwrap().verify);
        assert!(parse("--size=1m --verify=crc32c").is_err());
    }

    #[test]
    fn what_is_refused_is_named_with_its_value_and_what_is_allowed() {
        for (line, value, allowed) in [
            ("--size=1m --rw=reed", "reed", "randread"),
            ("--size=1m --bs=0", "'0'", "1 byte or more"),
            ("--size=lots", "lots", "64MiB"),
            ("--size=1m --numjobs=0", "'0'", "1 to 1024"),
            ("--size=1m --iodepth=65537", "65537", "1 to 65536"),
            ("--size=1m --rwmixread=101", "101", "0 to 100"),
            ("--size=1m --runtime=0", "'0'", "above 0"),
            ("--size=1m --runtime=", "''", "seconds"),
            ("--size=1m --durability=forever", "forever", "memory, written, durable"),
            ("--size=1m --engine=java", "java", "rust, c"),
            ("--size=1m --output-format=xml", "xml", "normal, json"),
        ] {
            let refused = parse(line).unwrap_err();
            let (text, option) = (refused.to_string(), line.split(['=', ' ']).rev().nth(1));
            assert_eq!(refused.exit_code(), 2, "{line}");
            assert!(text.contains(value) && text.contains(allowed), "{line}: {text}");
            assert!(text.contains(option.unwrap()), "{line}: {text}");
        }
        assert!(parse("--rw=read").unwrap_err().to_string().contains("--size"));
    }
}
