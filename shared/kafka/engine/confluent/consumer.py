"""A consumer of confluent-kafka under the port.

Invariant: a message leaves exactly once, in a batch or as an error; what a failed call had fetched
before comes with the next one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from shared.batch import Position
from shared.kafka.engine.confluent.errors import client_error, failures, no_answer, open_client
from shared.kafka.engine.confluent.messages import to_batches
from shared.kafka.engine.port import NOTHING, ClientError, Fetched, GroupEvents


class ConfluentConsumer:
    """``shared.kafka.engine.port.Consumer``.

    raises : ConfigError
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._client = open_client(Consumer, config)
        self._taken: list[Message[bytes, bytes]] = []

    def join(self, topic: str, events: GroupEvents) -> None:
        """Join the group; see Consumer."""

        def tell(event: Any, _: Consumer, places: list[TopicPartition]) -> None:
            event([place.partition for place in places])

        with failures():
            self._client.subscribe(
                [topic],
                on_assign=partial(tell, events.assigned),
                on_revoke=partial(tell, events.revoked),
                on_lost=partial(tell, events.lost),
            )

    def fetch(self, max_records: int, wait_s: float) -> Fetched:
        """Return what has arrived; see Consumer."""
        consume, taken = self._client.consume, self._taken
        with failures():
            if wait_s > 0.0 and not taken:
                taken += consume(1, wait_s)
            if len(taken) < max_records and (taken or wait_s <= 0.0):
                taken += consume(max_records - len(taken), 0.0)
        if not taken:
            return NOTHING
        self._taken = []
        if any(map(Message.error, taken)):
            return _sorted_out(taken)
        return Fetched(to_batches(taken), {}, ())

    def start(self, topic: str, offsets: Mapping[int, int]) -> None:
        """Fetch further partitions; see Consumer."""
        places = [TopicPartition(topic, p, offset) for p, offset in sorted(offsets.items())]
        with failures():
            self._client.incremental_assign(places)

    def stop(self, topic: str, partitions: Iterable[int]) -> None:
        """Fetch no more of these; see Consumer."""
        with failures():
            self._client.incremental_unassign(_places(topic, partitions))

    def pause(self, topic: str, partitions: Iterable[int]) -> None:
        """Fetch nothing of these for now; see Consumer."""
        with failures():
            self._client.pause(_places(topic, partitions))

    def resume(self, topic: str, partitions: Iterable[int]) -> None:
        """Fetch them again; see Consumer."""
        with failures():
            self._client.resume(_places(topic, partitions))

    def committed(
        self, topic: str, partitions: Iterable[int], timeout_s: float
    ) -> Mapping[int, Position | None]:
        """Return the group's positions; see Consumer."""
        with failures():
            answer = self._client.committed(_places(topic, partitions), timeout_s)
        _check(answer)
        return {
            place.partition: (
                Position(place.offset, place.metadata or "") if place.offset >= 0 else None
            )
            for place in answer
        }

    def commit(self, topic: str, positions: Mapping[int, Position]) -> None:
        """Commit positions; see Consumer."""
        with failures():
            answer = self._client.commit(offsets=to_places(topic, positions), asynchronous=False)
        _check(answer or ())

    def bounds(self, topic: str, partition: int, timeout_s: float) -> tuple[int, int]:
        """Ask where a partition begins and ends; see Consumer."""
        with failures():
            answer = self._client.get_watermark_offsets(TopicPartition(topic, partition), timeout_s)
        if answer is None:
            raise no_answer(f"no answer in {timeout_s:g} s")
        return answer

    def last_end(self, topic: str, partition: int) -> int:
        """Return the last high watermark that was told; see Consumer."""
        place = TopicPartition(topic, partition)
        try:
            bounds = self._client.get_watermark_offsets(place, cached=True)
        except KafkaException:  # for a moment it does not know one that was just started
            return -1
        return bounds[1] if bounds else -1

    def membership(self) -> bytes | None:
        """Return in whose name positions are committed; see Consumer."""
        with failures():
            metadata = self._client.consumer_group_metadata()
        return metadata if is_member(metadata) else None

    def ask_for_leaders(self, topic: str, timeout_s: float) -> None:
        """Ask a broker who leads the partitions; see Consumer."""
        with failures():
            self._client.list_topics(topic, timeout=timeout_s)

    def close(self) -> None:
        """Leave the group; see Consumer."""
        self._client.close()


def to_places(topic: str, positions: Mapping[int, Position]) -> list[TopicPartition]:
    """Return positions as the library wants them."""
    return [
        TopicPartition(topic, p, position.offset, position.metadata)
        for p, position in sorted(positions.items())
    ]


def is_member(metadata: Any) -> bool:
    """Tell whether serialised group metadata speaks for a member that holds a generation.

    metadata : what ``Consumer.consumer_group_metadata`` returned: "CGMDv2:", int32 generation,
               group, 0, member, 0, ...
    """
    if not isinstance(metadata, bytes) or not metadata.startswith(b"CGMDv2:"):
        return True
    (generation,) = struct.unpack_from("=i", metadata, 7)
    fields = metadata[11:].split(b"\0")
    return generation >= 0 and len(fields) > 1 and bool(fields[1])


def _sorted_out(messages: list[Message[bytes, bytes]]) -> Fetched:
    good, ends = [], dict[int, int]()
    errors: list[ClientError] = []
    for message in messages:
        error, partition = message.error(), message.partition()
        if error is None:
            good.append(message)
        elif error.code() != KafkaError._PARTITION_EOF:
            errors.append(client_error(error, partition))
        elif partition is not None:
            ends[partition] = message.offset() or 0
    return Fetched(to_batches(good), ends, errors)


def _check(answer: Iterable[TopicPartition]) -> None:
    for place in answer:
        if place.error:
            raise client_error(place.error, place.partition)


def _places(topic: str, partitions: Iterable[int]) -> list[TopicPartition]:
    return [TopicPartition(topic, partition) for partition in sorted(partitions)]
