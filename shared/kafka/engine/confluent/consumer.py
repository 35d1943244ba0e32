"""The port's consumer on confluent-kafka.

Invariant: each message is returned exactly once, in a batch or as an error. Messages that a call
had fetched before it failed are returned by the next one.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from shared.batch import Position
from shared.kafka.engine.confluent.errors import client_error, failures, open_client, timed_out
from shared.kafka.engine.confluent.messages import to_batches
from shared.kafka.engine.librdkafka import is_member
from shared.kafka.engine.port import NOTHING, ClientError, Fetched, GroupEvents


class ConfluentConsumer:
    """``shared.kafka.engine.port.Consumer``.

    raises : ConfigError
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._client = open_client(Consumer, config)
        self._fetched: list[Message[bytes, bytes]] = []

    def join(self, topic: str, events: GroupEvents) -> None:
        """Join the group; see Consumer."""

        def call(event: Any, _: Consumer, partitions: list[TopicPartition]) -> None:
            event([assigned.partition for assigned in partitions])

        with failures():
            self._client.subscribe(
                [topic],
                on_assign=partial(call, events.assigned),
                on_revoke=partial(call, events.revoked),
                on_lost=partial(call, events.lost),
            )

    def fetch(self, max_records: int, wait_s: float, gather_s: float = 0.0) -> Fetched:
        """Return records that have arrived; see Consumer."""
        consume = self._client.consume
        fetched = self._fetched
        until_s = time.monotonic() + wait_s
        with failures():
            if wait_s > 0.0 and not fetched:
                fetched += consume(1, wait_s)
            if len(fetched) < max_records and (fetched or wait_s <= 0.0):
                more_s = min(gather_s, until_s - time.monotonic())
                fetched += consume(max_records - len(fetched), max(0.0, more_s))
        if not fetched:
            return NOTHING
        self._fetched = []
        if any(map(Message.error, fetched)):
            return _without_errors(fetched)
        return Fetched(to_batches(fetched), {}, ())

    def start(self, topic: str, offsets: Mapping[int, int]) -> None:
        """Fetch additional partitions; see Consumer."""
        starts = [
            TopicPartition(topic, partition, offset)
            for partition, offset in sorted(offsets.items())
        ]
        with failures():
            self._client.incremental_assign(starts)

    def stop(self, topic: str, partitions: Iterable[int]) -> None:
        """Stop fetching these; see Consumer."""
        with failures():
            self._client.incremental_unassign(_topic_partitions(topic, partitions))

    def pause(self, topic: str, partitions: Iterable[int]) -> None:
        """Fetch nothing from these for now; see Consumer."""
        with failures():
            self._client.pause(_topic_partitions(topic, partitions))

    def resume(self, topic: str, partitions: Iterable[int]) -> None:
        """Fetch from them again; see Consumer."""
        with failures():
            self._client.resume(_topic_partitions(topic, partitions))

    def committed(
        self, topic: str, partitions: Iterable[int], timeout_s: float
    ) -> Mapping[int, Position | None]:
        """Return the group's positions; see Consumer."""
        with failures():
            answer = self._client.committed(_topic_partitions(topic, partitions), timeout_s)
        _check(answer)
        return {committed.partition: _position(committed) for committed in answer}

    def commit(self, topic: str, positions: Mapping[int, Position]) -> None:
        """Commit positions; see Consumer."""
        with failures():
            answer = self._client.commit(
                offsets=to_topic_partitions(topic, positions), asynchronous=False
            )
        _check(answer or ())

    def bounds(self, topic: str, partition: int, timeout_s: float) -> tuple[int, int]:
        """Return first and end offset of a partition; see Consumer."""
        with failures():
            answer = self._client.get_watermark_offsets(TopicPartition(topic, partition), timeout_s)
        if answer is None:
            raise timed_out(f"no answer in {timeout_s:g} s")
        return answer

    def cached_end(self, topic: str, partition: int) -> int:
        """Return the high watermark of the last fetch; see Consumer."""
        try:
            bounds = self._client.get_watermark_offsets(
                TopicPartition(topic, partition), cached=True
            )
        except KafkaException:  # the partition was started a moment ago
            return -1
        return max(-1, bounds[1]) if bounds else -1

    def membership(self) -> bytes | None:
        """Return the serialised member id and generation; see Consumer."""
        with failures():
            metadata = self._client.consumer_group_metadata()
        return metadata if is_member(metadata) else None

    def refresh_metadata(self, topic: str, timeout_s: float) -> None:
        """Request the topic's metadata; see Consumer."""
        with failures():
            self._client.list_topics(topic, timeout=timeout_s)

    def close(self) -> None:
        """Leave the group; see Consumer."""
        self._client.close()


def to_topic_partitions(topic: str, positions: Mapping[int, Position]) -> list[TopicPartition]:
    """Return positions as the library's objects."""
    return [
        TopicPartition(topic, partition, position.offset, position.metadata)
        for partition, position in sorted(positions.items())
    ]


def _without_errors(messages: list[Message[bytes, bytes]]) -> Fetched:
    records: list[Message[bytes, bytes]] = []
    ends: dict[int, int] = {}
    errors: list[ClientError] = []
    for message in messages:
        error = message.error()
        partition = message.partition()
        if error is None:
            records.append(message)
        elif error.code() != KafkaError._PARTITION_EOF:
            errors.append(client_error(error, partition))
        elif partition is not None:
            ends[partition] = message.offset() or 0
    return Fetched(to_batches(records), ends, errors)


def _position(committed: TopicPartition) -> Position | None:
    return Position(committed.offset, committed.metadata or "") if committed.offset >= 0 else None


def _check(answer: Iterable[TopicPartition]) -> None:
    for partition in answer:
        if partition.error:
            raise client_error(partition.error, partition.partition)


def _topic_partitions(topic: str, partitions: Iterable[int]) -> list[TopicPartition]:
    return [TopicPartition(topic, partition) for partition in sorted(partitions)]
