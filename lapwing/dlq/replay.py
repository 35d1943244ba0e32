"""Replay of dead letters to the input topic, unchanged or corrected.

Invariant: without an option that allows it, no record is sent that would be rejected again, that
was cut, whose partition no longer exists or that was sent before; every record that was sent is
read back and reported with its coordinates.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TextIO

from lapwing.dlq.candidates import (
    Candidate,
    InputSchemas,
    ReplayOptions,
    candidates_of,
    input_partitions,
    partition_of_key,
)
from lapwing.dlq.letters import REPLAYED_FROM, Letter, format_time, read_letter, scan
from shared.batch import Blob, Outgoing
from shared.errors import ConfigError, TransportError
from shared.events import Reason
from shared.kafka import Admin, Publisher, Reader, topic_bounds
from shared.settings import Settings

MAX_SEARCHED_RECORDS = 200_000
"""Most records of the input that are searched for earlier replays."""

FLUSH_S = 30.0


def replay(
    settings: Settings,
    options: ReplayOptions,
    *,
    confirm: Callable[[str], bool],
    out: TextIO | None = None,
) -> int:
    """Send dead letters back; return 0 if all were sent (or could be, in a dry run), else 1.

    confirm : called with a question before anything is sent
    raises  : ConfigError, DataError, TransportError, TopicMismatch
    """
    options.check()
    target = out or sys.stdout
    registry = InputSchemas(settings.registry)
    letters, replayed = _collect(settings, options)
    if not letters:
        target.write(
            _report_json(settings, options, [], "")
            if options.as_json
            else "no dead letter matches\n"
        )
        return 0
    count = input_partitions(settings)
    candidates = candidates_of(settings, options, letters, registry, count)
    _refuse(settings, options, candidates, count)
    notes = [] if options.again else _refuse_replayed(settings, candidates, replayed)
    notes += _partitioner_notes(settings, candidates, count)
    note = "; ".join(notes)
    sending = [one for one in candidates if not one.refusal]
    if not options.as_json:
        target.write("".join(f"{text}\n" for text in _plan_lines(settings, candidates, note)))
        target.flush()
    agreed = not sending or options.dry_run or confirm(_question(settings, sending))
    if sending and agreed and not options.dry_run:
        _send(settings, sending)
    if options.as_json:
        target.write(_report_json(settings, options, candidates, note))
    else:
        target.write(f"{_closing_text(settings, options, candidates, agreed)}\n")
    return 0 if agreed and len(sending) == len(candidates) else 1


# -- selection ---------------------------------------------------------------------------------


def _collect(settings: Settings, options: ReplayOptions) -> tuple[list[Letter], dict[str, str]]:
    """Return the selected dead letters in source order, and the known replays of dead letters."""
    if options.partition is not None and options.offset is not None:
        return [read_letter(settings, options.partition, options.offset)], {}
    letters, replayed = [], {}
    for letter in scan(settings):
        if letter.replayed_from:
            replayed[letter.replayed_from] = f"and rejected again as {letter.name}"
        if options.filters.matches(letter):
            letters.append(letter)
            if len(letters) > options.limit:
                raise ConfigError(
                    f"more than {options.limit:,} dead letters match:"
                    " narrow the selection with --key or"
                    " --since, or raise --max"
                )
    unknown = -1
    letters.sort(
        key=lambda one: (
            one.details["source_topic"],
            unknown if one.details["source_partition"] is None else one.details["source_partition"],
            unknown if one.details["source_offset"] is None else one.details["source_offset"],
        )
    )
    return letters, replayed


# -- refusals -------------------------------------------------------------------------------


def _refuse(
    settings: Settings, options: ReplayOptions, candidates: Iterable[Candidate], count: int
) -> None:
    for one in candidates:
        said = one.letter.details
        if one.letter.cut_from_bytes is not None and not one.corrected:
            one.refusal = (
                f"only the first {len(one.value):,} of its {one.letter.cut_from_bytes:,} bytes are"
                " left"
            )
        elif options.force:
            continue
        elif said["source_topic"] != settings.topics.input:
            came = (
                f"it came from {said['source_topic']}"
                if said["source_topic"]
                else "its origin is not recorded"
            )
            one.refusal = (
                f"{came}, not from {settings.topics.input} (--force sends it all the same)"
            )
        elif one.verdict.reason is not Reason.ACCEPTED:
            one.refusal = (
                f"it would be rejected again, {one.verdict.reason.code}: {one.verdict.sentence}"
                " (--force sends it all the same)"
            )
        elif (
            options.key is None
            and one.target is not None
            and one.target != said["source_partition"]
        ):
            one.refusal = (
                f"it came from partition {said['source_partition']}, and {settings.topics.input}"
                f" has {count} now: the entity's state would be in two places (--force sends it to"
                f" partition {one.target} by its key)"
            )


def _refuse_replayed(
    settings: Settings, candidates: Sequence[Candidate], replayed: dict[str, str]
) -> list[str]:
    """Refuse records that were sent before; return a note if the search was skipped."""
    asked = [one for one in candidates if not one.refusal]
    topic = settings.topics.input
    low, high = topic_bounds(settings, topic)
    start = _first_possible(asked, low, high)
    records = sum(high[p] - start[p] for p in start)
    notes = []
    if records > MAX_SEARCHED_RECORDS:
        notes.append(
            f"{topic} has {records:,} later records, too many to search for earlier replays; a"
            " record that is sent twice is scored twice"
        )
    elif start:
        wanted = {one.letter.coordinates for one in asked}
        found = _find_replays(settings, start, {p: high[p] for p in start}, wanted)
        replayed = replayed | {
            place: f"as {topic}[{p}]@{offset}" for place, (p, offset) in found.items()
        }
    for one in asked:
        if one.letter.coordinates in replayed:
            one.refusal = (
                f"it was sent before, {replayed[one.letter.coordinates]}"
                " (--again sends it once more)"
            )
    return notes


def _partitioner_notes(
    settings: Settings, candidates: Iterable[Candidate], count: int
) -> list[str]:
    """Return notes on records that the predictors' partitioner guard would stop at."""
    named = settings.input.partitioner
    if named == "unchecked":
        return []
    wrong = [
        one
        for one in candidates
        if not one.refusal
        and one.key
        and one.target is not None
        and one.target != partition_of_key(one.key, named, count)
    ]
    if not wrong:
        return []
    note = (
        f"by input.partitioner = {named} (LAPWING_INPUT__PARTITIONER), {len(wrong):,} of the keys"
        " belong in other partitions than they came from: predictors with that setting stop there,"
        " so set it to what the producers use, or to unchecked"
    )
    return [note]


