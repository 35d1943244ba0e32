"""Sends dead letters back to the input topic, as they are or corrected.

Law: nothing is sent that would become a dead letter again, that was cut, that would leave its
     partition or that was sent
before, unless somebody says so; what was sent is read back and said with its coordinates.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from lapwing.dlq.letters import REPLAYED_FROM, Filters, Letter, find, moment, scan
from lapwing.dlq.record import Verdict, fit, judge
from shared.batch import Blob, Outgoing
from shared.decode.avro.plan import record_of
from shared.decode.avro.schema import SchemaInvalid, parse_schema
from shared.encode.records import encode_records, schema_id_of
from shared.errors import ConfigError, DataError, TransportError
from shared.events import Reason
from shared.kafka import Admin, Publisher, Reader, topic_bounds
from shared.kernels.hashing import murmur2_partitions
from shared.registry import Registry
from shared.settings import Settings

LOOKED_AT = 200_000
"""Earlier replays are looked for among at most so many records of the input."""

FLUSH_S = 30.0


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """What to send back, and how.

    partition, offset : of one dead letter; None = those that ``filters`` takes
    value_file        : corrected bytes in Confluent's wire format; json_file: a corrected record as
                        JSON
    schema_id         : writer schema of json_file; None = the dead letter's own, or the input's
                        newest
    key               : instead of the dead letter's
    limit             : more than so many at once are refused
    """

    partition: int | None = None
    offset: int | None = None
    filters: Filters = field(default_factory=Filters)
    value_file: Path | None = None
    json_file: Path | None = None
    schema_id: int | None = None
    key: str | None = None
    force: bool = False
    again: bool = False
    dry_run: bool = False
    limit: int = 10_000
    as_json: bool = False

    def check(self) -> None:
        """Refuse what contradicts itself with a ConfigError."""
        one = self.partition is not None
        if one and self.offset is None:
            raise ConfigError(
                "PARTITION OFFSET: both, as `lapwing dlq list` shows them in dlq[PARTITION]@OFFSET"
            )
        if one == bool(self.filters):
            raise ConfigError("say either PARTITION OFFSET, or --reason, --key or --since")
        if self.value_file is not None and self.json_file is not None:
            raise ConfigError("--value-file and --json-file exclude each other")
        named = {
            "--value-file": self.value_file,
            "--json-file": self.json_file,
            "--new-key": self.key,
        }
        given = [name for name, value in named.items() if value is not None]
        if given and not one:
            raise ConfigError(f"{given[0]} corrects one record: say PARTITION OFFSET")
        if self.schema_id is not None and self.json_file is None:
            raise ConfigError("--schema-id is the writer schema of --json-file, which is not given")


@dataclass(slots=True)
class Candidate:
    """A dead letter and what would be sent for it.

    target  : partition by its key; None without a key, when chance decides
    refusal : why it is not sent; empty = it is
    sent    : whether the broker has acknowledged it; landed: its partition and offset, once read
              back
    """

    letter: Letter
    value: bytes
    key: bytes
    corrected: bool
    verdict: Verdict
    target: int | None
    refusal: str = ""
    sent: bool = False
    landed: tuple[int, int] | None = None


class InputSchemas(Registry):
    """A registry that also says what the newest schema of a subject is."""

    def newest(self, subject: str) -> tuple[int, str]:
        """Return id and text; raises TransportError, also where there is no such subject."""
        found = self._call(
            f"newest schema of {subject}", lambda client: client.get_latest_version(subject)
        )
        if found.schema_id is None or found.schema is None or found.schema.schema_str is None:
            raise TransportError(
                f"{self.address}: newest schema of {subject}: the answer is incomplete",
                retriable=False,
            )
        return found.schema_id, found.schema.schema_str


def replay(
    settings: Settings,
    options: ReplayOptions,
    *,
    confirm: Callable[[str], bool],
    out: TextIO | None = None,
) -> int:
    """Send dead letters back; return 0 where all that were meant were sent (or could be, in a dry
    run), else 1.

    confirm : asked before anything is sent
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
    candidates = _candidates(settings, options, letters, registry)
    _refuse(settings, options, candidates)
    note = "" if options.again else _refuse_replayed(settings, candidates, replayed)
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
        target.write(f"{_ending(settings, options, candidates, agreed)}\n")
    return 0 if agreed and len(sending) == len(candidates) else 1


# -- what is meant ---------------------------------------------------------------------------------


