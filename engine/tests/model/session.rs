//! A store as a caller uses it: by blocking calls on threads, by futures in the simulator.

use isotherm::api::change::Edit;
use isotherm::{
    Bucket, BucketOptions, Durability, ErrorKind, PutOptions, Result, Scope, Store, Version,
};

/// How a caller waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// The public calls, which park the thread.
    Blocking,
    /// The asynchronous operations under them.
    Futures,
}

/// An open store and how to call it.
pub struct Session {
    pub store: Store,
    pub mode: Mode,
}

impl Session {
    pub async fn create_bucket(&self, name: &str, options: BucketOptions) -> Result<Bucket> {
        match self.mode {
            Mode::Blocking => self.store.create_bucket(name, options),
            Mode::Futures => self.store.create_bucket_async(name, options).await,
        }
    }

    pub async fn destroy_bucket(&self, name: &str) -> Result<()> {
        match self.mode {
            Mode::Blocking => self.store.destroy_bucket(name),
            Mode::Futures => self.store.destroy_bucket_async(name).await,
        }
    }

    pub async fn flush(&self, scope: Scope<'_>) -> Result<()> {
        match self.mode {
            Mode::Blocking => self.store.flush(scope),
            Mode::Futures => self.store.flush_async(scope).await,
        }
    }

    /// Changes a blob. The version and the offset, where the call tells them.
    pub async fn edit(
        &self,
        bucket: &Bucket,
        key: &[u8],
        edit: Edit<'_>,
        level: Option<Durability>,
    ) -> Result<(Option<Version>, Option<u64>)> {
        let options = PutOptions { durability: level };
        if self.mode == Mode::Futures {
            let changed = bucket.edit(key, edit, options).await?;
            let offset = matches!(edit, Edit::Append(_)).then_some(changed.offset);
            return Ok((Some(changed.version), offset));
        }
        match edit {
            Edit::Replace(data) => bucket.put_with(key, data, options).map(|v| (Some(v), None)),
            Edit::PutAt(at, data) => {
                bucket.put_at_with(key, at, data, options).map(|v| (Some(v), None))
            }
            Edit::Append(data) => bucket.append_with(key, data, options).map(|at| (None, Some(at))),
            Edit::Truncate(len) => bucket.truncate_with(key, len, options).map(|v| (Some(v), None)),
            Edit::Delete => bucket.delete_with(key, options).map(|()| (None, None)),
        }
    }

    pub async fn get(&self, bucket: &Bucket, key: &[u8]) -> Result<Vec<u8>> {
        match self.mode {
            Mode::Blocking => bucket.get(key),
            Mode::Futures => bucket.get_async(key).await,
        }
    }

    pub async fn get_into(&self, bucket: &Bucket, key: &[u8], dst: &mut [u8]) -> Result<usize> {
        match self.mode {
            Mode::Blocking => bucket.get_into(key, dst),
            Mode::Futures => bucket.read_async(key, 0, dst, true).await.map(|got| got.copied),
        }
    }

    pub async fn get_at(
        &self,
        bucket: &Bucket,
        key: &[u8],
        at: u64,
        dst: &mut [u8],
    ) -> Result<usize> {
        match self.mode {
            Mode::Blocking => bucket.get_at(key, at, dst),
            Mode::Futures => bucket.read_async(key, at, dst, false).await.map(|got| got.copied),
        }
    }
}

/// Whether a call failed in this way.
pub fn failed<T>(result: &Result<T>, kind: ErrorKind) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == kind)
}
