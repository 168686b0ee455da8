"""What a store, bucket, queue, scan and batch have in common: a handle that is closed once."""

import os
import weakref
from typing import Any, Callable, TypeVar

from . import errors


def _close_in(pid: int, close: Callable[..., None], *arguments: Any) -> None:
    # In a forked child there is nothing to close, and a lock may be held for ever.
    if os.getpid() == pid:
        close(*arguments)


_Self = TypeVar("_Self", bound="Handle")


class Handle:
    """Owns a handle of the library: closed once, by hand, by the garbage collector, or at exit."""

    def __init__(self, number: int, close: Callable[..., None], *arguments: Any) -> None:
        self._number = number
        # Not __del__: a finalizer still has its modules at exit, and stores come after what is of them.
        self._closer = weakref.finalize(self, _close_in, os.getpid(), close, *arguments)

    @property
    def closed(self) -> bool:
        """Whether it has been closed."""
        return not self._closer.alive

    def close(self) -> None:
        """Closes it, after the calls that use it. A second close does nothing."""
        self._closer()

    def _use(self) -> int:
        if not self._closer.alive:
            raise errors.error_of(errors.Closed.status, f"this {type(self).__name__.lower()} is closed")
        return self._number

    def __enter__(self: _Self) -> _Self:
        self._use()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
