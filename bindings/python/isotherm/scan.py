"""Going through the blobs of a bucket."""

from ctypes import addressof, c_size_t, c_uint64, sizeof
from typing import TYPE_CHECKING, Iterator, List, NamedTuple, Optional

from . import _layout as layout
from ._buffers import Key, bytes_at, key_bytes
from ._handle import Handle
from ._library import library
from .errors import check

if TYPE_CHECKING:
    from .bucket import Bucket

_AT_ONCE = 64


class Entry(NamedTuple):
    """A blob that a scan has met."""

    key: bytes
    #: Bytes of the value when it was met.
    length: int
    #: Its version when it was met.
    version: int


class Scan(Handle):
    """An iterator over entries. One thread at a time may use it."""

    def __init__(
        self,
        bucket: "Bucket",
        prefix: Optional[Key],
        start: Optional[Key],
        end: Optional[Key],
        after: Optional[Key],
    ) -> None:
        options = layout.ScanOptions(struct_size=sizeof(layout.ScanOptions))
        bounds = {"prefix": prefix, "start": start, "end": end, "after": after}
        for name, bound in bounds.items():
            if bound is not None:
                key = key_bytes(bound)
                setattr(options, name, key)
                setattr(options, name + "_len", len(key))
        number = c_uint64()
        check(library.isotherm_scan_open(bucket._use(), options, number))
        super().__init__(number.value, library.isotherm_scan_close, number.value)
        self._bucket = bucket
        self._items = (layout.ScanItem * _AT_ONCE)()
        self._met: List[Entry] = []

    def __iter__(self) -> Iterator[Entry]:
        return self

    def __next__(self) -> Entry:
        if not self._met:
            self._fill()
        return self._met.pop()

    def _fill(self) -> None:
        if self.closed:
            raise StopIteration
        count = c_size_t()
        self._bucket._use()
        check(library.isotherm_scan_next(self._use(), self._items, _AT_ONCE, count))
        if count.value == 0:
            self.close()
            raise StopIteration
        met = (self._items[at] for at in range(count.value))
        self._met = [
            Entry(bytes_at(addressof(item), item.key_len), item.value_len, item.version)
            for item in met
        ]
        # From the end, where a list gives up its entries at no cost.
        self._met.reverse()
