"""Buckets as dicts, conditions, scans, batches."""

import isotherm
from support import StoreTest


class DictTest(StoreTest):
    def test_a_missing_key_is_a_key_error_and_get_has_a_default(self):
        with self.assertRaises(KeyError) as caught:
            self.bucket["none"]
        self.assertIs(type(caught.exception), isotherm.NotFound)
        self.assertIn('there is no blob "none"', str(caught.exception))
        self.assertIsNone(self.bucket.get("none"))
        self.assertEqual(self.bucket.get("none", b"default"), b"default")
        with self.assertRaises(KeyError):
            del self.bucket["none"]
        with self.assertRaises(isotherm.NotFound):
            self.bucket.get_at("none", 0)

    def test_contains_del_len_and_iteration(self):
        for key in ("b", "a", "c"):
            self.bucket[key] = b"value"
        self.assertEqual(list(self.bucket), [b"a", b"b", b"c"])
        self.assertEqual((len(self.bucket), self.bucket.usage()), (3, (3, 15)))
        self.assertIn("a", self.bucket)
        del self.bucket["a"]
        self.assertNotIn("a", self.bucket)
        self.assertEqual(len(self.bucket), 2)

    def test_copies_and_renames_within_and_across_buckets(self):
        other = self.store.bucket("other")
        self.bucket["k"] = b"value"
        self.bucket.copy("k", "copy")
        self.bucket.copy("k", "copy", other)
        self.bucket.rename("k", "moved", other)
        self.assertEqual(list(self.bucket), [b"copy"])
        self.assertEqual([other[key] for key in other], [b"value"] * 2)

    def test_versions_grow_and_stat_has_them(self):
        first = self.bucket.put("k", b"1")
        second = self.bucket.put("k", b"22")
        self.assertGreater(second, first)
        self.assertEqual(self.bucket.stat("k")[:2], (2, second))

    def test_changes_are_made_only_if_their_condition_holds(self):
        version = self.bucket.put("k", b"1", when="absent")
        with self.assertRaises(isotherm.Exists):
            self.bucket.put("k", b"2", when="absent")
        with self.assertRaises(isotherm.NotFound):
            self.bucket.put("none", b"2", when="present")
        with self.assertRaises(isotherm.VersionMismatch):
            self.bucket.delete("k", when=version + 1)
        self.assertEqual(self.bucket["k"], b"1")
        self.bucket.append("k", b"2", when=version)
        self.assertEqual(self.bucket["k"], b"12")
        for when in ("sometimes", True, 1.5):
            with self.assertRaisesRegex(ValueError, "when"):
                self.bucket.put("k", b"3", when=when)

    def test_buckets_are_made_listed_and_destroyed(self):
        names = sorted(f"bucket-{number}" for number in range(40))
        for name in names:
            self.store.create_bucket(name, durability="memory", buffer_size=64 << 10)["k"] = b"12"
        listed = self.store.buckets()
        self.assertEqual([item.name for item in listed], names + ["things"])
        self.assertEqual(listed[0][1:3], (1, 2))
        with self.assertRaises(isotherm.BucketExists):
            self.store.create_bucket(names[0])
        self.store.destroy_bucket(names[0])
        with self.assertRaises(KeyError) as caught:
            self.store.bucket(names[0], create=False)
        self.assertIs(type(caught.exception), isotherm.BucketNotFound)
        with self.assertRaisesRegex(ValueError, "NUL"):
            self.store.bucket("a\0b")


class ScanTest(StoreTest):
    def setUp(self):
        super().setUp()
        self.keys = [b"%s/%03d" % (kind, number) for kind in (b"a", b"b") for number in range(150)]
        for key in self.keys:
            self.bucket[key] = key

    def scanned(self, **bounds):
        return [entry.key for entry in self.bucket.scan(**bounds)]

    def test_scans_meet_every_blob_once_in_order_with_length_and_version(self):
        self.assertEqual(self.scanned(), self.keys)
        entry = next(self.bucket.scan())
        self.assertEqual(entry, (b"a/000", 5, self.bucket.stat(b"a/000").version))

    def test_scans_stay_within_their_bounds(self):
        self.assertEqual(self.scanned(prefix="b/"), self.keys[150:])
        self.assertEqual(self.scanned(start="a/100", end=b"b/010"), self.keys[100:160])
        self.assertEqual(self.scanned(prefix="a/", after="a/147"), self.keys[148:150])
        with self.assertRaises(isotherm.InvalidArgument):
            self.bucket.scan(prefix="a", start="b")

    def test_a_scan_may_be_left_early_and_is_over_after_its_end(self):
        with self.bucket.scan() as scan:
            next(scan)
        self.assertTrue(scan.closed)
        scan = self.bucket.scan(prefix="none")
        self.assertEqual(list(scan), [])
        self.assertEqual(list(scan), [])


class BatchTest(StoreTest):
    def test_all_changes_of_a_batch_are_made(self):
        other = self.store.bucket("other")
        self.bucket["gone"] = self.bucket["short"] = self.bucket["long"] = b"value"
        with self.store.batch(durability="durable") as batch:
            batch.put(self.bucket, "new", bytearray(b"new"), when="absent")
            batch.put_at(other, "at", 2, b"x")
            batch.append(self.bucket, "long", b"+")
            batch.truncate(self.bucket, "short", 2)
            batch.delete(self.bucket, "gone", when="present")
            batch.require(other, "none", when="absent")
        self.assertEqual(len(batch.versions), 6)
        self.assertEqual(batch.versions[0], self.bucket.stat("new").version)
        values = {key: self.bucket[key] for key in self.bucket}
        self.assertEqual(values, {b"new": b"new", b"short": b"va", b"long": b"value+"})
        self.assertEqual(other["at"], b"\0\0x")

    def test_a_batch_with_a_step_that_fails_changes_nothing(self):
        self.bucket["there"] = b"1"
        with self.assertRaises(isotherm.Exists):
            with self.store.batch() as batch:
                batch.put(self.bucket, "new", b"new")
                batch.put(self.bucket, "there", b"2", when="absent")
        self.assertEqual({key: self.bucket[key] for key in self.bucket}, {b"there": b"1"})
        self.assertTrue(batch.closed)

    def test_an_exception_inside_drops_the_batch(self):
        with self.assertRaises(ZeroDivisionError):
            with self.store.batch() as batch:
                batch.put(self.bucket, "new", b"new")
                raise ZeroDivisionError
        self.assertEqual(len(self.bucket), 0)
        with self.assertRaises(isotherm.Closed):
            batch.put(self.bucket, "new", b"new")
