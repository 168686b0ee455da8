"""Opening, closing, threads, forks, the end of the interpreter."""

import gc
import os
import subprocess
import sys
import threading
import time

import isotherm
from support import StoreTest, settings


class LivesTest(StoreTest):
    def test_what_was_stored_is_there_after_a_reopen(self):
        self.bucket.put("k", b"value", durability="memory")
        self.reopen()
        self.assertEqual(self.bucket["k"], b"value")

    def test_everything_of_a_closed_store_raises_closed_and_closing_again_does_nothing(self):
        queue, batch, scan = self.store.queue(), self.store.batch(), self.bucket.scan()
        self.store.close()
        self.store.close()
        uses = [
            self.store.flush, self.store.info, self.store.queue, self.store.buckets,
            lambda: self.store.bucket("things"), lambda: self.bucket["k"], lambda: len(self.bucket),
            lambda: self.bucket.put("k", b"v"), lambda: next(scan), queue.wait, batch.commit,
            self.store.__enter__,
        ]
        for use in uses:
            with self.assertRaises(isotherm.Closed):
                use()
        for each in (queue, batch, scan, self.bucket):
            each.close()

    def test_a_bucket_that_is_closed_or_destroyed_says_so(self):
        self.bucket.close()
        with self.assertRaisesRegex(isotherm.Closed, "this bucket is closed"):
            self.bucket["k"]
        bucket = self.store.bucket("things")
        self.store.destroy_bucket("things")
        with self.assertRaises(isotherm.BucketNotFound):
            bucket["k"] = b"v"

    def test_a_store_is_open_once_and_settings_are_checked(self):
        with self.assertRaises(isotherm.Locked):
            isotherm.open(self.path)
        with self.assertRaisesRegex(isotherm.InvalidConfig, "colour"):
            isotherm.open(self.directory / "other", {"colour": "red"})
        with self.assertRaises(isotherm.StoreNotFound):
            isotherm.open(self.directory / "none", {"create": False})
        with self.assertRaisesRegex(ValueError, "NUL"):
            isotherm.open(b"a\0b")

    def test_a_file_of_settings_and_settings_that_replace_it(self):
        config = self.directory / "config.toml"
        tiers = ['[[tier]]\nkind = "dram"\ncapacity = "64MiB"\n', '[[tier]]\nkind = "nvme"\n']
        config.write_text("\n".join(tiers))
        more = {"tier.1.capacity": "256MiB"}
        with isotherm.open(str(self.directory / "other"), more, config=config) as store:
            capacities = [tier["capacity"] for tier in store.info()["tiers"]]
        self.assertEqual(capacities, [64 << 20, 256 << 20])

    def test_a_store_open_for_reading_refuses_changes(self):
        self.bucket["k"] = b"value"
        self.store.close()
        with isotherm.open(self.path, {"read_only": True}) as store:
            bucket = store.bucket("things", create=False)
            self.assertEqual(bucket["k"], b"value")
            with self.assertRaises(isotherm.ReadOnly):
                bucket["k"] = b"other"

    def test_a_bucket_keeps_its_store_and_the_store_goes_with_the_last_of_it(self):
        path = self.directory / "other"
        bucket = isotherm.open(path, settings()).bucket("b")
        gc.collect()
        bucket["k"] = b"value"
        del bucket
        gc.collect()
        with isotherm.open(path, settings()) as store:
            self.assertEqual(store.bucket("b")["k"], b"value")

    def test_info_stats_and_flushes(self):
        self.bucket["k"] = b"value"
        self.bucket.flush()
        self.store.flush()
        self.assertEqual(self.store.stats()["blobs"], 1)
        self.assertFalse(self.store.info()["read_only"])

    def test_threads_use_one_store_at_once(self):
        failures = []

        def work(thread):
            try:
                with self.store.queue(8) as queue:
                    for number in range(100):
                        key, value = f"{thread}/{number}", bytes([thread]) * (number * 50)
                        self.bucket[key] = value
                        queue.get(self.bucket, key, bytearray(len(value)))
                        (ended,) = queue.wait()
                        if self.bucket[key] != value or ended.value() != value:
                            failures.append(key)
            except Exception as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(thread,)) for thread in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        self.assertEqual(len(self.bucket), 600)

    def test_other_threads_run_while_a_call_waits(self):
        turns, done = [0], threading.Event()

        def turn():
            while not done.is_set():
                turns[0] += 1
                time.sleep(0)

        thread = threading.Thread(target=turn)
        interval = sys.getswitchinterval()
        # Nobody is made to give way: only a call that lets go of the interpreter does.
        sys.setswitchinterval(1000)
        try:
            thread.start()
            before = turns[0]
            for number in range(20):
                self.bucket.put("k", bytes([number]), durability="durable")
            after = turns[0]
        finally:
            done.set()
            sys.setswitchinterval(interval)
            thread.join()
        self.assertGreater(after, before)

    def test_a_forked_child_is_refused_and_its_parent_is_not(self):
        self.bucket["k"] = b"value"
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            text = "not refused"
            try:
                self.bucket["k"]
            except isotherm.Forked as error:
                text = str(error)
            finally:
                self.store.close()
                os.write(write, text.encode())
                os._exit(0)
        os.close(write)
        with os.fdopen(read) as pipe:
            self.assertIn("forked", pipe.read())
        os.waitpid(child, 0)
        self.assertEqual(self.bucket["k"], b"value")

    def test_a_store_left_open_is_closed_when_the_interpreter_exits(self):
        script = (
            "import isotherm, sys\n"
            "store = isotherm.open(sys.argv[1])\n"
            "bucket, queue = store.bucket('things'), store.queue()\n"
            "scan = bucket.scan()\n"
            "bucket.put('k', b'value', durability='memory')\n"
            "queue.put(bucket, 'queued', bytearray(100000), durability='memory')\n"
        )
        self.store.close()
        command = [sys.executable, "-W", "error", "-c", script, str(self.path)]
        result = subprocess.run(command, stderr=subprocess.PIPE, text=True)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.reopen()
        self.assertEqual(self.bucket["k"], b"value")
        self.assertEqual(self.bucket["queued"], bytes(100_000))
