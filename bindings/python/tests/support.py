"""What the tests share: a directory and a small store for each."""

import pathlib
import shutil
import tempfile
import unittest

import isotherm

ROOT = pathlib.Path(__file__).resolve().parents[3]


def settings(capacity="256MiB"):
    return {
        "tier.0.kind": "dram",
        "tier.0.capacity": "64MiB",
        "tier.1.kind": "nvme",
        "tier.1.capacity": capacity,
    }


class StoreTest(unittest.TestCase):
    """Has `store` and `bucket`."""

    capacity = "256MiB"

    def setUp(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="isotherm-python-"))
        self.addCleanup(shutil.rmtree, self.directory)
        self.path = self.directory / "store"
        self.store = None
        self.addCleanup(self.close)
        self.reopen()

    def close(self):
        if self.store is not None:
            self.store.close()

    def reopen(self):
        self.close()
        self.store = isotherm.open(self.path, settings(self.capacity))
        self.bucket = self.store.bucket("things")
