"""Checks of the flow: the share of recent dead letters, and whether results are written.

Invariant: a record counts if it is between two named offsets; the amount that is read is bounded,
whatever the topics contain.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from lapwing.dlq.letters import Letter, format_time
from lapwing.doctor.cluster import Cluster
from lapwing.doctor.findings import Finding, Result, count
from shared.batch import Batch
from shared.decode.avro.decoder import hint_of
from shared.decode.avro.misplaced import Misplaced
from shared.encode.dead_letters import GROUP
from shared.errors import LapwingError
from shared.events import Reason
from shared.settings import Settings, TopicSettings
from shared.settings.names import variable_of

RECENT_RECORDS = 1_000
"""Number of newest processed records that are checked, over all partitions."""

TAIL_OFFSETS, TAIL_LIMIT, FURTHER_BACK = 2_000, 32_000, 4
"""Newest offsets of each dead-letter partition: first window, largest window, growth factor.

The offsets include transaction markers.
"""

FAILED_SHARE = 0.1
"""Share of dead letters from which the check fails; a smaller one is a warning."""

WATCH_S = 3.0
"""Time between the two measurements of the progress."""

MARKERS_S = 1.0
"""Extra wait, because transaction markers are written shortly after the commit."""


class Topics(Protocol):
    """A reader of records."""

    def read(self, topic: str, start: Mapping[int, int], end: Mapping[int, int]) -> Iterator[Batch]:
        """Yield the records in start..end of each partition."""
        ...


@dataclass(frozen=True, slots=True)
class Progress:
    """Offsets of input and results at one moment.

    start, end   : {partition: offset} of the input
    committed    : {partition: offset} of the group, without partitions that have no position
    scores, dead : end offsets of the results, summed over their partitions
    """

    at_s: float
    start: Mapping[int, int]
    end: Mapping[int, int]
    committed: Mapping[int, int]
    scores: int
    dead: int

    @property
    def results(self) -> int:
        """Sum of the results' end offsets; it never decreases."""
        return self.scores + self.dead

    @property
    def position(self) -> Mapping[int, int]:
        """Next offset of the group in each partition."""
        return {p: self.committed.get(p, low) for p, low in self.start.items()}

    @property
    def read(self) -> int:
        """Sum of the group's positions."""
        return sum(self.committed.values())

    @property
    def unread(self) -> Mapping[int, tuple[int, int]]:
        """{partition: (position, end)} of the partitions with unread offsets."""
        both = {p: (at, self.end[p]) for p, at in self.position.items() if p in self.end}
        return {p: (at, end) for p, (at, end) in both.items() if at < end}


@dataclass(frozen=True, slots=True)
class Recent:
    """The dead letters among the newest processed records.

    of       : number of records in the window
    letters  : one for each record, newest last; of this group only
    complete : whether the dead letters were read far enough back to find all of them
    """

    of: int
    letters: tuple[Letter, ...]
    complete: bool


