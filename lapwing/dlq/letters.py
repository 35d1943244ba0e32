"""Dead letters as values: read from the topic, filtered, found by coordinates.

Invariant: everything about a dead letter comes from its headers and bytes; reading changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lapwing.route.rows import Refused
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
"""Reason of a record that another program wrote to the topic."""

_CODES = (*(one.code for one in Reason if one is not Reason.ACCEPTED), *map(str, Refused))
REASONS = (*dict.fromkeys(_CODES), NO_REASON)
"""Codes of predictors, then further ones of `lapwing route`."""

ROWS, ROWS_COUNT = "lapwing.rows", "lapwing.rows.count"
"""Headers of `lapwing route`, which name the refused rows of a record."""

_CUT_BYTES, _CUT_SHA256 = "lapwing.cut.bytes", "lapwing.cut.sha256"
_OURS = (REASON, _CUT_BYTES, _CUT_SHA256, REPLAYED_FROM, ROWS, ROWS_COUNT)
_AGO = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_UNIT_MS = {"s": 1_000, "m": MINUTE_MS, "h": HOUR_MS, "d": DAY_MS}


@dataclass(frozen=True, slots=True)
class Letter:
    """One record of the dead-letter topic.

    time_ms : Kafka's timestamp of the dead letter, ms since 1970 UTC
    details : its headers as fields, see ``tail.dead_letter``
    """

    topic: str
    partition: int
    offset: int
    time_ms: int
    key: bytes
    value: bytes
    headers: Headers
    details: dict[str, Any]

    @classmethod
    def of(cls, batch: Batch, row: int) -> Letter:
        """Return a row of a batch."""
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
    def coordinates(self) -> str:
        """Full coordinates, as in the header ``lapwing.replayed.from``."""
        return f"{self.topic}[{self.partition}]@{self.offset}"

    @property
    def name(self) -> str:
        """Short coordinates without the topic."""
        return f"dlq[{self.partition}]@{self.offset}"

    @property
    def reason(self) -> str:
        """Reason code; ``unknown`` if no header has one."""
        return str(self.details["reason"])

    @property
    def source(self) -> str:
        """Coordinates of the rejected record."""
        topic, partition = self.details["source_topic"], self.details["source_partition"]
        return f"{topic}[{partition}]@{self.details['source_offset']}"

    @property
    def cut_from_bytes(self) -> int | None:
        """Size of the whole record if it was cut, else None."""
        text = self.header(_CUT_BYTES)
        return int(text) if text.isdigit() else None

    @property
    def cut_sha256(self) -> str:
        """SHA-256 of the whole record if it was cut, else empty."""
        return self.header(_CUT_SHA256)

    @property
    def replayed_from(self) -> str:
        """Coordinates of the dead letter that this record replays; empty if it is no replay."""
        return self.header(REPLAYED_FROM)

    def header(self, name: str) -> str:
        """Return a header's text, empty if missing; the last header of a name wins."""
        return dict(self.headers).get(name, b"").decode("utf-8", "replace")

    def original_headers(self) -> list[tuple[str, bytes]]:
        """Return the headers that the record had before it was rejected."""
        return [
            (name, value)
            for name, value in self.headers
            if name not in _OURS and not name.startswith(PREFIX)
        ]


@dataclass(frozen=True, slots=True)
class Filters:
    """Filters of dead letters; None = all.

    since_ms : lower limit of Kafka's timestamp
    """

    reason: str | None = None
    key: str | None = None
    since_ms: int | None = None

    @classmethod
    def of(cls, reason: str | None, key: str | None, since: str | None, now_ms: int) -> Filters:
        """Parse the options.

        raises : ConfigError with what is allowed
        """
        if reason is not None and reason not in REASONS:
            raise ConfigError(f"--reason {reason}: one of {', '.join(REASONS)}")
        return cls(reason, key, None if since is None else _since(since, now_ms))

    def __bool__(self) -> bool:
        return self != Filters()

    def matches(self, letter: Letter) -> bool:
        """Return whether a dead letter matches all filters."""
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
        raise ConfigError(
            f"--since {text}: write a duration (90s, 30m, 12h, 7d) or a time: {ALLOWED}"
        )
    return time_ms


def scan(settings: Settings) -> Iterator[Letter]:
    """Yield every dead letter of the topic, in log order within a partition.

    raises : TransportError, TopicMismatch if the topic does not exist
    """
    for batch in Reader(settings).read(settings.topics.dead_letters):
        for row in range(len(batch)):
            yield Letter.of(batch, row)


def read_letter(settings: Settings, partition: int, offset: int) -> Letter:
    """Return the dead letter at these coordinates.

    raises : ConfigError with the partition's offsets, TransportError, TopicMismatch
    """
    topic = settings.topics.dead_letters
    low, high = topic_bounds(settings, topic)
    if partition not in low:
        raise ConfigError(
            f"{topic} has no partition {partition}; it has {', '.join(map(str, sorted(low)))}"
        )
    place = f"{topic}[{partition}]@{offset}"
    if low[partition] == high[partition]:
        raise ConfigError(f"there is no dead letter {place}: the partition is empty")
    if not low[partition] <= offset < high[partition]:
        raise ConfigError(
            f"there is no dead letter {place}: the partition has offsets {low[partition]} to"
            f" {high[partition] - 1}"
        )
    for batch in Reader(settings, max_records=1).read(
        topic, {partition: offset}, {partition: offset + 1}
    ):
        return Letter.of(batch, 0)
    raise ConfigError(
        f"{place} is a transaction marker, not a record; `lapwing dlq list` shows the dead letters"
    )


def format_time(time_ms: int) -> str:
    """Format a time to the second; a time outside the calendar as a number."""
    try:
        return second(time_ms // 1000 * 1000)
    except OverflowError:
        return f"{time_ms} ms"
