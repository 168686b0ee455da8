//! `put` and `get` of one blob.

use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use isotherm::types::TierKind;
use isotherm::{Bucket, PutOptions, Store};

use crate::args::{Get, Global, Put};
use crate::failure::{Failure, Outcome};
use crate::progress::{self, Progress};
use crate::session::{Access, with_bucket, with_store};
use crate::source::{Input, Source};
use crate::target::Target;

/// Bytes read from a stream at a time.
const PIECE: usize = 1 << 20;

/// `put BUCKET KEY [FILE|-]`.
pub fn put(global: &Global, put: &Put) -> Outcome {
    let (input, key) = (Input::of(put.file.as_deref())?, put.key.as_bytes());
    with_store(global, Access::Create, |store| {
        warn_of_dram_only(store);
        let bucket = store.bucket(&put.bucket)?;
        match input {
            Input::Whole(source) => put_whole(store, &bucket, key, &source),
            Input::Stream(stream, name) => put_stream(&bucket, key, stream, &name),
        }
    })
}

fn put_whole(store: &Store, bucket: &Bucket, key: &[u8], source: &Source) -> Outcome {
    progress::follow(store, source.len() as u64, || {
        bucket.put(key, source)?;
        // Under the bar too: what a put at Memory level left in DRAM is written now.
        Ok(store.close()?)
    })
}

/// In bounded memory, whatever comes. Nothing of it is stored unless it comes to its end.
fn put_stream(bucket: &Bucket, key: &[u8], mut stream: impl Read, name: &str) -> Outcome {
    let progress = Progress::new("storing", None);
    let mut writer = bucket.writer(key, PutOptions::default())?;
    let mut piece = vec![0; PIECE];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => {
                writer.append(&piece[..read])?;
                progress.advance(read as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Failure::Other(format!("read of {name}: {error}"))),
        }
    }
    writer.commit()?;
    Ok(())
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

/// Hands a blob to `write` piece by piece, in bounded memory, all of one version.
pub fn copy_out(
    bucket: &Bucket,
    key: &[u8],
    progress: &Progress,
    write: &mut dyn FnMut(&[u8]) -> Outcome,
) -> Outcome {
    let mut reader = bucket.reader(key)?;
    loop {
        let piece = reader.next_piece()?;
        if piece.is_empty() {
            return Ok(());
        }
        write(piece)?;
        progress.advance(piece.len() as u64);
    }
}
