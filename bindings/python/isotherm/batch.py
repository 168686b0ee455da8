"""Changes that are made together."""

from ctypes import c_uint64
from typing import TYPE_CHECKING, Any, List, Optional

from ._buffers import Held, Key, key_bytes
from ._handle import Handle
from ._library import library
from ._options import When, put_options
from .bucket import Bucket, _offset
from .errors import check

if TYPE_CHECKING:
    from .store import Store


class Batch(Handle):
    """Changes in any number of buckets of one store, made together or not at all.

        with store.batch() as batch:
            batch.put(bucket, "a", b"1")
            batch.delete(bucket, "b", when="present")

    The end of the `with` commits them, or raises what the first step fails with; an exception inside
    drops them. Values are copied. Each blob may be changed once. One thread at a time may use it.
    `when` is as for the calls of Bucket; the durability is that of the whole, "written" at least.
    """

    def __init__(self, store: "Store", number: int, durability: Optional[str]) -> None:
        super().__init__(number, library.isotherm_batch_close, number)
        self._store = store
        self._options = put_options(durability, None)
        self._steps = 0
        #: After the commit: the version each step made or, if it changes nothing, found.
        self.versions: List[int] = []

    def _use(self) -> int:
        self._store._use()
        return super()._use()

    def put(self, bucket: Bucket, key: Key, value: Any, *, when: When = None) -> None:
        """Adds a put of a whole value."""
        with Held(value) as held:
            self._add(library.isotherm_batch_put, bucket, key, when, held.address, held.length)

    def put_at(
        self, bucket: Bucket, key: Key, offset: int, value: Any, *, when: When = None
    ) -> None:
        """Adds a put of bytes at an offset."""
        call = library.isotherm_batch_put_at
        with Held(value) as held:
            self._add(call, bucket, key, when, _offset(offset), held.address, held.length)

    def append(self, bucket: Bucket, key: Key, value: Any, *, when: When = None) -> None:
        """Adds a put of bytes at the end."""
        with Held(value) as held:
            self._add(library.isotherm_batch_append, bucket, key, when, held.address, held.length)

    def truncate(self, bucket: Bucket, key: Key, length: int, *, when: When = None) -> None:
        """Adds a change of the value's length."""
        self._add(library.isotherm_batch_truncate, bucket, key, when, _offset(length))

    def delete(self, bucket: Bucket, key: Key, *, when: When = None) -> None:
        """Adds a removal."""
        self._add(library.isotherm_batch_delete, bucket, key, when)

    def require(self, bucket: Bucket, key: Key, *, when: When) -> None:
        """Adds a condition on a blob that the batch does not change."""
        self._add(library.isotherm_batch_require, bucket, key, when)

    def _add(self, call: Any, bucket: Bucket, key: Key, when: When, *arguments: Any) -> None:
        name, options = key_bytes(key), put_options(None, when)
        check(call(self._use(), bucket._use(), name, len(name), *arguments, options))
        self._steps += 1

    def commit(self) -> List[int]:
        """Makes all changes, or none. Returns `versions`. A second commit makes the changes again."""
        versions = (c_uint64 * self._steps)()
        check(library.isotherm_batch_commit(self._use(), self._options, versions, self._steps))
        self.versions = list(versions)
        return self.versions

    def __exit__(self, *exception: object) -> None:
        try:
            if exception[0] is None:
                self.commit()
        finally:
            self.close()
