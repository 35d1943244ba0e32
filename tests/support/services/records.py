"""Records, readers and listeners for tests of the Kafka adapter."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from shared.batch import Batch, Blob, Outgoing, Position
from shared.kafka import GroupSource, Publisher, Reader
from shared.settings import Settings


def outgoing(topic: str, values: Sequence[bytes], keys: Sequence[bytes] | None = None) -> Outgoing:
    return Outgoing(
        topic, Blob.join(values), Blob.join(keys or [b"k%d" % (i % 17) for i in range(len(values))])
    )


def numbered(start: int, stop: int) -> list[bytes]:
    return [b"%06d" % i for i in range(start, stop)]


def values(batches: Sequence[Batch]) -> list[bytes]:
    return [batch.values[row] for batch in batches for row in range(len(batch))]


def publish(settings: Settings, topic: str, records: Sequence[bytes]) -> None:
    publisher = Publisher(settings)
    publisher.send(outgoing(topic, records))
    assert publisher.flush(10) == 0
    assert (publisher.acknowledged, publisher.failed) == (len(records), 0)
    publisher.close()


def everything(settings: Settings, topic: str) -> list[bytes]:
    return sorted(values(list(Reader(settings).read(topic))))


def shows(settings: Settings, topic: str, expected: list[bytes]) -> bool:
    """A commit is answered before its markers are written, so a reader sees it a little later."""
    deadline = time.monotonic() + 10
    while (found := everything(settings, topic)) != expected and time.monotonic() < deadline:
        time.sleep(0.02)
    assert found == expected
    return True


@dataclass
class Log:
    """A listener that records its calls and starts at the committed positions."""

    calls: list[tuple[str, list[int]]] = field(default_factory=list)
    committed: dict[int, Position | None] = field(default_factory=dict)
    owned: set[int] = field(default_factory=set)
    before_revoke: Callable[[], None] = lambda: None
    fail: list[Exception] = field(default_factory=list)

    def assigned(
        self, committed: Mapping[int, Position | None], start: Mapping[int, int]
    ) -> Mapping[int, int]:
        self.calls.append(("assigned", sorted(committed)))
        if self.fail:
            raise self.fail.pop()
        self.committed |= committed
        self.owned |= set(committed)
        return {p: position.offset if position else start[p] for p, position in committed.items()}

    def revoked(self, partitions: Sequence[int]) -> None:
        self.calls.append(("revoked", list(partitions)))
        self.owned -= set(partitions)
        self.before_revoke()

    def lost(self, partitions: Sequence[int]) -> None:
        self.calls.append(("lost", list(partitions)))
        self.owned -= set(partitions)


@contextmanager
def member(settings: Settings, listener: Log, **more: object) -> Iterator[GroupSource]:
    source = GroupSource(settings, **more)
    source.subscribe(listener)
    try:
        yield source
    finally:
        source.close()


def poll_until(
    source: GroupSource, done: Callable[[], bool], timeout_s: float = 15.0
) -> list[Batch]:
    batches: list[Batch] = []
    deadline = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < deadline, "it did not happen in time"
        batches += source.poll(1000, 0.05)
    return batches


def poll_records(source: GroupSource, count: int, timeout_s: float = 15.0) -> list[Batch]:
    batches: list[Batch] = []
    deadline = time.monotonic() + timeout_s
    while sum(map(len, batches)) < count:
        assert time.monotonic() < deadline, (
            f"{sum(map(len, batches))} of {count} records in {timeout_s} s"
        )
        batches += source.poll(1000, 0.05)
    return batches


def after(batches: Sequence[Batch], metadata: str = "") -> dict[int, Position]:
    return {batch.partition: Position(int(batch.offsets[-1]) + 1, metadata) for batch in batches}


def murmur2(key: bytes) -> int:
    """Kafka's murmur2 as in org.apache.kafka.common.utils.Utils, made positive."""
    mixed, mask = 0x5BD1E995, 0xFFFFFFFF
    h = (0x9747B28C ^ len(key)) & mask
    whole = len(key) // 4 * 4
    for i in range(0, whole, 4):
        k = int.from_bytes(key[i : i + 4], "little") * mixed & mask
        h = (h * mixed & mask) ^ ((k ^ k >> 24) * mixed & mask)
    if key[whole:]:
        h = (h ^ int.from_bytes(key[whole:], "little")) * mixed & mask
    h = (h ^ h >> 13) * mixed & mask
    return (h ^ h >> 15) & 0x7FFFFFFF
