"""Reading ahead: every batch in its order, errors where the rounds are taken, no thread left."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from consumer_training.reading import ahead
from shared.batch import Batch, Blob
from shared.errors import TransportError


def batch(partition: int, first: int, count: int = 3) -> Batch:
    values = [f"{partition}:{first + k}".encode() for k in range(count)]
    offsets = np.arange(first, first + count, dtype=np.int64)
    blank = Blob.join([b""] * count)
    return Batch("metrics", partition, Blob.join(values), blank, offsets, np.zeros(count, np.int64))


def values_of(batches: list[Batch], partition: int) -> list[bytes]:
    return [
        one.values[row] for one in batches if one.partition == partition for row in range(len(one))
    ]


@pytest.mark.parametrize("records", [1, 7, 1_000])
def test_every_batch_arrives_once_and_in_order(
    records: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "ROUND_RECORDS", records)
    given = [batch(partition, first) for first in range(0, 30, 3) for partition in (0, 1)]
    with ahead.reading(iter(given)) as rounds:
        taken = list(rounds)
    for one in taken:
        assert len({part.partition for part in one}) == len(one)
    joined = [part for one in taken for part in one]
    for partition in (0, 1):
        assert values_of(joined, partition) == values_of(given, partition)
    assert (len(taken) == 1) == (records == 1_000)
    assert "read" not in {thread.name for thread in threading.enumerate()}


def test_an_error_is_raised_where_the_rounds_are_taken() -> None:
    def broken() -> Iterator[Batch]:
        yield batch(0, 0)
        raise TransportError("the broker has gone")

    with (
        pytest.raises(TransportError, match="the broker has gone"),
        ahead.reading(broken()) as rounds,
    ):
        list(rounds)
    assert "read" not in {thread.name for thread in threading.enumerate()}


def test_leaving_early_closes_what_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "ROUND_RECORDS", 1)
    closed = []

    def endless() -> Iterator[Batch]:
        try:
            first = 0
            while True:
                yield batch(0, first)
                first += 3
        finally:
            closed.append(threading.current_thread().name)

    with ahead.reading(endless()) as rounds:
        assert len(next(rounds)) == 1
    assert closed == ["read"]
    assert "read" not in {thread.name for thread in threading.enumerate()}
