//! What a run is to do: the command line, checked as a whole.

use isotherm::config::values::format_size;
use isotherm::config::{Config, ConfigBuilder};

use crate::harness::failure::{Failure, Outcome};
use crate::harness::options::{Interface, Load, Options};

/// Larger blocks would be held in memory whole, one per operation under way.
const BLOCK_LEN_MAX: u64 = 1 << 30;
/// Keys have twelve digits.
const BLOBS_MAX: u64 = 1_000_000_000_000;
/// What is written at a time before the load, where blobs are larger.
const LAYOUT_LEN: u64 = 1 << 20;

/// A run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The options that it was made of.
    pub options: Options,
    /// Bytes of a blob.
    pub blob_len: u64,
    /// Blobs of a job.
    pub blobs: u64,
    /// Percent of the operations that are reads.
    pub read_percent: usize,
    /// The store's settings, in the order they are to be made.
    pub settings: Vec<(String, String)>,
    /// The same, as the Rust interface takes them.
    pub config: Config,
}

impl Plan {
    /// Checks options against each other, and the settings.
    pub fn of(options: Options) -> Outcome<Plan> {
        let blob_len = options.blob_size.unwrap_or(options.bs);
        check_sizes(&options, blob_len)?;
        check_company(&options)?;
        let settings = settings(&options)?;
        let read_percent = match options.rw {
            Load::Read | Load::Randread => 100,
            Load::Write | Load::Randwrite => 0,
            Load::Rw | Load::Randrw => options.rwmixread,
        };
        Ok(Plan {
            blob_len,
            blobs: options.size / blob_len,
            read_percent,
            config: configuration(&settings)?,
            settings,
            options,
        })
    }

    /// Bytes of a block.
    pub fn block_len(&self) -> usize {
        self.options.bs as usize
    }

    /// Blocks of a job.
    pub fn blocks(&self) -> u64 {
        self.blobs * self.blocks_per_blob()
    }

    /// Blocks of a blob.
    pub fn blocks_per_blob(&self) -> u64 {
        self.blob_len / self.options.bs
    }

    /// Blocks that are written at a time before the load.
    pub fn blocks_per_layout(&self) -> u64 {
        (LAYOUT_LEN / self.options.bs).clamp(1, self.blocks_per_blob())
    }

    /// Whether blobs must be there before the load begins.
    pub fn reads(&self) -> bool {
        self.read_percent > 0
    }
}

fn check_sizes(options: &Options, blob_len: u64) -> Outcome {
    let Options { bs, size, .. } = *options;
    let text = format_size;
    let refuse = |message: String| Err(Failure::Usage(message));
    if bs > BLOCK_LEN_MAX {
        let most = text(BLOCK_LEN_MAX);
        return refuse(format!("--bs={}: a block has at most {most}", text(bs)));
    }
    if !blob_len.is_multiple_of(bs) {
        let (blob, block) = (text(blob_len), text(bs));
        return refuse(format!("--blob_size={blob}: write a multiple of --bs, which is {block}"));
    }
    if size < blob_len {
        let (size, blob) = (text(size), text(blob_len));
        return refuse(format!("--size={size}: a job has one blob at least, of {blob}"));
    }
    let jobs = options.numjobs as u64;
    if (size / blob_len).saturating_mul(jobs) > BLOBS_MAX {
        let (size, most) = (text(size), text(blob_len.saturating_mul(BLOBS_MAX / jobs)));
        return refuse(format!("--size={size}: so many blobs have no keys; at most {most} do"));
    }
    Ok(())
}

/// Options that make sense only beside others.
fn check_company(options: &Options) -> Outcome {
    let refuse = |message: String| Err(Failure::Usage(message));
    if options.time_based && options.runtime.is_none() {
        return refuse(
            "--time_based: say for how long with --runtime, such as --runtime=10".into(),
        );
    }
    if options.cold && matches!(options.rw, Load::Write | Load::Randwrite) {
        let rw = options.rw.name();
        return refuse(format!("--cold: --rw={rw} reads nothing; use it with a load that reads"));
    }
    if let (Some(library), Interface::Rust) = (&options.library, options.engine) {
        return refuse(format!("--library={}: use it with --engine=c", library.display()));
    }
    if !options.directory.is_dir() {
        let directory = options.directory.display();
        return refuse(format!("--directory={directory}: no such directory; name one that exists"));
    }
    Ok(())
}

