"""Anomaly events in PostgreSQL by Kafka Connect, with kills of both: none missing, none twice."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Producer

import schemas
from shared.encode.records import encode_records
from shared.kafka import Admin, topic_specs
from shared.registry import Registry
from shared.settings import Settings
from tests.support.services.connect import USER, Connect, PostgreSql, lacking

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

ROUND = 300
"""Events of one transaction."""

ROUNDS = 8
WAIT_S = 120.0
T0 = 1_700_000_000_000
ODD_TEXT = "naïve 'quote' \\ line\nbreak ☃"


@pytest.fixture
def postgresql() -> Iterator[PostgreSql]:
    """Provide an empty PostgreSQL; skip loudly, or fail with REQUIRE_SINKS=1, without one."""
    why = lacking()
    if why and os.environ.get("REQUIRE_SINKS") != "1":
        pytest.skip(f"the sink into PostgreSQL is NOT TESTED: {why}")
    assert not why, why
    server = PostgreSql()
    try:
        server.start()
        yield server
    finally:
        server.close()


def event(number: int, **given: Any) -> dict[str, Any]:
    """Return the anomaly event of a number; every tenth is a verdict with nulls."""
    is_alarm = number % 10 != 0
    return {
        "event_id": f"{number:032x}",
        "detector_id": "ensemble",
        "kind": "anomaly" if is_alarm else "gap",
        "entity": f"web-{number % 7}",
        "metric": "cpu" if is_alarm else None,
        "event_time": T0 + number,
        "value": number / 8 if is_alarm else None,
        "severity": 0.75 if is_alarm else None,
        "is_anomaly": is_alarm,
        "state": "READY",
        "attributions": {"cpu.jump": 0.25, "cpu.value": 0.75} if is_alarm else {},
        "reason": ODD_TEXT if number % 10 == 1 else f"reason {number}",
        "source_topic": "metrics.t.raw",
        "source_partition": 0,
        "source_offset": number,
    } | given


class Results:
    """The anomalies topic, written in transactions as predictors write it."""

    def __init__(self, settings: Settings) -> None:
        self.topic = settings.topics.anomalies
        self._text = schemas.text(schemas.ANOMALY_EVENT)
        registry = Registry(settings.registry)
        self._schema_id = registry.register(f"{self.topic}-value", self._text, "FULL")
        self._producer = Producer(
            {"bootstrap.servers": settings.bootstrap, "transactional.id": f"t-{self.topic}"}
        )
        self._producer.init_transactions(30)

    def send(self, events: list[dict[str, Any]], *, commit: bool = True) -> None:
        """Send events in one transaction."""
        self._producer.begin_transaction()
        values = encode_records(self._text, self._schema_id, events)
        for row, one in enumerate(events):
            self._producer.produce(self.topic, values[row], one["entity"])
        assert self._producer.flush(30) == 0
        if commit:
            self._producer.commit_transaction(30)
        else:
            self._producer.abort_transaction(30)


def stored(server: PostgreSql) -> int:
    """Return the number of rows; 0 without the table, or while the server is down."""
    try:
        return int(server.query("select count(*) from anomalies")[0][0])
    except subprocess.CalledProcessError:
        return 0


def wait_for(server: PostgreSql, connect: Connect, count: int) -> None:
    deadline = time.monotonic() + WAIT_S
    while (found := stored(server)) < count:
        assert time.monotonic() < deadline, (found, count, connect.task_state(), connect.log(40))
        connect.restart_failed()
        time.sleep(0.2)


def test_every_event_is_stored_once_whatever_is_killed(
    registry_settings: Settings, postgresql: PostgreSql
) -> None:
    settings = registry_settings
    Admin(settings).ensure_topics(topic_specs(settings))
    results = Results(settings)
    connect = Connect(
        "postgresql-anomalies",
        {
            "BOOTSTRAP_SERVERS": settings.bootstrap,
            "APICURIO_URL": settings.registry.url.replace("/ccompat/v7", "/registry/v2"),
            "ANOMALIES_TOPIC": settings.topics.anomalies,
            "POSTGRESQL_URL": postgresql.url,
            "POSTGRESQL_USER": USER,
            "POSTGRESQL_PASSWORD": "",
        },
    )
    try:
        results.send([event(number) for number in range(ROUND)])
        connect.start()
        for number in range(1, ROUNDS):
            first = number * ROUND
            results.send([event(10**6 + first + k) for k in range(20)], commit=False)
            results.send([event(first + k) for k in range(ROUND)])
            # Kill while the round is being written.
            wait_for(postgresql, connect, first - ROUND + 1)
            if number % 2:
                connect.kill()
                connect.start()
            else:
                postgresql.kill()
                time.sleep(1.0)
                postgresql.start()
        results.send([event(number, reason="sent again") for number in range(20)])
        results.send([event(ROUNDS * ROUND)])
        count = ROUNDS * ROUND + 1
        wait_for(postgresql, connect, count)
        rows = postgresql.query("select event_id, source_offset from anomalies order by 1")
        assert rows == [[f"{number:032x}", str(number)] for number in range(count)]
        checks = postgresql.query(
            "select count(*) filter (where reason = 'sent again'), count(distinct event_id),"
            " count(*) filter (where value is null), max(event_time)::text from anomalies"
        )
        latest = "2023-11-14 22:13:22.4"
        assert checks == [["20", str(count), str(ROUNDS * ROUND // 10 + 1), latest]]
        shares = postgresql.query(
            "select attributions_json, attributions_json::jsonb ->> 'cpu.value', count(*)"
            " from anomalies group by 1 order by 1 desc"
        )
        alarms = count - ROUNDS * ROUND // 10 - 1
        text = '{"cpu.jump":0.25,"cpu.value":0.75}'
        assert shares == [["{}", "", str(count - alarms)], [text, "0.75", str(alarms)]]
        quoted = postgresql.query("select reason from anomalies where source_offset = 31")
        assert "\n".join(line for row in quoted for line in row) == ODD_TEXT
    finally:
        connect.close()
