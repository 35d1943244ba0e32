"""A backtest's input: series as the producer reads and encodes them, or part of the topic.

Invariant: every record passes through its Avro bytes; batches of one partition come in log order,
           with strictly increasing offsets.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from producer.catalogue import (
    Catalogue,
    assemble,
    column_notes,
    load_catalogue,
    read_files,
    shared_entities,
)
from producer.files.columns import NO_CHOICE, ColumnChoice
from producer.files.series import Series
from producer.records import ENTITY_FIELD, RecordMaker, event_schema
from producer.replay import Stream, merge
from producer.sources import SourceOptions, open_source
from shared.batch import Batch, Blob
from shared.decode.avro.decoder import AvroDecoder
from shared.decode.field_choice import UnsupportedSchema
from shared.directory import Directory
from shared.encode.avro_columns import select
from shared.errors import ConfigError, DataError, HistoryGone
from shared.kernels.hashing import murmur2_partitions
from shared.labels import Window, Windows, find, read_labels
from shared.ports import Decoder
from shared.settings import Settings

Times = npt.NDArray[np.int64]

_SCHEMA_ID = 1
_OFFSET = re.compile(r"\d{1,19}")
_RANGE_HELP = (
    "--topic-range FROM..TO: offsets (0..50000), or event times (2026-03-01..2026-03-08T12:00);"
    " either side may be left out"
)


@dataclass(frozen=True, slots=True)
class InputOptions:
    """Where the records come from: a folder, a topic's range, or a generated fleet.

    columns    : which columns of files are time and entity
    by_arrival : rows of files come in the order in which they lie there, not in that of their times
    partitions : that the records of a folder or fleet are spread over, as the producer's
                 partitioner spreads them
    """

    data: Path | None = None
    topic_range: str | None = None
    fleet: int | None = None
    days: float = 14.0
    seed: int = 0
    catalogue: Path | None = None
    skip_bad: bool = False
    partitions: int = 1
    columns: ColumnChoice = NO_CHOICE
    by_arrival: bool = False


@dataclass(frozen=True, slots=True)
class Joined:
    """Where a file's rows stand in a host that is joined from several files row by row."""

    host: str
    metric: str
    file: str
    file_ms: Times
    host_ms: Times


@dataclass(frozen=True, slots=True)
class Feed:
    """Records of all partitions, and what is known of them.

    rows    : how many there are at most, for the progress
    decoder : reads the records; every batch that comes is prepared
    batches : yields the records; may be called again
    labels  : of a generated fleet
    joined  : files whose labels belong to a joined host
    """

    name: str
    rows: int
    decoder: Decoder
    batches: Callable[[], Iterator[Batch]]
    notes: tuple[str, ...] = ()
    labels: Windows | None = None
    joined: tuple[Joined, ...] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)

    def windows(self, labels: Windows, entities: Sequence[str]) -> dict[str, list[Window]]:
        """Return the windows of each entity; those of a joined file lie at the host's times."""
        found = {entity: list(find(labels, entity) or ()) for entity in entities}
        for part in self.joined:
            for window in find(labels, part.file) or () if part.host in found else ():
                rows = part.host_ms[: len(part.file_ms)][
                    (part.file_ms >= window.start_ms) & (part.file_ms <= window.end_ms)
                ]
                if len(rows):
                    moved = replace(
                        window, start_ms=int(rows.min()), end_ms=int(rows.max()), metric=part.metric
                    )
                    found[part.host].append(moved)
        return {
            entity: sorted(windows, key=lambda item: (item.start_ms, item.end_ms))
            for entity, windows in found.items()
        }


