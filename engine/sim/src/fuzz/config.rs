//! A configuration in TOML.

use isotherm::config::{Config, keys};
use isotherm::{ErrorKind, Result};

/// A configuration that is accepted says of every key what makes the same configuration. One that is
/// not says why.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let config = match Config::from_toml(text) {
        Ok(config) => config,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
            assert!(!error.message().is_empty());
            return;
        }
    };
    match again(&config) {
        Ok(again) => assert_eq!(again, config),
        Err(error) => panic!("what a configuration says of itself is refused: {error}"),
    }
}

/// The configuration that its own words make.
fn again(config: &Config) -> Result<Config> {
    let mut builder = Config::builder();
    for key in keys() {
        let numbers = if key.name.contains(".N.") { 0..config.tiers().len() } else { 0..1 };
        for number in numbers {
            let name = key.name.replacen(".N.", &format!(".{number}."), 1);
            builder.set(&name, &config.get(&name)?)?;
        }
    }
    builder.build()
}