@dataclass(frozen=True, slots=True)
class Flow:
    """The flow from the input to the results, as the settings name them."""

    settings: Settings
    cluster: Cluster
    topics: Topics

    def measure(self, clock: Callable[[], float]) -> Progress:
        """Read all offsets; positions first, so that the results of these positions are included.

        raises : LapwingError
        """
        topics, cluster = self.settings.topics, self.cluster
        positions = cluster.committed(self.settings.predict.group, topics.input)
        scores = sum(cluster.end_offsets(topics.scores).values())
        dead = sum(cluster.end_offsets(topics.dead_letters).values())
        starts, ends = cluster.bounds(topics.input)
        return Progress(
            clock(),
            starts,
            ends,
            {partition: position.offset for partition, position in positions.items()},
            scores,
            dead,
        )

    # -- dead letters ------------------------------------------------------------------------------

    def check_dead_letters(self, now: Progress) -> Finding:
        """Count the dead letters among the newest records that the group has read."""
        try:
            recent = self.recent(now)
        except LapwingError as error:
            return Finding("dead_letters", "warning", str(error), "lapwing dlq list")
        if not recent.of:
            message = f"group {self.settings.predict.group} has read no record yet"
            return Finding("dead_letters", "skipped", message)
        if recent.letters:
            return _report_letters(recent, self.settings.input.schema_ids)
        message = f"none of the last {count(recent.of, 'record')} that were read"
        if not recent.complete:
            message += f", as far as the newest {TAIL_LIMIT:,} of each partition show"
        elif now.dead:
            message += f"; {self.settings.topics.dead_letters} has older ones (`lapwing dlq list`)"
        return Finding("dead_letters", "ok", message)

    def recent(self, now: Progress) -> Recent:
        """Find the dead letters among the newest records that the group has read.

        raises : LapwingError
        """
        share = max(1, RECENT_RECORDS // max(len(now.committed), 1))
        window = {p: (max(now.start.get(p, 0), at - share), at) for p, at in now.committed.items()}
        window = {p: (low, high) for p, (low, high) in window.items() if low < high}
        found, complete = self._letters_of(window) if window else ({}, True)
        ordered = sorted(found.values(), key=lambda letter: (letter.time_ms, letter.offset))
        return Recent(sum(high - low for low, high in window.values()), tuple(ordered), complete)

    def _letters_of(
        self, window: Mapping[int, tuple[int, int]]
    ) -> tuple[dict[tuple[int, int], Letter], bool]:
        """Find the dead letters of a window of the input, and whether these are all.

        A dead letter's partition depends on its key, not on the partition of its record. But in
        each dead-letter partition, the letters of one input partition are in order. So a
        dead-letter partition has been read far enough back for an input partition once it has
        shown a letter from before the window.

        window : {partition of the input: (first offset, offset after the last)}
        """
        topic, number = self.settings.topics.dead_letters, sum(b - a for a, b in window.values())
        low, high = self.cluster.bounds(topic)
        found: dict[tuple[int, int], Letter] = {}
        lacking = {p: set(window) for p in high}
        start, span = dict(high), TAIL_OFFSETS
        while True:
            stop = {p: start[p] for p in high if lacking[p] and start[p] > low[p]}
            start |= {p: max(low[p], high[p] - span) for p in stop}
            newer, found = found, {}
            for letter in self._own_letters(topic, {p: start[p] for p in stop}, stop):
                partition, offset = (
                    letter.details["source_partition"],
                    letter.details["source_offset"],
                )
                if partition not in window or offset is None:
                    continue
                if offset < window[partition][0]:
                    lacking[letter.partition].discard(partition)
                elif offset < window[partition][1]:
                    found[partition, offset] = letter
            found |= newer
            is_open = any(lacking[p] and start[p] > low[p] for p in high)
            if not is_open or len(found) == number or span >= TAIL_LIMIT:
                return found, not is_open or len(found) == number
            span = min(span * FURTHER_BACK, TAIL_LIMIT)

    def _own_letters(
        self, topic: str, start: Mapping[int, int], stop: Mapping[int, int]
    ) -> Iterator[Letter]:
        """Yield the dead letters that this group has written of this input."""
        group, source = self.settings.predict.group, self.settings.topics.input
        for batch in self.topics.read(topic, start, stop):
            for row in range(len(batch)):
                letter = Letter.of(batch, row)
                if letter.details["source_topic"] == source and letter.header(GROUP) == group:
                    yield letter

    # -- results -----------------------------------------------------------------------------------

    def check_results(
        self, first: Progress, sleep: Callable[[float], None], clock: Callable[[], float]
    ) -> Finding:
        """Measure a second time, and compare records read with results written."""
        try:
            sleep(max(0.0, WATCH_S - (clock() - first.at_s)))
            second = self.measure(clock)
            if second.read > first.read and second.results == first.results:
                sleep(MARKERS_S)
                second = self.measure(clock)
            return self._compare(first, second)
        except LapwingError as error:
            remedy = "run this again when the broker answers"
            return Finding("results", "warning", str(error), remedy)

    def _compare(self, first: Progress, second: Progress) -> Finding:
        group, topic = self.settings.predict.group, self.settings.topics.input
        seconds, moved = second.at_s - first.at_s, second.read - first.read
        behind = sum(end - at for at, end in second.unread.values())
        if moved > 0 and second.results > first.results:
            rate = f"{moved / max(seconds, 1e-3):,.0f} records a second"
            message = f"active: {rate} read in the last {seconds:.0f} s, {behind:,} behind"
            return Finding("results", "ok", message)
        if moved > 0:
            read = f"has read {count(moved, 'record')} of {topic} within {seconds:.0f} s"
            return self._nothing_written(f"group {group} {read}")
        if not second.committed and not any(second.end[p] > low for p, low in second.start.items()):
            remedy = (
                "start your producer, or set another topic: topics.input (LAPWING_TOPICS__INPUT)"
            )
            if self._fits_lapwing_produce():
                remedy = f"lapwing produce, or {remedy}"
            return Finding("results", "warning", f"none: {topic} has no records", remedy)
        if behind and self._readable(second):
            return self._stalled(behind, seconds)
        if second.read and not second.results:
            return self._already_read()
        message = f"group {group} has read all of {topic}, with no new record for {seconds:.0f} s"
        return Finding("results", "ok", f"up to date: {message}")

    def _fits_lapwing_produce(self) -> bool:
        """Return whether `lapwing produce` can write records that this input reads."""
        own, usual = self.settings, Settings()
        names_host = own.input.entity_fields == usual.input.entity_fields
        named = TopicSettings(dataset=own.topics.dataset).input
        return names_host and not own.input.time_field and own.topics.input == named

    def _nothing_written(self, what: str) -> Finding:
        topics = self.settings.topics
        remedy = (
            f"another program commits for group {self.settings.predict.group}, or the predictors "
            "write to other topics: compare predict.group, topics.scores and topics.dead_letters "
            "with their settings"
        )
        neither = f"neither {topics.scores} nor {topics.dead_letters} has a new record"
        return Finding("results", "failed", f"none: {what}, but {neither}", remedy)

    def _already_read(self) -> Finding:
        """Report that the group read everything before, with other result topics."""
        group, topics = self.settings.predict.group, self.settings.topics
        message = (
            f"none: group {group} has already read {topics.input} up to its end, but"
            f" {topics.scores} and {topics.dead_letters} are empty:"
            " its results went to other topics,"
            " or were deleted"
        )
        remedy = (
            "to score these records into these topics, use a new group:"
            f" predict.group ({variable_of('predict.group')}), e.g. {group}-2"
        )
        return Finding("results", "failed", message, remedy)

    def _stalled(self, behind: int, seconds: float) -> Finding:
        group, topic = self.settings.predict.group, self.settings.topics.input
        try:
            members = self.cluster.members(group)
        except LapwingError:
            members = None
        records = count(behind, "record")
        message = f"none: {records} of {topic} are after the position of group {group}"
        if members == 0:
            return Finding(
                "results", "warning", f"{message}, and no predictor runs", "lapwing predict"
            )
        remedy = (
            "see /health/ready of the predictors and their logs; a predictor that has just started "
            "first replays its state, so run this again"
        )
        message = f"{message}, which has not moved for {seconds:.0f} s"
        return Finding("results", "failed", message, remedy)

    def _readable(self, now: Progress) -> bool:
        """Return whether a record follows the position; transaction markers take offsets too."""
        start = {p: at for p, (at, _) in now.unread.items()}
        end = {p: high for p, (_, high) in now.unread.items()}
        return any(len(batch) for batch in self.topics.read(self.settings.topics.input, start, end))


def _report_letters(recent: Recent, schema_ids: str) -> Finding:
    """Report the count, the reasons and the newest dead letter."""
    newest, number = recent.letters[-1], len(recent.letters)
    reasons = Counter(letter.reason for letter in recent.letters).most_common()
    known = _known(newest, schema_ids)
    detail = (
        f"{newest.reason}, {known.what}" if known else newest.details["message"] or newest.reason
    )
    message = (
        f"{'' if recent.complete else 'at least '}{number:,} of the last "
        f"{count(recent.of, 'record')} that were read became dead letters: "
        f"{', '.join(f'{times:,} {reason}' for reason, times in reasons)}; the newest, of "
        f"{format_time(newest.time_ms)}, is {newest.name} from {newest.source}: {detail}"
    )
    remedy = (
        f"{f'{known.remedy}; ' if known else ''}`lapwing dlq show {newest.partition} "
        f"{newest.offset}` shows it; docs/dead-letters.md has the remedies"
    )
    result: Result = "failed" if number >= FAILED_SHARE * recent.of else "warning"
    return Finding("dead_letters", result, message, remedy)


def _known(letter: Letter, schema_ids: str) -> Misplaced | None:
    """Return what the record has instead of a schema id, if that explains the dead letter."""
    reason = next((one for one in Reason if one.code == letter.reason), None)
    if reason is None:
        return None
    return hint_of(letter.value, letter.original_headers(), reason, schema_ids)
