//! Asynchronous operations: what a [`Queue`](crate::Queue) runs, with the memory that belongs to
//! it until it is completed.

use std::ptr::NonNull;

use crate::api::batch::Batch;
use crate::api::bucket::{Bucket, PutOptions};
use crate::error::Result;
use crate::types::Version;

/// Memory of an operation: bytes to store, room for bytes to come, or what it has brought.
pub enum OpMemory {
    /// None.
    None,
    /// A vector, handed back with the completion. A get of a whole value resizes it.
    Owned(Vec<u8>),
    /// Memory of the caller's, see [`OpMemory::foreign`].
    Foreign(ForeignMemory),
    /// Memory of one part or another, each for the bytes at an offset of the value.
    Parts(Vec<(u64, OpMemory)>),
    /// Brought by a get of many blobs: of each its value, or why there is none.
    Values(Vec<Result<Vec<u8>>>),
    /// Brought by a batch: the version that each step made, or found.
    Versions(Vec<Version>),
}

/// A range of memory that somebody else owns.
pub struct ForeignMemory {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: whoever made it promised that nobody else touches the range until the completion, so one
// thread at a time does: the one that runs the operation.
unsafe impl Send for ForeignMemory {}
// SAFETY: through a shared reference the range is only read, and nobody writes to it meanwhile.
unsafe impl Sync for ForeignMemory {}

impl OpMemory {
    /// Memory that stays the caller's.
    ///
    /// # Safety
    /// Until the operation's completion has been taken from its queue, or the queue is dropped, the
    /// range is valid for reads and, for a get, for writes, and nobody else writes to it, nor, for
    /// a get, reads it.
    pub unsafe fn foreign(start: NonNull<u8>, len: usize) -> OpMemory {
        OpMemory::Foreign(ForeignMemory { start, len })
    }

    fn parts(parts: Vec<(u64, Vec<u8>)>) -> OpMemory {
        let parts = parts.into_iter().map(|(offset, bytes)| (offset, OpMemory::Owned(bytes)));
        OpMemory::Parts(parts.collect())
    }

    /// The bytes, where they are of one piece; none otherwise.
    pub fn as_slice(&self) -> &[u8] {
        match self {
            OpMemory::Owned(bytes) => bytes,
            // SAFETY: see `foreign`: valid, and not written while the operation has it.
            OpMemory::Foreign(ForeignMemory { start, len }) => unsafe {
                std::slice::from_raw_parts(start.as_ptr(), *len)
            },
            OpMemory::None | OpMemory::Parts(_) | OpMemory::Values(_) | OpMemory::Versions(_) => {
                &[]
            }
        }
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [u8] {
        match self {
            OpMemory::Owned(bytes) => bytes,
            // SAFETY: see `foreign`: valid for writes, and the operation's alone. Only gets ask.
            OpMemory::Foreign(ForeignMemory { start, len }) => unsafe {
                std::slice::from_raw_parts_mut(start.as_ptr(), *len)
            },
            OpMemory::None | OpMemory::Parts(_) | OpMemory::Values(_) | OpMemory::Versions(_) => {
                &mut []
            }
        }
    }
}

/// A blob by name.
#[derive(Clone)]
pub struct BlobName {
    /// Its bucket.
    pub bucket: Bucket,
    /// Its key.
    pub key: Box<[u8]>,
}

impl BlobName {
    /// The blob of this key.
    pub fn new(bucket: &Bucket, key: &[u8]) -> BlobName {
        BlobName { bucket: bucket.clone(), key: key.into() }
    }
}

/// What an operation does. Each is its synchronous namesake on [`Bucket`] or
/// [`Store`](crate::Store).
#[derive(Clone)]
pub enum Action {
    /// The whole value into the memory.
    Get,
    /// Bytes from this offset on into the memory.
    GetAt(u64),
    /// The memory becomes the value.
    Put,
    /// The memory is written at this offset.
    PutAt(u64),
    /// The memory is written at the end.
    Append,
    /// The value gets this length.
    Truncate(u64),
    /// The blob is removed.
    Delete,
    /// Length and version of the blob, if it exists.
    Stat,
    /// The memory's parts are filled, all from one version.
    GetRanges,
    /// The memory's parts are written, in one version.
    PutRanges,
    /// The blob gets this name.
    Rename(BlobName),
    /// The blob of this name gets the same value.
    Copy(BlobName),
    /// All changes of the batch are made. The operation's own key is of no meaning.
    Commit(Box<Batch<'static>>),
    /// The values of these blobs are brought. The operation's own key is of no meaning.
    GetMany(Box<[BlobName]>),
}

/// One operation, mostly on one blob, ready to be submitted.
pub struct Operation {
    /// The bucket.
    pub bucket: Bucket,
    /// The key.
    pub key: Box<[u8]>,
    /// What to do.
    pub action: Action,
    /// The bytes.
    pub memory: OpMemory,
    /// Options of a change.
    pub options: PutOptions,
    /// Handed back with the completion.
    pub user_data: u64,
}

impl Operation {
    /// A get of the whole value into a new vector.
    pub fn get(bucket: &Bucket, key: &[u8]) -> Operation {
        Operation::new(bucket, key, Action::Get, OpMemory::Owned(Vec::new()))
    }

