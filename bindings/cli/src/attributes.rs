//! `attr`: attributes and scores of blobs.

use std::os::unix::ffi::OsStrExt;

use isotherm::error::{Error, ErrorKind};
use isotherm::{AttributeChanges, AttributeValue, Bucket};

use crate::args::{Attr, AttrType, Global};
use crate::failure::{Failure, Outcome};
use crate::output::{print, printable};
use crate::session::with_bucket;

/// `attr get|set|rm|ls`.
pub fn attr(global: &Global, attr: &Attr) -> Outcome {
    match attr {
        Attr::Get { bucket, key, name } => {
            with_bucket(global, bucket, |bucket| get(bucket, key.as_bytes(), name))
        }
        Attr::Set { bucket, key, name, value, kind } => {
            let value = value_of(value, *kind)?;
            with_bucket(global, bucket, |bucket| {
                bucket.set_attribute(key.as_bytes(), name, value)?;
                Ok(())
            })
        }
        Attr::Rm { bucket, key, names } => with_bucket(global, bucket, |bucket| {
            let changes = names.iter().fold(AttributeChanges::new(), |all, name| all.remove(name));
            bucket.set_attributes(key.as_bytes(), &changes)?;
            Ok(())
        }),
        Attr::Ls { bucket, key } => {
            with_bucket(global, bucket, |bucket| list(bucket, key.as_bytes()))
        }
    }
}

fn get(bucket: &Bucket, key: &[u8], name: &str) -> Outcome {
    let Some(value) = bucket.attribute(key, name)? else {
        let message = format!("blob '{}' has no attribute '{name}'", printable(key));
        return Err(Error::new(ErrorKind::NotFound, message).into());
    };
    print(&format!("{value}\n"))
}

fn list(bucket: &Bucket, key: &[u8]) -> Outcome {
    let line = |(name, value): (String, AttributeValue)| {
        let value = value.to_string();
        format!("{}  {}\n", printable(name.as_bytes()), printable(value.as_bytes()))
    };
    let lines = bucket.attributes(key)?.into_iter().map(line);
    print(&lines.collect::<String>())
}

/// Of the type asked for; else a number if it reads as one, else a text.
fn value_of(text: &str, kind: Option<AttrType>) -> Outcome<AttributeValue> {
    let wrong = |what| Failure::Usage(format!("'{text}' is no {what}; use another --type"));
    Ok(match kind {
        Some(AttrType::Int) => text.parse::<i64>().map_err(|_| wrong("integer"))?.into(),
        Some(AttrType::Float) => text.parse::<f64>().map_err(|_| wrong("float"))?.into(),
        Some(AttrType::Text) => text.into(),
        None => match (text.parse::<i64>(), text.parse::<f64>()) {
            (Ok(integer), _) => integer.into(),
            // Words such as "inf" and "nan" are texts.
            (_, Ok(float)) if text.contains(|c: char| c.is_ascii_digit()) => float.into(),
            _ => text.into(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_of_the_type_that_it_reads_as_unless_one_is_asked_for() {
        assert_eq!(value_of("-3", None).unwrap(), (-3).into());
        assert_eq!(value_of("2.5", None).unwrap(), 2.5.into());
        assert_eq!(value_of("nan", None).unwrap(), "nan".into());
        assert_eq!(value_of("7", Some(AttrType::Text)).unwrap(), "7".into());
        assert_eq!(value_of("7", Some(AttrType::Float)).unwrap(), 7.0.into());
        let refused = value_of("x", Some(AttrType::Int)).unwrap_err();
        assert_eq!(refused.exit_code(), 2);
    }
}
