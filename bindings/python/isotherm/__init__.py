"""Blobs on a hierarchy of DRAM, NVMe and HDD.

    with isotherm.open("/var/tmp/store") as store:
        bucket = store.bucket("results")
        bucket["run-7"] = b"a value of any length"
        print(bucket.get("run-7"))

The shared library is found by the environment variable ISOTHERM_LIBRARY, else by the system's loader.
Calls release the GIL; stores, buckets and queues may be used from any thread, a scan or a batch from
one at a time. A forked child of a process that has opened a store can make no calls (errors.Forked).
"""

from ._library import library_version
from .batch import Batch
from .bucket import BlobStat, Bucket, BucketUsage
from .errors import (
    BadHandle,
    BucketExists,
    BucketNotFound,
    BufferTooSmall,
    Busy,
    Cancelled,
    Closed,
    Corrupt,
    DeviceFailed,
    Error,
    Exists,
    Forked,
    Format,
    Internal,
    InvalidArgument,
    InvalidConfig,
    Io,
    LimitExceeded,
    Locked,
    NoMemory,
    NoSpace,
    NotFound,
    PermissionDenied,
    Poisoned,
    QuotaExceeded,
    ReadOnly,
    StoreNotFound,
    TierMissing,
    Unsupported,
    VersionMismatch,
)
from .queue import Completion, Queue
from .scan import Entry, Scan
from .store import BucketInfo, Store, open

__all__ = [
    "BadHandle",
    "Batch",
    "BlobStat",
    "Bucket",
    "BucketExists",
    "BucketInfo",
    "BucketNotFound",
    "BucketUsage",
    "BufferTooSmall",
    "Busy",
    "Cancelled",
    "Closed",
    "Completion",
    "Corrupt",
    "DeviceFailed",
    "Entry",
    "Error",
    "Exists",
    "Forked",
    "Format",
    "Internal",
    "InvalidArgument",
    "InvalidConfig",
    "Io",
    "LimitExceeded",
    "Locked",
    "NoMemory",
    "NoSpace",
    "NotFound",
    "PermissionDenied",
    "Poisoned",
    "Queue",
    "QuotaExceeded",
    "ReadOnly",
    "Scan",
    "Store",
    "StoreNotFound",
    "TierMissing",
    "Unsupported",
    "VersionMismatch",
    "library_version",
    "open",
]
