//! The store through its C interface: handles, records and statuses, as a C program has them.

use std::ffi::{CString, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

use isotherm::{Durability, ErrorKind};
use isotherm_ffi::bucket::isotherm_bucket_t;
use isotherm_ffi::operation::{
    ISOTHERM_ACTION_GET, ISOTHERM_ACTION_GET_AT, ISOTHERM_ACTION_PUT, ISOTHERM_ACTION_PUT_AT,
    isotherm_completion_t, isotherm_operation_t,
};
use isotherm_ffi::options::{
    ISOTHERM_DURABILITY_DURABLE, ISOTHERM_DURABILITY_MEMORY, ISOTHERM_DURABILITY_WRITTEN,
    isotherm_put_options_t,
};
use isotherm_ffi::queue::{ISOTHERM_WAIT_FOREVER, isotherm_queue_t};
use isotherm_ffi::status::{ISOTHERM_OK, isotherm_status_t};
use isotherm_ffi::store::{isotherm_open_options_t, isotherm_setting_t, isotherm_store_t};
use serde_json::Value;

use crate::fio::Kind;
use crate::harness::calls::{Calls, text};
use crate::harness::engine::{BUCKET, Engine, Queue, Stretch};
use crate::harness::failure::{Failure, Outcome};
use crate::harness::plan::Plan;

/// An open store, by its handle.
pub struct CStore {
    calls: Calls,
    store: isotherm_store_t,
    bucket: isotherm_bucket_t,
}

impl CStore {
    /// What a status says.
    #[inline]
    fn check(&self, status: isotherm_status_t) -> Outcome {
        if status == ISOTHERM_OK { Ok(()) } else { Err(failure(&self.calls, status)) }
    }
}

/// The failure of the last call of this thread.
#[cold]
fn failure(calls: &Calls, status: isotherm_status_t) -> Failure {
    // SAFETY: takes nothing; the text is this thread's and copied before its next call.
    let message = unsafe { text((calls.isotherm_last_error)()) };
    let is_config = status == ErrorKind::InvalidConfig.code();
    let kind = if is_config { ErrorKind::InvalidConfig } else { ErrorKind::Internal };
    Failure::of_store(kind, &message)
}

fn c_text(bytes: &[u8]) -> Outcome<CString> {
    CString::new(bytes).map_err(|error| {
        let bytes = error.into_vec();
        let text = String::from_utf8_lossy(&bytes);
        Failure::Usage(format!("{text:?} has a NUL, which the C interface takes for its end"))
    })
}

impl Engine for CStore {
    type Queue<'a> = CQueue<'a>;

    fn open(directory: &Path, plan: &Plan) -> Outcome<CStore> {
        let calls = match &plan.options.library {
            Some(file) => Calls::load(file)?,
            None => Calls::linked(),
        };
        let path = c_text(directory.as_os_str().as_bytes())?;
        let texts = plan
            .settings
            .iter()
            .map(|(key, value)| Ok((c_text(key.as_bytes())?, c_text(value.as_bytes())?)))
            .collect::<Outcome<Vec<(CString, CString)>>>()?;
        let settings: Vec<isotherm_setting_t> = texts
            .iter()
            .map(|(key, value)| isotherm_setting_t { key: key.as_ptr(), value: value.as_ptr() })
            .collect();
        let options = isotherm_open_options_t {
            struct_size: size_of::<isotherm_open_options_t>() as u32,
            flags: 0,
            config_file: ptr::null(),
            settings: settings.as_ptr(),
            setting_count: settings.len() as u64,
        };
        let mut opened = CStore { calls, store: 0, bucket: 0 };
        // SAFETY: path, options and the texts that they name live until the call has returned.
        let status = unsafe { (calls.isotherm_open)(path.as_ptr(), &options, &mut opened.store) };
        opened.check(status)?;
        let name = c_text(BUCKET.as_bytes())?;
        // SAFETY: the name ends with a NUL, the handle has a place to go.
        let status = unsafe {
            (calls.isotherm_bucket_ensure)(opened.store, name.as_ptr(), &mut opened.bucket)
        };
        opened.check(status)?;
        Ok(opened)
    }

    fn info(&self) -> Outcome<Value> {
        let mut json: *mut c_char = ptr::null_mut();
        // SAFETY: the text has a place to go.
        self.check(unsafe { (self.calls.isotherm_info)(self.store, &mut json) })?;
        // SAFETY: handed out by the call above, with a NUL at its end.
        let told = unsafe { text(json) };
        // SAFETY: handed out by the call above, and copied since.
        unsafe { (self.calls.isotherm_free)(json.cast()) };
        serde_json::from_str(&told)
            .map_err(|error| Failure::Run(format!("isotherm_info answers no JSON: {error}")))
    }

    #[inline]
    fn write(&self, at: &Stretch, bytes: &[u8], level: Option<Durability>) -> Outcome {
        let given = level.map(options);
        let options = given.as_ref().map_or(ptr::null(), ptr::from_ref);
        let (key, value) = (at.key.as_ptr().cast(), bytes.as_ptr().cast());
        let (key_len, len, calls) = (at.key.len(), bytes.len(), &self.calls);
        let version = ptr::null_mut();
        // SAFETY: key, value and options are there until the call has returned.
        self.check(unsafe {
            match at.offset {
                None => {
                    (calls.isotherm_put)(self.bucket, key, key_len, value, len, options, version)
                }
                Some(offset) => (calls.isotherm_put_at)(
                    self.bucket,
                    key,
                    key_len,
                    offset,
                    value,
                    len,
                    options,
                    version,
                ),
            }
        })
    }

    #[inline]
    fn read(&self, at: &Stretch, into: &mut [u8]) -> Outcome<usize> {
        let (key, buffer) = (at.key.as_ptr().cast(), into.as_mut_ptr().cast());
        let (key_len, capacity, calls) = (at.key.len(), into.len(), &self.calls);
        let mut len = 0;
        // SAFETY: key and buffer are there, and this call's alone, until it has returned.
        self.check(unsafe {
            match at.offset {
                None => {
                    (calls.isotherm_get_into)(self.bucket, key, key_len, buffer, capacity, &mut len)
                }
                Some(offset) => (calls.isotherm_get_at)(
                    self.bucket,
                    key,
                    key_len,
                    offset,
                    buffer,
                    capacity,
                    &mut len,
                ),
            }
        })?;
        Ok(len as usize)
    }

    fn queue(&self, depth: usize, len: usize) -> Outcome<CQueue<'_>> {
        let mut queue = CQueue {
            store: self,
            queue: 0,
            memory: vec![vec![0; len]; depth],
            taken: Vec::with_capacity(depth),
        };
        // SAFETY: the handle has a place to go.
        self.check(unsafe {
            (self.calls.isotherm_queue_create)(self.store, depth, &mut queue.queue)
        })?;
        Ok(queue)
    }

    fn flush(&self) -> Outcome {
        // SAFETY: takes a handle, which may be any number.
        self.check(unsafe { (self.calls.isotherm_flush)(self.store) })
    }

    fn close(mut self) -> Outcome {
        let store = std::mem::take(&mut self.store);
        // SAFETY: takes a handle, which may be any number.
        self.check(unsafe { (self.calls.isotherm_close)(store) })
    }
}

