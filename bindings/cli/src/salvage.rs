//! `salvage`: what is provably right of a damaged store, copied into a new one.
//!
//! The new store is made beside its name and gets it when everything is there. In it a blob that may be
//! stale, or has lost a part, says so by its attribute [`MARK`].

mod copy;
mod report;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use isotherm::config::{Config, ConfigBuilder, Tier};
use isotherm::manifest::{self, Manifest};
use isotherm::{BucketOptions, Salvage, SalvagedBlob, Standing, Store, TierKind};

use crate::args::{self, Global};
use crate::failure::{Failure, Outcome};
use crate::output::{print, print_json};
use crate::parallel;
use crate::progress::Progress;
use crate::session::{self, Access};
use copy::Copied;
use report::Tally;

/// The attribute of a salvaged blob that is not, or may not be, what it was last.
pub const MARK: &str = "salvage";

/// `salvage STORE DESTINATION`.
pub fn run(global: &Global, options: &args::Salvage) -> Outcome {
    let salvage = Salvage::open(&options.damaged, &moved_tiers(&options.tier)?)?;
    let tally = match &options.destination {
        Some(destination) => copy_all(global, options, &salvage, destination)?,
        None => read_all(options, &salvage)?,
    };
    if options.json {
        print_json(&report::to_json(&salvage, &tally))?;
    } else {
        print(&report::to_text(&salvage, &tally))?;
    }
    match tally.has_losses() || salvage.report().has_losses() {
        true => Err(Failure::Losses("something is lost, or may be; see the report".to_owned())),
        false => Ok(()),
    }
}

/// `--tier NUMBER=FILE`.
fn moved_tiers(named: &[String]) -> Outcome<BTreeMap<u8, PathBuf>> {
    let parse = |text: &String| {
        let parsed = text.split_once('=').and_then(|(number, file)| {
            Some((number.trim().parse().ok()?, PathBuf::from(file.trim())))
        });
        parsed.ok_or_else(|| {
            Failure::Usage(format!("--tier {text}: write NUMBER=FILE, such as 0=/mnt/nvme0.tier"))
        })
    };
    named.iter().map(parse).collect()
}

/// Copies into a new store under another name, which becomes `destination` at the end.
fn copy_all(
    global: &Global,
    options: &args::Salvage,
    salvage: &Salvage,
    destination: &Path,
) -> Outcome<Tally> {
    let unfinished = unfinished_name(destination)?;
    for path in [destination, &unfinished] {
        if fs::symlink_metadata(path).is_ok() {
            let path = path.display();
            return Err(Failure::Other(format!("{path} exists; salvage makes a new store")));
        }
    }
    let config = configuration(global, &options.damaged)?;
    let store = Store::open(&unfinished, config)?;
    let copied = copy_into(&store, options, salvage);
    let closed = store.close().map_err(Failure::from);
    let tally = copied.and_then(|tally| closed.map(|()| tally)).map_err(|failure| {
        let place = unfinished.display();
        Failure::Other(format!("{failure}; what was copied is in {place}: remove it, then repeat"))
    })?;
    fs::rename(&unfinished, destination)
        .map_err(|error| Failure::of_file("rename of", &unfinished, &error))?;
    Ok(tally)
}

fn unfinished_name(destination: &Path) -> Outcome<PathBuf> {
    let Some(name) = destination.file_name() else {
        let place = destination.display();
        return Err(Failure::Usage(format!("{place} is no name for a new store")));
    };
    let mut unfinished = name.to_owned();
    unfinished.push(".salvaging");
    Ok(destination.with_file_name(unfinished))
}

/// The new store's tiers: as named, else those of the damaged store.
fn configuration(global: &Global, damaged: &Path) -> Outcome<Config> {
    if global.config.is_some() || !global.settings.is_empty() {
        return session::configuration(global, Access::Create);
    }
    let Some(manifest) = manifest::load(damaged)? else {
        return Err(Failure::Other(format!("there is no store at {}", damaged.display())));
    };
    like(&manifest).control_socket(false).build().map_err(Failure::of_configuration)
}

fn like(manifest: &Manifest) -> ConfigBuilder {
    let mut builder = Config::builder();
    if let Some(dram) = &manifest.dram {
        builder = builder.tier(Tier::dram(dram.capacity));
    }
    for tier in &manifest.tiers {
        builder = builder.tier(match tier.kind {
            TierKind::Hdd => Tier::hdd(tier.capacity),
            TierKind::Nvme | TierKind::Dram => Tier::nvme(tier.capacity),
        });
    }
    match manifest.tiers.first() {
        Some(first) => builder.segment_size(first.segment_size),
        None => builder,
    }
}

fn copy_into(store: &Store, options: &args::Salvage, salvage: &Salvage) -> Outcome<Tally> {
    for bucket in salvage.buckets() {
        // A quota must not refuse what was there.
        let unbounded = BucketOptions { quota_bytes: None, quota_blobs: None, ..bucket.options };
        store.create_bucket(&bucket.name, unbounded)?;
    }
    let tally = for_each_blob(options, salvage, "salvaging", &|blob| {
        copy::copy(store, salvage, blob, options.partial)
    })?;
    for bucket in salvage.buckets() {
        store.set_bucket_options(&bucket.name, bucket.options)?;
    }
    Ok(tally)
}

/// Reads what would be copied.
fn read_all(options: &args::Salvage, salvage: &Salvage) -> Outcome<Tally> {
    for_each_blob(options, salvage, "reading", &|blob| Ok(copy::read(salvage, blob)))
}

fn for_each_blob(
    options: &args::Salvage,
    salvage: &Salvage,
    what: &'static str,
    work: &(dyn Fn(&SalvagedBlob<'_>) -> Outcome<Copied> + Sync),
) -> Outcome<Tally> {
    let is_wanted =
        |blob: &SalvagedBlob<'_>| !options.current_only || blob.standing == Standing::Current;
    let bytes = salvage.blobs().filter(is_wanted).map(|blob| blob.len).sum();
    let progress = Progress::new(what, Some(bytes));
    let tally = Mutex::new(Tally::default());
    parallel::for_each(salvage.blobs().map(Ok), |blob| {
        let copied = match is_wanted(&blob) {
            true => work(&blob)?,
            false => Copied::left_out(),
        };
        if is_wanted(&blob) {
            progress.advance(blob.len);
        }
        let mut tally = tally.lock().map_err(|_| Failure::Other("a worker panicked".to_owned()))?;
        tally.add(&blob, copied);
        Ok(())
    })?;
    let mut tally =
        tally.into_inner().map_err(|_| Failure::Other("a worker panicked".to_owned()))?;
    tally.sort();
    Ok(tally)
}
