//! Asynchronous operations: what a [`Queue`](crate::Queue) runs, with the memory that belongs to
//! it until it is completed.

use std::ptr::NonNull;

use crate::api::bucket::{Bucket, PutOptions};
use crate::error::Result;
use crate::types::Version;

/// Memory of an operation: bytes to store, or room for bytes to come.
pub enum OpMemory {
    /// None.
    None,
    /// A vector, handed back with the completion. A get of a whole value resizes it.
    Owned(Vec<u8>),
    /// Memory of the caller's, see [`OpMemory::foreign`].
    Foreign(ForeignMemory),
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

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        match self {
            OpMemory::None => &[],
            OpMemory::Owned(bytes) => bytes,
            // SAFETY: see `foreign`: valid, and not written while the operation has it.
            OpMemory::Foreign(ForeignMemory { start, len }) => unsafe {
                std::slice::from_raw_parts(start.as_ptr(), *len)
            },
        }
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [u8] {
        match self {
            OpMemory::None => &mut [],
            OpMemory::Owned(bytes) => bytes,
            // SAFETY: see `foreign`: valid for writes, and the operation's alone. Only gets ask.
            OpMemory::Foreign(ForeignMemory { start, len }) => unsafe {
                std::slice::from_raw_parts_mut(start.as_ptr(), *len)
            },
        }
    }
}

/// What an operation does. Each is its synchronous namesake on [`Bucket`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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
}

/// One operation on one blob, ready to be submitted.
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
    /// Gets: the length of the value.
    pub value_len: u64,
    /// Changes: the version made.
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
