"""Asynchronous operations."""

import gc
import random
import threading

import isotherm
from support import StoreTest


class QueueTest(StoreTest):
    def drain(self, queue):
        ended = []
        while queue.outstanding():
            ended += queue.wait()
        return ended

    def test_hundreds_in_flight_whose_buffers_the_caller_has_dropped_are_stored_whole(self):
        pattern = random.Random(7)
        values = {f"k{number}": pattern.randbytes(number * 37) for number in range(500)}
        with self.store.queue(depth=500) as queue:
            for key, value in values.items():
                queue.put(self.bucket, key, bytearray(value))
            gc.collect()
            # Memory that was let go of too early would be these now.
            noise = [bytearray(b"\xff" * (number * 37)) for number in range(500)]
            self.assertEqual([ended.error for ended in self.drain(queue)], [None] * 500)
            for key, value in values.items():
                queue.get(self.bucket, key, bytearray(len(value)), tag=key)
            ended = self.drain(queue)
        self.assertEqual(len(noise), len(ended))
        self.assertEqual({each.tag: bytes(each.value()) for each in ended}, values)

    def test_a_buffer_cannot_be_resized_until_its_completion_is_taken(self):
        value = bytearray(b"value")
        with self.store.queue() as queue:
            queue.put(self.bucket, "k", value)
            with self.assertRaises(BufferError):
                value.append(1)
            (ended,) = queue.wait()
            self.assertIs(ended.buffer, value)
            value.append(1)

    def test_a_queue_that_is_closed_lets_go_of_its_buffers_and_has_stored_them(self):
        value = bytearray(1 << 20)
        queue = self.store.queue()
        queue.put(self.bucket, "k", value)
        queue.close()
        value.append(1)
        self.assertEqual(self.bucket["k"], bytes(1 << 20))
        with self.assertRaises(isotherm.Closed):
            queue.put(self.bucket, "k", value)
        value.append(1)

    def test_a_queue_that_is_dropped_or_whose_store_is_closed_stores_what_it_was_given(self):
        queue = self.store.queue()
        queue.put(self.bucket, "dropped", bytearray(b"d" * 100_000))
        del queue
        queue = self.store.queue()
        queue.put(self.bucket, "closed", bytearray(b"c" * 100_000))
        self.reopen()
        queue.close()
        self.assertEqual(self.bucket["dropped"], b"d" * 100_000)
        self.assertEqual(self.bucket["closed"], b"c" * 100_000)

    def test_a_queue_closed_amid_its_stores_close_lets_go_of_no_buffer_too_early(self):
        buffers = [bytearray(1 << 20) for _ in range(64)]
        queue = self.store.queue()
        for number, buffer in enumerate(buffers):
            queue.put(self.bucket, f"k{number}", buffer, durability="durable")
        closing = threading.Thread(target=self.store.close)
        closing.start()
        while not self.store.closed:
            pass
        queue.close()
        for buffer in buffers:
            buffer[:] = b"\xff" * len(buffer)
        closing.join()
        self.reopen()
        for number in range(64):
            self.assertEqual(self.bucket[f"k{number}"].count(0), 1 << 20)

    def test_every_action_has_its_completion(self):
        with self.store.queue() as queue:
            submissions = [
                lambda: queue.put(self.bucket, "k", b"value", durability="durable", when="absent"),
                lambda: queue.put_at(self.bucket, "k", 1, b"A"),
                lambda: queue.append(self.bucket, "k", b"-tail", when="present"),
                lambda: queue.truncate(self.bucket, "k", 7),
            ]
            for submit in submissions:
                number = submit()
                (ended,) = queue.wait()
                self.assertEqual((ended.id, ended.error), (number, None))
                self.assertEqual(ended.version, self.bucket.stat("k").version)
            self.assertEqual(self.bucket["k"], b"vAlue-t")
            queue.get_at(self.bucket, "k", 2, bytearray(3))
            (ended,) = queue.wait()
            self.assertEqual((bytes(ended.value()), ended.offset), (b"lue", 2))
            queue.delete(self.bucket, "k")
            self.assertIsNone(queue.wait()[0].error)
        self.assertNotIn("k", self.bucket)

    def test_errors_come_with_the_completion(self):
        self.bucket["k"] = bytes(100)
        with self.store.queue() as queue:
            queue.get(self.bucket, "none", bytearray(1), tag="none")
            queue.get(self.bucket, "k", bytearray(99), tag="small")
            queue.put(self.bucket, "k", b"", when="absent", tag="exists")
            errors = {each.tag: each for each in self.drain(queue)}
        self.assertIs(type(errors["none"].error), isotherm.NotFound)
        self.assertIn("none", str(errors["none"].error))
        self.assertIs(type(errors["exists"].error), isotherm.Exists)
        self.assertEqual(errors["small"].error.needed, 100)
        with self.assertRaises(isotherm.BufferTooSmall):
            errors["small"].value()

    def test_a_full_queue_is_busy_and_keeps_nothing_of_what_it_refused(self):
        value = bytearray(b"value")
        with self.store.queue(depth=1) as queue:
            queue.put(self.bucket, "k", b"first")
            with self.assertRaises(isotherm.Busy):
                queue.put(self.bucket, "k", value)
            value.append(1)
            self.assertEqual(len(queue.wait()), 1)
            self.assertEqual(queue.wait(timeout=0), [])

    def test_a_wait_is_no_longer_than_there_is_something_to_wait_for(self):
        with self.store.queue() as queue:
            self.assertEqual(queue.wait(), [])
            queue.put(self.bucket, "k", b"value")
            self.assertEqual(len(queue.wait(min=2)), 1)

    def test_what_is_refused_at_once_keeps_no_buffer(self):
        value = bytearray(b"value")
        with self.store.queue() as queue:
            with self.assertRaises(TypeError):
                queue.put(self.bucket, 7, value)
            with self.assertRaises(ValueError):
                queue.put_at(self.bucket, "k", -1, value)
            with self.assertRaises(ValueError):
                queue.get(self.bucket, "k", b"read-only")
            with self.assertRaises(ValueError):
                queue.wait(timeout=-1)
            self.assertEqual(queue.outstanding(), 0)
        value.append(1)
