"""Checks of what flows: how many of the newest records became dead letters, whether results come.

Law: a record counts where it lies between two offsets that are named; what is read is bounded,
whatever the topics hold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from lapwing.dlq.letters import Letter, moment
from lapwing.doctor.cluster import Cluster
from lapwing.doctor.findings import Finding, Result, count
from shared.batch import Batch
from shared.decode.avro.misplaced import Misplaced, id_in_headers, misplaced
from shared.encode.dead_letters import GROUP
from shared.errors import LapwingError
from shared.settings import Settings, TopicSettings
from shared.settings.names import variable_of

RECENT_RECORDS = 1_000
"""So many of the newest records that were read are looked at, over all partitions."""

TAIL_OFFSETS, TAIL_LIMIT, FURTHER_BACK = 2_000, 32_000, 4
"""So many of the newest offsets of each partition of the dead letters are read first and at most,
marks included; each further read reaches back this many times as far.
"""

FAILED_SHARE = 0.1
"""A larger share of dead letters is a failure, a smaller one a warning."""

WATCH_S = 3.0
"""Time between two looks at what moves."""

MARKS_S = 1.0
"""The marks of a transaction are written a little after it is committed."""


class Topics(Protocol):
    """What the doctor reads records with."""

    def read(self, topic: str, start: Mapping[int, int], end: Mapping[int, int]) -> Iterator[Batch]:
        """Yield what lies in start..end of each partition."""
        ...


@dataclass(frozen=True, slots=True)
class Look:
    """Where input and results stand at one moment.

    start, end   : {partition: offset} of the input
    committed    : {partition: offset} of the group, partitions without a position left out
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
        """Offsets of results, which only grow."""
        return self.scores + self.dead

    @property
    def position(self) -> Mapping[int, int]:
        """Where the group goes on in each partition."""
        return {p: self.committed.get(p, low) for p, low in self.start.items()}

    @property
    def read(self) -> int:
        """Offsets that the group has read."""
        return sum(self.committed.values())

    @property
    def behind(self) -> Mapping[int, tuple[int, int]]:
        """{partition: (position, end)} where the position is not the end."""
        both = {p: (at, self.end[p]) for p, at in self.position.items() if p in self.end}
        return {p: (at, end) for p, (at, end) in both.items() if at < end}


@dataclass(frozen=True, slots=True)
class Recent:
    """The dead letters among the newest records that were read.

    of       : how many records were looked at
    letters  : one for each record, newest last; of this group alone
    complete : whether what was read of the dead letters reaches back far enough for all of them
    """

    of: int
    letters: tuple[Letter, ...]
    complete: bool