impl Drop for CStore {
    fn drop(&mut self) {
        // SAFETY: takes a handle; that of no store is closed for nothing. Who wants to know what failed
        // calls `close`.
        let _status = unsafe { (self.calls.isotherm_close)(self.store) };
    }
}

fn options(level: Durability) -> isotherm_put_options_t {
    let durability = match level {
        Durability::Memory => ISOTHERM_DURABILITY_MEMORY,
        Durability::Written => ISOTHERM_DURABILITY_WRITTEN,
        Durability::Durable => ISOTHERM_DURABILITY_DURABLE,
    };
    let struct_size = size_of::<isotherm_put_options_t>() as u32;
    isotherm_put_options_t { struct_size, flags: 0, durability, condition: 0, version: 0 }
}

/// A queue, with the memory that its operations read and write.
pub struct CQueue<'a> {
    store: &'a CStore,
    queue: isotherm_queue_t,
    memory: Vec<Vec<u8>>,
    taken: Vec<isotherm_completion_t>,
}

impl Queue for CQueue<'_> {
    fn memory(&mut self, slot: usize) -> &mut [u8] {
        &mut self.memory[slot]
    }

    fn submit(&mut self, slot: usize, kind: Kind, at: &Stretch) -> Outcome {
        let action = match (kind, at.offset) {
            (Kind::Read, None) => ISOTHERM_ACTION_GET,
            (Kind::Read, Some(_)) => ISOTHERM_ACTION_GET_AT,
            (Kind::Write, None) => ISOTHERM_ACTION_PUT,
            (Kind::Write, Some(_)) => ISOTHERM_ACTION_PUT_AT,
        };
        let operation = isotherm_operation_t {
            action,
            flags: 0,
            bucket: self.store.bucket,
            key: at.key.as_ptr().cast(),
            key_len: at.key.len() as u64,
            buffer: self.memory[slot].as_mut_ptr().cast(),
            len: self.memory[slot].len() as u64,
            offset: at.offset.unwrap_or(0),
            user_data: slot as u64,
            durability: 0,
            condition: 0,
            version: 0,
            reserved: [0; 4],
        };
        let (ids, mut accepted) = (ptr::null_mut(), 0);
        // SAFETY: record and key are copied; the slot's memory stays where it is and is not looked at
        // until the operation has ended, or this queue is dropped, which closes it first.
        self.store.check(unsafe {
            (self.store.calls.isotherm_queue_submit)(self.queue, &operation, 1, ids, &mut accepted)
        })
    }

    fn wait(&mut self, ended: &mut Vec<(usize, usize)>) -> Outcome {
        let (room, mut count) = (self.taken.capacity(), 0);
        let (to, forever) = (self.taken.as_mut_ptr(), ISOTHERM_WAIT_FOREVER);
        // SAFETY: there is room for so many completions.
        self.store.check(unsafe {
            (self.store.calls.isotherm_queue_wait)(self.queue, to, 1, room, forever, &mut count)
        })?;
        // SAFETY: the call has written so many, and not more than there is room for.
        unsafe { self.taken.set_len(count) };
        for completion in self.taken.drain(..) {
            if completion.status != ISOTHERM_OK {
                // SAFETY: a message has a NUL after it, within the record.
                return Err(Failure::Run(unsafe { text(completion.message.as_ptr()) }));
            }
            ended.push((completion.user_data as usize, completion.bytes as usize));
        }
        Ok(())
    }
}

impl Drop for CQueue<'_> {
    fn drop(&mut self) {
        // SAFETY: takes a handle. The memory goes after it, when no operation uses it any more.
        let _status = unsafe { (self.store.calls.isotherm_queue_close)(self.queue) };
    }
}
