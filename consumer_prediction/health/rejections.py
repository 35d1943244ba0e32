"""Warnings about records that became dead letters, and about records without a key.

Invariant: only committed records are reported; a new reason is logged at once, and each reason at
           most once in LOG_EVERY_S, however many records there are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import structlog

from shared.decode.allowed import allowed
from shared.encode.dead_letters import message_of
from shared.events import Reason
from shared.scoring.scorer import Outcome
from shared.settings import InputSettings, TopicSettings

log = structlog.get_logger()

LOG_EVERY_S = 60.0
RECENT = 200
"""How many of the newest records of each partition decide whether nearly all are rejected."""

MIN_RECORDS = 10
"""With fewer records nothing is concluded."""

NEARLY_ALL = 0.9
"""The share of rejected records from which the predictor is reported as not ready."""


@dataclass(slots=True)
class _Tally:
    """The dead letters of one reason.

    count    : dead letters since the last log line
    logged_s : time of that line, monotonic seconds
    newest   : input coordinates of the newest one
    why      : its message, as in its headers
    """

    count: int = 0
    logged_s: float = -math.inf
    newest: str = ""
    why: str = ""


class Rejections:
    """Counts rejected records and warns about them; any thread may call ``reason``.

    clock : monotonic seconds
    """

    def __init__(
        self, settings: InputSettings, topics: TopicSettings, clock: Callable[[], float]
    ) -> None:
        self._settings = settings
        self._topics = topics
        self._clock = clock
        self._tallies: dict[Reason, _Tally] = {}
        self._recent: dict[int, npt.NDArray[np.uint8]] = {}
        self._keyless_logged = False
        self._reason = ""

    def note(self, outcomes: Sequence[Outcome]) -> None:
        """Record the outcomes that have just been committed."""
        for outcome in outcomes:
            self._count(outcome)
            self._remember(outcome)
            self._check_keys(outcome)
        if outcomes:
            self._reason = self._describe()
        self.log_due()

    def log_due(self, *, last: bool = False) -> None:
        """Log the reasons that are due; last = all that were not logged yet."""
        now_s = self._clock()
        for reason, tally in self._tallies.items():
            if tally.count and (last or now_s - tally.logged_s >= LOG_EVERY_S):
                log.warning(
                    "records became dead letters",
                    reason=reason.code,
                    count=tally.count,
                    newest=tally.newest,
                    because=tally.why,
                    allowed=allowed(reason.code, self._settings),
                    remedy=f"lapwing dlq list --reason {reason.code}",
                )
                tally.count = 0
                tally.logged_s = now_s

    def forget(self, partitions: Sequence[int]) -> None:
        """Forget the records of revoked partitions."""
        for partition in partitions:
            self._recent.pop(partition, None)
        self._reason = self._describe()

    def reason(self) -> str:
        """Return a sentence while nearly all recent records became dead letters, else ""."""
        return self._reason

    def _count(self, outcome: Outcome) -> None:
        batch, columns = outcome.batch, outcome.columns
        if not len(columns.rejected):
            return
        for number in np.unique(columns.reasons).tolist():
            reason = Reason(number)
            rows = columns.rejected[columns.reasons == number]
            row = int(rows[-1])
            tally = self._tallies.setdefault(reason, _Tally())
            tally.count += len(rows)
            tally.newest = f"{batch.topic}[{batch.partition}]@{int(batch.offsets[row])}"
            tally.why = message_of(batch, row, reason, outcome.decoder)

    def _remember(self, outcome: Outcome) -> None:
        reasons = np.zeros(len(outcome.batch), np.uint8)
        reasons[outcome.columns.rejected] = outcome.columns.reasons
        before = self._recent.get(outcome.batch.partition, reasons[:0])
        self._recent[outcome.batch.partition] = np.concatenate((before, reasons))[-RECENT:]

    def _describe(self) -> str:
        if not self._tallies:
            return ""
        counts = np.zeros(len(Reason), np.int64)
        for reasons in self._recent.values():
            counts += np.bincount(reasons, minlength=len(Reason))
        total = int(counts.sum())
        dead = total - int(counts[Reason.ACCEPTED])
        if total < MIN_RECORDS or dead < NEARLY_ALL * total:
            return ""
        counts[Reason.ACCEPTED] = 0
        reason = Reason(int(counts.argmax()))
        tally = self._tallies[reason]
        share = "all" if dead == total else f"{dead:,}"
        return (
            f"{share} of the last {total:,} records became dead letters, mostly {reason.code}"
            f" ({tally.why}), most recently {tally.newest}; `lapwing dlq list` shows them"
        )

    def _check_keys(self, outcome: Outcome) -> None:
        """Warn once about records without a key, which may spread an entity over partitions."""
        if self._keyless_logged or self._topics.partitions == 1:
            return
        batch, accepted = outcome.batch, outcome.columns.accepted
        keyless = accepted[np.diff(batch.keys.bounds)[accepted] == 0]
        if not len(keyless):
            return
        self._keyless_logged = True
        entity = "/".join(self._settings.entity_fields)
        log.warning(
            "records have no key",
            count=f"{len(keyless)} of {len(accepted)}",
            newest=f"{batch.topic}[{batch.partition}]@{int(batch.offsets[int(keyless[-1])])}",
            because=(
                "the records of one entity may be spread over several partitions, and each"
                " partition learns from its own records only"
            ),
            remedy=f"the producer should use the entity ({entity}) as the record key",
        )