@dataclass(frozen=True, slots=True)
class Flow:
    """The topics of the settings, to be looked at."""

    settings: Settings
    cluster: Cluster
    topics: Topics

    def look(self, clock: Callable[[], float]) -> Look:
        """Look at all of it; positions first, so that the results that belong to them are there.

        raises : LapwingError
        """
        topics, cluster = self.settings.topics, self.cluster
        positions = cluster.committed(self.settings.predict.group, topics.input)
        scores = sum(cluster.end_offsets(topics.scores).values())
        dead = sum(cluster.end_offsets(topics.dead_letters).values())
        return Look(
            clock(),
            cluster.start_offsets(topics.input),
            cluster.end_offsets(topics.input),
            {partition: position.offset for partition, position in positions.items()},
            scores,
            dead,
        )

    # -- dead letters ------------------------------------------------------------------------------

    def check_dead_letters(self, now: Look) -> Finding:
        """Count the dead letters among the newest records that the group has read."""
        try:
            recent = self.recent(now)
        except LapwingError as error:
            return Finding("dead_letters", "warning", str(error), "lapwing dlq list")
        if not recent.of:
            said = f"group {self.settings.predict.group} has read no record yet"
            return Finding("dead_letters", "skipped", said)
        if recent.letters:
            return _of_letters(recent)
        said = f"none of the last {count(recent.of, 'record')} that were read"
        if not recent.complete:
            said += f", as far as the newest {TAIL_LIMIT:,} of each partition show"
        elif now.dead:
            said += f"; {self.settings.topics.dead_letters} holds older ones (`lapwing dlq list`)"
        return Finding("dead_letters", "ok", said)

    def recent(self, now: Look) -> Recent:
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
        """Find the dead letters of a window of the input, and say whether these are all.

        Letters lie where their key puts them, which says nothing about where their record came
        from; but those of one partition of the input are in order in each partition that holds any.
        So a partition has been read far enough back for one of the input when it has shown a letter
        from before the window.

        window : {partition of the input: (first offset, offset after the last)}
        """
        topic, number = self.settings.topics.dead_letters, sum(b - a for a, b in window.values())
        low, high = self.cluster.start_offsets(topic), self.cluster.end_offsets(topic)
        found: dict[tuple[int, int], Letter] = {}
        lacking = {p: set(window) for p in high}
        start, span = dict(high), TAIL_OFFSETS
        while True:
            stop = {p: start[p] for p in high if lacking[p] and start[p] > low[p]}
            start |= {p: max(low[p], high[p] - span) for p in stop}
            newer, found = found, {}
            for letter in self._own(topic, {p: start[p] for p in stop}, stop):
                partition, offset = letter.said["source_partition"], letter.said["source_offset"]
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

    def _own(
        self, topic: str, start: Mapping[int, int], stop: Mapping[int, int]
    ) -> Iterator[Letter]:
        """Yield the dead letters that this group has written of this input."""
        group, source = self.settings.predict.group, self.settings.topics.input
        for batch in self.topics.read(topic, start, stop):
            for row in range(len(batch)):
                letter = Letter.of(batch, row)
                if letter.said["source_topic"] == source and letter.header(GROUP) == group:
                    yield letter

    # -- results -----------------------------------------------------------------------------------

    def check_results(
        self, first: Look, sleep: Callable[[float], None], clock: Callable[[], float]
    ) -> Finding:
        """Look a second time, and compare what was read with what was written."""
        try:
            sleep(max(0.0, WATCH_S - (clock() - first.at_s)))
            second = self.look(clock)
            if second.read > first.read and second.results == first.results:
                sleep(MARKS_S)
                second = self.look(clock)
            return self._of_two(first, second)
        except LapwingError as error:
            remedy = "run this again when the broker answers"
            return Finding("results", "warning", str(error), remedy)

    def _of_two(self, first: Look, second: Look) -> Finding:
        group, topic = self.settings.predict.group, self.settings.topics.input
        seconds, moved = second.at_s - first.at_s, second.read - first.read
        behind = sum(end - at for at, end in second.behind.values())
        if moved > 0 and second.results > first.results:
            rate = f"{moved / max(seconds, 1e-3):,.0f} records a second"
            said = f"they come: {rate} read in the last {seconds:.0f} s, {behind:,} behind"
            return Finding("results", "ok", said)
        if moved > 0:
            read = f"has read {count(moved, 'record')} of {topic} within {seconds:.0f} s"
            return self._nothing_written(f"group {group} {read}")
        if not second.committed and not any(second.end[p] > low for p, low in second.start.items()):
            remedy = (
                "let your producer write there; another topic: topics.input (LAPWING_TOPICS__INPUT)"
            )
            if self._takes_the_bundled_producers():
                remedy = f"lapwing produce, or {remedy}"
            return Finding("results", "warning", f"none: {topic} holds no records", remedy)
        if behind and self._readable(second):
            return self._standing_still(behind, seconds)
        if second.read and not second.results:
            return self._read_before()
        said = f"group {group} has read all of {topic}, and nothing came for {seconds:.0f} s"
        return Finding("results", "ok", f"up to date: {said}")

    def _takes_the_bundled_producers(self) -> bool:
        """Whether `lapwing produce` could write into the input what is then read."""
        own, usual = self.settings, Settings()
        names_host = own.input.entity_fields == usual.input.entity_fields
        named = TopicSettings(dataset=own.topics.dataset).input
        return names_host and not own.input.time_field and own.topics.input == named

    def _nothing_written(self, what: str) -> Finding:
        topics = self.settings.topics
        remedy = (
            f"something else commits for group {self.settings.predict.group}, or the predictors "
            "write to other topics: compare predict.group, topics.scores and topics.dead_letters "
            "with their settings"
        )
        neither = f"neither {topics.scores} nor {topics.dead_letters} has got anything"
        return Finding("results", "failed", f"none: {what}, but {neither}", remedy)

    def _read_before(self) -> Finding:
        """Say that everything was read already, with other topics for the results."""
        group, topics = self.settings.predict.group, self.settings.topics
        said = (
            f"none: group {group} has already read {topics.input} up to its end, but"
            f" {topics.scores} and {topics.dead_letters} are empty: it did so when its results went"
            " to other topics, or they were deleted"
        )
        remedy = (
            "to have these records scored into these topics, begin with a group that has read"
            f" nothing: predict.group ({variable_of('predict.group')}), e.g. {group}-2"
        )
        return Finding("results", "failed", said, remedy)

    def _standing_still(self, behind: int, seconds: float) -> Finding:
        group, topic = self.settings.predict.group, self.settings.topics.input
        try:
            members = self.cluster.members(group)
        except LapwingError:
            members = None
        records = count(behind, "record")
        said = f"none: {records} of {topic} lie beyond the position of group {group}"
        if members == 0:
            return Finding(
                "results", "warning", f"{said}, and no predictor runs", "lapwing predict"
            )
        remedy = (
            "/health/ready of the predictors and their logs say why; one that has just started "
            "moves once it has replayed, so run this again"
        )
        said = f"{said}, which has not moved for {seconds:.0f} s"
        return Finding("results", "failed", said, remedy)

    def _readable(self, now: Look) -> bool:
        """Whether there is a record beyond the position: marks of transactions take offsets too."""
        start = {p: at for p, (at, _) in now.behind.items()}
        end = {p: high for p, (_, high) in now.behind.items()}
        return any(len(batch) for batch in self.topics.read(self.settings.topics.input, start, end))


def _of_letters(recent: Recent) -> Finding:
    """Say how many of how many, why, and which is the newest."""
    newest, number = recent.letters[-1], len(recent.letters)
    reasons = Counter(letter.reason for letter in recent.letters).most_common()
    known = _known(newest)
    detail = f"{newest.reason}, {known.what}" if known else newest.said["message"] or newest.reason
    said = (
        f"{'' if recent.complete else 'at least '}{number:,} of the last "
        f"{count(recent.of, 'record')} that were read became dead letters: "
        f"{', '.join(f'{times:,} {reason}' for reason, times in reasons)}; the newest, of "
        f"{moment(newest.time_ms)}, is {newest.name} from {newest.source}: {detail}"
    )
    remedy = (
        f"{f'{known.remedy}; ' if known else ''}`lapwing dlq show {newest.partition} "
        f"{newest.offset}` shows it; docs/dead-letters.md says what helps"
    )
    result: Result = "failed" if number >= FAILED_SHARE * recent.of else "warning"
    return Finding("dead_letters", result, said, remedy)


def _known(letter: Letter) -> Misplaced | None:
    """What is known of a record that could not be read, beyond its reason."""
    headers = letter.own_headers()
    if letter.reason in ("not_avro", "unknown_schema"):
        return misplaced(letter.value, headers)
    if letter.reason in ("truncated", "trailing_bytes", "malformed"):
        return id_in_headers(headers)
    return None
