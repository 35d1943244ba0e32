"""Records whose schema id is in a header, through both Kafka clients, on a real registry."""

from __future__ import annotations

import time

import pytest
from confluent_kafka import Producer

from shared.decode.formats import open_decoder
from shared.directory import Directory
from shared.encode.records import HEADER_BYTES, encode_records
from shared.kafka import Admin, topic_specs
from shared.registry import Registry
from shared.registry.apicurio import own_api
from shared.settings import Settings
from tests.reference.records import METRIC_EVENT, T0
from tests.support.services.records import Log, member, poll_records

pytestmark = pytest.mark.integration

ROWS = 120
CONFLUENT, APICURIO = "__value_schema_id", "apicurio.value.contentId"


def headers_of(row: int, schema_id: int) -> list[tuple[str, bytes]]:
    """Return the headers of a row: a third has its id in front of the value."""
    if row % 3 == 0:
        return [("traceparent", b"00-1-2-01")]
    if row % 3 == 1:
        return [(CONFLUENT, b"\0" + schema_id.to_bytes(4, "big"))]
    return [("other", b""), (APICURIO, schema_id.to_bytes(8, "big"))]


@pytest.mark.parametrize("engine", ["native", "python"])
def test_ids_in_headers_are_read_by_either_client(registry_settings: Settings, engine: str) -> None:
    if own_api(registry_settings.registry.url) is None:
        pytest.skip("the registry is not Apicurio's, which alone has content ids")
    settings = registry_settings.model_copy(update={"engine": engine})
    Admin(settings).ensure_topics(topic_specs(settings))
    registry = Registry(settings.registry)
    topic = settings.topics.input
    schema_id = registry.register(f"{topic}-value", METRIC_EVENT, "BACKWARD")
    rows = [
        {"host": f"web-{row % 5}", "timestamp": T0 + row, "cpu": row / 8} for row in range(ROWS)
    ]
    producer = Producer({"bootstrap.servers": settings.bootstrap})
    for row, value in enumerate(encode_records(METRIC_EVENT, schema_id, rows)):
        headers = headers_of(row, schema_id)
        body = value if row % 3 == 0 else value[HEADER_BYTES:]
        producer.produce(topic, body, rows[row]["host"], headers=headers)
    assert producer.flush(20) == 0

    decoder = open_decoder(settings.input, registry, time.monotonic)
    found: dict[int, tuple[str, float]] = {}
    with member(settings, Log()) as source:
        for batch in poll_records(source, ROWS, timeout_s=60):
            entities, metrics = Directory(), list[str]()
            decoder.prepare(batch)
            columns = decoder.decode(batch, entities, metrics)
            assert not len(columns.rejected), columns.reasons
            cpu = columns.values[:, metrics.index("cpu")]
            for entity, time_ms, value in zip(columns.entity, columns.time_ms, cpu, strict=True):
                found[int(time_ms) - T0] = entities.name(int(entity)), float(value)
    assert found == {row: (one["host"], one["cpu"]) for row, one in enumerate(rows)}
