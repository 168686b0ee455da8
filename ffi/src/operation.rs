//! Asynchronous operations and their completions, as records.

use std::ffi::{c_char, c_void};
use std::ptr::NonNull;

use isotherm::{
    Action, Bucket, Completion, Error, ErrorKind, OpMemory, Operation, PutOptions, Result,
};

use crate::bucket::isotherm_bucket_t;
use crate::memory::{bytes, invalid, key as check_key};
use crate::object::hold;
use crate::options::{condition, durability};
use crate::status::{ISOTHERM_OK, isotherm_status_t};

/// The whole value into the buffer of `len` bytes.
pub const ISOTHERM_ACTION_GET: u32 = 1;
/// As many of `len` bytes from `offset` on as there are into the buffer.
pub const ISOTHERM_ACTION_GET_AT: u32 = 2;
/// The buffer becomes the value.
pub const ISOTHERM_ACTION_PUT: u32 = 3;
/// The buffer is written at `offset`.
pub const ISOTHERM_ACTION_PUT_AT: u32 = 4;
/// The buffer is written at the end.
pub const ISOTHERM_ACTION_APPEND: u32 = 5;
/// The value gets the length `offset`.
pub const ISOTHERM_ACTION_TRUNCATE: u32 = 6;
/// The blob is removed.
pub const ISOTHERM_ACTION_DELETE: u32 = 7;

/// An operation to be submitted. The record and the key are copied; the buffer stays the caller's, who
/// keeps it as it is, and of a get does not look at it, until the operation's completion has been taken
/// or the queue closed.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct isotherm_operation_t {
    /// ISOTHERM_ACTION_*.
    pub action: u32,
    /// 0.
    pub flags: u32,
    /// The bucket.
    pub bucket: isotherm_bucket_t,
    /// The key.
    pub key: *const c_void,
    /// Bytes of it.
    pub key_len: u64,
    /// Bytes to store, which are only read, or room for bytes to come.
    pub buffer: *mut c_void,
    /// Bytes of the buffer; 0 for a truncate and a delete.
    pub len: u64,
    /// Of the value, as the action says; else 0.
    pub offset: u64,
    /// Handed back with the completion.
    pub user_data: u64,
    /// ISOTHERM_DURABILITY_* of a change; else 0.
    pub durability: u32,
    /// ISOTHERM_CONDITION_* of a change; else 0.
    pub condition: u32,
    /// Of ISOTHERM_CONDITION_VERSION; else 0.
    pub version: u64,
    /// 0.
    pub reserved: [u64; 4],
}

/// An operation that has ended.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct isotherm_completion_t {
    /// The operation's number in its queue.
    pub id: u64,
    /// From the operation.
    pub user_data: u64,
    /// How it ended.
    pub status: isotherm_status_t,
    /// 0.
    pub reserved: u32,
    /// Bytes of the buffer that were filled or stored.
    pub bytes: u64,
    /// Where they begin in the value.
    pub offset: u64,
    /// Gets: the length of the value, also with ISOTHERM_E_BUFFER_TOO_SMALL.
    pub value_len: u64,
    /// Changes: the version made.
    pub version: u64,
    /// 0.
    pub reserved_tail: u64,
    /// What went wrong, as much as fits, with a NUL after it. Empty if nothing did.
    pub message: [c_char; 128],
}

const _: () = assert!(size_of::<isotherm_operation_t>() == 112);
const _: () = assert!(size_of::<isotherm_completion_t>() == 192);

/// The engine's operation of a record.
///
/// # Safety
/// The record's key and buffer are as it says, and the buffer stays so until the operation has ended.
pub(crate) unsafe fn operation(record: &isotherm_operation_t) -> Result<Operation> {
    if record.flags != 0 || record.reserved != [0; 4] {
        let message = "an operation sets flags or reserved fields, of which none is known; pass 0";
        return Err(Error::new(ErrorKind::Unsupported, message));
    }
    let bucket = hold::<Bucket>(record.bucket)?;
    let action = action(record)?;
    let options = PutOptions {
        durability: durability(record.durability)?,
        condition: condition(record.condition, record.version)?,
    };
    let is_get = matches!(action, Action::Get | Action::GetAt(_));
    if is_get && options != PutOptions::default() {
        return Err(invalid("a get has no durability and no condition; pass 0"));
    }
    // SAFETY: as the caller promises.
    let (key, memory) = unsafe {
        let key_len = usize::try_from(record.key_len).unwrap_or(usize::MAX);
        (check_key(record.key, key_len)?, memory(record, &action)?)
    };
    let operation = Operation::new(&bucket, key, action, memory);
    Ok(operation.with(options).tagged(record.user_data))
}

fn action(record: &isotherm_operation_t) -> Result<Action> {
    let action = match record.action {
        ISOTHERM_ACTION_GET => Action::Get,
        ISOTHERM_ACTION_GET_AT => return Ok(Action::GetAt(record.offset)),
        ISOTHERM_ACTION_PUT => Action::Put,
        ISOTHERM_ACTION_PUT_AT => return Ok(Action::PutAt(record.offset)),
        ISOTHERM_ACTION_APPEND => Action::Append,
        ISOTHERM_ACTION_TRUNCATE => return Ok(Action::Truncate(record.offset)),
        ISOTHERM_ACTION_DELETE => Action::Delete,
        other => return Err(invalid(format!("action is {other}; pass one of ISOTHERM_ACTION_*"))),
    };
    if record.offset != 0 {
        let (offset, action) = (record.offset, record.action);
        return Err(invalid(format!("offset is {offset}; action {action} has none, pass 0")));
    }
    Ok(action)
}

/// # Safety
/// As for [`operation`].
unsafe fn memory(record: &isotherm_operation_t, action: &Action) -> Result<OpMemory> {
    let len = usize::try_from(record.len).unwrap_or(usize::MAX);
    if matches!(action, Action::Truncate(_) | Action::Delete) {
        return if len == 0 {
            Ok(OpMemory::None)
        } else {
            let action = record.action;
            Err(invalid(format!("len is {len}; action {action} has no buffer, pass 0")))
        };
    }
    // For its checks alone: what it refers to may still be written to by its owner.
    // SAFETY: as the caller promises.
    unsafe { bytes("buffer", record.buffer, len) }?;
    let start = NonNull::new(record.buffer).unwrap_or(NonNull::dangling());
    // SAFETY: the caller keeps the buffer as the record says it until the completion is taken.
    Ok(unsafe { OpMemory::foreign(start.cast(), len) })
}

/// The record of a completion.
pub(crate) fn completion(ended: &Completion) -> isotherm_completion_t {
    let mut record = isotherm_completion_t {
        id: ended.id.0,
        user_data: ended.user_data,
        status: ISOTHERM_OK,
        reserved: 0,
        bytes: 0,
        offset: 0,
        value_len: 0,
        version: 0,
        reserved_tail: 0,
        message: [0; 128],
    };
    match &ended.result {
        Ok(done) => {
            record.bytes = done.bytes as u64;
            record.offset = done.offset;
            record.value_len = done.value_len;
            record.version = done.version.map_or(0, |version| version.0);
        }
        Err(error) => {
            record.status = error.kind().code();
            record.value_len = error.needed().unwrap_or(0);
            write_message(error.message(), &mut record.message);
        }
    }
    record
}

/// As many whole characters as fit before the last NUL.
fn write_message(message: &str, place: &mut [c_char; 128]) {
    let end = message.floor_char_boundary(place.len() - 1);
    for (place, byte) in place.iter_mut().zip(message[..end].bytes()) {
        *place = byte as c_char;
    }
}
