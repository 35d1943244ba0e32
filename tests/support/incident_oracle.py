"""The incidents topic of a real Kafka, compared with a plain recomputation of the anomalies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import schemas
from shared.batch import Blob, Outgoing
from shared.encode.records import decode_records, encode_records
from shared.kafka import Publisher, Reader
from shared.kernels.units import DAY_MS
from shared.registry import Registry
from shared.settings import Settings
from tests.reference.incident_fold import Recomputation

ANOMALY, INCIDENT = schemas.text(schemas.ANOMALY_EVENT), schemas.text(schemas.INCIDENT)
DEFAULTS = {
    "detector_id": "ensemble",
    "is_anomaly": True,
    "state": "READY",
    "source_topic": "metrics",
    "source_partition": 0,
    "source_offset": 0,
}


def publish(settings: Settings, records: Sequence[dict[str, Any]]) -> None:
    """Write anomaly events to the anomalies topic."""
    topic = settings.topics.anomalies
    schema_id = Registry(settings.registry).lookup(f"{topic}-value", ANOMALY)
    values = encode_records(ANOMALY, schema_id, [DEFAULTS | one for one in records])
    keys = Blob.join([str(one["entity"]).encode() for one in records])
    publisher = Publisher(settings)
    publisher.send(Outgoing(topic, values, keys))
    assert publisher.flush(20) == 0
    assert publisher.failed == 0
    publisher.close()


def recomputation(settings: Settings) -> Recomputation:
    """Return all incidents of the anomalies topic, recomputed record by record."""
    given = settings.incidents
    plain = Recomputation(
        round(given.group_within_s * 1000),
        given.entity_prefix,
        given.shared_metrics,
        given.max_episodes,
        round(given.keep_days * DAY_MS),
        round(given.stale_days * DAY_MS),
        given.labels,
        given.same_labels,
    )
    for batch in Reader(settings).read(settings.topics.anomalies):
        for row in range(len(batch)):
            [record] = decode_records([batch.values[row]], [ANOMALY])
            plain.add(int(batch.offsets[row]), int(batch.broker_ms[row]), record)
    return plain


def compared(settings: Settings) -> Counter[str]:
    """Count the records that are lost, duplicates, wrong, or right and out of order, and all."""
    topic = settings.topics.incidents
    schema_id = Registry(settings.registry).lookup(f"{topic}-value", INCIDENT)
    expected = [
        (key.encode(), b"" if one is None else encode_records(INCIDENT, schema_id, [one])[0])
        for key, one in recomputation(settings).out
    ]
    found = [
        (batch.keys[row], batch.values[row])
        for batch in Reader(settings).read(topic)
        for row in range(len(batch))
    ]
    wanted, seen = Counter(expected), Counter(found)
    counts = Counter(
        lost=(wanted - seen).total(),
        wrong=sum(count for one, count in seen.items() if one not in wanted),
        duplicates=sum(max(0, count - wanted[one]) for one, count in seen.items() if one in wanted),
        written=len(found),
    )
    counts["disorder"] = int(wanted == seen and found != expected)
    return counts