def _collect(settings: Settings, options: ReplayOptions) -> tuple[list[Letter], dict[str, str]]:
    """Return the dead letters that are meant in the order of their source, and those known to have
    been replayed.
    """
    if options.partition is not None and options.offset is not None:
        return [find(settings, options.partition, options.offset)], {}
    letters, replayed = [], {}
    for letter in scan(settings):
        if letter.replayed_from:
            replayed[letter.replayed_from] = f"and rejected again as {letter.name}"
        if options.filters.take(letter):
            letters.append(letter)
            if len(letters) > options.limit:
                raise ConfigError(
                    f"more than {options.limit:,} dead letters match: narrow it with --key or"
                    " --since, or raise --max"
                )
    unknown = -1
    letters.sort(
        key=lambda one: (
            one.said["source_topic"],
            unknown if one.said["source_partition"] is None else one.said["source_partition"],
            unknown if one.said["source_offset"] is None else one.said["source_offset"],
        )
    )
    return letters, replayed


def _candidates(
    settings: Settings, options: ReplayOptions, letters: Sequence[Letter], registry: InputSchemas
) -> list[Candidate]:
    corrected = _corrected(settings, options, letters[0], registry)
    values = [letter.value for letter in letters] if corrected is None else [corrected]
    keys = [letter.key for letter in letters] if options.key is None else [options.key.encode()]
    admin = Admin(settings)
    try:
        count = admin.partitions(settings.topics.input)
    finally:
        admin.close()
    blob, owners = Blob.join(keys), np.zeros(len(keys), np.int64)
    murmur2_partitions(np.frombuffer(blob.data, np.uint8), blob.bounds, count, owners)
    verdicts = judge(values, registry, settings.input)
    rows = zip(letters, values, keys, verdicts, owners.tolist(), strict=True)
    return [
        Candidate(one, value, key, corrected is not None, v, owner if key else None)
        for one, value, key, v, owner in rows
    ]


def _corrected(
    settings: Settings, options: ReplayOptions, letter: Letter, registry: InputSchemas
) -> bytes | None:
    if options.value_file is not None:
        try:
            return options.value_file.read_bytes()
        except OSError as error:
            raise DataError(
                f"--value-file {options.value_file}: it cannot be read: {error.strerror}"
            ) from error
    if options.json_file is None:
        return None
    place = f"--json-file {options.json_file}"
    try:
        record = json.loads(options.json_file.read_text("utf-8-sig"))
    except OSError as error:
        raise DataError(f"{place}: it cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: it is not JSON: {error}") from error
    schema_id, text = _writer_schema(settings, options, letter, registry)
    try:
        written = parse_schema(text)
        avro = record_of(written) or written
        return encode_records(text, schema_id, [fit(avro, record, avro.name)])[0]
    except SchemaInvalid as error:
        raise DataError(f"{place}: schema id {schema_id} is not Avro: {error}") from error
    except (ValueError, OverflowError) as error:
        raise DataError(f"{place}: schema id {schema_id}: {error}") from error


def _writer_schema(
    settings: Settings, options: ReplayOptions, letter: Letter, registry: InputSchemas
) -> tuple[int, str]:
    """Return the schema that was asked for, or else the record's own, or else the input's newest."""
    if options.schema_id is not None:
        text = registry.schema(options.schema_id)
        if text is None:
            raise ConfigError(
                f"--schema-id {options.schema_id}: {registry.address} does not know it"
            )
        return options.schema_id, text
    own = schema_id_of(letter.value)
    text = (
        None if own is None or letter.reason == Reason.SCHEMA_UNFIT.code else registry.schema(own)
    )
    return (
        registry.newest(f"{settings.topics.input}-value")
        if own is None or text is None
        else (own, text)
    )


# -- what is refused -------------------------------------------------------------------------------


def _refuse(settings: Settings, options: ReplayOptions, candidates: Iterable[Candidate]) -> None:
    for one in candidates:
        said = one.letter.said
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
                else "nobody says where it came from"
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
                f"by its key it would go to partition {one.target}, it came from"
                f" {said['source_partition']}: the entity's state would be in two places (--force"
                " sends it all the same)"
            )


def _refuse_replayed(
    settings: Settings, candidates: Sequence[Candidate], replayed: dict[str, str]
) -> str:
    """Refuse what was sent before, as far as that can be found out; return why it could not, or
    nothing.
    """
    asked = [one for one in candidates if not one.refusal]
    topic = settings.topics.input
    low, high = topic_bounds(settings, topic)
    start = _first_possible(asked, low, high)
    records = sum(high[p] - start[p] for p in start)
    note = ""
    if records > LOOKED_AT:
        note = (
            f"{records:,} records of {topic} came later, too many to see whether a dead letter was"
            " sent before"
        )
    elif start:
        wanted = {one.letter.place for one in asked}
        found = _marks(settings, start, {p: high[p] for p in start}, wanted)
        replayed = replayed | {
            place: f"as {topic}[{p}]@{offset}" for place, (p, offset) in found.items()
        }
    for one in asked:
        if one.letter.place in replayed:
            one.refusal = (
                f"it was sent before, {replayed[one.letter.place]} (--again sends it once more)"
            )
    return note


