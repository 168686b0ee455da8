"""Finds, loads and checks the shared library, and declares its functions."""

import ctypes
import ctypes.util
import os
from ctypes import POINTER, c_bool, c_char_p, c_int32, c_int64, c_size_t, c_uint32, c_uint64, c_void_p
from typing import Tuple

from . import _layout as layout

ABI_VERSION = 0
OLDEST_VERSION = (0, 1, 0)

_HANDLE = c_uint64
_KEY = (c_char_p, c_size_t)
_DATA = (c_void_p, c_size_t)
_OPTIONS = POINTER(layout.PutOptions)
_NUMBER = POINTER(c_uint64)
_SIZE = POINTER(c_size_t)
_TEXT = POINTER(c_void_p)

# All that answer a status. c_char_p for keys: bytes go in as they are, with any NULs in them.
_CALLS = {
    "isotherm_put_options_init": (POINTER(layout.PutOptions), c_size_t),
    "isotherm_open_options_init": (POINTER(layout.OpenOptions), c_size_t),
    "isotherm_bucket_options_init": (POINTER(layout.BucketOptions), c_size_t),
    "isotherm_scan_options_init": (POINTER(layout.ScanOptions), c_size_t),
    "isotherm_open": (c_char_p, POINTER(layout.OpenOptions), _NUMBER),
    "isotherm_close": (_HANDLE,),
    "isotherm_flush": (_HANDLE,),
    "isotherm_info": (_HANDLE, _TEXT),
    "isotherm_stats": (_HANDLE, _TEXT),
    "isotherm_bucket_create": (_HANDLE, c_char_p, POINTER(layout.BucketOptions), _NUMBER),
    "isotherm_bucket_open": (_HANDLE, c_char_p, _NUMBER),
    "isotherm_bucket_ensure": (_HANDLE, c_char_p, _NUMBER),
    "isotherm_bucket_close": (_HANDLE,),
    "isotherm_bucket_destroy": (_HANDLE, c_char_p),
    "isotherm_bucket_stat": (_HANDLE, POINTER(layout.BucketStat)),
    "isotherm_bucket_list": (_HANDLE, POINTER(layout.BucketInfo), c_size_t, _SIZE),
    "isotherm_bucket_flush": (_HANDLE,),
    "isotherm_put": (_HANDLE, *_KEY, *_DATA, _OPTIONS, _NUMBER),
    "isotherm_put_at": (_HANDLE, *_KEY, c_uint64, *_DATA, _OPTIONS, _NUMBER),
    "isotherm_append": (_HANDLE, *_KEY, *_DATA, _OPTIONS, _NUMBER),
    "isotherm_truncate": (_HANDLE, *_KEY, c_uint64, _OPTIONS, _NUMBER),
    "isotherm_delete": (_HANDLE, *_KEY, _OPTIONS),
    "isotherm_rename": (_HANDLE, *_KEY, _HANDLE, *_KEY, _OPTIONS, _NUMBER),
    "isotherm_copy": (_HANDLE, *_KEY, _HANDLE, *_KEY, _OPTIONS, _NUMBER),
    "isotherm_get_into": (_HANDLE, *_KEY, *_DATA, _NUMBER),
    "isotherm_get": (_HANDLE, *_KEY, POINTER(c_void_p), _NUMBER),
    "isotherm_get_at": (_HANDLE, *_KEY, c_uint64, *_DATA, _NUMBER),
    "isotherm_stat": (_HANDLE, *_KEY, POINTER(layout.BlobStat)),
    "isotherm_exists": (_HANDLE, *_KEY, POINTER(c_bool)),
    "isotherm_scan_open": (_HANDLE, POINTER(layout.ScanOptions), _NUMBER),
    "isotherm_scan_next": (_HANDLE, POINTER(layout.ScanItem), c_size_t, _SIZE),
    "isotherm_scan_close": (_HANDLE,),
    "isotherm_batch_create": (_HANDLE, _NUMBER),
    "isotherm_batch_put": (_HANDLE, _HANDLE, *_KEY, *_DATA, _OPTIONS),
    "isotherm_batch_put_at": (_HANDLE, _HANDLE, *_KEY, c_uint64, *_DATA, _OPTIONS),
    "isotherm_batch_append": (_HANDLE, _HANDLE, *_KEY, *_DATA, _OPTIONS),
    "isotherm_batch_truncate": (_HANDLE, _HANDLE, *_KEY, c_uint64, _OPTIONS),
    "isotherm_batch_delete": (_HANDLE, _HANDLE, *_KEY, _OPTIONS),
    "isotherm_batch_require": (_HANDLE, _HANDLE, *_KEY, _OPTIONS),
    "isotherm_batch_commit": (_HANDLE, _OPTIONS, _NUMBER, c_size_t),
    "isotherm_batch_close": (_HANDLE,),
    "isotherm_queue_create": (_HANDLE, c_size_t, _NUMBER),
    "isotherm_queue_submit": (_HANDLE, POINTER(layout.Operation), c_size_t, _NUMBER, _SIZE),
    "isotherm_queue_wait": (
        _HANDLE, POINTER(layout.Completion), c_size_t, c_size_t, c_int64, _SIZE,
    ),
    "isotherm_queue_outstanding": (_HANDLE, _SIZE),
    "isotherm_queue_cancel": (_HANDLE, c_uint64),
    "isotherm_queue_close": (_HANDLE,),
}