def _first_possible(
    candidates: Iterable[Candidate], low: dict[int, int], high: dict[int, int]
) -> dict[int, int]:
    """Return the first offset in each partition where a replay of any of these may be.

    In the partition of its source, a replay comes after the rejected record itself.
    """
    start: dict[int, int] = {}
    for one in candidates:
        said = one.letter.details
        for partition in (
            low if one.target is None else {one.target, said["source_partition"]} & set(low)
        ):
            known = said["source_offset"] is not None and partition == said["source_partition"]
            first = max(low[partition], said["source_offset"] + 1 if known else 0)
            start[partition] = min(start.get(partition, high[partition]), first)
    return start


def _find_replays(
    settings: Settings, start: dict[int, int], end: dict[int, int], wanted: set[str]
) -> dict[str, tuple[int, int]]:
    """Return {dead letter: (partition, offset)} of the replays within a window of the input."""
    found = {}
    for batch in Reader(settings).read(settings.topics.input, start, end):
        for row, headers in batch.headers.items():
            for name, value in headers:
                if name == REPLAYED_FROM and value.decode("utf-8", "replace") in wanted:
                    found[value.decode()] = (batch.partition, int(batch.offsets[row]))
    return found


# -- sending ---------------------------------------------------------------------------------------


def _send(settings: Settings, sending: Sequence[Candidate]) -> None:
    """Send, wait for all acknowledgements, and read back the coordinates."""
    topic = settings.topics.input
    admin = Admin(settings)
    publisher = Publisher(settings)
    try:
        before = admin.end_offsets(topic)
        publisher.send(
            Outgoing(
                topic,
                Blob.join([one.value for one in sending]),
                Blob.join([one.key for one in sending]),
                {
                    row: [
                        *one.letter.original_headers(),
                        (REPLAYED_FROM, one.letter.coordinates.encode()),
                    ]
                    for row, one in enumerate(sending)
                },
                {row: one.target for row, one in enumerate(sending) if one.target is not None},
            )
        )
        publisher.flush(FLUSH_S)
        counts = publisher.counts()
        if counts.acknowledged < len(sending):
            why = publisher.first_error or f"no answer within {FLUSH_S:g} s"
            raise TransportError(
                f"{counts.acknowledged:,} of {len(sending):,} records arrived in {topic}: {why};"
                " run the command again; it does not send the acknowledged records twice"
            )
        found = _find_replays(
            settings, before, admin.end_offsets(topic), {one.letter.coordinates for one in sending}
        )
    finally:
        publisher.close()
        admin.close()
    for one in sending:
        one.sent, one.position = True, found.get(one.letter.coordinates)


