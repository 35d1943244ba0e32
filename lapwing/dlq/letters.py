"""Dead letters as values: read from the topic, filtered, found by their coordinates.

Law: what is said of a dead letter comes from its headers and bytes alone; reading changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lapwing.tail import dead_letter
from producer.files.times import ALLOWED, parse_time
from shared.batch import Batch, Headers
from shared.encode.dead_letters import PREFIX, REASON
from shared.errors import ConfigError
from shared.events import Reason
from shared.kafka import Reader, topic_bounds
from shared.kernels.units import DAY_MS, HOUR_MS, MINUTE_MS
from shared.settings import Settings
from shared.wording import second

REPLAYED_FROM = "lapwing.replayed.from"
"""Header of a record that was sent back: the coordinates of its dead letter."""

NO_REASON = "unknown"
"""Stands for the reason of a record that somebody else put into the topic."""

REASONS = (*(reason.code for reason in Reason if reason is not Reason.ACCEPTED), NO_REASON)

_CUT_BYTES, _CUT_SHA256 = "lapwing.cut.bytes", "lapwing.cut.sha256"
_OURS = (REASON, _CUT_BYTES, _CUT_SHA256, REPLAYED_FROM)
_AGO = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_UNIT_MS = {"s": 1_000, "m": MINUTE_MS, "h": HOUR_MS, "d": DAY_MS}


@dataclass(frozen=True, slots=True)
class Letter:
    """One record of the dead-letter topic.

    time_ms : Kafka's timestamp of the dead letter, ms since 1970 UTC
    said    : what its headers say, see ``tail.dead_letter``
    """

    topic: str
    partition: int
    offset: int
    time_ms: int
    key: bytes
    value: bytes
    headers: Headers
    said: dict[str, Any]

    @classmethod
    def of(cls, batch: Batch, row: int) -> Letter:
        """Take a row out of a batch."""
        return cls(
            batch.topic,
            batch.partition,
            int(batch.offsets[row]),
            int(batch.broker_ms[row]),
            batch.keys[row],
            batch.values[row],
            tuple(batch.headers.get(row, ())),
            dead_letter(batch, row),
        )

    @property
    def place(self) -> str:
        """Its coordinates in full, as ``lapwing.replayed.from`` has them."""
        return f"{self.topic}[{self.partition}]@{self.offset}"

    @property
    def name(self) -> str:
        """Its coordinates for a person who knows which topic is meant."""
        return f"dlq[{self.partition}]@{self.offset}"

    @property
    def reason(self) -> str:
        """Reason code, ``unknown`` where no header gives one."""
        return str(self.said["reason"])

    @property
    def source(self) -> str:
        """Where the record was read."""
        return f"{self.said['source_topic']}[{self.said['source_partition']}]@{self.said['source_offset']}"

    @property
    def cut_from_bytes(self) -> int | None:
        """Size of the whole record where only its beginning was kept, else None."""
        text = self.header(_CUT_BYTES)
        return int(text) if text.isdigit() else None

    @property
    def cut_sha256(self) -> str:
        """SHA-256 of the whole record where only its beginning was kept, else empty."""
        return self.header(_CUT_SHA256)

    @property
    def replayed_from(self) -> str:
        """The dead letter that this record was sent back from before it was rejected again; empty
        if none.
        """
        return self.header(REPLAYED_FROM)

    def header(self, name: str) -> str:
        """Return a header's text, empty if there is none; ours stand after the record's own of the
        same name.
        """
        return dict(self.headers).get(name, b"").decode("utf-8", "replace")

    def own_headers(self) -> list[tuple[str, bytes]]:
        """Return the headers that the record had before it was rejected."""
        return [
            (name, value)
            for name, value in self.headers
            if name not in _OURS and not name.startswith(PREFIX)
        ]


@dataclass(frozen=True, slots=True)
class Filters:
    """Which dead letters are meant; None = all.

    since_ms : by Kafka's timestamp
    """

    reason: str | None = None
    key: str | None = None
    since_ms: int | None = None

    @classmethod
    def of(cls, reason: str | None, key: str | None, since: str | None, now_ms: int) -> Filters:
        """Read what was typed.

        raises : ConfigError that says what is allowed
        """
        if reason is not None and reason not in REASONS:
            raise ConfigError(f"--reason {reason}: one of {', '.join(REASONS)}")
        return cls(reason, key, None if since is None else _since(since, now_ms))

    def __bool__(self) -> bool:
        return self != Filters()

    def take(self, letter: Letter) -> bool:
        """Whether a dead letter is meant."""
        return (
            (self.reason is None or letter.reason == self.reason)
            and (self.key is None or letter.key == self.key.encode())
            and (self.since_ms is None or letter.time_ms >= self.since_ms)
        )


def _since(text: str, now_ms: int) -> int:
    ago = _AGO.fullmatch(text)
    if ago:
        return now_ms - round(float(ago[1]) * _UNIT_MS[ago[2]])
    time_ms = parse_time(text)
    if time_ms is None:
        raise ConfigError(f"--since {text}: how long ago (90s, 30m, 12h, 7d) or a time: {ALLOWED}")
    return time_ms


def scan(settings: Settings) -> Iterator[Letter]:
    """Yield every dead letter that the topic holds now, log order within a partition.

    raises : TransportError, TopicMismatch where there is no such topic
    """
    for batch in Reader(settings).read(settings.topics.dead_letters):
        for row in range(len(batch)):
            yield Letter.of(batch, row)


def find(settings: Settings, partition: int, offset: int) -> Letter:
    """Return the dead letter at these coordinates.

    raises : ConfigError that says what the partition holds, TransportError, TopicMismatch
    """
    topic = settings.topics.dead_letters
    low, high = topic_bounds(settings, topic)
    if partition not in low:
        raise ConfigError(
            f"{topic} has no partition {partition}; it has {', '.join(map(str, sorted(low)))}"
        )
    place = f"{topic}[{partition}]@{offset}"
    if low[partition] == high[partition]:
        raise ConfigError(f"there is no dead letter {place}: the partition holds none")
    if not low[partition] <= offset < high[partition]:
        raise ConfigError(
            f"there is no dead letter {place}: the partition holds offsets {low[partition]} to"
            f" {high[partition] - 1}"
        )
    for batch in Reader(settings, max_records=1).read(
        topic, {partition: offset}, {partition: offset + 1}
    ):
        return Letter.of(batch, 0)
    raise ConfigError(
        f"{place} is no record but the mark of a transaction; `lapwing dlq list` shows the dead"
        " letters"
    )


def moment(time_ms: int) -> str:
    """Write a time for a person."""
    try:
        return second(time_ms // 1000 * 1000)
    except OverflowError:
        return f"{time_ms} ms"
