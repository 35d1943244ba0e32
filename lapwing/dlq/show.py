"""Output of the commands ``list`` and ``show`` of ``lapwing dlq``.

Invariant: it only reads; a problem such as an unreachable registry or an unknown schema is printed
and hides nothing else.
"""

from __future__ import annotations

import heapq
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from lapwing.dlq.letters import Filters, Letter, format_time, read_letter, scan
from lapwing.dlq.record import (
    Fields,
    decoder_of,
    hex_dump,
    read_fields,
    read_json,
    to_json,
    verdicts_of,
)
from shared.decode.allowed import allowed
from shared.decode.avro.framing import frame_of
from shared.decode.avro.plan import record_of
from shared.decode.avro.schema import SchemaInvalid, parse_schema
from shared.errors import DataError, TransportError
from shared.events import Reason
from shared.operations.telemetry import line
from shared.registry import Registry
from shared.settings import InputSettings, Settings
from shared.wording import iso

SHOWN_BYTES = 256
NO_MESSAGE = "no reason recorded"


@dataclass(slots=True)
class Group:
    """Count of the dead letters with one reason.

    first_ms, last_ms : range of Kafka's timestamps
    sources           : {topic: partitions} of the rejected records
    """

    reason: str
    count: int = 0
    first_ms: int = 2**63 - 1
    last_ms: int = -(2**63)
    sources: dict[str, set[int]] = field(default_factory=dict)

    def add(self, letter: Letter) -> None:
        """Count a dead letter."""
        self.count += 1
        self.first_ms = min(self.first_ms, letter.time_ms)
        self.last_ms = max(self.last_ms, letter.time_ms)
        topic, partition = letter.details["source_topic"], letter.details["source_partition"]
        if partition is not None:
            self.sources.setdefault(topic, set()).add(partition)


@dataclass(frozen=True, slots=True)
class Listing:
    """Summary of the topic.

    total  : number of all dead letters, before the filters
    groups : matching dead letters by reason, most frequent first
    newest : newest matching dead letters, newest first
    """

    total: int
    groups: list[Group]
    newest: list[Letter]

    @property
    def matching(self) -> int:
        """Number of dead letters that match the filters."""
        return sum(group.count for group in self.groups)


def summarize(letters: Iterable[Letter], filters: Filters, limit: int) -> Listing:
    """Count dead letters by reason and keep the newest; memory does not grow with their number."""
    groups: dict[str, Group] = {}
    newest: list[tuple[tuple[int, int, int], Letter]] = []
    total = 0
    for letter in letters:
        total += 1
        if not filters.matches(letter):
            continue
        groups.setdefault(letter.reason, Group(letter.reason)).add(letter)
        place = (letter.time_ms, letter.offset, letter.partition)
        if len(newest) < limit:
            heapq.heappush(newest, (place, letter))
        elif newest and place > newest[0][0]:
            heapq.heapreplace(newest, (place, letter))
    ordered = sorted(groups.values(), key=lambda group: (-group.count, group.reason))
    return Listing(
        total,
        ordered,
        [letter for _, letter in sorted(newest, key=lambda one: one[0], reverse=True)],
    )


def list_letters(
    settings: Settings, filters: Filters, *, limit: int, as_json: bool, out: TextIO | None = None
) -> None:
    """Print counts by reason, then the newest dead letters.

    raises : TransportError, TopicMismatch
    """
    topic = settings.topics.dead_letters
    listing = summarize(scan(settings), filters, limit)
    target = out or sys.stdout
    if as_json:
        groups = [_group_document(group) for group in listing.groups]
        newest = [document(letter) for letter in listing.newest]
        found = {
            "topic": topic,
            "total": listing.total,
            "matching": listing.matching,
            "reasons": groups,
            "newest": newest,
        }
        target.write(json.dumps(found, ensure_ascii=False) + "\n")
        return
    if not listing.total:
        target.write(f"{topic} has no dead letters\n")
        return
    of = f"{listing.matching:,} of {listing.total:,}" if filters else f"{listing.total:,}"
    target.write(f"{topic}: {of} dead letters\n")
    if listing.groups:
        target.write("\n" + "".join(f"{text}\n" for text in _table(listing.groups)))
    if listing.newest:
        target.write(
            f"\nnewest {len(listing.newest):,}:\n"
            + "".join(f"{text}\n" for text in _newest_lines(listing.newest))
        )


