"""Checks of what flows: how many of the newest records became dead letters, and whether results come out.

Law: a record counts where it lies between two offsets that are named; what is read is bounded, whatever the topics hold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from lapwing.dlq.letters import Letter, moment
from lapwing.doctor.cluster import Cluster
from lapwing.doctor.findings import Finding, Result, count
from shared.batch import Batch
from shared.errors import LapwingError
from shared.misplaced import Misplaced, id_in_headers, misplaced
from shared.settings import Settings

RECENT_RECORDS = 1_000
"""So many of the newest records that were read are looked at, over all partitions."""

TAIL_OFFSETS = 2_000
"""So many of the newest offsets of each partition of the dead letters are read; marks of transactions are among them."""

FAILED_SHARE = 0.1
"""A larger share of dead letters is a failure, a smaller one a warning."""

WATCH_S = 3.0
"""Time between two looks at what moves."""


class Topics(Protocol):
    """What the doctor reads records with."""

    def read(self, topic: str, start: Mapping[int, int], end: Mapping[int, int]) -> Iterator[Batch]:
        """Yield what lies in start..end of each partition."""
        ...


@dataclass(frozen=True, slots=True)
class Look:
    """Where input and results stand at one moment: {partition: offset}, and sums over the partitions of the results.

    committed : of the group, partitions without a position left out
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
        return {partition: self.committed.get(partition, low) for partition, low in self.start.items()}

    @property
    def read(self) -> int:
        """Offsets that the group has read."""
        return sum(self.committed.values())


def look(settings: Settings, cluster: Cluster, clock: Callable[[], float]) -> Look:
    """Look at all of it; the group's position first, so that results that belong to it are there.

    raises : LapwingError
    """
    topics = settings.topics
    committed = {p: position.offset for p, position in cluster.committed(settings.predict.group, topics.input).items()}
    scores, dead = (sum(cluster.end_offsets(topic).values()) for topic in (topics.scores, topics.dead_letters))
    return Look(clock(), cluster.start_offsets(topics.input), cluster.end_offsets(topics.input), committed, scores, dead)


# -- dead letters ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Recent:
    """The dead letters among the newest records that were read.

    of       : how many records were looked at
    letters  : one for each record, newest last
    complete : whether the tail that was read reaches back far enough for all of them
    """

    of: int
    letters: tuple[Letter, ...]
    complete: bool


def check_dead_letters(settings: Settings, cluster: Cluster, topics: Topics, now: Look) -> Finding:
    """Count the dead letters among the newest records that the group has read."""
    try:
        recent = recent_letters(settings, cluster, topics, now)
    except LapwingError as error:
        return Finding("dead_letters", "warning", str(error), "lapwing dlq list")
    if not recent.of:
        return Finding("dead_letters", "skipped", f"group {settings.predict.group} has read no record yet")
    number = len(recent.letters)
    if not number:
        older = f"; {settings.topics.dead_letters} holds older ones (`lapwing dlq list`)" if now.dead else ""
        return Finding("dead_letters", "ok", f"none of the last {count(recent.of, 'record')} that were read{older}")
    newest = recent.letters[-1]
    reasons = Counter(letter.reason for letter in recent.letters).most_common()
    known = _known(newest)
    detail = f"{newest.reason}, {known.what}" if known else newest.said["message"] or newest.reason
    said = (
        f"{'' if recent.complete else 'at least '}{number:,} of the last {count(recent.of, 'record')} that were read became "
        f"dead letters: {', '.join(f'{times:,} {reason}' for reason, times in reasons)}; "
        f"the newest, of {moment(newest.time_ms)}, is {newest.name} from {newest.source}: {detail}"
    )
    show = f"`lapwing dlq show {newest.partition} {newest.offset}` shows it; docs/dead-letters.md says what helps"
    result: Result = "failed" if number >= FAILED_SHARE * recent.of else "warning"
    return Finding("dead_letters", result, said, f"{known.remedy}; {show}" if known else show)