# -- output ----------------------------------------------------------------------------------


def _plan_lines(settings: Settings, candidates: Sequence[Candidate], note: str) -> list[str]:
    lines = []
    for one in candidates:
        if one.refusal:
            lines.append(f"refused  {one.letter.name} {one.letter.reason}: {one.refusal}")
            continue
        where = (
            "any partition, it has no key"
            if one.target is None
            else f"{settings.topics.input}[{one.target}]"
        )
        lines.append(f"send     {one.letter.name} {one.letter.reason} -> {where}: {_describe(one)}")
        lines += [f"         {text}" for text in _warnings(one)]
    return [*lines, *([f"note: {note}"] if note else [])]


def _describe(one: Candidate) -> str:
    size = f"{len(one.value):,} bytes" + (", corrected" if one.corrected else "")
    if one.verdict.reason is not Reason.ACCEPTED:
        return f"{size}, will be rejected again: {one.verdict.reason.code}"
    return f"{one.verdict.entity} at {format_time(one.verdict.time_ms)}, {size}"


def _warnings(one: Candidate) -> list[str]:
    warnings = []
    if one.verdict.entity and one.key != one.verdict.entity.encode():
        warnings.append(
            f"its key is {one.key.decode('utf-8', 'replace')!r}, not the entity: --new-key sends it"
            " where the entity's key belongs"
        )
    return warnings


def _question(settings: Settings, sending: Sequence[Candidate]) -> str:
    return f"Send {len(sending):,} to {settings.topics.input} at {settings.bootstrap}?"


def _closing_text(
    settings: Settings, options: ReplayOptions, candidates: Sequence[Candidate], agreed: bool
) -> str:
    sending = [one for one in candidates if not one.refusal]
    refused = (
        f", {len(candidates) - len(sending):,} refused" if len(candidates) > len(sending) else ""
    )
    if not sending or not agreed:
        return f"nothing sent{refused}"
    if options.dry_run:
        return f"dry run: {len(sending):,} would be sent{refused}"
    lines = [f"sent     {one.letter.name} -> {_position_text(settings, one)}" for one in sending]
    return "\n".join([*lines, f"{len(sending):,} sent to {settings.topics.input}{refused}"])


def _position_text(settings: Settings, one: Candidate) -> str:
    if one.position is None:
        return f"{settings.topics.input}, acknowledged; not readable yet"
    return f"{settings.topics.input}[{one.position[0]}]@{one.position[1]}"


def _report_json(
    settings: Settings, options: ReplayOptions, candidates: Sequence[Candidate], note: str
) -> str:
    rows: list[dict[str, Any]] = []
    for one in candidates:
        row: dict[str, Any] = {
            "from": one.letter.coordinates,
            "reason": one.letter.reason,
            "key": one.key.decode("utf-8", "replace"),
        }
        row |= {
            "corrected": one.corrected,
            "now": one.verdict.reason.code,
            "refused": one.refusal or None,
        }
        rows.append(
            row
            | {
                "to": (
                    None
                    if one.position is None
                    else f"{settings.topics.input}[{one.position[0]}]@{one.position[1]}"
                )
            }
        )
    sent = sum(one.sent for one in candidates)
    return (
        json.dumps(
            {
                "topic": settings.topics.input,
                "dry_run": options.dry_run,
                "sent": sent,
                "note": note or None,
                "records": rows,
            },
            ensure_ascii=False,
        )
        + "\n"
    )