def _newest_lines(newest: Iterable[Letter]) -> list[str]:
    """Format each dead letter as a line; a message that several share is printed once."""
    shared: dict[tuple[str, str], list[Letter]] = {}
    for letter in newest:
        shared.setdefault((letter.reason, letter.details.get("message") or ""), []).append(letter)
    lines = []
    for (reason, message), letters in shared.items():
        if len(letters) == 1:
            lines.append(to_line(letters[0]))
            continue
        lines.append(f"{len(letters):,} {reason} because {message or NO_MESSAGE}")
        lines += [f"  {line(letter.name, _facts(letter))}" for letter in letters]
    return lines


def _table(groups: list[Group]) -> list[str]:
    rows = [("reason", "count", "first", "last", "from")]
    for group in groups:
        sources = " ".join(
            f"{topic}[{_ranges(partitions)}]" for topic, partitions in sorted(group.sources.items())
        )
        rows.append(
            (
                group.reason,
                f"{group.count:,}",
                format_time(group.first_ms),
                format_time(group.last_ms),
                sources or "unknown",
            )
        )
    name, count, first = (max(len(row[column]) for row in rows) for column in range(3))
    return [
        f"{row[0]:<{name}}  {row[1]:>{count}}  {row[2]:<{first}}  {row[3]:<{first}}  {row[4]}"
        for row in rows
    ]


