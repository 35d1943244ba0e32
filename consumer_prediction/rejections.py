"""What a predictor says of the records that became dead letters, and of records without a key.

Invariant: only what was committed is said; a new reason at once, each reason at most once in
SAY_EVERY_S, however many records there are.
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

SAY_EVERY_S = 60.0
RECENT = 200
"""So many of the newest records of each partition are looked at together."""

FEWEST = 10
"""Of fewer records nothing is concluded."""

NEARLY_ALL = 0.9


@dataclass(slots=True)
class _Tally:
    """The dead letters of one reason.

    count  : since it was said last
    said_s : when that was
    newest : coordinates of the newest, in the input
    why    : its message, as in its headers
    """

    count: int = 0
    said_s: float = -math.inf
    newest: str = ""
    why: str = ""


class Rejections:
    """Counts, and says what a person has to know; one thread writes, any thread asks ``reason``.

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
        self._keyless_said = False
        self._reason = ""

    def note(self, outcomes: Sequence[Outcome]) -> None:
        """Take note of what has just been committed."""
        for outcome in outcomes:
            self._tally(outcome)
            self._remember(outcome)
            self._look_at_keys(outcome)
        if outcomes:
            self._reason = self._judge()
        self.say()

    def say(self, *, last: bool = False) -> None:
        """Log what is due; last = whatever has not been said."""
        now_s = self._clock()
        for reason, tally in self._tallies.items():
            if tally.count and (last or now_s - tally.said_s >= SAY_EVERY_S):
                log.warning(
                    "records became dead letters",
                    reason=reason.code,
                    count=tally.count,
                    newest=tally.newest,
                    why=tally.why,
                    allowed=allowed(reason.code, self._settings),
                    look=f"lapwing dlq list --reason {reason.code}",
                )
                tally.count, tally.said_s = 0, now_s

    def forget(self, partitions: Sequence[int]) -> None:
        """Forget the records of partitions that were given up."""
        for partition in partitions:
            self._recent.pop(partition, None)
        self._reason = self._judge()

    def reason(self) -> str:
        """Return a sentence while nearly all of the recent records became dead letters, else an
        empty text.
        """
        return self._reason

    def _tally(self, outcome: Outcome) -> None:
        batch, columns = outcome.batch, outcome.columns
        for number in np.unique(columns.reasons).tolist():
            reason, rows = Reason(number), columns.rejected[columns.reasons == number]
            row = int(rows[-1])
            tally = self._tallies.setdefault(reason, _Tally())
            tally.count += len(rows)
            tally.newest = f"{batch.topic}[{batch.partition}]@{int(batch.offsets[row])}"
            tally.why = message_of(batch, row, reason, outcome.decoder)

    def _remember(self, outcome: Outcome) -> None:
        fates = np.zeros(len(outcome.batch), np.uint8)
        fates[outcome.columns.rejected] = outcome.columns.reasons
        before = self._recent.get(outcome.batch.partition, fates[:0])
        self._recent[outcome.batch.partition] = np.concatenate((before, fates))[-RECENT:]

    def _judge(self) -> str:
        counts = np.zeros(len(Reason), np.int64)
        for fates in self._recent.values():
            counts += np.bincount(fates, minlength=len(Reason))
        total = int(counts.sum())
        dead = total - int(counts[Reason.ACCEPTED])
        if total < FEWEST or dead < NEARLY_ALL * total:
            return ""
        counts[Reason.ACCEPTED] = 0
        reason = Reason(int(counts.argmax()))
        tally = self._tallies[reason]
        share = "all" if dead == total else f"{dead:,}"
        return (
            f"{share} of the last {total:,} records became dead letters, mostly {reason.code}"
            f" ({tally.why}), the newest of these {tally.newest}; `lapwing dlq list` shows them"
        )

    def _look_at_keys(self, outcome: Outcome) -> None:
        """Say once that records have no key, where that may divide an entity."""
        if self._keyless_said or self._topics.partitions == 1:
            return
        batch, accepted = outcome.batch, outcome.columns.accepted
        bare = accepted[np.diff(batch.keys.bounds)[accepted] == 0]
        if not len(bare):
            return
        self._keyless_said = True
        entity = "/".join(self._settings.entity_fields)
        log.warning(
            "records have no key",
            count=f"{len(bare)} of {len(accepted)}",
            newest=f"{batch.topic}[{batch.partition}]@{int(batch.offsets[int(bare[-1])])}",
            why=(
                "the records of an entity may then lie in several partitions, and each partition"
                " learns from its part of them only"
            ),
            allowed=f"have the producer use the entity ({entity}) as the record's key",
        )
