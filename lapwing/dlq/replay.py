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
    sending = [candidate for candidate in candidates if not candidate.refusal]
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
        key=lambda letter: (
            letter.details["source_topic"],
            unknown
            if letter.details["source_partition"] is None
            else letter.details["source_partition"],
            unknown if letter.details["source_offset"] is None else letter.details["source_offset"],
        )
    )
    return letters, replayed


# -- refusals -------------------------------------------------------------------------------


def _refuse(
    settings: Settings, options: ReplayOptions, candidates: Iterable[Candidate], count: int
) -> None:
    for candidate in candidates:
        details = candidate.letter.details
        if candidate.letter.cut_from_bytes is not None and not candidate.corrected:
            candidate.refusal = (
                f"only the first {len(candidate.value):,} of its"
                f" {candidate.letter.cut_from_bytes:,} bytes are left"
            )
        elif options.force:
            continue
        elif details["source_topic"] != settings.topics.input:
            origin = (
                f"it came from {details['source_topic']}"
                if details["source_topic"]
                else "its origin is not recorded"
            )
            candidate.refusal = (
                f"{origin}, not from {settings.topics.input} (--force sends it anyway)"
            )
        elif candidate.verdict.reason is not Reason.ACCEPTED:
            verdict = candidate.verdict
            candidate.refusal = (
                f"it would be rejected again, {verdict.reason.code}: {verdict.sentence}"
                " (--force sends it anyway)"
            )
        elif (
            options.key is None
            and candidate.target is not None
            and candidate.target != details["source_partition"]
        ):
            candidate.refusal = (
                f"it came from partition {details['source_partition']}, and {settings.topics.input}"
                f" has {count} now: the entity's state would be in two places (--force sends it to"
                f" partition {candidate.target} by its key)"
            )


def _refuse_replayed(
    settings: Settings, candidates: Sequence[Candidate], replayed: dict[str, str]
) -> list[str]:
    """Refuse records that were sent before; return a note if the search was skipped."""
    sendable = [candidate for candidate in candidates if not candidate.refusal]
    topic = settings.topics.input
    low, high = topic_bounds(settings, topic)
    start = _first_possible(sendable, low, high)
    records = sum(high[p] - start[p] for p in start)
    notes = []
    if records > MAX_SEARCHED_RECORDS:
        notes.append(
            f"{topic} has {records:,} later records, too many to search for earlier replays; a"
            " record that is sent twice is scored twice"
        )
    elif start:
        wanted = {candidate.letter.coordinates for candidate in sendable}
        found = _find_replays(settings, start, {p: high[p] for p in start}, wanted)
        replayed = replayed | {
            coordinates: f"as {topic}[{p}]@{offset}" for coordinates, (p, offset) in found.items()
        }
    for candidate in sendable:
        if candidate.letter.coordinates in replayed:
            candidate.refusal = (
                f"it was sent before, {replayed[candidate.letter.coordinates]}"
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
        candidate
        for candidate in candidates
        if not candidate.refusal
        and candidate.key
        and candidate.target is not None
        and candidate.target != partition_of_key(candidate.key, named, count)
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
    for candidate in candidates:
        details = candidate.letter.details
        for partition in (
            low
            if candidate.target is None
            else {candidate.target, details["source_partition"]} & set(low)
        ):
            known = (
                details["source_offset"] is not None and partition == details["source_partition"]
            )
            first = max(low[partition], details["source_offset"] + 1 if known else 0)
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
                Blob.join([candidate.value for candidate in sending]),
                Blob.join([candidate.key for candidate in sending]),
                {
                    row: [
                        *candidate.headers,
                        (REPLAYED_FROM, candidate.letter.coordinates.encode()),
                    ]
                    for row, candidate in enumerate(sending)
                },
                {
                    row: candidate.target
                    for row, candidate in enumerate(sending)
                    if candidate.target is not None
                },
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
            settings,
            before,
            admin.end_offsets(topic),
            {candidate.letter.coordinates for candidate in sending},
        )
    finally:
        publisher.close()
        admin.close()
    for candidate in sending:
        candidate.sent, candidate.position = True, found.get(candidate.letter.coordinates)


# -- output ----------------------------------------------------------------------------------


def _plan_lines(settings: Settings, candidates: Sequence[Candidate], note: str) -> list[str]:
    lines = []
    for candidate in candidates:
        if candidate.refusal:
            lines.append(
                f"refused  {candidate.letter.name} {candidate.letter.reason}: {candidate.refusal}"
            )
            continue
        where = (
            "any partition, it has no key"
            if candidate.target is None
            else f"{settings.topics.input}[{candidate.target}]"
        )
        letter = candidate.letter
        lines.append(f"send     {letter.name} {letter.reason} -> {where}: {_describe(candidate)}")
        lines += [f"         {text}" for text in _warnings(candidate)]
    return [*lines, *([f"note: {note}"] if note else [])]


def _describe(candidate: Candidate) -> str:
    size = f"{len(candidate.value):,} bytes" + (", corrected" if candidate.corrected else "")
    if candidate.verdict.reason is not Reason.ACCEPTED:
        return f"{size}, will be rejected again: {candidate.verdict.reason.code}"
    return f"{candidate.verdict.entity} at {format_time(candidate.verdict.time_ms)}, {size}"


def _warnings(candidate: Candidate) -> list[str]:
    warnings = []
    if candidate.verdict.entity and candidate.key != candidate.verdict.entity.encode():
        warnings.append(
            f"its key is {candidate.key.decode('utf-8', 'replace')!r}, not the entity: --new-key"
            " sends it where the entity's key belongs"
        )
    return warnings


def _question(settings: Settings, sending: Sequence[Candidate]) -> str:
    return f"Send {len(sending):,} to {settings.topics.input} at {settings.bootstrap}?"


def _closing_text(
    settings: Settings, options: ReplayOptions, candidates: Sequence[Candidate], agreed: bool
) -> str:
    sending = [candidate for candidate in candidates if not candidate.refusal]
    refused = (
        f", {len(candidates) - len(sending):,} refused" if len(candidates) > len(sending) else ""
    )
    if not sending or not agreed:
        return f"nothing sent{refused}"
    if options.dry_run:
        return f"dry run: {len(sending):,} would be sent{refused}"
    lines = [
        f"sent     {candidate.letter.name} -> {_position_text(settings, candidate)}"
        for candidate in sending
    ]
    return "\n".join([*lines, f"{len(sending):,} sent to {settings.topics.input}{refused}"])


def _position_text(settings: Settings, candidate: Candidate) -> str:
    if candidate.position is None:
        return f"{settings.topics.input}, acknowledged; not readable yet"
    return f"{settings.topics.input}[{candidate.position[0]}]@{candidate.position[1]}"


def _report_json(
    settings: Settings, options: ReplayOptions, candidates: Sequence[Candidate], note: str
) -> str:
    rows: list[dict[str, Any]] = []
    for candidate in candidates:
        row: dict[str, Any] = {
            "from": candidate.letter.coordinates,
            "reason": candidate.letter.reason,
            "key": candidate.key.decode("utf-8", "replace"),
        }
        row |= {
            "corrected": candidate.corrected,
            "now": candidate.verdict.reason.code,
            "refused": candidate.refusal or None,
        }
        rows.append(
            row
            | {
                "to": (
                    None
                    if candidate.position is None
                    else f"{settings.topics.input}[{candidate.position[0]}]@{candidate.position[1]}"
                )
            }
        )
    sent = sum(candidate.sent for candidate in candidates)
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
