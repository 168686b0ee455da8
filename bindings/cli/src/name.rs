//! `mv` and `cp`: another name for a blob, or for its value. No byte of it is copied.

use std::os::unix::ffi::OsStrExt;

use isotherm::{Bucket, PutOptions, Version};

use crate::args::{Global, NewName};
use crate::failure::Outcome;
use crate::session::{Access, with_store};

/// `mv BUCKET KEY NEW_KEY [--to BUCKET]`.
pub fn mv(global: &Global, name: &NewName) -> Outcome {
    give(global, name, Bucket::rename)
}

/// `cp BUCKET KEY NEW_KEY [--to BUCKET]`.
pub fn cp(global: &Global, name: &NewName) -> Outcome {
    give(global, name, Bucket::copy)
}

type Give = fn(&Bucket, &[u8], &Bucket, &[u8], PutOptions) -> isotherm::Result<Version>;

fn give(global: &Global, name: &NewName, give: Give) -> Outcome {
    let (key, new_key) = (name.key.as_bytes(), name.new_key.as_bytes());
    with_store(global, Access::Existing, |store| {
        let from = store.open_bucket(&name.bucket)?;
        // Before a bucket is made for it.
        from.stat(key)?;
        let to = match &name.to {
            Some(bucket) => store.bucket(bucket)?,
            None => from.clone(),
        };
        give(&from, key, &to, new_key, PutOptions::default())?;
        Ok(())
    })
}
