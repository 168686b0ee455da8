//! From the command line to an open store.

use std::path::Path;

use isotherm::config::{Config, ConfigBuilder};
use isotherm::error::Error;
use isotherm::{Bucket, Store};

use crate::args::Global;
use crate::failure::{Failure, Outcome};

/// Whether a command may make a store where there is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Only a store that exists.
    Existing,
    /// The same, for reading only.
    Reading,
    /// Makes one.
    Create,
}

/// The store that the command line names.
pub fn store_path(global: &Global) -> Outcome<&Path> {
    global.store.as_deref().ok_or_else(|| {
        Failure::Usage("no store is named; use -s DIR or set ISOTHERM_STORE".to_owned())
    })
}

/// Opens the store, does `work`, and closes it, also when the work failed. The work's error is
/// the one reported.
pub fn with_store<T>(
    global: &Global,
    access: Access,
    work: impl FnOnce(&Store) -> Outcome<T>,
) -> Outcome<T> {
    let store = Store::open(store_path(global)?, configuration(global, access)?)?;
    let done = work(&store);
    let closed = store.close();
    let value = done?;
    closed?;
    Ok(value)
}

/// As [`with_store`], with a bucket that exists.
pub fn with_bucket<T>(
    global: &Global,
    bucket: &str,
    work: impl FnOnce(&Bucket) -> Outcome<T>,
) -> Outcome<T> {
    with_store(global, Access::Existing, |store| work(&store.open_bucket(bucket)?))
}

/// The configuration file, then `--set`, then the options that have names of their own. What is
/// wrong in them is an error of usage.
pub fn configuration(global: &Global, access: Access) -> Outcome<Config> {
    let mut builder = match &global.config {
        Some(path) => ConfigBuilder::from_file(path).map_err(Failure::of_configuration)?,
        None => Config::builder(),
    };
    for setting in &global.settings {
        let Some((key, value)) = setting.split_once('=') else {
            let message = format!("--set {setting}: write KEY=VALUE, such as shards=2");
            return Err(Failure::Usage(message));
        };
        let usage = |error: Error| Failure::Usage(format!("--set {setting}: {}", error.message()));
        builder.set(key.trim(), value.trim()).map_err(usage)?;
    }
    if let Some(level) = &global.durability {
        let usage = |error: Error| Failure::Usage(format!("--durability: {}", error.message()));
        builder = builder.durability(level.parse().map_err(usage)?);
    }
    builder = match access {
        Access::Create => builder,
        Access::Existing => builder.create(false),
        Access::Reading => builder.create(false).read_only(true),
    };
    builder.build().map_err(Failure::of_configuration)
}

#[cfg(test)]
mod tests {
    use super::*;
    use isotherm::types::Durability;

    fn global(settings: &[&str], durability: Option<&str>) -> Global {
        Global {
            store: None,
            config: None,
            settings: settings.iter().map(|setting| setting.to_string()).collect(),
            durability: durability.map(str::to_string),
        }
    }

    #[test]
    fn settings_reach_the_configuration() {
        let config = configuration(&global(&["shards=2"], Some("durable")), Access::Existing);
        let config = config.unwrap();
        assert_eq!(config.shards(), Some(2));
        assert_eq!(config.durability(), Some(Durability::Durable));
        assert!(!config.create());
        assert!(configuration(&global(&[], None), Access::Create).unwrap().create());
    }

    #[test]
    fn settings_and_levels_that_make_no_sense_are_usage_errors() {
        let settings =
            ["shards", "shards=many", "shards=99", "sharps=2", "x=1", "tier.1.kind=nvme"];
        let wrong = settings.map(|setting| global(&[setting], None));
        for global in wrong.into_iter().chain([global(&[], Some("forever"))]) {
            let refused = configuration(&global, Access::Create).unwrap_err();
            assert_eq!(refused.exit_code(), 2, "{refused}");
        }
    }

    #[test]
    fn a_wrong_setting_is_named_with_the_nearest_right_one() {
        let refused = configuration(&global(&["sharps=2"], None), Access::Create).unwrap_err();
        let message = refused.to_string();
        assert!(message.contains("--set sharps=2") && message.contains("'shards'"), "{message}");
    }

    #[test]
    fn a_configuration_file_that_is_not_there_is_no_usage_error() {
        let config = Some("/nowhere/store.toml".into());
        let missing = Global { config, ..global(&[], None) };
        assert_eq!(configuration(&missing, Access::Create).unwrap_err().exit_code(), 1);
    }
}