def open_feed(settings: Settings, options: InputOptions) -> Feed:
    """Open the requested input.

    raises : ConfigError, DataError, TransportError, TopicMismatch, HistoryGone
    """
    named = {"--data": options.data, "--topic-range": options.topic_range, "--fleet": options.fleet}
    given = [name for name, value in named.items() if value is not None]
    if len(given) != 1:
        raise ConfigError(
            f"give exactly one of {', '.join(named)}; given: {', '.join(given) or 'none'}"
        )
    options.columns.check(options.data is not None)
    if options.by_arrival and options.data is None:
        raise ConfigError(
            "--order arrival: only with --data, because other records have only one order"
        )
    if options.partitions < 1:
        raise ConfigError(f"--partitions {options.partitions}: at least 1")
    if options.topic_range is not None:
        return _open_topic(settings, options.topic_range)
    if options.data is not None:
        return _open_folder(settings, options, options.data)
    source = open_source(
        SourceOptions(
            fleet=options.fleet, days=options.days, seed=options.seed, original_times=True
        )
    )
    labels = read_labels_of_fleet(source.labels or {})
    return _of_stream(
        settings, source.stream, "fleet", source.notes, options.partitions, labels=labels
    )


def read_labels_of_fleet(document: Mapping[str, object]) -> Windows:
    """Read a generated fleet's own labels."""
    import json

    return read_labels(json.dumps(document), "fleet")


def _open_folder(settings: Settings, options: InputOptions, folder: Path) -> Feed:
    catalogue = load_catalogue(options.catalogue)
    read = read_files(folder, catalogue, options.columns, skip_bad=options.skip_bad)
    hosts, joins = assemble(read, catalogue)
    notes = [*column_notes(read), *shared_entities(read), *joins]
    skipped = {host.source: host.skipped for host in hosts if host.skipped}
    notes += [f"bad rows skipped in {name}: {count}" for name, count in skipped.items()]
    joined = tuple(_joined(catalogue, read, hosts))
    return _of_stream(
        settings,
        merge(hosts, by_arrival=options.by_arrival),
        str(folder),
        tuple(notes),
        options.partitions,
        joined=joined,
        skipped=skipped,
    )


def _joined(
    catalogue: Catalogue, files: Sequence[Series], hosts: Sequence[Series]
) -> Iterator[Joined]:
    by_name, joined = (
        {source.source: source for source in files},
        {source.source: source for source in hosts},
    )
    for part in catalogue.host:
        if part.name in joined and set(part.metrics.values()) <= set(by_name):
            for metric, file in part.metrics.items():
                times = by_name[file].time_ms
                yield Joined(
                    part.name,
                    metric,
                    file,
                    times,
                    joined[part.name].time_ms if part.join == "position" else times,
                )


def _of_stream(
    settings: Settings,
    stream: Stream,
    name: str,
    notes: Sequence[str],
    partitions: int,
    *,
    labels: Windows | None = None,
    joined: tuple[Joined, ...] = (),
    skipped: Mapping[str, int] | None = None,
) -> Feed:
    decoder = AvroDecoder.of_schemas({_SCHEMA_ID: event_schema(stream.metrics)}, settings.input)
    if isinstance(unfit := decoder.plan(_SCHEMA_ID), UnsupportedSchema):
        raise ConfigError(
            f"input: {unfit}; rows of files are written with the entity in the field"
            f" {ENTITY_FIELD!r} and the metrics {', '.join(stream.metrics)}"
        )
    where = np.zeros(len(stream.entities), np.int64)
    keys = Blob.join([entity.encode() for entity in stream.entities])
    murmur2_partitions(np.frombuffer(keys.data, np.uint8), keys.bounds, partitions, where)
    maker = RecordMaker(settings.topics.input, _SCHEMA_ID, stream.entities)

    def batches() -> Iterator[Batch]:
        offsets = [0] * partitions
        for low in range(0, len(stream), settings.predict.max_batch_records):
            chunk = stream.rows(low, min(low + settings.predict.max_batch_records, len(stream)))
            encoded, owner = maker(chunk), where[chunk.entity]
            for partition in np.unique(owner).tolist():
                rows = np.flatnonzero(owner == partition)
                first = offsets[partition]
                offsets[partition] += len(rows)
                yield Batch(
                    encoded.topic,
                    partition,
                    select(encoded.values, rows),
                    select(encoded.keys, rows),
                    np.arange(first, first + len(rows), dtype=np.int64),
                    np.zeros(len(rows), np.int64),
                )

    return Feed(name, len(stream), decoder, batches, tuple(notes), labels, joined, skipped or {})


