//! The way into and out of every call: no panic leaves it, and its error stays as this thread's
//! message.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use isotherm::{Error, ErrorKind, Result};

use crate::fork;
use crate::status::{ISOTHERM_OK, isotherm_status_t};

thread_local! {
    static LAST_ERROR: RefCell<Option<CString>> = const { RefCell::new(None) };
}

/// Runs the body of a call.
#[inline]
pub(crate) fn entry(body: impl FnOnce() -> Result<()>) -> isotherm_status_t {
    if fork::is_child() {
        return report(&fork::refused());
    }
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => ISOTHERM_OK,
        Ok(Err(error)) => report(&error),
        Err(panic) => report(&of_panic(panic)),
    }
}

/// Runs the body of a call that closes a handle: there is nothing to do for none, and in a child
/// everything is the parent's to close.
pub(crate) fn closing(handle: u64, body: impl FnOnce() -> Result<()>) -> isotherm_status_t {
    if handle == 0 || fork::is_child() {
        return ISOTHERM_OK;
    }
    entry(body)
}

/// Keeps the message of an error and answers its number.
#[cold]
pub(crate) fn report(error: &Error) -> isotherm_status_t {
    let message = c_text(error.message());
    // A thread that is ending has no place to keep it; the number says enough.
    let _kept = LAST_ERROR.try_with(|last| *last.borrow_mut() = Some(message));
    error.kind().code()
}

/// A message as C text. One with a NUL in it ends there.
fn c_text(message: &str) -> CString {
    let text = message.split('\0').next().unwrap_or_default();
    CString::new(text).unwrap_or_default()
}

fn of_panic(panic: Box<dyn Any + Send>) -> Error {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    // What a payload does when it is dropped is nobody's promise.
    std::mem::forget(panic);
    Error::new(ErrorKind::Internal, format!("a defect of isotherm, please report it: {text}"))
}

/// The message of the last call of this thread that failed: what was wrong, with its value, and what
/// to do. Empty text before the first. Valid until the next call of this thread that fails.
#[unsafe(no_mangle)]
pub extern "C" fn isotherm_last_error() -> *const c_char {
    const NONE: &CStr = c"";
    let kept = LAST_ERROR.try_with(|last| last.borrow().as_ref().map(|message| message.as_ptr()));
    kept.ok().flatten().unwrap_or(NONE.as_ptr())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last_error() -> String {
        // SAFETY: the text is this thread's, and no call of it fails meanwhile.
        unsafe { CStr::from_ptr(isotherm_last_error()) }.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_panic_ends_as_internal_with_its_message() {
        assert_eq!(entry(|| panic!("number {}", 7)), ErrorKind::Internal.code());
        assert!(last_error().ends_with("number 7"), "{}", last_error());
    }

    #[test]
    fn a_message_stays_until_the_next_failure_of_the_same_thread() {
        let fail = |text: &str| entry(|| Err(Error::new(ErrorKind::NotFound, text)));
        assert_eq!(fail("first"), ErrorKind::NotFound.code());
        std::thread::spawn(|| assert_eq!(last_error(), "")).join().unwrap();
        assert_eq!(entry(|| Ok(())), ISOTHERM_OK);
        assert_eq!(last_error(), "first");
        fail("sec\0ond");
        assert_eq!(last_error(), "sec");
    }
}
