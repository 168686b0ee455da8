"""Blobs under their keys."""

import builtins
from ctypes import c_bool, c_uint64, c_void_p
from typing import TYPE_CHECKING, Any, Iterator, NamedTuple, Optional

from . import _layout as layout
from . import errors
from ._buffers import Held, Key, bytes_at, key_bytes
from ._handle import Handle
from ._library import library
from ._options import When, put_options
from .errors import check
from .scan import Scan

if TYPE_CHECKING:
    from .store import Store


class BlobStat(NamedTuple):
    """What is known of a blob."""

    #: Bytes of the value.
    length: int
    #: Larger after every change.
    version: int
    #: Buffers that the value is made of.
    buffers: int


class BucketUsage(NamedTuple):
    """What is known of a bucket."""

    blobs: int
    #: Bytes of their values.
    bytes: int


class Bucket(Handle):
    """A bucket: keys of str (as UTF-8) or bytes, values of bytes. As a dict, where that makes sense.

    Values given are anything contiguous with the buffer protocol (bytes, bytearray, memoryview, array,
    mmap, numpy arrays), and are not copied on the way. All calls may be made from any thread; an object
    that another thread changes during a put may be stored in part.

    Changes take `durability`, "memory", "written" or "durable" (None: the bucket's), and `when`:
    "absent" (Exists is raised if the blob is there), "present" (NotFound if not), or the version it must
    have (VersionMismatch).
    """

    def __init__(self, store: "Store", name: str, number: int) -> None:
        super().__init__(number, library.isotherm_bucket_close, number)
        self._store = store
        self.name = name

    def _use(self) -> int:
        self._store._use()
        return super()._use()

    def put(
        self, key: Key, value: Any, *, durability: Optional[str] = None, when: When = None
    ) -> int:
        """Stores a value, replacing any there is. Returns the version made."""
        name, options, version = key_bytes(key), put_options(durability, when), c_uint64()
        with Held(value) as held:
            check(
                library.isotherm_put(
                    self._use(), name, len(name), held.address, held.length, options, version
                )
            )
        return version.value

    def put_at(
        self,
        key: Key,
        offset: int,
        value: Any,
        *,
        durability: Optional[str] = None,
        when: When = None,
    ) -> int:
        """Writes bytes at an offset, making or extending the blob as needed. Returns the version made.

        Bytes never written read as zeros. Atomic, whatever the size.
        """
        name, options, version = key_bytes(key), put_options(durability, when), c_uint64()
        with Held(value) as held:
            check(
                library.isotherm_put_at(
                    self._use(), name, len(name), _offset(offset), held.address, held.length,
                    options, version,
                )
            )
        return version.value

    def append(
        self, key: Key, value: Any, *, durability: Optional[str] = None, when: When = None
    ) -> int:
        """Adds bytes at the end, making the blob if there is none. Returns the offset they begin at."""
        name, options, offset = key_bytes(key), put_options(durability, when), c_uint64()
        with Held(value) as held:
            check(
                library.isotherm_append(
                    self._use(), name, len(name), held.address, held.length, options, offset
                )
            )
        return offset.value

    def truncate(
        self, key: Key, length: int, *, durability: Optional[str] = None, when: When = None
    ) -> int:
        """Sets the length of a value; new bytes read as zeros. Returns the version made."""
        name, options, version = key_bytes(key), put_options(durability, when), c_uint64()
        check(
            library.isotherm_truncate(
                self._use(), name, len(name), _offset(length), options, version
            )
        )
        return version.value

    def delete(self, key: Key, *, durability: Optional[str] = None, when: When = None) -> None:
        """Removes a blob; NotFound if there is none."""
        name, options = key_bytes(key), put_options(durability, when)
        check(library.isotherm_delete(self._use(), name, len(name), options))

    def rename(
        self,
        key: Key,
        to: Key,
        bucket: Optional["Bucket"] = None,
        *,
        durability: Optional[str] = None,
        when: When = None,
    ) -> int:
        """Gives a blob another name, in this bucket or another of the store, replacing any there.

        Atomic. `when` is of the target. Returns the version made.
        """
        return self._to(library.isotherm_rename, key, bucket, to, put_options(durability, when))

    def copy(
        self,
        key: Key,
        to: Key,
        bucket: Optional["Bucket"] = None,
        *,
        durability: Optional[str] = None,
        when: When = None,
    ) -> int:
        """Makes another blob of the same value, which the two share until one is changed. As rename."""
        return self._to(library.isotherm_copy, key, bucket, to, put_options(durability, when))

    def _to(
        self,
        call: Any,
        key: Key,
        bucket: Optional["Bucket"],
        to: Key,
        options: Optional[layout.PutOptions],
    ) -> int:
        name, to_name, version = key_bytes(key), key_bytes(to), c_uint64()
        target = (self if bucket is None else bucket)._use()
        check(
            call(
                self._use(), name, len(name), target, to_name, len(to_name), options, version
            )
        )
        return version.value

    def get(self, key: Key, default: Any = None, *, out: Any = None) -> Any:
        """The value as bytes, or `default` if there is none.

        With `out`, a writable buffer, the value is read into it and its length in bytes returned, or
        BufferTooSmall raised, whose `needed` is that length.
        """
        try:
            return self[key] if out is None else self._get_into(key, out)
        except errors.NotFound:
            return default

    def _get_into(self, key: Key, out: Any) -> int:
        name, length = key_bytes(key), c_uint64()
        with Held(out, writable=True) as held:
            status = library.isotherm_get_into(
                self._use(), name, len(name), held.address, held.length, length
            )
            if status == errors.BufferTooSmall.status:
                raise errors.too_small(errors.last_message(), length.value)
            check(status)
        return length.value

    def get_at(
        self, key: Key, offset: int, length: Optional[int] = None, *, out: Any = None
    ) -> Any:
        """At most `length` bytes from an offset on, by default all there are; NotFound if no blob.

        With `out`, a writable buffer, as many bytes as fit are read into it and their number returned.
        """
        if out is not None:
            return self._get_at_into(key, offset, out)
        if length is None:
            length = max(self.stat(key).length - offset, 0)
        room = bytearray(length)
        with memoryview(room) as view:
            return bytes(view[: self._get_at_into(key, offset, room)])

    def _get_at_into(self, key: Key, offset: int, out: Any) -> int:
        name, copied = key_bytes(key), c_uint64()
        with Held(out, writable=True) as held:
            check(
                library.isotherm_get_at(
                    self._use(), name, len(name), _offset(offset), held.address, held.length,
                    copied,
                )
            )
        return copied.value

    def stat(self, key: Key) -> BlobStat:
        """Length, version and buffers of a blob; NotFound if there is none."""
        name, stat = key_bytes(key), layout.BlobStat()
        check(library.isotherm_stat(self._use(), name, len(name), stat))
        return BlobStat(stat.value_len, stat.version, stat.buffers)

    def scan(
        self,
        *,
        prefix: Optional[Key] = None,
        start: Optional[Key] = None,
        end: Optional[Key] = None,
        after: Optional[Key] = None,
    ) -> Scan:
        """Entries (key, length, version) of the blobs in the order of their keys.

        Of those whose keys begin with `prefix`, or are from `start` on and before `end`; of these,
        beyond `after`. An empty bound is none. A key that is there throughout is met exactly once;
        there is no snapshot.
        """
        return Scan(self, prefix, start, end, after)

    def usage(self) -> BucketUsage:
        """How many blobs there are, and their bytes."""
        stat = layout.BucketStat()
        check(library.isotherm_bucket_stat(self._use(), stat))
        return BucketUsage(stat.blobs, stat.bytes)

    def flush(self) -> None:
        """Makes everything acknowledged of this bucket before this call durable."""
        check(library.isotherm_bucket_flush(self._use()))

    def __getitem__(self, key: Key) -> builtins.bytes:
        name, value, length = key_bytes(key), c_void_p(), c_uint64()
        check(library.isotherm_get(self._use(), name, len(name), value, length))
        try:
            return bytes_at(value.value or 0, length.value)
        finally:
            library.isotherm_free(value)

    def __setitem__(self, key: Key, value: Any) -> None:
        self.put(key, value)

    def __delitem__(self, key: Key) -> None:
        self.delete(key)

    def __contains__(self, key: Key) -> bool:
        name, exists = key_bytes(key), c_bool()
        check(library.isotherm_exists(self._use(), name, len(name), exists))
        return exists.value

    def __len__(self) -> int:
        return self.usage().blobs

    def __iter__(self) -> Iterator[builtins.bytes]:
        """The keys, as bytes, in their order."""
        for entry in self.scan():
            yield entry.key

    def __repr__(self) -> str:
        return f"<isotherm.Bucket {self.name!r}{' (closed)' if self.closed else ''}>"


def _offset(offset: int) -> int:
    # ctypes would take the lowest 64 bits of any number.
    if not 0 <= offset < 1 << 64:
        raise ValueError(f"{offset} is no offset or length: bytes, from 0 to below 2**64")
    return offset
