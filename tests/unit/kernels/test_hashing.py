"""Hashes against their twins, published values and Kafka's partitioner."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.batch import Blob
from shared.identity import event_id
from shared.kernels.hashing import murmur2, murmur2_partitions, murmur3_128
from tests.reference import hashing as reference

KAFKA = {
    # Apache Kafka, UtilsTest.testMurmur2
    "21": -973932308,
    "foobar": -790332482,
    "a-little-bit-long-string": -985981536,
    "a-little-bit-longer-string": -1486304829,
    "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    "abc": 479470107,
}


def array(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8)


def digest(data: bytes, seed: int = 0) -> bytes:
    return b"".join(
        int(word).to_bytes(8, "little") for word in murmur3_128(array(data), 0, len(data), seed)
    )


def java_int(data: bytes) -> int:
    return int(np.uint32(murmur2(array(data), 0, len(data))).astype(np.int32))


def test_murmur3_passes_the_verification_of_its_authors() -> None:
    """SMHasher's VerificationTest gives the published value.

    It hashes the hashes of {}, {0}, {0, 1}, ... with the seeds 256, 255, ...
    """
    key = bytes(range(256))
    hashes = b"".join(digest(key[:size], 256 - size) for size in range(256))
    assert digest(hashes)[:4] == (0x6384BA69).to_bytes(4, "little")


@given(st.binary(max_size=70), st.integers(0, 2**32 - 1))
def test_murmur3_equals_its_twin(data: bytes, seed: int) -> None:
    assert digest(data, seed) == reference.murmur3_128(data, seed)


@pytest.mark.parametrize(("text", "expected"), KAFKA.items())
def test_murmur2_is_kafkas(text: str, expected: int) -> None:
    assert java_int(text.encode()) == reference.murmur2(text.encode()) == expected


@given(st.binary(max_size=40))
def test_murmur2_equals_its_twin(data: bytes) -> None:
    assert java_int(data) == reference.murmur2(data)


@given(st.binary(max_size=20), st.binary(max_size=20), st.binary(max_size=20))
def test_a_hash_sees_only_its_own_span(before: bytes, data: bytes, after: bytes) -> None:
    joined, start, stop = array(before + data + after), len(before), len(before) + len(data)
    assert murmur3_128(joined, start, stop, 7) == murmur3_128(array(data), 0, len(data), 7)
    assert murmur2(joined, start, stop) == murmur2(array(data), 0, len(data))


@given(st.lists(st.binary(max_size=12), max_size=8), st.integers(1, 1000))
def test_partitions_are_those_of_the_default_partitioner(keys: list[bytes], count: int) -> None:
    blob, partitions = Blob.join(keys), np.empty(len(keys), np.int64)
    murmur2_partitions(array(blob.data), blob.bounds, count, partitions)
    assert partitions.tolist() == [(reference.murmur2(key) & 0x7FFFFFFF) % count for key in keys]


@given(
    st.text(max_size=20),
    st.integers(0, 10_000),
    st.integers(0, 2**63 - 1),
    st.text(max_size=12),
    st.text(max_size=12),
)
def test_event_id_equals_its_twin(
    topic: str, partition: int, offset: int, entity: str, metric: str
) -> None:
    parts = (topic, partition, offset, "isolation_forest", "score", entity, metric)
    assert event_id(*parts) == reference.event_id(*parts)


def test_event_id_is_pinned() -> None:
    """Ids are kept by readers: they must never change."""
    assert (
        event_id("metrics.cloudwatch.raw", 3, 1234, "isolation_forest", "score", "host-1", "")
        == "835f5d01557ecd9192f8c58de67181c6"
    )
