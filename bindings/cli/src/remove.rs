//! `rm`: some blobs by name, or many by the beginning of their keys.

use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicU64, Ordering};

use isotherm::error::ErrorKind;
use isotherm::{Bucket, ScanItem, ScanRange};

use crate::args::{Global, Rm};
use crate::failure::{Failure, Outcome};
use crate::output::{human_size, print};
use crate::parallel;
use crate::progress::Progress;
use crate::session::with_bucket;

/// `rm BUCKET KEY...`.
pub fn some(global: &Global, rm: &Rm) -> Outcome {
    with_bucket(global, &rm.bucket, |bucket| {
        for key in &rm.keys {
            bucket.delete(key.as_bytes())?;
        }
        Ok(())
    })
}

/// `rm -r BUCKET [PREFIX]`.
pub fn many(global: &Global, rm: &Rm) -> Outcome {
    let prefix = match &rm.keys[..] {
        [] => &b""[..],
        [prefix] => prefix.as_bytes(),
        keys => {
            let message =
                format!("rm -r takes one prefix, not {}; run it once for each", keys.len());
            return Err(Failure::Usage(message));
        }
    };
    with_bucket(global, &rm.bucket, |bucket| {
        // Of a prefix nobody knows how many there are before they have been met.
        let total = if prefix.is_empty() { Some(bucket.bucket_stat()?.blobs) } else { None };
        let progress = Progress::of_blobs("removing", total);
        let (blobs, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
        let items = bucket.scan(ScanRange::prefix(prefix)).map(|item| item.map_err(Failure::from));
        parallel::for_each(items, |item| {
            if remove(bucket, &item)? {
                blobs.fetch_add(1, Ordering::Relaxed);
                bytes.fetch_add(item.len, Ordering::Relaxed);
            }
            progress.advance(1);
            Ok(())
        })?;
        drop(progress);
        let (blobs, bytes) = (blobs.into_inner(), human_size(bytes.into_inner()));
        print(&format!("removed {blobs} blobs, {bytes}\n"))
    })
}

/// Removes a blob that a scan has met. False if somebody else has.
fn remove(bucket: &Bucket, item: &ScanItem) -> Outcome<bool> {
    match bucket.delete(&item.key) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        removed => Ok(removed.map(|()| true)?),
    }
}
