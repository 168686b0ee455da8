"""One exception a kind of error, with the numbers of isotherm.h."""

from typing import Dict, Optional, Type

from ._library import library


class Error(Exception):
    """A call of isotherm failed. The text says what was wrong, with its value, and what to do."""

    #: The number of the kind, as ISOTHERM_E_* in isotherm.h.
    status = 0

    def __str__(self) -> str:
        # Of KeyError, whose own text is the repr of a key.
        return str(self.args[0]) if self.args else ""


class InvalidArgument(Error, ValueError):
    """An argument is out of its range."""

    status = -101


class InvalidConfig(Error, ValueError):
    """A setting's key or value is wrong."""

    status = -102


class BufferTooSmall(Error):
    """The buffer is smaller than the value."""

    status = -103
    #: The length of the value in bytes.
    needed: Optional[int] = None


class Unsupported(Error):
    """The store, its format or its tiers cannot do this."""

    status = -104


class BadHandle(Error):
    """A handle that is none, of another kind, or closed."""

    status = -105


class NotFound(Error, KeyError):
    """No such blob."""

    status = -201


class BucketNotFound(Error, KeyError):
    """No such bucket."""

    status = -202


class BucketExists(Error):
    """A bucket of this name exists."""

    status = -203


class StoreNotFound(Error):
    """No store at this path."""

    status = -204


class Exists(Error):
    """The blob is there, and the change was for when it is not."""

    status = -205


class VersionMismatch(Error):
    """The blob has another version."""

    status = -206


class NoSpace(Error):
    """The tiers are full."""

    status = -301


class NoMemory(Error):
    """The memory budget does not allow another index entry."""

    status = -302


class LimitExceeded(Error):
    """A published limit is exceeded."""

    status = -303


class Busy(Error):
    """The queue is full: take completions first."""

    status = -304


class Cancelled(Error):
    """Cancelled before it began."""

    status = -305


class QuotaExceeded(Error):
    """The bucket's quota would be exceeded."""

    status = -306


class Closed(Error):
    """The store, or what is used of it, is closed."""

    status = -401


class Locked(Error):
    """Somebody has the store or a tier of it open."""

    status = -402


class Poisoned(Error):
    """The engine stopped at a breach of its invariants; reopen."""

    status = -403


class PermissionDenied(Error):
    """The file system does not allow this."""

    status = -404


class ReadOnly(Error):
    """The store is open for reading only."""

    status = -405


class Forked(Error):
    """This process was forked from one that had a store open."""

    status = -406


class Io(Error):
    """A device reported an I/O error."""

    status = -501


class DeviceFailed(Error):
    """A flush failed; no more writes until reopened."""

    status = -502


class Corrupt(Error):
    """Stored bytes do not match their checksum."""

    status = -503


class Format(Error):
    """Not an isotherm store, or one of a newer format."""

    status = -504


class TierMissing(Error):
    """A tier's file is missing, or another store's."""

    status = -505


class Internal(Error):
    """A defect of the engine."""

    status = -901


_kinds: Dict[int, Type[Error]] = {kind.status: kind for kind in Error.__subclasses__()}


def error_of(status: int, message: str) -> Error:
    """The exception of a status. One that this package does not know is a plain Error."""
    error = _kinds.get(status, Error)(message)
    error.status = status
    return error


def too_small(message: str, needed: int) -> BufferTooSmall:
    """A buffer is smaller than a value of `needed` bytes."""
    error = BufferTooSmall(message)
    error.needed = needed
    return error


def last_message() -> str:
    """What went wrong in the call of this thread that failed last."""
    message: bytes = library.isotherm_last_error()
    return message.decode("utf-8", "replace")


def last_error(status: int) -> Error:
    """The exception of a call that this thread has just made."""
    return error_of(status, last_message())


def check(status: int) -> None:
    """Raises the exception of a status that is not 0."""
    if status != 0:
        raise last_error(status)