fn settings(options: &Options) -> Outcome<Vec<(String, String)>> {
    let mut settings = Vec::new();
    for setting in &options.settings {
        let Some((key, value)) = setting.split_once('=') else {
            let message = format!("--set {setting}: write KEY=VALUE, such as shards=2");
            return Err(Failure::Usage(message));
        };
        settings.push((key.trim().to_owned(), value.trim().to_owned()));
    }
    if let Some(level) = options.durability {
        settings.push(("durability".to_owned(), level.name().to_owned()));
    }
    Ok(settings)
}

fn configuration(settings: &[(String, String)]) -> Outcome<Config> {
    let mut builder = ConfigBuilder::default();
    for (key, value) in settings {
        let usage = |error: isotherm::Error| {
            Failure::Usage(format!("--set {key}={value}: {}", error.message()))
        };
        builder.set(key, value).map_err(usage)?;
    }
    Ok(builder.build()?)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use clap::Parser;

    /// The plan of a command line.
    pub(crate) fn plan(line: &str) -> Outcome<Plan> {
        let words = format!("isotherm-bench {line}");
        Plan::of(Options::try_parse_from(words.split(' ')).unwrap())
    }

    #[test]
    fn a_block_is_a_blob_unless_blobs_are_larger() {
        let blobs = plan("--bs=4k --size=1m").unwrap();
        assert_eq!((blobs.blobs, blobs.blocks(), blobs.blocks_per_layout()), (256, 256, 1));
        let ranges = plan("--bs=4k --size=1m --blob_size=256k").unwrap();
        assert_eq!((ranges.blobs, ranges.blocks(), ranges.blocks_per_layout()), (4, 256, 64));
        let large = plan("--bs=4k --size=1g --blob_size=64m").unwrap();
        assert_eq!(large.blocks_per_layout(), 256);
    }

    #[test]
    fn what_is_left_of_a_size_that_is_no_multiple_is_not_used() {
        let plan = plan("--bs=4k --size=10000").unwrap();
        assert_eq!((plan.blobs, plan.blocks()), (2, 2));
    }

    #[test]
    fn only_a_mixed_load_has_a_mix() {
        let percent =
            |rw: &str| plan(&format!("--rw={rw} --size=1m --rwmixread=30")).unwrap().read_percent;
        assert_eq!(
            ["read", "randread", "write", "randwrite", "rw", "randrw"].map(percent),
            [100, 100, 0, 0, 30, 30]
        );
    }

    #[test]
    fn settings_reach_the_configuration_and_the_level_is_the_last_of_them() {
        let line = "--size=1m --set shards=2 --set durability=memory --durability=durable";
        let plan = plan(line).unwrap();
        assert_eq!(plan.config.shards(), Some(2));
        assert_eq!(plan.config.durability(), Some(isotherm::Durability::Durable));
        assert_eq!(plan.settings.last().unwrap().1, "durable");
    }

    #[test]
    fn what_makes_no_sense_together_is_a_usage_error_that_names_the_option() {
        for (line, named) in [
            ("--size=1k", "--size=1KiB"),
            ("--size=1m --bs=4k --blob_size=6k", "--blob_size=6KiB"),
            ("--size=4g --bs=2g", "--bs=2GiB"),
            ("--size=2TiB --bs=1", "--size=2TiB"),
            ("--size=1m --time_based", "--runtime"),
            ("--size=1m --rw=write --cold", "--rw=write"),
            ("--size=1m --library=/lib.so", "--engine=c"),
            ("--size=1m --directory=/nowhere/at/all", "--directory=/nowhere/at/all"),
            ("--size=1m --set shards", "--set shards"),
            ("--size=1m --set sharps=2", "'shards'"),
            ("--size=1m --set tier.1.kind=nvme", "tier.0"),
        ] {
            let refused = plan(line).unwrap_err();
            assert_eq!(refused.exit_code(), 2, "{line}");
            assert!(refused.to_string().contains(named), "{line}: {refused}");
        }
    }
}
