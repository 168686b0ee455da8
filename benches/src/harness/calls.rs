//! The calls of the C interface that the harness makes: those in this program, or those of a shared
//! library, as a C program gets them with `-lisotherm`.

use std::ffi::{CStr, CString, c_char, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use isotherm_ffi::bucket::{isotherm_bucket_ensure, isotherm_bucket_t};
use isotherm_ffi::change::{isotherm_put, isotherm_put_at};
use isotherm_ffi::entry::isotherm_last_error;
use isotherm_ffi::get::{isotherm_get_at, isotherm_get_into};
use isotherm_ffi::memory::isotherm_free;
use isotherm_ffi::operation::{isotherm_completion_t, isotherm_operation_t};
use isotherm_ffi::options::isotherm_put_options_t;
use isotherm_ffi::queue::{
    isotherm_queue_close, isotherm_queue_create, isotherm_queue_submit, isotherm_queue_t,
    isotherm_queue_wait,
};
use isotherm_ffi::status::isotherm_status_t;
use isotherm_ffi::store::{
    isotherm_close, isotherm_flush, isotherm_info, isotherm_open, isotherm_open_options_t,
    isotherm_store_t,
};
use isotherm_ffi::version::{ISOTHERM_ABI_VERSION, isotherm_abi_version};

use crate::harness::failure::{Failure, Outcome};

/// Declares the table of calls. The compiler holds the types against the calls themselves.
macro_rules! calls {
    ($($call:ident($($argument:ty),*) $(-> $answer:ty)?;)*) => {
        /// Where the calls are. Each is what the header says of it.
        #[derive(Clone, Copy)]
        #[allow(missing_docs, reason = "the header has them")]
        pub struct Calls {
            $(pub $call: unsafe extern "C" fn($($argument),*) $(-> $answer)?,)*
        }

        impl Calls {
            /// Those in this program, as in one that is linked with libisotherm.a.
            pub fn linked() -> Calls {
                Calls { $($call,)* }
            }

            /// Those of a library that has been loaded.
            fn of(library: &Library) -> Outcome<Calls> {
                Ok(Calls {
                    $($call: {
                        let address = library.symbol(stringify!($call))?;
                        // SAFETY: the library's function of this name; that the interface is of the
                        // same version, in which it has this type, is checked before the first use.
                        unsafe {
                            std::mem::transmute::<
                                *mut c_void,
                                unsafe extern "C" fn($($argument),*) $(-> $answer)?,
                            >(address)
                        }
                    },)*
                })
            }
        }
    };
}

calls! {
    isotherm_abi_version() -> u32;
    isotherm_last_error() -> *const c_char;
    isotherm_free(*mut c_void);
    isotherm_open(
        *const c_char, *const isotherm_open_options_t, *mut isotherm_store_t
    ) -> isotherm_status_t;
    isotherm_close(isotherm_store_t) -> isotherm_status_t;
    isotherm_flush(isotherm_store_t) -> isotherm_status_t;
    isotherm_info(isotherm_store_t, *mut *mut c_char) -> isotherm_status_t;
    isotherm_bucket_ensure(
        isotherm_store_t, *const c_char, *mut isotherm_bucket_t
    ) -> isotherm_status_t;
    isotherm_put(
        isotherm_bucket_t, *const c_void, usize, *const c_void, usize,
        *const isotherm_put_options_t, *mut u64
    ) -> isotherm_status_t;
    isotherm_put_at(
        isotherm_bucket_t, *const c_void, usize, u64, *const c_void, usize,
        *const isotherm_put_options_t, *mut u64
    ) -> isotherm_status_t;
    isotherm_get_into(
        isotherm_bucket_t, *const c_void, usize, *mut c_void, usize, *mut u64
    ) -> isotherm_status_t;
    isotherm_get_at(
        isotherm_bucket_t, *const c_void, usize, u64, *mut c_void, usize, *mut u64
    ) -> isotherm_status_t;
    isotherm_queue_create(isotherm_store_t, usize, *mut isotherm_queue_t) -> isotherm_status_t;
    isotherm_queue_submit(
        isotherm_queue_t, *const isotherm_operation_t, usize, *mut u64, *mut usize
    ) -> isotherm_status_t;
    isotherm_queue_wait(
        isotherm_queue_t, *mut isotherm_completion_t, usize, usize, i64, *mut usize
    ) -> isotherm_status_t;
    isotherm_queue_close(isotherm_queue_t) -> isotherm_status_t;
}

impl Calls {
    /// Those of the shared library in a file.
    pub fn load(file: &Path) -> Outcome<Calls> {
        let calls = Calls::of(&Library::load(file)?)?;
        // SAFETY: takes nothing, and has had this type in every version.
        let version = unsafe { (calls.isotherm_abi_version)() };
        if version != ISOTHERM_ABI_VERSION {
            let message = format!("version {version} of the interface, not {ISOTHERM_ABI_VERSION}");
            return Err(refuse(file, &message));
        }
        Ok(calls)
    }
}

/// A shared library, which stays loaded until the process ends.
struct Library<'a> {
    file: &'a Path,
    handle: *mut c_void,
}

impl Library<'_> {
    fn load(file: &Path) -> Outcome<Library<'_>> {
        // A name without a slash would be looked up elsewhere.
        let path = std::path::absolute(file).map_err(|error| refuse(file, &error.to_string()))?;
        let path = CString::new(path.as_os_str().as_bytes())
            .map_err(|_| refuse(file, "a path has no NUL"))?;
        // SAFETY: the path ends with a NUL; what the library does while it is loaded is what a program
        // linked with it accepts.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if handle.is_null() {
            // SAFETY: the last error of this thread, as text; NULL if there was none.
            let error = unsafe { text(libc::dlerror()) };
            return Err(refuse(file, &error));
        }
        Ok(Library { file, handle })
    }

    fn symbol(&self, name: &str) -> Outcome<*mut c_void> {
        let no_such_call = || refuse(self.file, &format!("it has no {name}"));
        let name = CString::new(name).map_err(|_| no_such_call())?;
        // SAFETY: the handle is that of a library that stays loaded, the name ends with a NUL.
        let address = unsafe { libc::dlsym(self.handle, name.as_ptr()) };
        if address.is_null() { Err(no_such_call()) } else { Ok(address) }
    }
}

fn refuse(file: &Path, why: &str) -> Failure {
    Failure::Usage(format!("--library={}: {why}; name a libisotherm.so", file.display()))
}

/// Text of a C library; none of NULL.
///
/// # Safety
/// `start` is NULL, or text that ends with a NUL and stays as it is for the time of this call.
pub unsafe fn text(start: *const c_char) -> String {
    if start.is_null() {
        return String::new();
    }
    // SAFETY: as the caller promises.
    unsafe { CStr::from_ptr(start) }.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_libisotherm_is_refused_by_name() {
        for (file, why) in [("/nowhere/libisotherm.so", "/nowhere"), ("libm.so.6", "libm")] {
            let refused = Calls::load(Path::new(file)).err().unwrap();
            assert_eq!(refused.exit_code(), 2);
            assert!(refused.to_string().contains(why), "{refused}");
        }
    }
}
