"""Values in and out, of all sorts of memory."""

import array
import mmap

import isotherm
from support import StoreTest


class ValuesTest(StoreTest):
    def test_values_of_every_contiguous_kind_come_back_as_bytes(self):
        mapped = mmap.mmap(-1, 4096)
        mapped[:3] = b"abc"
        self.addCleanup(mapped.close)
        numbers = array.array("d", [1.5, -2.0])
        kinds = [b"", b"bytes\0with a NUL", bytearray(b"array"), numbers, mapped]
        kinds += [memoryview(b"0123456789")[2:5], memoryview(numbers)]
        for at, value in enumerate(kinds):
            self.bucket[f"key-{at}"] = value
            self.assertEqual(self.bucket[f"key-{at}"], bytes(memoryview(value).cast("B")))
            self.assertIs(type(self.bucket.get(f"key-{at}")), bytes)

    def test_large_values_come_back(self):
        value = bytes(range(256)) * (3 << 12) + b"tail"
        self.bucket["large"] = value
        self.assertEqual(self.bucket["large"], value)

    def test_text_keys_are_their_utf8_and_bytes_keys_may_have_nuls(self):
        self.bucket["schlüssel"] = b"1"
        self.assertEqual(self.bucket["schlüssel".encode()], b"1")
        self.bucket[b"a\0b"] = b"2"
        self.bucket[b"a\0c"] = b"3"
        self.assertEqual(self.bucket[b"a\0b"], b"2")
        for key in (1, None, bytearray(b"k")):
            with self.assertRaises(TypeError):
                self.bucket[key]

    def test_out_is_filled_and_the_length_returned(self):
        self.bucket["k"] = array.array("i", [7, 8, 9])
        out = array.array("i", [0] * 5)
        self.assertEqual(self.bucket.get("k", out=out), 12)
        self.assertEqual(out.tolist(), [7, 8, 9, 0, 0])
        mapped = mmap.mmap(-1, 4096)
        self.addCleanup(mapped.close)
        self.assertEqual(self.bucket.get("k", out=memoryview(mapped)[16:]), 12)
        self.assertEqual(mapped[16:20], array.array("i", [7]).tobytes())

    def test_out_of_a_missing_blob_is_left_alone(self):
        out = bytearray(b"before")
        self.assertIsNone(self.bucket.get("none", out=out))
        self.assertEqual(self.bucket.get("none", -1, out=out), -1)
        self.assertEqual(out, b"before")

    def test_an_out_too_small_is_refused_with_the_length_needed(self):
        self.bucket["k"] = bytes(1000)
        with self.assertRaises(isotherm.BufferTooSmall) as caught:
            self.bucket.get("k", out=bytearray(999))
        self.assertEqual(caught.exception.needed, 1000)

    def test_a_read_only_out_is_refused(self):
        self.bucket["k"] = b"value"
        for out in (b"12345", memoryview(bytearray(5)).toreadonly()):
            with self.assertRaisesRegex(ValueError, "read-only"):
                self.bucket.get("k", out=out)

    def test_buffers_that_are_not_contiguous_are_refused(self):
        for call in (self.bucket.put, lambda key, view: self.bucket.get(key, out=view)):
            with self.assertRaisesRegex(ValueError, "contiguous"):
                call("k", memoryview(bytearray(10))[::2])

    def test_what_is_no_buffer_is_a_type_error(self):
        for value in ("text", 7, None, [1]):
            with self.assertRaises(TypeError):
                self.bucket["k"] = value

    def test_a_buffer_can_be_resized_after_the_call(self):
        value, out = bytearray(b"value"), bytearray(5)
        self.bucket["k"] = value
        self.bucket.get("k", out=out)
        with self.assertRaises(TypeError):
            self.bucket.put(7, value)
        value.append(1)
        out.append(1)

    def test_parts_are_read_and_written(self):
        self.bucket.put_at("k", 4, b"data")
        self.assertEqual(self.bucket["k"], b"\0\0\0\0data")
        self.assertEqual(self.bucket.append("k", b"more"), 8)
        self.assertEqual(self.bucket.get_at("k", 6), b"tamore")
        self.assertEqual(self.bucket.get_at("k", 6, 4), b"tamo")
        self.assertEqual(self.bucket.get_at("k", 10, 100), b"re")
        self.assertEqual(self.bucket.get_at("k", 100), b"")
        out = bytearray(3)
        self.assertEqual(self.bucket.get_at("k", 10, out=out), 2)
        self.assertEqual(out, b"re\0")
        self.bucket.truncate("k", 5)
        self.assertEqual(self.bucket["k"], b"\0\0\0\0d")
        for offset in (-1, 1 << 64):
            with self.assertRaises(ValueError):
                self.bucket.get_at("k", offset, 1)

    def test_levels_of_durability_are_taken_and_others_refused(self):
        for level in (None, "memory", "written", "durable"):
            self.bucket.put("k", b"v", durability=level)
        with self.assertRaisesRegex(ValueError, "durability"):
            self.bucket.put("k", b"v", durability="sure")