# -- a range of the topic --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TopicRange:
    """A range of offsets of each partition, or of event times in ms.

    The end is exclusive; None = the end of the log.
    """

    by_time: bool
    start: int | None
    stop: int | None


def parse_range(text: str) -> TopicRange:
    """Read ``FROM..TO``.

    raises : ConfigError that says what is allowed
    """
    first, dots, last = text.partition("..")
    sides = [side.strip() for side in (first, last)]
    if not dots:
        raise ConfigError(f"--topic-range {text}: {_RANGE_HELP}")
    offsets = [bool(_OFFSET.fullmatch(side)) for side in sides if side]
    if len(set(offsets)) > 1:
        raise ConfigError(
            f"--topic-range {text}: one side is an offset and the other a time; {_RANGE_HELP}"
        )
    by_time = bool(offsets) and not offsets[0]
    start, stop = (_bound(side, by_time, text) for side in sides)
    if start is not None and stop is not None and start >= stop:
        raise ConfigError(f"--topic-range {text}: it ends before it begins; {_RANGE_HELP}")
    return TopicRange(by_time, start, stop)


def _bound(side: str, by_time: bool, text: str) -> int | None:
    if not side:
        return None
    if not by_time:
        return int(side)
    try:
        moment = datetime.fromisoformat(side)
    except ValueError as error:
        raise ConfigError(
            f"--topic-range {text}: {side!r} is neither an offset nor a time; {_RANGE_HELP}"
        ) from error
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _open_topic(settings: Settings, text: str) -> Feed:
    from consumer_training.reading.topic import input_decoder
    from shared.kafka import Reader, topic_bounds

    requested, topic = parse_range(text), settings.topics.input
    low, high = topic_bounds(settings, topic)
    start, stop, notes = dict(low), dict(high), []
    if not requested.by_time:
        first, last = (
            requested.start or 0,
            (max(high.values(), default=0) if requested.stop is None else requested.stop),
        )
        if high and last <= min(low.values()) and any(low.values()):
            raise HistoryGone(
                f"--topic-range {text}: {topic} begins at offset {min(low.values())}; retention has"
                " deleted earlier records"
            )
        start = {p: min(max(low[p], first), high[p]) for p in high}
        stop = {p: max(start[p], min(high[p], last)) for p in high}
        notes += [
            f"{topic}[{p}] begins at offset {low[p]}; retention has deleted earlier records"
            for p in sorted(low)
            if first < low[p]
        ]
    decoder = input_decoder(settings)

    def batches() -> Iterator[Batch]:
        reader = Reader(settings, max_records=settings.predict.max_batch_records)
        for batch in reader.read(topic, start, stop):
            decoder.prepare(batch)
            kept = within(batch, decoder, requested) if requested.by_time else batch
            if len(kept):
                yield kept

    rows = sum(stop[p] - start[p] for p in stop)
    return Feed(f"{topic} {text}", rows, decoder, batches, tuple(notes))


def within(batch: Batch, decoder: Decoder, requested: TopicRange) -> Batch:
    """Return the records whose event time lies in the range.

    One that cannot be decoded has no event time and is left out.
    """
    columns = decoder.decode(batch, Directory(), [])
    after = (
        columns.time_ms >= requested.start
        if requested.start is not None
        else np.ones(len(columns), np.bool_)
    )
    before = (
        columns.time_ms < requested.stop
        if requested.stop is not None
        else np.ones(len(columns), np.bool_)
    )
    rows = columns.accepted[after & before]
    if len(rows) == len(batch):
        return batch
    headers = {
        position: batch.headers[row]
        for position, row in enumerate(rows.tolist())
        if row in batch.headers
    }
    return Batch(
        batch.topic, batch.partition, select(batch.values, rows), select(batch.keys, rows),
        batch.offsets[rows], batch.broker_ms[rows], headers,
    )  # fmt: skip


def open_labels(path: Path) -> Windows:
    """Read a label file.

    raises : DataError that names it
    """
    try:
        return read_labels(path.read_text("utf-8-sig"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"--labels {path}: it cannot be read: {error}") from error