def _first_possible(
    candidates: Iterable[Candidate], low: dict[int, int], high: dict[int, int]
) -> dict[int, int]:
    """Return where in each partition the first replay of any of these may lie: after the record
    itself where it came from.
    """
    start: dict[int, int] = {}
    for one in candidates:
        said = one.letter.said
        for partition in (
            low if one.target is None else {one.target, said["source_partition"]} & set(low)
        ):
            known = said["source_offset"] is not None and partition == said["source_partition"]
            first = max(low[partition], said["source_offset"] + 1 if known else 0)
            start[partition] = min(start.get(partition, high[partition]), first)
    return start


def _marks(
    settings: Settings, start: dict[int, int], end: dict[int, int], wanted: set[str]
) -> dict[str, tuple[int, int]]:
    """Return which of these dead letters were sent to the input within a window, and where."""
    found = {}
    for batch in Reader(settings).read(settings.topics.input, start, end):
        for row, headers in batch.headers.items():
            for name, value in headers:
                if name == REPLAYED_FROM and value.decode("utf-8", "replace") in wanted:
                    found[value.decode()] = (batch.partition, int(batch.offsets[row]))
    return found


# -- sending ---------------------------------------------------------------------------------------


def _send(settings: Settings, sending: Sequence[Candidate]) -> None:
    """Send, wait until all are acknowledged, and read back where they are."""
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
                    row: [*one.letter.own_headers(), (REPLAYED_FROM, one.letter.place.encode())]
                    for row, one in enumerate(sending)
                },
            )
        )
        publisher.flush(FLUSH_S)
        counts = publisher.counts()
        if counts.acknowledged < len(sending):
            why = publisher.first_error or f"no answer within {FLUSH_S:g} s"
            raise TransportError(
                f"{counts.acknowledged:,} of {len(sending):,} records arrived in {topic}: {why};"
                " run it again, what arrived is found and not sent twice"
            )
        found = _marks(
            settings, before, admin.end_offsets(topic), {one.letter.place for one in sending}
        )
    finally:
        publisher.close()
        admin.close()
    for one in sending:
        one.sent, one.landed = True, found.get(one.letter.place)


# -- what is said ----------------------------------------------------------------------------------


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
        lines.append(f"send     {one.letter.name} {one.letter.reason} -> {where}: {_what(one)}")
        lines += [f"         {text}" for text in _doubts(one)]
    return [*lines, *([f"note: {note}; sent twice is scored twice"] if note else [])]


def _what(one: Candidate) -> str:
    size = f"{len(one.value):,} bytes" + (", corrected" if one.corrected else "")
    if one.verdict.reason is not Reason.ACCEPTED:
        return f"{size}, will be rejected again: {one.verdict.reason.code}"
    return f"{one.verdict.entity} at {moment(one.verdict.time_ms)}, {size}"


def _doubts(one: Candidate) -> list[str]:
    doubts = []
    if one.letter.reason == Reason.TOO_MANY_ENTITIES.code:
        doubts.append(
            "whether its partition has room for a further entity now cannot be seen from here"
        )
    if one.verdict.entity and one.key != one.verdict.entity.encode():
        doubts.append(
            f"its key is {one.key.decode('utf-8', 'replace')!r}, not the entity: the key decides"
            " the partition (--new-key)"
        )
    return doubts


def _question(settings: Settings, sending: Sequence[Candidate]) -> str:
    return f"Send {len(sending):,} to {settings.topics.input} at {settings.bootstrap}?"


def _ending(
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
    lines = [f"sent     {one.letter.name} -> {_landing(settings, one)}" for one in sending]
    return "\n".join([*lines, f"{len(sending):,} sent to {settings.topics.input}{refused}"])


def _landing(settings: Settings, one: Candidate) -> str:
    if one.landed is None:
        return f"{settings.topics.input}, acknowledged; not readable yet"
    return f"{settings.topics.input}[{one.landed[0]}]@{one.landed[1]}"


def _report_json(
    settings: Settings, options: ReplayOptions, candidates: Sequence[Candidate], note: str
) -> str:
    rows: list[dict[str, Any]] = []
    for one in candidates:
        row: dict[str, Any] = {
            "from": one.letter.place,
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
                    if one.landed is None
                    else f"{settings.topics.input}[{one.landed[0]}]@{one.landed[1]}"
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