def recent_letters(settings: Settings, cluster: Cluster, topics: Topics, now: Look) -> Recent:
    """Find the dead letters among the newest records that the group has read.

    raises : LapwingError
    """
    share = max(1, RECENT_RECORDS // max(len(now.committed), 1))
    window = {p: (max(now.start.get(p, 0), offset - share), offset) for p, offset in now.committed.items()}
    window = {p: (low, high) for p, (low, high) in window.items() if low < high}
    topic = settings.topics.dead_letters
    low, high = cluster.start_offsets(topic), cluster.end_offsets(topic)
    start = {p: max(low[p], high[p] - TAIL_OFFSETS) for p in high}
    found: dict[tuple[int, int], Letter] = {}
    oldest: dict[int, Letter] = {}
    for letter in _letters(topics.read(topic, start, high) if window else ()):
        oldest.setdefault(letter.partition, letter)
        if (place := _place(letter, settings.topics.input, window)) is not None:
            found[place] = letter
    cut = [p for p in high if start[p] > low[p] and p in oldest]
    complete = not any(_place(oldest[p], settings.topics.input, window) for p in cut)
    ordered = sorted(found.values(), key=lambda letter: (letter.time_ms, letter.offset))
    return Recent(sum(high - low for low, high in window.values()), tuple(ordered), complete)


def _letters(batches: Iterable[Batch]) -> Iterator[Letter]:
    for batch in batches:
        for row in range(len(batch)):
            yield Letter.of(batch, row)


def _place(letter: Letter, topic: str, window: Mapping[int, tuple[int, int]]) -> tuple[int, int] | None:
    """Return where the record of a dead letter lies, None where that is not in the window."""
    partition, offset = letter.said["source_partition"], letter.said["source_offset"]
    if letter.said["source_topic"] != topic or partition not in window or offset is None:
        return None
    low, high = window[partition]
    return (partition, offset) if low <= offset < high else None


def _known(letter: Letter) -> Misplaced | None:
    """What is known of a record that could not be read, beyond its reason."""
    headers = letter.own_headers()
    if letter.reason in ("not_avro", "unknown_schema"):
        return misplaced(letter.value, headers)
    return id_in_headers(headers) if letter.reason in ("truncated", "trailing_bytes", "malformed") else None


# -- results -----------------------------------------------------------------------------------------------------------------


def check_results(
    settings: Settings,
    cluster: Cluster,
    topics: Topics,
    first: Look,
    sleep: Callable[[float], None],
    clock: Callable[[], float],
) -> Finding:
    """Look a second time, and compare what was read with what was written."""
    try:
        sleep(max(0.0, WATCH_S - (clock() - first.at_s)))
        second = look(settings, cluster, clock)
        if second.read > first.read and second.results == first.results:
            sleep(1.0)  # the marks of a transaction are written a little after it is committed
            second = look(settings, cluster, clock)
        return _of_two(settings, cluster, topics, first, second)
    except LapwingError as error:
        return Finding("results", "warning", str(error), "run this again when the broker answers")


def _of_two(settings: Settings, cluster: Cluster, topics: Topics, first: Look, second: Look) -> Finding:
    group, topic, seconds = settings.predict.group, settings.topics.input, second.at_s - first.at_s
    moved, written = second.read - first.read, second.results - first.results
    behind = sum(max(0, second.end[p] - position) for p, position in second.position.items() if p in second.end)
    if moved > 0:
        if written > 0:
            rate = f"{moved / seconds:,.0f} records a second" if seconds > 0 else count(moved, "record")
            return Finding("results", "ok", f"they come: {rate} read in the last {seconds:.0f} s, {behind:,} behind")
        return _nothing_written(settings, f"group {group} has read {count(moved, 'record')} of {topic} within {seconds:.0f} s")
    if not any(second.end[p] > low for p, low in second.start.items()) and not second.committed:
        remedy = "lapwing produce, or let your producer write there; another topic: topics.input (LAPWING_TOPICS__INPUT)"
        return Finding("results", "warning", f"none: {topic} holds no records", remedy)
    if behind and _readable(settings, topics, second):
        return _standing_still(settings, cluster, behind, seconds)
    if second.read and not second.results:
        return _nothing_written(settings, f"group {group} has read {topic} up to its end")
    return Finding("results", "ok", f"up to date: group {group} has read all of {topic}, and nothing came for {seconds:.0f} s")


def _nothing_written(settings: Settings, what: str) -> Finding:
    topics = settings.topics
    remedy = (
        f"something else commits for group {settings.predict.group}, or the predictors write to other topics: compare "
        "predict.group, topics.scores and topics.dead_letters with their settings"
    )
    said = f"none: {what}, but neither {topics.scores} nor {topics.dead_letters} has got anything"
    return Finding("results", "failed", said, remedy)


def _standing_still(settings: Settings, cluster: Cluster, behind: int, seconds: float) -> Finding:
    group, topic = settings.predict.group, settings.topics.input
    try:
        members = cluster.members(group)
    except LapwingError:
        members = None
    said = f"none: {count(behind, 'record')} of {topic} lie beyond the position of group {group}"
    if members == 0:
        return Finding("results", "warning", f"{said}, and no predictor runs", "lapwing predict")
    remedy = (
        "/health/ready of the predictors and their logs say why; one that has just started moves once it has replayed, "
        "so run this again"
    )
    return Finding("results", "failed", f"{said}, which has not moved for {seconds:.0f} s", remedy)


def _readable(settings: Settings, topics: Topics, now: Look) -> bool:
    """Whether there is a record beyond the group's position: marks of transactions take offsets as well."""
    start = {p: position for p, position in now.position.items() if p in now.end and position < now.end[p]}
    end = {p: now.end[p] for p in start}
    return any(len(batch) for batch in topics.read(settings.topics.input, start, end))
