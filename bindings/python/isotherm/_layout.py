"""The records of isotherm.h. tests/test_library.py compares them with the header."""

from ctypes import (
    POINTER,
    Structure,
    c_char,
    c_char_p,
    c_int32,
    c_uint8,
    c_uint32,
    c_uint64,
    c_void_p,
)

DURABILITIES = {None: 0, "memory": 1, "written": 2, "durable": 3}
CONDITION_NONE, CONDITION_ABSENT, CONDITION_PRESENT, CONDITION_VERSION = range(4)
(
    ACTION_GET,
    ACTION_GET_AT,
    ACTION_PUT,
    ACTION_PUT_AT,
    ACTION_APPEND,
    ACTION_TRUNCATE,
    ACTION_DELETE,
) = range(1, 8)
WAIT_FOREVER = -1


class PutOptions(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("flags", c_uint32),
        ("durability", c_uint32),
        ("condition", c_uint32),
        ("version", c_uint64),
    ]


class Setting(Structure):
    _fields_ = [("key", c_char_p), ("value", c_char_p)]


class OpenOptions(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("flags", c_uint32),
        ("config_file", c_char_p),
        ("settings", POINTER(Setting)),
        ("setting_count", c_uint64),
    ]


class BucketOptions(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("flags", c_uint32),
        ("durability", c_uint32),
        ("buffer_size", c_uint32),
    ]


class BucketStat(Structure):
    _fields_ = [("blobs", c_uint64), ("bytes", c_uint64), ("reserved", c_uint64 * 6)]


class BucketInfo(Structure):
    _fields_ = [
        ("name", c_char * 256),
        ("blobs", c_uint64),
        ("bytes", c_uint64),
        ("id", c_uint32),
        ("name_len", c_uint32),
        ("reserved", c_uint64 * 5),
    ]


class BlobStat(Structure):
    _fields_ = [
        ("value_len", c_uint64),
        ("version", c_uint64),
        ("buffers", c_uint64),
        ("reserved", c_uint64 * 5),
    ]


class ScanOptions(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("flags", c_uint32),
        ("prefix", c_char_p),
        ("prefix_len", c_uint64),
        ("start", c_char_p),
        ("start_len", c_uint64),
        ("end", c_char_p),
        ("end_len", c_uint64),
        ("after", c_char_p),
        ("after_len", c_uint64),
    ]


class ScanItem(Structure):
    _fields_ = [
        ("key", c_uint8 * 1024),
        ("key_len", c_uint64),
        ("value_len", c_uint64),
        ("version", c_uint64),
        ("reserved", c_uint64 * 5),
    ]


class Operation(Structure):
    _fields_ = [
        ("action", c_uint32),
        ("flags", c_uint32),
        ("bucket", c_uint64),
        ("key", c_char_p),
        ("key_len", c_uint64),
        ("buffer", c_void_p),
        ("len", c_uint64),
        ("offset", c_uint64),
        ("user_data", c_uint64),
        ("durability", c_uint32),
        ("condition", c_uint32),
        ("version", c_uint64),
        ("reserved", c_uint64 * 4),
    ]


class Completion(Structure):
    _fields_ = [
        ("id", c_uint64),
        ("user_data", c_uint64),
        ("status", c_int32),
        ("reserved", c_uint32),
        ("bytes", c_uint64),
        ("offset", c_uint64),
        ("value_len", c_uint64),
        ("version", c_uint64),
        ("reserved_tail", c_uint64),
        ("message", c_char * 128),
    ]
