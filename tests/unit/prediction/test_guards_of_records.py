"""Misplaced keys and writer schemas that are not allowed are refused by name."""

from __future__ import annotations

from zlib import crc32

import numpy as np
import pytest

from consumer_prediction.health.guards import KeyCheck
from shared.batch import Batch, Blob
from shared.errors import PartitionerMismatch
from tests.reference.hashing import murmur2

# -- keys ------------------------------------------------------------------------------------------


def batch(partition: int, *keys: bytes) -> Batch:
    count = len(keys)
    blob = Blob.join(keys)
    return Batch("t", partition, blob, blob, np.arange(10, 10 + count), np.zeros(count, np.int64))


OWNERS = {
    "murmur2": lambda key, n: (murmur2(key) & 0x7FFFFFFF) % n,
    "crc32": lambda key, n: crc32(key) % n,
}


@pytest.mark.parametrize("partitioner", ["murmur2", "crc32"])
@pytest.mark.parametrize("count", [1, 2, 6, 7])
def test_a_key_is_taken_where_its_partitioner_puts_it_and_nowhere_else(partitioner, count):
    check = KeyCheck(partitioner, count)
    keys = [f"host-{number}".encode() for number in range(200)]
    for partition in range(count):
        own = [key for key in keys if OWNERS[partitioner](key, count) == partition]
        check.check(batch(partition, *own))
        for key in keys:
            if key not in own:
                with pytest.raises(PartitionerMismatch):
                    check.check(batch(partition, *own, key))


def test_java_and_librdkafka_put_these_keys_there():
    """A hash from Kafka's own tests of murmur2, and the check value of CRC-32."""
    KeyCheck("murmur2", 1000).check(batch((-973932308 & 0x7FFFFFFF) % 1000, b"21"))
    KeyCheck("crc32", 1000).check(batch(0xCBF43926 % 1000, b"123456789"))


def test_a_foreign_key_is_named_with_its_place():
    wrong = next(
        k
        for k in (f"host-{n}".encode() for n in range(99))
        if OWNERS["murmur2"](k, 6) == 4 and OWNERS["crc32"](k, 6) == 1
    )
    right = next(
        k for k in (f"host-{n}".encode() for n in range(99)) if OWNERS["murmur2"](k, 6) == 1
    )
    message = (
        rf"t\[1\]@12: the key {wrong!r} belongs in partition 4 of 6 by input.partitioner = murmur2"
        r" \(crc32 would put it here\)"
    )
    with pytest.raises(PartitionerMismatch, match=message):
        KeyCheck("murmur2", 6).check(batch(1, right, right, wrong, wrong))


def test_records_without_a_key_may_be_anywhere():
    for partition in range(6):
        for partitioner in ("murmur2", "crc32", "unchecked"):
            KeyCheck(partitioner, 6).check(batch(partition, b"", b""))
            KeyCheck(partitioner, 6).check(batch(partition))


def test_unchecked_keys_may_be_anywhere():
    for partition in range(6):
        KeyCheck("unchecked", 6).check(batch(partition, b"host-1"))


# -- schemas ---------------------------------------------------------------------------------------
