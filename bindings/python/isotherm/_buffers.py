"""Memory of Python objects, handed to the library without a copy, and the other way."""

import ctypes
from ctypes import c_char_p, c_int, c_ssize_t, c_void_p, py_object
from typing import Any, Union

Key = Union[str, bytes]

_WRITABLE = 1  # PyBUF_WRITABLE


class _PyBuffer(ctypes.Structure):
    """Py_buffer, of the stable ABI since Python 3.11 and the same before."""

    _fields_ = [
        ("buf", c_void_p),
        ("obj", c_void_p),
        ("len", c_ssize_t),
        ("itemsize", c_ssize_t),
        ("readonly", c_int),
        ("ndim", c_int),
        ("format", c_char_p),
        ("shape", c_void_p),
        ("strides", c_void_p),
        ("suboffsets", c_void_p),
        ("internal", c_void_p),
    ]


# ctypes' own from_buffer refuses read-only memory.
_get_buffer = ctypes.pythonapi.PyObject_GetBuffer
_get_buffer.argtypes = (py_object, ctypes.POINTER(_PyBuffer), c_int)
_get_buffer.restype = c_int
_release_buffer = ctypes.pythonapi.PyBuffer_Release
_release_buffer.argtypes = (ctypes.POINTER(_PyBuffer),)
_release_buffer.restype = None
# Not string_at: its length is an int, too short for large values.
_bytes_at = ctypes.pythonapi.PyBytes_FromStringAndSize
_bytes_at.argtypes = (c_void_p, c_ssize_t)
_bytes_at.restype = py_object


class Held:
    """The memory of an object of the buffer protocol, in place until `release`.

    While it is held the object cannot be resized or unmapped, and is kept alive.
    """

    # Of the class, for `__del__` may come when the module is gone.
    _release = staticmethod(_release_buffer)

    def __init__(self, owner: Any, writable: bool = False) -> None:
        self._buffer = _PyBuffer()
        view = memoryview(owner)
        if not view.c_contiguous:
            raise ValueError("the buffer is not contiguous; copy it first, as with bytes(...)")
        if writable and view.readonly:
            raise ValueError("the buffer is read-only; pass a writable one, as a bytearray")
        # Of the object, not of the view: a view that is dropped would let go of its memory.
        _get_buffer(owner, self._buffer, _WRITABLE if writable else 0)
        self.owner = owner

    @property
    def address(self) -> int:
        """Where it begins."""
        return self._buffer.buf or 0

    @property
    def length(self) -> int:
        """Its bytes."""
        return int(self._buffer.len)

    def release(self) -> None:
        """Lets go of the memory. A second time does nothing."""
        self._release(self._buffer)

    __del__ = release

    def __enter__(self) -> "Held":
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()


def bytes_at(address: int, length: int) -> bytes:
    """A copy of memory."""
    copy: bytes = _bytes_at(address, length)
    return copy


def key_bytes(key: Key) -> bytes:
    """A key as the library takes it: text as UTF-8, bytes as they are."""
    if isinstance(key, str):
        return key.encode()
    if isinstance(key, bytes):
        return key
    raise TypeError(f"a key is str or bytes, not {type(key).__name__}")


def c_text(what: str, text: Union[str, bytes]) -> bytes:
    """Text for C, in which a NUL would end it early."""
    encoded = text.encode() if isinstance(text, str) else text
    if b"\0" in encoded:
        raise ValueError(f"{what} {text!r} has a NUL in it")
    return encoded
