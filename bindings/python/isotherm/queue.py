"""Asynchronous operations."""

import itertools
from ctypes import c_size_t, c_uint64
from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Optional

from . import _layout as layout
from . import errors
from ._buffers import Held, Key, key_bytes
from ._handle import Handle
from ._library import library
from ._options import When, put_options
from .bucket import Bucket, _offset
from .errors import check

if TYPE_CHECKING:
    from .store import Store


class Completion(NamedTuple):
    """An operation that has ended."""

    #: What its submission returned.
    id: int
    #: What its submission was given.
    tag: Any
    #: What went wrong, or None; not raised by `wait`.
    error: Optional[errors.Error]
    #: Bytes of the buffer that were filled or stored.
    bytes: int
    #: Where they begin in the value.
    offset: int
    #: Of a get: the length of the value in bytes, also with BufferTooSmall.
    length: int
    #: Of a change: the version made.
    version: int
    #: The object that was given to be stored or filled, or None.
    buffer: Any

    def value(self) -> memoryview:
        """The bytes that a get has read, in its buffer; raises the error if there is one."""
        if self.error is not None:
            raise self.error
        return memoryview(self.buffer).cast("B")[: self.bytes]


class _Pending(NamedTuple):
    tag: Any
    held: Optional[Held]


class Queue(Handle):
    """At most `depth` operations under way or not taken. A queue per thread is the fast way.

    A submission returns the operation's number, or raises Busy if the queue is full: take completions
    with `wait` first. Operations run side by side, in no order. A queue keeps the buffers it was given,
    which cannot be resized meanwhile; do not change those to be stored, nor look at those to be filled,
    until the completion has been taken or the queue closed. All calls may be made from any thread.
    """

    def __init__(self, store: "Store", number: int) -> None:
        self._store = store
        self._pending: Dict[int, _Pending] = {}
        self._tokens = itertools.count(1)
        super().__init__(number, _close, number, self._pending, store._closing)

    def close(self) -> None:
        """Waits for the operations under way, and drops completions not taken."""
        super().close()

    def _use(self) -> int:
        self._store._use()
        return super()._use()

    def get(self, bucket: Bucket, key: Key, out: Any, *, tag: Any = None) -> int:
        """The whole value into `out`, a writable buffer."""
        return self._submit(layout.ACTION_GET, bucket, key, tag, Held(out, writable=True))

    def get_at(self, bucket: Bucket, key: Key, offset: int, out: Any, *, tag: Any = None) -> int:
        """As many bytes as fit and there are from an offset on into `out`, a writable buffer."""
        held = Held(out, writable=True)
        return self._submit(layout.ACTION_GET_AT, bucket, key, tag, held, offset)

    def put(
        self,
        bucket: Bucket,
        key: Key,
        value: Any,
        *,
        durability: Optional[str] = None,
        when: When = None,
        tag: Any = None,
    ) -> int:
        """Stores a value. `durability` and `when` as for the calls of Bucket."""
        options = put_options(durability, when)
        return self._submit(layout.ACTION_PUT, bucket, key, tag, Held(value), 0, options)

    def put_at(
        self,
        bucket: Bucket,
        key: Key,
        offset: int,
        value: Any,
        *,
        durability: Optional[str] = None,
        when: When = None,
        tag: Any = None,
    ) -> int:
        """Writes bytes at an offset."""
        options = put_options(durability, when)
        return self._submit(layout.ACTION_PUT_AT, bucket, key, tag, Held(value), offset, options)

    def append(
        self,
        bucket: Bucket,
        key: Key,
        value: Any,
        *,
        durability: Optional[str] = None,
        when: When = None,
        tag: Any = None,
    ) -> int:
        """Adds bytes at the end."""
        options = put_options(durability, when)
        return self._submit(layout.ACTION_APPEND, bucket, key, tag, Held(value), 0, options)

    def truncate(
        self,
        bucket: Bucket,
        key: Key,
        length: int,
        *,
        durability: Optional[str] = None,
        when: When = None,
        tag: Any = None,
    ) -> int:
        """Sets the length of a value."""
        options = put_options(durability, when)
        return self._submit(layout.ACTION_TRUNCATE, bucket, key, tag, None, length, options)

    def delete(
        self,
        bucket: Bucket,
        key: Key,
        *,
        durability: Optional[str] = None,
        when: When = None,
        tag: Any = None,
    ) -> int:
        """Removes a blob."""
        options = put_options(durability, when)
        return self._submit(layout.ACTION_DELETE, bucket, key, tag, None, 0, options)

    def _submit(
        self,
        action: int,
        bucket: Bucket,
        key: Key,
        tag: Any,
        held: Optional[Held],
        offset: int = 0,
        options: Optional[layout.PutOptions] = None,
    ) -> int:
        name, token = key_bytes(key), next(self._tokens)
        operation = layout.Operation(
            action=action, bucket=bucket._use(), key=name, key_len=len(name),
            offset=_offset(offset), user_data=token,
        )
        if held is not None:
            operation.buffer, operation.len = held.address, held.length
        if options is not None:
            operation.durability = options.durability
            operation.condition = options.condition
            operation.version = options.version
        return self._hand_over(operation, _Pending(tag, held))

    def _hand_over(self, operation: layout.Operation, pending: _Pending) -> int:
        number, accepted, queue = c_uint64(), c_size_t(), self._use()
        # Before the library sees it: another thread may take the completion at once.
        self._pending[operation.user_data] = pending
        status = library.isotherm_queue_submit(queue, operation, 1, number, accepted)
        # Only of one refused: after a Ctrl-C here, the buffer is in use.
        if status != 0:
            del self._pending[operation.user_data]
            raise errors.last_error(status)
        return number.value

    def wait(self, min: int = 1, max: int = 64, timeout: Optional[float] = None) -> List[Completion]:
        """Takes completions: at least `min` unless fewer are under way, at most `max`.

        `timeout` in seconds: returns what there is by then, with 0 at once; None waits as long as it
        takes. A Ctrl-C is seen at its end, and what it has taken is lost then.
        """
        nanos = layout.WAIT_FOREVER if timeout is None else _nanos(timeout)
        ended, count = (layout.Completion * max)(), c_size_t()
        check(library.isotherm_queue_wait(self._use(), ended, min, max, nanos, count))
        return [self._take(ended[at]) for at in range(count.value)]

    def _take(self, ended: layout.Completion) -> Completion:
        pending = self._pending.pop(ended.user_data)
        _let_go(pending)
        return Completion(
            ended.id,
            pending.tag,
            _error(ended),
            ended.bytes,
            ended.offset,
            ended.value_len,
            ended.version,
            pending.held.owner if pending.held is not None else None,
        )

    def outstanding(self) -> int:
        """Operations submitted whose completions have not been taken."""
        count = c_size_t()
        check(library.isotherm_queue_outstanding(self._use(), count))
        return count.value

    def cancel(self, id: int) -> None:
        """Asks that an operation not begin; if it has not, it completes with Cancelled."""
        check(library.isotherm_queue_cancel(self._use(), id))


def _nanos(seconds: float) -> int:
    if not 0 <= seconds < 1e9:
        raise ValueError(f"timeout is {seconds}; pass seconds from 0 to below 1e9, or None")
    return round(seconds * 1e9)


def _error(ended: layout.Completion) -> Optional[errors.Error]:
    if ended.status == 0:
        return None
    message = ended.message.decode("utf-8", "replace")
    if ended.status == errors.BufferTooSmall.status:
        return errors.too_small(message, ended.value_len)
    return errors.error_of(ended.status, message)


def _let_go(pending: _Pending) -> None:
    if pending.held is not None:
        pending.held.release()


def _close(number: int, pending: Dict[int, _Pending], closing: Any) -> None:
    # The store's close answers for its queues before it has ended them: no buffer goes before that.
    with closing:
        library.isotherm_queue_close(number)
    # The entries stay: another thread may be looking at completions that it has just taken.
    for each in list(pending.values()):
        _let_go(each)