    /// A get of as many bytes from `offset` on as `into` has, and the value has.
    pub fn get_at(bucket: &Bucket, key: &[u8], offset: u64, into: Vec<u8>) -> Operation {
        Operation::new(bucket, key, Action::GetAt(offset), OpMemory::Owned(into))
    }

    /// A put of the whole value.
    pub fn put(bucket: &Bucket, key: &[u8], value: Vec<u8>) -> Operation {
        Operation::new(bucket, key, Action::Put, OpMemory::Owned(value))
    }

    /// A put of bytes at an offset.
    pub fn put_at(bucket: &Bucket, key: &[u8], offset: u64, bytes: Vec<u8>) -> Operation {
        Operation::new(bucket, key, Action::PutAt(offset), OpMemory::Owned(bytes))
    }

    /// A put of bytes at the end.
    pub fn append(bucket: &Bucket, key: &[u8], bytes: Vec<u8>) -> Operation {
        Operation::new(bucket, key, Action::Append, OpMemory::Owned(bytes))
    }

    /// A change of the value's length.
    pub fn truncate(bucket: &Bucket, key: &[u8], len: u64) -> Operation {
        Operation::new(bucket, key, Action::Truncate(len), OpMemory::None)
    }

    /// A removal.
    pub fn delete(bucket: &Bucket, key: &[u8]) -> Operation {
        Operation::new(bucket, key, Action::Delete, OpMemory::None)
    }

    /// Length and version of a blob: of one that does not exist it completes as `NotFound`.
    pub fn stat(bucket: &Bucket, key: &[u8]) -> Operation {
        Operation::new(bucket, key, Action::Stat, OpMemory::None)
    }

    /// A get of as many bytes from each offset on as its part has, and the value has.
    pub fn get_ranges(bucket: &Bucket, key: &[u8], parts: Vec<(u64, Vec<u8>)>) -> Operation {
        Operation::new(bucket, key, Action::GetRanges, OpMemory::parts(parts))
    }

    /// A put of bytes at several offsets.
    pub fn put_ranges(bucket: &Bucket, key: &[u8], parts: Vec<(u64, Vec<u8>)>) -> Operation {
        Operation::new(bucket, key, Action::PutRanges, OpMemory::parts(parts))
    }

    /// Another name for a blob.
    pub fn rename(bucket: &Bucket, key: &[u8], to: BlobName) -> Operation {
        Operation::new(bucket, key, Action::Rename(to), OpMemory::None)
    }

    /// Another blob of the same value.
    pub fn copy(bucket: &Bucket, key: &[u8], to: BlobName) -> Operation {
        Operation::new(bucket, key, Action::Copy(to), OpMemory::None)
    }

    /// All changes of a batch, or none, at the level of the options. `bucket` is any of the store.
    pub fn commit(bucket: &Bucket, batch: Batch<'static>) -> Operation {
        Operation::new(bucket, &[], Action::Commit(Box::new(batch)), OpMemory::None)
    }

    /// The values of several blobs as of one moment. `bucket` is any of the store.
    pub fn get_many(bucket: &Bucket, blobs: impl Into<Box<[BlobName]>>) -> Operation {
        Operation::new(bucket, &[], Action::GetMany(blobs.into()), OpMemory::None)
    }

    /// Any action with any memory.
    pub fn new(bucket: &Bucket, key: &[u8], action: Action, memory: OpMemory) -> Operation {
        let options = PutOptions::default();
        Operation { bucket: bucket.clone(), key: key.into(), action, memory, options, user_data: 0 }
    }

    /// With options of a change.
    pub fn with(mut self, options: PutOptions) -> Operation {
        self.options = options;
        self
    }

    /// With a number that the completion hands back.
    pub fn tagged(mut self, user_data: u64) -> Operation {
        self.user_data = user_data;
        self
    }
}

/// What an operation came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Done {
    /// Bytes of the operation's memory that were filled or stored.
    pub bytes: usize,
    /// Where they begin in the value.
    pub offset: u64,
    /// Gets and stat: the length of the value.
    pub value_len: u64,
    /// Changes: the version made. Stat: the version found.
    pub version: Option<Version>,
}

/// An operation that has ended.
pub struct Completion {
    /// The operation's number, unique in its queue.
    pub id: OpId,
    /// From the operation.
    pub user_data: u64,
    /// How it ended.
    pub result: Result<Done>,
    /// Its memory, back.
    pub memory: OpMemory,
}

/// The number of an operation in its queue.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct OpId(pub u64);