def _ranges(numbers: Iterable[int]) -> str:
    """Format 0,1,2,5 as 0-2,5."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(
        f"{run[0]}-{run[-1]}" if len(run) > 2 else ",".join(map(str, run)) for run in runs
    )


def to_line(letter: Letter) -> str:
    """Format a dead letter as one line."""
    because = letter.details["message"] or NO_MESSAGE
    return line(f"{letter.name} {letter.reason}", _facts(letter) | {"because": because})


def _facts(letter: Letter) -> dict[str, Any]:
    size = (
        letter.details["size_bytes"]
        if letter.cut_from_bytes is None
        else f"{letter.details['size_bytes']}/{letter.cut_from_bytes}"
    )
    return {
        "at": format_time(letter.time_ms),
        "source": letter.source,
        "key": letter.details["key"],
        "size_bytes": size,
    }


def document(letter: Letter) -> dict[str, Any]:
    """Return a dead letter for JSON: its coordinates, then the fields of ``lapwing tail dlq``."""
    cut = (
        {"cut_from_bytes": letter.cut_from_bytes, "cut_sha256": letter.cut_sha256}
        if letter.cut_from_bytes
        else {}
    )
    replayed = {"replayed_from": letter.replayed_from} if letter.replayed_from else {}
    place = {"partition": letter.partition, "offset": letter.offset, "time": iso(letter.time_ms)}
    return place | letter.details | cut | replayed


def _group_document(group: Group) -> dict[str, Any]:
    return {
        "reason": group.reason,
        "count": group.count,
        "first": iso(group.first_ms),
        "last": iso(group.last_ms),
        "sources": {
            topic: sorted(partitions) for topic, partitions in sorted(group.sources.items())
        },
    }


# -- one dead letter ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LetterContent:
    """The decoded content of a dead letter.

    schema : name of the writer schema, or why it is missing
    fields : decoded as far as possible; None without a schema
    now    : result of decoding it today; empty if the registry does not answer
    """

    schema_id: int | str | None
    schema: str
    fields: Fields | None
    now: str


def decode_letter(letter: Letter, registry: Registry, settings: InputSettings) -> LetterContent:
    """Decode a dead letter with its writer schema (JSON needs none), as far as possible."""
    is_avro = settings.format == "avro"
    headers = letter.original_headers()
    frame = frame_of(letter.value, headers, settings.schema_ids) if is_avro else None
    key = None if frame is None else frame.key
    schema_id = key if isinstance(key, int | None) else str(key)
    try:
        (verdict,) = verdicts_of([letter.value], decoder_of(settings, registry), [headers])
        now = (
            "it would be accepted"
            if verdict.reason is Reason.ACCEPTED
            else f"{verdict.reason.code}: {verdict.sentence}"
        )
        if letter.cut_from_bytes is not None:
            now = "it was cut and cannot be sent back without a correction"
        text = None if key is None else registry.schema(key)
    except TransportError as error:
        return LetterContent(schema_id, f"unknown: {error}", None, "")
    if not is_avro:
        return LetterContent(None, "JSON has none", read_json(letter.value), now)
    if frame is None or text is None:
        return LetterContent(
            schema_id,
            "no schema id" if schema_id is None else "the registry does not know it",
            None,
            now,
        )
    try:
        avro = parse_schema(text)
    except SchemaInvalid as error:
        return LetterContent(schema_id, f"not Avro: {error}", None, now)
    record = record_of(avro)
    if record is None:
        return LetterContent(schema_id, f"{avro}, not a record", None, now)
    return LetterContent(schema_id, record.name, read_fields(letter.value, avro, frame.begin), now)


def show_letter(
    settings: Settings,
    partition: int,
    offset: int,
    *,
    raw: Path | None,
    as_json: bool,
    out: TextIO | None = None,
) -> None:
    """Print one dead letter; write its bytes to a file.

    raises : ConfigError if it does not exist, DataError if the file cannot be written,
             TransportError, TopicMismatch
    """
    letter = read_letter(settings, partition, offset)
    content = decode_letter(letter, Registry(settings.registry), settings.input)
    target = out or sys.stdout
    if as_json:
        target.write(
            json.dumps(_letter_document(letter, content, settings), ensure_ascii=False) + "\n"
        )
    else:
        target.write("".join(f"{text}\n" for text in _letter_lines(letter, content, settings)))
    if raw is not None:
        try:
            raw.write_bytes(letter.value)
        except OSError as error:
            raise DataError(f"--raw {raw}: it cannot be written: {error.strerror}") from error
        if not as_json:
            target.write(f"\n{len(letter.value):,} bytes written to {raw}\n")


def _letter_document(letter: Letter, content: LetterContent, settings: Settings) -> dict[str, Any]:
    fields = content.fields
    return document(letter) | {
        "allowed": allowed(letter.reason, settings.input),
        "now": content.now,
        "headers": [
            [name, value.decode("utf-8", "backslashreplace")] for name, value in letter.headers
        ],
        "schema_id": content.schema_id,
        "schema": content.schema,
        "fields": None if fields is None else to_json(fields.values),
        "fields_end": None if fields is None else fields.problem,
    }


def _letter_lines(letter: Letter, content: LetterContent, settings: Settings) -> list[str]:
    details = letter.details
    facts = {
        "place": letter.coordinates,
        "written": format_time(letter.time_ms) + " UTC",
        "source": letter.source,
        "key": details["key"] or "(none)",
        "reason": f"{letter.reason}: {details['message'] or NO_MESSAGE}",
        "allowed": allowed(letter.reason, settings.input),
        "now": content.now,
        "bytes": (
            f"{details['size_bytes']:,}"
            if letter.cut_from_bytes is None
            else (
                f"the first {details['size_bytes']:,} of {letter.cut_from_bytes:,}; SHA-256 of all:"
                f" {letter.cut_sha256}"
            )
        ),
        "replayed": (
            f"from {letter.replayed_from}, and rejected again" if letter.replayed_from else ""
        ),
        "schema": (
            f"id {content.schema_id}: {content.schema}"
            if content.schema_id is not None
            else content.schema
        ),
    }
    lines = [f"{name:<8}  {text}" for name, text in facts.items() if text]
    if content.fields is not None:
        lines += ["", "fields"]
        lines += [
            f"  {name} = {json.dumps(to_json(value), ensure_ascii=False)}"
            for name, value in content.fields.values.items()
        ]
        lines += [f"  ends here: {content.fields.problem}"] if content.fields.problem else []
    lines += [
        "",
        "headers",
        *(
            f"  {name} = {value.decode('utf-8', 'backslashreplace')}"
            for name, value in letter.headers
        ),
    ]
    shown = hex_dump(letter.value, SHOWN_BYTES)
    rest = len(letter.value) - SHOWN_BYTES
    return [
        *lines,
        "",
        *shown,
        *([f"... {rest:,} more bytes; --raw FILE writes all"] if rest > 0 else []),
    ]
