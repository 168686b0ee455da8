"""One exception a kind of error, with the numbers of isotherm.h."""

from typing import Dict, Optional, Type

from ._library import library

__all__ = ["Error"]

_kinds: Dict[int, Type["Error"]] = {}


class Error(Exception):
    """A call of isotherm failed. The text says what was wrong, with its value, and what to do."""

    #: The number of the kind, as ISOTHERM_E_* in isotherm.h.
    status = 0

    def __init__(self, message: str) -> None:
        super().__init__(message)

    def __str__(self) -> str:
        # Of KeyError, whose own text is the repr of a key.
        return str(self.args[0])


def _kind(status: int, name: str, about: str, *also: type) -> Type[Error]:
    members = {"status": status, "__doc__": about, "__module__": __name__}
    kind = type(name, (Error, *also), members)
    _kinds[status] = kind
    __all__.append(name)
    return kind


InvalidArgument = _kind(-101, "InvalidArgument", "An argument is out of its range.", ValueError)
InvalidConfig = _kind(-102, "InvalidConfig", "A setting's key or value is wrong.", ValueError)


class BufferTooSmall(Error):
    """The buffer is smaller than the value, of which `needed` is the length in bytes, where known."""

    status = -103
    needed: Optional[int] = None


_kinds[BufferTooSmall.status] = BufferTooSmall
__all__.append("BufferTooSmall")

Unsupported = _kind(-104, "Unsupported", "The store, its format or its tiers cannot do this.")
BadHandle = _kind(-105, "BadHandle", "A handle that is none, of another kind, or closed.")
NotFound = _kind(-201, "NotFound", "No such blob.", KeyError)
BucketNotFound = _kind(-202, "BucketNotFound", "No such bucket.", KeyError)
BucketExists = _kind(-203, "BucketExists", "A bucket of this name exists.")
StoreNotFound = _kind(-204, "StoreNotFound", "No store at this path.")
Exists = _kind(-205, "Exists", "The blob is there, and the change was for when it is not.")
VersionMismatch = _kind(-206, "VersionMismatch", "The blob has another version.")
NoSpace = _kind(-301, "NoSpace", "The tiers are full.")
NoMemory = _kind(-302, "NoMemory", "The memory budget does not allow another index entry.")
LimitExceeded = _kind(-303, "LimitExceeded", "A published limit is exceeded.")
Busy = _kind(-304, "Busy", "The queue is full: take completions first.")
Cancelled = _kind(-305, "Cancelled", "Cancelled before it began.")
QuotaExceeded = _kind(-306, "QuotaExceeded", "The bucket's quota would be exceeded.")
Closed = _kind(-401, "Closed", "The store, or what is used of it, is closed.")
Locked = _kind(-402, "Locked", "Somebody has the store or a tier of it open.")
Poisoned = _kind(-403, "Poisoned", "The engine stopped at a breach of its invariants; reopen.")
PermissionDenied = _kind(-404, "PermissionDenied", "The file system does not allow this.")
ReadOnly = _kind(-405, "ReadOnly", "The store is open for reading only.")
Forked = _kind(-406, "Forked", "This process was forked from one that had a store open.")
Io = _kind(-501, "Io", "A device reported an I/O error.")
DeviceFailed = _kind(-502, "DeviceFailed", "A flush failed; no more writes until reopened.")
Corrupt = _kind(-503, "Corrupt", "Stored bytes do not match their checksum.")
Format = _kind(-504, "Format", "Not an isotherm store, or one of a newer format.")
TierMissing = _kind(-505, "TierMissing", "A tier's file is missing, or another store's.")
Internal = _kind(-901, "Internal", "A defect of the engine.")


def error_of(status: int, message: str) -> Error:
    """The exception of a status. One that this package does not know is a plain Error."""
    error = _kinds.get(status, Error)(message)
    error.status = status
    return error


def last_error(status: int) -> Error:
    """The exception of a call that this thread has just made."""
    return error_of(status, library.isotherm_last_error().decode("utf-8", "replace"))


def check(status: int) -> None:
    """Raises the exception of a status that is not 0."""
    if status != 0:
        raise last_error(status)
