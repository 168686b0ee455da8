"""Many blobs of 0 B to 8 MiB, synchronously and asynchronously, and those of C and C++ programs.

ISOTHERM_PYTHON_BLOBS says how many.
"""

import os
import pathlib
import subprocess

import content
from isotherm._library import ABI_VERSION
from support import ROOT, StoreTest

COUNT = int(os.environ.get("ISOTHERM_PYTHON_BLOBS", "300"))
FOR_C = min(COUNT, 100)
DEPTH = 16


class BlobsTest(StoreTest):
    capacity = "1GiB" if COUNT <= 2000 else "6GiB"

    def setUp(self):
        super().setUp()
        self.bucket = self.store.bucket("blobs")

    def reopen(self):
        super().reopen()
        self.bucket = self.store.bucket("blobs")

    def write(self, count, writer):
        with self.store.queue(DEPTH) as queue:
            for number in range(count):
                key, value = content.key(number, writer), content.value(number, writer)
                if number % 2 == 0:
                    self.bucket[key] = value
                    continue
                if queue.outstanding() == DEPTH:
                    self.stored(queue.wait())
                queue.put(self.bucket, key, value)
            while queue.outstanding():
                self.stored(queue.wait())

    def stored(self, completions):
        for ended in completions:
            self.assertIsNone(ended.error)

    def read(self, count, writer):
        out = bytearray(content.VALUE_LEN_MAX)
        rooms = [bytearray(content.VALUE_LEN_MAX) for _ in range(DEPTH)]
        with self.store.queue(DEPTH) as queue:
            for number in range(count):
                key = content.key(number, writer)
                if number % 4 == 0:
                    self.check(number, writer, self.bucket[key])
                elif number % 2 == 0:
                    length = self.bucket.get(key, out=out)
                    self.check(number, writer, memoryview(out)[:length])
                else:
                    if not rooms:
                        rooms = self.fetched(queue.wait(), writer)
                    queue.get(self.bucket, key, rooms.pop(), tag=number)
            while queue.outstanding():
                self.fetched(queue.wait(), writer)

    def fetched(self, completions, writer):
        for ended in completions:
            self.check(ended.tag, writer, ended.value())
        return [ended.buffer for ended in completions]

    def check(self, number, writer, value):
        # Not assertEqual, which would print megabytes.
        self.assertEqual(len(value), content.value_len(number))
        self.assertTrue(value == content.value(number, writer), f"blob {number} of {writer}")

    def test_blobs_of_all_sizes_are_there_after_a_reopen(self):
        self.write(COUNT, "python")
        self.reopen()
        self.assertEqual(len(self.bucket), COUNT)
        self.read(COUNT, "python")

    def test_c_cxx_and_python_read_what_the_others_have_written(self):
        self.write(FOR_C, "python")
        self.store.close()
        for compiler, source, writer in (("cc", "blobs.c", "c"), ("c++", "blobs.cc", "cxx")):
            program = self.compiled(compiler, source)
            for action, of in (("read", "python"), ("write", writer)):
                arguments = [self.path, self.capacity, str(FOR_C), action, of]
                environment = {**os.environ, "LD_LIBRARY_PATH": str(self.directory)}
                subprocess.run([program, *arguments], env=environment, check=True)
        self.reopen()
        self.assertEqual(len(self.bucket), 3 * FOR_C)
        self.read(FOR_C, "c")
        self.read(FOR_C, "cxx")

    def compiled(self, compiler, source):
        """A program against the library that the package has loaded, found by its soname."""
        library = self.directory / f"libisotherm.so.{ABI_VERSION}"
        if not library.exists():
            library.symlink_to(pathlib.Path(os.environ["ISOTHERM_LIBRARY"]).resolve())
        program = self.directory / f"{source}.program"
        path = ROOT / "ffi/tests/programs" / source
        command = [compiler, "-O1", f"-I{ROOT / 'include'}", path, library, "-lm", "-o", program]
        subprocess.run(command, check=True)
        return program
