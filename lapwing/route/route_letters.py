"""Dead letters of source records with refused rows, and the log about them.

Invariant: a source record has at most one dead letter, which names its refused rows. Its other rows
were routed, so only the refused ones may be sent again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from lapwing.route.row_router import RecordRefusals
from lapwing.route.rows import WHOLE_RECORD, RowDecoder
from shared.batch import Batch, Blob, Headers, Outgoing
from shared.encode.dead_letters import letter_headers

log = structlog.get_logger()

ROWS, ROWS_COUNT = "lapwing.rows", "lapwing.rows.count"
"""Headers: the first refused rows, counted from 0, joined by commas; the number of refused rows."""

SHOWN = 3
"""Refusals that a message has in full."""

LOG_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class RefusedRecord:
    """A row of a batch, and what of that record was refused."""

    row: int
    refusals: RecordRefusals

    @property
    def code(self) -> str:
        """The code of the first refusal."""
        return self.refusals.first[0][1].code.value


def sentence(refusals: RecordRefusals, decoder: RowDecoder) -> str:
    """Return what was refused and why, as one line."""
    sentences = [
        detail if row == WHOLE_RECORD else f"{decoder.where(row)}: {detail}"
        for row, (_, detail) in refusals.first[:SHOWN]
    ]
    if (more := refusals.total - len(sentences)) > 0:
        sentences.append(f"and {more} more")
    return f"{decoder.format}: {'; '.join(sentences)}"


def letters(
    topic: str,
    batch: Batch,
    refused: Sequence[RefusedRecord],
    decoder: RowDecoder,
    group: str,
    max_value_bytes: int,
) -> Outgoing:
    """Return the dead letters of a batch.

    group           : that refused the rows
    max_value_bytes : longer values are truncated to this
    """
    headers: dict[int, Headers] = {}
    for number, one in enumerate(refused):
        added = letter_headers(
            batch, one.row, one.code, sentence(one.refusals, decoder), group, max_value_bytes
        )
        rows = [row for row, _ in one.refusals.first if row != WHOLE_RECORD]
        if rows:
            added.append((ROWS, ",".join(map(str, rows)).encode()))
            added.append((ROWS_COUNT, str(one.refusals.total).encode()))
        headers[number] = added
    values = [batch.values[one.row][:max_value_bytes] for one in refused]
    keys = [batch.keys[one.row] for one in refused]
    return Outgoing(topic, Blob.join(values), Blob.join(keys), headers)


@dataclass(slots=True)
class _Tally:
    """Dead letters of one code since its last line in the log."""

    count: int = 0
    logged_s: float = -math.inf
    newest: str = ""
    why: str = ""


class RefusalLog:
    """Logs a new code at once, and each at most once a minute.

    clock : monotonic seconds
    """

    def __init__(self, topic: str, clock: Callable[[], float]) -> None:
        self._topic = topic
        self._clock = clock
        self._tallies: dict[str, _Tally] = {}

    def note(self, code: str, coordinates: str, why: str) -> None:
        """Take note of a committed dead letter."""
        tally = self._tallies.setdefault(code, _Tally())
        tally.count += 1
        tally.newest, tally.why = coordinates, why

    def log_due(self, *, last: bool = False) -> None:
        """Log the codes that are due; last = all that were not logged yet."""
        now_s = self._clock()
        for code, tally in self._tallies.items():
            if tally.count and (last or now_s - tally.logged_s >= LOG_EVERY_S):
                log.warning(
                    "rows became dead letters",
                    reason=code,
                    records=tally.count,
                    newest=tally.newest,
                    because=tally.why,
                    topic=self._topic,
                )
                tally.count = 0
                tally.logged_s = now_s
