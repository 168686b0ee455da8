"""Blobs on a hierarchy of DRAM, NVMe and HDD.

    with isotherm.open("/var/tmp/store") as store:
        bucket = store.bucket("results")
        bucket["run-7"] = b"a value of any length"
        print(bucket.get("run-7"))

The shared library is found by the environment variable ISOTHERM_LIBRARY, else by the system's loader.
Calls release the GIL; stores, buckets and queues may be used from any thread, a scan or a batch from
one at a time. A forked child of a process that has opened a store can make no calls (errors.Forked).
"""

from . import errors
from ._library import library_version
from .batch import Batch
from .bucket import BlobStat, Bucket, BucketUsage
from .errors import *  # noqa: F403 - the exceptions, which errors.__all__ lists
from .queue import Completion, Queue
from .scan import Entry, Scan
from .store import BucketInfo, Store, open

__all__ = [
    "Batch",
    "BlobStat",
    "Bucket",
    "BucketInfo",
    "BucketUsage",
    "Completion",
    "Entry",
    "Queue",
    "Scan",
    "Store",
    "library_version",
    "open",
    *errors.__all__,
]
