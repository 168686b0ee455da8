//! `put` and `get` of one blob.

use std::io::{self, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use isotherm::types::TierKind;
use isotherm::{Bucket, Store};

use crate::args::{Get, Global, Put};
use crate::failure::{Failure, Outcome};
use crate::progress::{self, Progress};
use crate::session::{Access, with_bucket, with_store};
use crate::source::Source;
use crate::target::Target;

/// Bytes fetched at a time: enough for the engine to read its buffers side by side.
const PIECE: usize = 8 << 20;

/// `put BUCKET KEY [FILE|-]`.
pub fn put(global: &Global, put: &Put) -> Outcome {
    let source = match &put.file {
        Some(path) if path != Path::new("-") => Source::file(path)?,
        _ => Source::standard_input()?,
    };
    with_store(global, Access::Create, |store| {
        warn_of_dram_only(store);
        let bucket = store.bucket(&put.bucket)?;
        progress::follow(store, source.len() as u64, || {
            bucket.put(put.key.as_bytes(), &source)?;
            // Under the bar too: what a put at Memory level left in DRAM is written now.
            Ok(store.close()?)
        })
    })
}

/// A store without devices ends with its process, which surprises at a shell.
pub fn warn_of_dram_only(store: &Store) {
    if store.info().tiers.iter().all(|tier| tier.kind == TierKind::Dram) {
        eprintln!("isotherm: warning: the store has only DRAM; what is put ends with this command");
    }
}

/// `get BUCKET KEY [-o FILE]`.
pub fn get(global: &Global, get: &Get) -> Outcome {
    let key = get.key.as_bytes();
    with_bucket(global, &get.bucket, |bucket| match &get.output {
        Some(path) if path != Path::new("-") => {
            let progress = Progress::new("fetching", Some(bucket.stat(key)?.len));
            get_to_file(bucket, key, path, &progress)
        }
        _ => get_to_output(bucket, key),
    })
}

fn get_to_output(bucket: &Bucket, key: &[u8]) -> Outcome {
    let mut stdout = io::stdout().lock();
    let progress = match stdout.is_terminal() {
        // The value itself is to be seen there.
        true => Progress::hidden(),
        false => Progress::new("fetching", Some(bucket.stat(key)?.len)),
    };
    let of_output = |error| Failure::of_output(&error);
    copy_out(bucket, key, &progress, &mut |piece| stdout.write_all(piece).map_err(of_output))?;
    stdout.flush().map_err(of_output)
}

/// Fetches a blob into a file that appears when it is complete.
pub fn get_to_file(bucket: &Bucket, key: &[u8], path: &Path, progress: &Progress) -> Outcome {
    let mut target = Target::create(path)?;
    copy_out(bucket, key, progress, &mut |piece| {
        target.write_all(piece).map_err(|error| Failure::of_file("write of", path, &error))
    })?;
    target.finish()
}

/// Hands a blob to `write` piece by piece, in bounded memory.
///
/// Each piece is read by itself, so a value that is replaced meanwhile is noticed by its version
/// and reported, never mixed.
pub fn copy_out(
    bucket: &Bucket,
    key: &[u8],
    progress: &Progress,
    write: &mut dyn FnMut(&[u8]) -> Outcome,
) -> Outcome {
    let before = bucket.stat(key)?;
    let mut piece = vec![0; PIECE.min(before.len as usize)];
    let mut offset = 0;
    while offset < before.len {
        let wanted = piece.len().min((before.len - offset) as usize);
        let got = bucket.get_at(key, offset, &mut piece[..wanted])?;
        if got == 0 {
            break;
        }
        write(&piece[..got])?;
        offset += got as u64;
        progress.advance(got as u64);
    }
    if offset != before.len || bucket.stat(key)?.version != before.version {
        let key = crate::output::printable(key);
        return Err(Failure::Other(format!("'{key}' changed while it was read; get it again")));
    }
    Ok(())
}