# Those that answer something else: what, and of what.
_OTHERS = {
    "isotherm_last_error": (c_char_p,),
    "isotherm_free": (None, c_void_p),
    "isotherm_strerror": (c_char_p, c_int32),
    "isotherm_errname": (c_char_p, c_int32),
    "isotherm_version_number": (c_uint32,),
    "isotherm_version_string": (c_char_p,),
    "isotherm_abi_version": (c_uint32,),
}


def _load() -> ctypes.CDLL:
    named = os.environ.get("ISOTHERM_LIBRARY")
    soname = f"libisotherm.so.{ABI_VERSION}"
    path = named or ctypes.util.find_library("isotherm") or soname
    try:
        # Not PyDLL: other threads run Python while a call waits for a device.
        library = ctypes.CDLL(path)
    except OSError as error:
        raise ImportError(
            f"the isotherm library cannot be loaded ({error}); install it (make install), or set "
            "ISOTHERM_LIBRARY to the path of libisotherm.so"
        ) from error
    _declare(library, path)
    _check(library, path)
    return library


def _declare(library: ctypes.CDLL, path: str) -> None:
    declared = {name: (c_int32, *arguments) for name, arguments in _CALLS.items()}
    for name, (result, *arguments) in {**declared, **_OTHERS}.items():
        try:
            function = getattr(library, name)
        except AttributeError:
            raise ImportError(f"{path} has no {name}: it is not isotherm, or too old") from None
        function.restype = result
        function.argtypes = arguments


def _check(library: ctypes.CDLL, path: str) -> None:
    abi = library.isotherm_abi_version()
    if abi != ABI_VERSION:
        raise ImportError(
            f"{path} has version {abi} of the interface, this package needs {ABI_VERSION}; "
            "use the package and the library of one release"
        )
    version = _version(library)
    if version < OLDEST_VERSION:
        raise ImportError(f"{path} is version {version}, this package needs {OLDEST_VERSION}")
    for name in ("put", "open", "bucket", "scan"):
        init = getattr(library, f"isotherm_{name}_options_init")
        options = init.argtypes[0]._type_()
        size = ctypes.sizeof(options)
        if init(options, size) != 0 or options.struct_size != size:
            raise ImportError(f"{path} knows no isotherm_{name}_options_t of {size} bytes")


def _version(library: ctypes.CDLL) -> Tuple[int, int, int]:
    number = library.isotherm_version_number()
    return number // 1_000_000, number // 1000 % 1000, number % 1000


library = _load()


def library_version() -> Tuple[int, int, int]:
    """Major, minor and patch of the shared library in use."""
    return _version(library)
