//! `ls` and `stat`.

use std::os::unix::ffi::OsStrExt;

use isotherm::error::{Error, ErrorKind};
use isotherm::{BucketInfo, ScanRange, Store};
use serde_json::json;

use crate::args::{Global, Ls, Stat};
use crate::failure::Outcome;
use crate::output::{human_size, print, print_json, printable, table};
use crate::session::{Access, with_bucket, with_store};

/// Blobs listed at a time.
const PAGE: usize = 1024;

/// `ls [BUCKET [PREFIX]]`.
pub fn ls(global: &Global, ls: &Ls) -> Outcome {
    let Some(bucket) = &ls.bucket else {
        return with_store(global, Access::Existing, list_buckets);
    };
    let prefix = ls.prefix.as_deref().map_or(&b""[..], |prefix| prefix.as_bytes());
    with_bucket(global, bucket, |bucket| {
        let mut cursor = bucket.scan(ScanRange::prefix(prefix));
        loop {
            let page = cursor.next_page(PAGE)?;
            if page.is_empty() {
                return Ok(());
            }
            let lines =
                page.iter().map(|item| format!("{:>12}  {}\n", item.len, printable(&item.key)));
            print(&lines.collect::<String>())?;
        }
    })
}

fn list_buckets(store: &Store) -> Outcome {
    let mut rows = vec![["bucket", "blobs", "bytes"].map(str::to_string).to_vec()];
    for bucket in store.list_buckets()? {
        rows.push(vec![bucket.name, bucket.blobs.to_string(), human_size(bucket.bytes)]);
    }
    print(&table(&rows))
}

/// `stat BUCKET [KEY]`.
pub fn stat(global: &Global, stat: &Stat) -> Outcome {
    match &stat.key {
        None => with_store(global, Access::Existing, |store| {
            stat_bucket(&find_bucket(store, &stat.bucket)?, stat.json)
        }),
        Some(key) => with_bucket(global, &stat.bucket, |bucket| {
            let found = bucket.stat(key.as_bytes())?;
            let key = printable(key.as_bytes());
            if stat.json {
                return print_json(&json!({
                    "bucket": stat.bucket,
                    "key": key,
                    "len": found.len,
                    "version": found.version.0,
                    "buffers": found.buffers,
                }));
            }
            print(&format!(
                "key      {key}\nlength   {} ({})\nversion  {}\nbuffers  {}\n",
                found.len,
                human_size(found.len),
                found.version.0,
                found.buffers
            ))
        }),
    }
}

fn find_bucket(store: &Store, name: &str) -> Outcome<BucketInfo> {
    let found = store.list_buckets()?.into_iter().find(|bucket| bucket.name == name);
    let missing = || Error::new(ErrorKind::BucketNotFound, format!("no bucket '{name}'"));
    Ok(found.ok_or_else(missing)?)
}

fn stat_bucket(bucket: &BucketInfo, json: bool) -> Outcome {
    if json {
        return print_json(&json!({
            "bucket": bucket.name,
            "blobs": bucket.blobs,
            "bytes": bucket.bytes,
        }));
    }
    print(&format!(
        "bucket  {}\nblobs   {}\nbytes   {} ({})\n",
        bucket.name,
        bucket.blobs,
        bucket.bytes,
        human_size(bucket.bytes)
    ))
}
