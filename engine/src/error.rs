//! One error type. Its kind carries the number that is also the C status code.

use std::fmt;

/// What went wrong, with a number that never changes: it is the C status code too.
///
/// Hundreds group the causes, so that "the policy refused", "busy, try again" and "the device
/// failed" can be told apart by range: 1xx the caller's argument, 2xx existence, 3xx space and
/// bounds, 4xx state of the store, 5xx devices and data, 9xx a defect of the engine.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
#[repr(i32)]
pub enum ErrorKind {
    /// An argument is out of its range; the message names it.
    InvalidArgument = -101,
    /// A configuration key or value is wrong; the message names it.
    InvalidConfig = -102,
    /// The buffer is smaller than the value; [`Error::needed`] says how many bytes it takes.
    BufferTooSmall = -103,
    /// The store, its format, or its tiers cannot do this.
    Unsupported = -104,
    /// Through the C interface: a handle that is none, of another kind, or closed.
    BadHandle = -105,
    /// No such blob.
    NotFound = -201,
    /// No such bucket.
    BucketNotFound = -202,
    /// A bucket of this name exists.
    BucketExists = -203,
    /// No store at this path.
    StoreNotFound = -204,
    /// The blob is there, and the change was to be made only if it is not.
    Exists = -205,
    /// The blob has another version than the change was to be made to.
    VersionMismatch = -206,
    /// The tiers are full.
    NoSpace = -301,
    /// The memory budget does not allow another index entry.
    NoMemory = -302,
    /// A published limit is exceeded.
    LimitExceeded = -303,
    /// The queue is full and the caller asked not to wait.
    Busy = -304,
    /// Cancelled before it began.
    Cancelled = -305,
    /// The bucket's quota of bytes or blobs would be exceeded.
    QuotaExceeded = -306,
    /// The store is closed.
    Closed = -401,
    /// Another process, or another handle of this one, has the store or a tier of it open.
    Locked = -402,
    /// The engine met a breach of its own invariants and stopped; reopen the store.
    Poisoned = -403,
    /// The file system does not allow this (permissions, read-only).
    PermissionDenied = -404,
    /// The store is open for reading only.
    ReadOnly = -405,
    /// Through the C interface: this process was forked from one that had a store open.
    Forked = -406,
    /// A device reported an I/O error.
    Io = -501,
    /// A flush failed; the device takes no more writes until the store is reopened.
    DeviceFailed = -502,
    /// Stored bytes do not match their checksum.
    Corrupt = -503,
    /// The files are not an isotherm store, or one of a newer format.
    Format = -504,
    /// A tier's file is missing, or is that of another store.
    TierMissing = -505,
    /// A defect of the engine.
    Internal = -901,
}

impl ErrorKind {
    /// The C status code.
    pub fn code(self) -> i32 {
        self as i32
    }

    /// The kind of a C status code; `None` if there is none.
    pub fn from_code(code: i32) -> Option<ErrorKind> {
        KINDS.into_iter().find(|kind| kind.code() == code)
    }
}

const KINDS: [ErrorKind; 27] = [
    ErrorKind::InvalidArgument,
    ErrorKind::InvalidConfig,
    ErrorKind::BufferTooSmall,
    ErrorKind::Unsupported,
    ErrorKind::NotFound,
    ErrorKind::BucketNotFound,
    ErrorKind::BucketExists,
    ErrorKind::StoreNotFound,
    ErrorKind::Exists,
    ErrorKind::VersionMismatch,
    ErrorKind::NoSpace,
    ErrorKind::NoMemory,
    ErrorKind::LimitExceeded,
    ErrorKind::Busy,
    ErrorKind::Cancelled,
    ErrorKind::QuotaExceeded,
    ErrorKind::Closed,
    ErrorKind::Locked,
    ErrorKind::Poisoned,
    ErrorKind::PermissionDenied,
    ErrorKind::ReadOnly,
    ErrorKind::Io,
    ErrorKind::DeviceFailed,
    ErrorKind::Corrupt,
    ErrorKind::Format,
    ErrorKind::TierMissing,
    ErrorKind::Internal,
];

/// The error of every public call: a kind to act on and a message to read.
#[derive(Clone, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    message: Box<str>,
    needed: Option<u64>,
}

/// `Result` with the engine's error.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of this kind. The message names the thing, the value and the fix.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error { kind, message: message.into().into_boxed_str(), needed: None }
    }

    /// [`ErrorKind::BufferTooSmall`], with the size that would do.
    pub fn buffer_too_small(have: u64, needed: u64) -> Error {
        let message = format!("the buffer holds {have} bytes, the value has {needed}");
        Error { needed: Some(needed), ..Error::new(ErrorKind::BufferTooSmall, message) }
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The size that would do, where the buffer was too small.
    pub fn needed(&self) -> Option<u64> {
        self.needed
    }

    /// The message without the kind.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// An operating-system error met while doing `what` ("read of tier 0 at 4096").
    pub fn from_io(what: impl fmt::Display, error: &std::io::Error) -> Error {
        let kind = match error.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG) => ErrorKind::NoSpace,
            Some(libc::EACCES | libc::EPERM | libc::EROFS) => ErrorKind::PermissionDenied,
            Some(libc::ENOMEM) => ErrorKind::NoMemory,
            _ => ErrorKind::Io,
        };
        Error::new(kind, format!("{what}: {error}"))
    }

    /// A flush, or a write that was to be durable, has failed. Whatever the reason, one for lack of
    /// space too: the kernel may have dropped the writes it was to cover, and tells it once.
    pub fn from_failed_flush(what: impl fmt::Display, error: &std::io::Error) -> Error {
        Error::new(ErrorKind::DeviceFailed, format!("{what}: {error}"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?}, {})", self.message, self.kind, self.kind.code())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}

/// For those who meet the engine through the standard library's traits. What went wrong is inside,
/// to be had back by [`downcast`](std::io::Error::downcast).
impl From<Error> for std::io::Error {
    fn from(error: Error) -> std::io::Error {
        use std::io::ErrorKind as Io;
        let kind = match error.kind() {
            ErrorKind::InvalidArgument => Io::InvalidInput,
            ErrorKind::Unsupported => Io::Unsupported,
            ErrorKind::NotFound | ErrorKind::BucketNotFound => Io::NotFound,
            ErrorKind::Exists => Io::AlreadyExists,
            ErrorKind::NoSpace => Io::StorageFull,
            ErrorKind::QuotaExceeded => Io::QuotaExceeded,
            ErrorKind::NoMemory => Io::OutOfMemory,
            ErrorKind::PermissionDenied => Io::PermissionDenied,
            ErrorKind::ReadOnly => Io::ReadOnlyFilesystem,
            ErrorKind::Corrupt => Io::InvalidData,
            _ => Io::Other,
        };
        std::io::Error::new(kind, error)
    }
}

/// `Err` of this kind, from a format string.
macro_rules! fail {
    ($kind:ident, $($message:tt)+) => {
        return Err($crate::error::Error::new($crate::error::ErrorKind::$kind, format!($($message)+)))
    };
}
pub(crate) use fail;
