"""Reader of the newest records of a topic and, for Avro, their writer schemas.

Invariant: it reads committed records without a consumer group, and commits, registers and creates
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from lapwing.inspect.records import Record, Sample, key_of
from shared.batch import Batch
from shared.kafka import Reader, topic_bounds
from shared.registry import Registry
from shared.schema_ids import SchemaKey
from shared.settings import Settings

WINDOW_GROWTH = 4
MAX_READS = 6
"""Growth of a window with too few records (because of transaction markers), and most reads."""


def read_sample(settings: Settings, topic: str, limit: int) -> Sample:
    """Read up to ``limit`` newest records of a topic, spread evenly over the partitions.

    raises : TopicMismatch if the topic does not exist, TransportError
    """
    low, high = topic_bounds(settings, topic)
    records = newest(_read(settings, topic, low, high, limit), limit)
    texts, latest = _schemas(settings, topic, records)
    held = sum(high[p] - low[p] for p in high)
    partitions = f"{len(high)} partition{'' if len(high) == 1 else 's'}"
    about = "about " if held > len(records) else ""  # transaction markers take offsets
    counts = f"the newest {len(records):,} of {about}{held:,} records in {partitions}"
    source = f"{topic}: {counts if held else 'no records'}"
    return Sample(source, topic, records, texts, latest)


def _schemas(
    settings: Settings, topic: str, records: list[Record]
) -> tuple[Mapping[SchemaKey, str | None], str | None]:
    """Return the records' schemas, and the subject's newest if there are no records."""
    if settings.input.format != "avro":
        return {}, None
    registry = Registry(settings.registry)
    keys = {key for record in records if (key := key_of(record, settings.input)) is not None}
    texts = {key: registry.schema(key) for key in sorted(keys, key=str)}
    return texts, None if records else registry.latest(f"{topic}-value")


def _read(
    settings: Settings, topic: str, low: Mapping[int, int], high: Mapping[int, int], limit: int
) -> list[Record]:
    """Read the end of each partition, further back until there are enough records."""
    reader = Reader(settings)
    span = -(-limit // max(1, sum(high[p] > low[p] for p in high)))
    for _ in range(MAX_READS):
        start = {p: max(low[p], high[p] - span) for p in high}
        found = [
            record for batch in reader.read(topic, start, high) for record in records_of(batch)
        ]
        if len(found) >= limit or start == dict(low):
            break
        span *= WINDOW_GROWTH
    return found


def newest(records: list[Record], limit: int) -> list[Record]:
    """Return the newest by Kafka's timestamps."""
    return sorted(records, key=lambda record: record.age)[-limit:]


def records_of(batch: Batch) -> list[Record]:
    """Return the records of a batch."""
    return [
        Record(
            batch.partition,
            int(batch.offsets[row]),
            int(batch.broker_ms[row]),
            batch.keys[row],
            batch.values[row],
            tuple(batch.headers.get(row, ())),
        )
        for row in range(len(batch))
    ]
