//! A store as a caller uses it: by blocking calls on threads, by futures in the simulator, and for
//! some keys through a queue.

use std::ops::ControlFlow;

use isotherm::api::edit::Edit;
use isotherm::{
    Action, AttributeChanges, Batch, BlobReader, BlobWriter, Bucket, BucketOptions, CheckOptions,
    Completion, Durability, ErrorKind, OpMemory, Operation, PutOptions, Queue, Result, Scope,
    Store, Version,
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
    /// Checks the store, whatever goes on there: nothing may be wrong with it.
    pub fn require_sound(&self) {
        let options = CheckOptions { bytes_per_second_max: u64::MAX };
        let report = self.store.check(&options, |_| ControlFlow::Continue(())).unwrap();
        assert!(report.is_clean(), "{report:?}");
    }

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
        options: PutOptions,
    ) -> Result<(Option<Version>, Option<u64>)> {
        if is_queued(key) && !matches!(edit, Edit::Attributes(_)) {
            let action = match edit {
                Edit::Replace(_) => Action::Put,
                Edit::PutAt(at, _) => Action::PutAt(at),
                Edit::Append(_) => Action::Append,
                Edit::Truncate(len) => Action::Truncate(len),
                Edit::Delete => Action::Delete,
                Edit::Attributes(_) => unreachable!("no queue changes attributes"),
            };
            let memory = OpMemory::Owned(edit.data().to_vec());
            let operation = Operation::new(bucket, key, action, memory).with(options);
            let done = self.queued(operation).await.result?;
            let offset = matches!(edit, Edit::Append(_)).then_some(done.offset);
            return Ok((done.version, offset));
        }
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
            Edit::Attributes(changes) => {
                bucket.set_attributes_with(key, changes, options).map(|v| (Some(v), None))
            }
        }
    }

    pub async fn commit(
        &self,
        batch: &Batch<'_>,
        level: Option<Durability>,
    ) -> Result<Vec<Version>> {
        match self.mode {
            Mode::Blocking => self.store.commit(batch, level),
            Mode::Futures => self.store.commit_async(batch, level).await,
        }
    }

    pub async fn copy(
        &self,
        (from, key): (&Bucket, &[u8]),
        (to, to_key): (&Bucket, &[u8]),
        goes: bool,
        level: Option<Durability>,
    ) -> Result<Version> {
        let options = PutOptions { durability: level, ..PutOptions::default() };
        match (self.mode, goes) {
            (Mode::Blocking, true) => from.rename(key, to, to_key, options),
            (Mode::Blocking, false) => from.copy(key, to, to_key, options),
            (Mode::Futures, true) => from.rename_async(key, to, to_key, options).await,
            (Mode::Futures, false) => from.copy_async(key, to, to_key, options).await,
        }
    }

    pub async fn put_ranges(
        &self,
        bucket: &Bucket,
        key: &[u8],
        ranges: &[(u64, Vec<u8>)],
        options: PutOptions,
    ) -> Result<Version> {
        let ranges: Vec<(u64, &[u8])> = ranges.iter().map(|(at, b)| (*at, &b[..])).collect();
        match self.mode {
            Mode::Blocking => bucket.put_ranges(key, &ranges, options),
            Mode::Futures => bucket.put_ranges_async(key, &ranges, options).await,
        }
    }

    pub async fn get_ranges(
        &self,
        bucket: &Bucket,
        key: &[u8],
        ranges: &mut [(u64, &mut [u8])],
    ) -> Result<Vec<usize>> {
        match self.mode {
            Mode::Blocking => bucket.get_ranges(key, ranges),
            Mode::Futures => bucket.get_ranges_async(key, ranges).await,
        }
    }

    pub async fn set_attributes(
        &self,
        bucket: &Bucket,
        key: &[u8],
        changes: &AttributeChanges,
        options: PutOptions,
    ) -> Result<Version> {
        match self.mode {
            Mode::Blocking => bucket.set_attributes_with(key, changes, options),
            Mode::Futures => {
                let edit = Edit::Attributes(changes);
                bucket.edit(key, edit, options).await.map(|changed| changed.version)
            }
        }
    }

    pub async fn append(&self, writer: &mut BlobWriter, bytes: &[u8]) -> Result<()> {
        match self.mode {
            Mode::Blocking => writer.append(bytes),
            Mode::Futures => writer.append_async(bytes).await,
        }
    }

    pub async fn commit_stream(&self, writer: &mut BlobWriter) -> Result<Version> {
        writer.commit_async().await
    }

    pub async fn read_into(&self, reader: &mut BlobReader, into: &mut [u8]) -> Result<usize> {
        match self.mode {
            Mode::Blocking => reader.read_into(into),
            Mode::Futures => reader.read_into_async(into).await,
        }
    }

    pub async fn rename_bucket(&self, name: &str, to: &str) -> Result<()> {
        match self.mode {
            Mode::Blocking => self.store.rename_bucket(name, to),
            Mode::Futures => self.store.rename_bucket_async(name, to).await,
        }
    }

    pub async fn clear_bucket(&self, name: &str) -> Result<()> {
        match self.mode {
            Mode::Blocking => self.store.clear_bucket(name),
            Mode::Futures => self.store.clear_bucket_async(name).await,
        }
    }

    pub async fn set_bucket_options(&self, name: &str, options: BucketOptions) -> Result<()> {
        match self.mode {
            Mode::Blocking => self.store.set_bucket_options(name, options),
            Mode::Futures => self.store.set_bucket_options_async(name, options).await,
        }
    }

    pub async fn compact(&self) -> Result<()> {
        match self.mode {
            Mode::Blocking => self.store.compact().map(drop),
            Mode::Futures => self.store.compact_async().await.map(drop),
        }
    }

    pub async fn put_many(
        &self,
        blobs: &[(&Bucket, &[u8], &[u8])],
        level: Option<Durability>,
    ) -> Result<Vec<Version>> {
        match self.mode {
            Mode::Blocking => self.store.put_many(blobs, level),
            Mode::Futures => self.store.put_many_async(blobs, level).await,
        }
    }

    /// Takes completions, `min` of them at least.
    pub async fn wait_for(&self, queue: &Queue, min: usize, ended: &mut Vec<Completion>) -> usize {
        match self.mode {
            Mode::Blocking => queue.wait(min, usize::MAX, None, ended),
            Mode::Futures => queue.wait_async(min, usize::MAX, ended).await,
        }
    }

    pub async fn get_many(&self, blobs: &[(&Bucket, &[u8])]) -> Result<Vec<Result<Vec<u8>>>> {
        match self.mode {
            Mode::Blocking => self.store.get_many(blobs),
            Mode::Futures => self.store.get_many_async(blobs).await,
        }
    }

    /// Runs an operation through a queue of its own.
    async fn queued(&self, operation: Operation) -> Completion {
        let queue = self.store.queue(1).unwrap();
        let id = queue.submit(operation).unwrap();
        let mut ended = Vec::new();
        let count = self.wait_for(&queue, 1, &mut ended).await;
        assert_eq!(count, 1, "one operation has one completion");
        assert_eq!(ended[0].id, id);
        ended.remove(0)
    }

    pub async fn get(&self, bucket: &Bucket, key: &[u8]) -> Result<Vec<u8>> {
        if is_queued(key) {
            let Completion { result, memory, .. } = self.queued(Operation::get(bucket, key)).await;
            let done = result?;
            let OpMemory::Owned(value) = memory else { panic!("the value is not handed back") };
            assert_eq!((done.bytes, done.value_len), (value.len(), value.len() as u64));
            return Ok(value);
        }
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
        if is_queued(key) {
            let into = vec![0; dst.len()];
            let completion = self.queued(Operation::get_at(bucket, key, at, into)).await;
            let copied = completion.result?.bytes;
            dst[..copied].copy_from_slice(&completion.memory.as_slice()[..copied]);
            return Ok(copied);
        }
        match self.mode {
            Mode::Blocking => bucket.get_at(key, at, dst),
            Mode::Futures => bucket.read_async(key, at, dst, false).await.map(|got| got.copied),
        }
    }
}

/// Whether operations on this key go through a queue: a third of the keys.
fn is_queued(key: &[u8]) -> bool {
    key.iter().map(|byte| u32::from(*byte)).sum::<u32>().is_multiple_of(3)
}

/// Whether a call failed in this way.
pub fn failed<T>(result: &Result<T>, kind: ErrorKind) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == kind)
}
