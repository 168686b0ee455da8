"""Opening a store, and what is done with it as a whole."""

import builtins
import json
import os
import threading
from ctypes import byref, c_char_p, c_size_t, c_uint64, c_void_p, cast, sizeof
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Union

from . import _layout as layout
from ._buffers import c_text
from ._handle import Handle
from ._library import library
from ._options import durability_number
from .batch import Batch
from .bucket import Bucket
from .errors import BufferTooSmall, check
from .queue import Queue

Path = Union[str, bytes, "os.PathLike[str]", "os.PathLike[bytes]"]


class BucketInfo(NamedTuple):
    """A bucket in a listing."""

    name: str
    #: How many it has.
    blobs: int
    #: Bytes of their values.
    bytes: int
    #: Its number, never used again.
    id: int


def open(
    path: Path,
    settings: Optional[Mapping[str, object]] = None,
    *,
    config: Optional[Path] = None,
) -> "Store":
    """Opens the store in a directory, or makes one there.

    `settings` are those of the README's table, as {"tier.0.capacity": "256MiB", "create": False}; they
    replace those of `config`, a TOML file. One process at a time has a store open (Locked), or several
    for reading only. Raises InvalidConfig for settings, and Locked, Format, TierMissing, Io and others.
    """
    options = layout.OpenOptions(struct_size=sizeof(layout.OpenOptions))
    if config is not None:
        options.config_file = c_text("config", os.fsencode(config))
    if settings:
        pairs = ((c_text("a setting", key), _setting(value)) for key, value in settings.items())
        options.settings = (layout.Setting * len(settings))(*(layout.Setting(*each) for each in pairs))
        options.setting_count = len(settings)
    number = c_uint64()
    check(library.isotherm_open(c_text("path", os.fsencode(path)), options, number))
    return Store(number.value)


def _setting(value: object) -> builtins.bytes:
    text = str(value)
    return c_text("a setting", text.lower() if isinstance(value, bool) else text)


class Store(Handle):
    """An open store. Use it in a `with` statement, or close it; all calls may be made from any thread.

    One that is still open when the interpreter exits is closed then.
    """

    def __init__(self, number: int) -> None:
        # Held during a close, for which the queues' buffers must wait.
        self._closing = threading.RLock()
        super().__init__(number, _close, number, self._closing)

    def close(self) -> None:
        """Makes everything durable and closes the store, with all that is of it.

        Waits for calls under way. The store is closed also if the flush fails, which is raised. A second
        close does nothing.
        """
        super().close()

    def bucket(self, name: str, create: bool = True) -> Bucket:
        """A bucket, made with default options if there is none, or if not `create`, BucketNotFound."""
        call = library.isotherm_bucket_ensure if create else library.isotherm_bucket_open
        number = c_uint64()
        check(call(self._use(), c_text("name", name), number))
        return Bucket(self, name, number.value)

    def create_bucket(
        self, name: str, *, durability: Optional[str] = None, buffer_size: int = 0
    ) -> Bucket:
        """Makes a bucket; BucketExists if there is one of this name.

        `durability` is that of changes that name none; `buffer_size` the largest buffer in bytes, a
        multiple of 16 KiB from 64 KiB to 1 MiB, 0 the store's.
        """
        options = layout.BucketOptions(struct_size=sizeof(layout.BucketOptions))
        options.durability = durability_number(durability)
        options.buffer_size = buffer_size
        number = c_uint64()
        check(library.isotherm_bucket_create(self._use(), c_text("name", name), options, number))
        return Bucket(self, name, number.value)

    def destroy_bucket(self, name: str) -> None:
        """Destroys a bucket with all its blobs; BucketNotFound if there is none."""
        check(library.isotherm_bucket_destroy(self._use(), c_text("name", name)))

    def buckets(self) -> List[BucketInfo]:
        """All buckets, by name."""
        count = c_size_t()
        room = 16
        while True:
            found = (layout.BucketInfo * room)()
            status = library.isotherm_bucket_list(self._use(), found, room, count)
            if status != BufferTooSmall.status:
                check(status)
                return [
                    BucketInfo(item.name.decode("utf-8", "replace"), item.blobs, item.bytes, item.id)
                    for item in found[: count.value]
                ]
            # Others may be made meanwhile.
            room = count.value + 16

    def batch(self, durability: Optional[str] = None) -> Batch:
        """Changes to be made together: `with store.batch() as batch:`, see Batch."""
        number = c_uint64()
        check(library.isotherm_batch_create(self._use(), number))
        return Batch(self, number.value, durability)

    def queue(self, depth: int = 256) -> Queue:
        """A queue of at most `depth` asynchronous operations, 1 to 65,536."""
        number = c_uint64()
        check(library.isotherm_queue_create(self._use(), depth, number))
        return Queue(self, number.value)

    def flush(self) -> None:
        """Makes everything acknowledged before this call durable: it survives power loss."""
        check(library.isotherm_flush(self._use()))

    def info(self) -> Dict[str, Any]:
        """What the store is and how it runs: tiers, shards, I/O backend."""
        return _json(library.isotherm_info, self._use())

    def stats(self) -> Dict[str, Any]:
        """Everything counted since the store was opened; bytes, and latencies in nanoseconds."""
        return _json(library.isotherm_stats, self._use())


def _close(number: int, closing: "threading.RLock") -> None:
    with closing:
        check(library.isotherm_close(number))


def _json(call: Callable[..., int], number: int) -> Dict[str, Any]:
    text = c_void_p()
    check(call(number, byref(text)))
    try:
        members: Dict[str, Any] = json.loads(cast(text, c_char_p).value or b"{}")
        return members
    finally:
        library.isotherm_free(text)
