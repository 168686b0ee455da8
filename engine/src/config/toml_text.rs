//! A TOML text as the same key/value strings that users set one by one.
//!
//! `[[tier]]` tables become `tier.0.…`, `tier.1.…`; so TOML has no keys, types or checks of its
//! own.

use toml::{Table, Value};

use crate::error::{Error, ErrorKind, Result, fail};

/// The text's settings as keys and values. Errors: `InvalidConfig`, with the line of a mistake.
pub(super) fn flatten(text: &str) -> Result<Vec<(String, String)>> {
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        Error::new(ErrorKind::InvalidConfig, format!("not valid TOML: {error}"))
    })?;
    let mut pairs = Vec::new();
    flatten_into(&mut pairs, "", Value::Table(table))?;
    Ok(pairs)
}

fn flatten_into(pairs: &mut Vec<(String, String)>, key: &str, value: Value) -> Result<()> {
    let below =
        |name: &str| if key.is_empty() { name.to_string() } else { format!("{key}.{name}") };
    match value {
        Value::Table(table) => {
            for (name, value) in table {
                flatten_into(pairs, &below(&name), value)?;
            }
        }
        Value::Array(values) => {
            for (number, value) in values.into_iter().enumerate() {
                flatten_into(pairs, &below(&number.to_string()), value)?;
            }
        }
        Value::String(text) => pairs.push((key.to_string(), text)),
        Value::Integer(number) => pairs.push((key.to_string(), number.to_string())),
        Value::Float(number) => pairs.push((key.to_string(), number.to_string())),
        Value::Boolean(yes) => pairs.push((key.to_string(), yes.to_string())),
        Value::Datetime(_) => fail!(InvalidConfig, "{key}: a date is not a setting"),
    }
    Ok(())
}
