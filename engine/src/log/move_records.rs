//! The record of a buffer whose bytes have moved.

use super::codec::{Decoder, Encoder, check_location, pad8};
use super::map::{Fault, check_key};
use super::record::Record;
use crate::error::{ErrorKind, Result};
use crate::types::{BucketId, BufferId, Location};

const MOVE_FIXED: usize = 32;
const _: () = assert!(MOVE_FIXED.is_multiple_of(8));

/// Whose location a [`Record::Move`] changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MoveSubject {
    /// The only buffer of a blob, whose definition stands with the blob.
    Lone {
        /// The bucket.
        bucket: BucketId,
        /// The key.
        key: Box<[u8]>,
        /// The buffer.
        buffer: BufferId,
    },
    /// A buffer of the buffer table.
    Table {
        /// The buffer.
        buffer: BufferId,
    },
}

/// Bytes of a Move record after its header.
pub(super) fn move_len(subject: &MoveSubject) -> usize {
    MOVE_FIXED + pad8(subject.key().len())
}

impl MoveSubject {
    const LONE: u8 = 1;
    const TABLE: u8 = 2;

    pub(super) fn key(&self) -> &[u8] {
        match self {
            MoveSubject::Lone { key, .. } => key,
            MoveSubject::Table { .. } => &[],
        }
    }

    pub(super) fn encode(&self, out: &mut Encoder<'_>, from: Location, to: Location) {
        let (tag, bucket, buffer) = match self {
            MoveSubject::Lone { bucket, buffer, .. } => (Self::LONE, bucket.0, buffer.0),
            MoveSubject::Table { buffer } => (Self::TABLE, 0, buffer.0),
        };
        out.u32(bucket);
        out.len16(self.key().len());
        out.u8(tag);
        out.u8(0);
        out.u64(buffer);
        out.location(from);
        out.location(to);
        out.bytes(self.key());
    }

    pub(super) fn decode_move(input: &mut Decoder<'_>) -> Result<Record> {
        let bucket = input.u32("bucket")?;
        let key_len = input.u16("key_len")?;
        let tag = input.u8("move.subject")?;
        input.zeros(1, "reserved")?;
        let buffer = BufferId(input.u64("buffer")?);
        let from = input.location("from")?;
        let to = input.location("to")?;
        let key = input.bytes(usize::from(key_len), "key")?;
        let subject = match tag {
            Self::LONE => MoveSubject::Lone { bucket: BucketId(bucket), key: key.into(), buffer },
            Self::TABLE if bucket == 0 && key_len == 0 => MoveSubject::Table { buffer },
            Self::TABLE => return Err(input.corrupt("a table buffer's move names a blob")),
            _ => {
                let message = format!("move subject {tag} is unknown");
                return Err(input.error(ErrorKind::Format, message));
            }
        };
        Ok(Record::Move { subject, from, to })
    }

    /// What is wrong with a move of it, if anything.
    pub(super) fn validate(&self, from: Location, to: Location) -> std::result::Result<(), Fault> {
        if let MoveSubject::Lone { key, .. } = self {
            check_key(key)?;
        }
        check_location(from, 0)?;
        check_location(to, 0)?;
        if from == to { Err(format!("a move from {from:?} to itself")) } else { Ok(()) }
    }
}
