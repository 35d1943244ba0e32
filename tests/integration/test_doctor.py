"""``lapwing doctor`` on a real Kafka: records are read, none can be read, nobody reads."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from importlib import import_module

import pytest
from confluent_kafka.serialization import MessageField, SerializationContext

from lapwing.topics import ensure
from shared.batch import Blob, Outgoing
from shared.encode.avro_columns import encode_metric_events
from shared.kafka import Publisher
from shared.registry import _library
from tests.support.services.stack import Stack, log_of

pytestmark = pytest.mark.integration
confluent = _library()  # without its warning of its own dependencies
serde = import_module("confluent_kafka.schema_registry.serde")


@pytest.fixture
def stack(registry_settings, tmp_path):
    stack = Stack(registry_settings, tmp_path)
    # a stopped predictor stays a member for longer than doctor takes on a busy machine
    stack.environ["LAPWING_PREDICT__SESSION_TIMEOUT_MS"] = "45000"
    ensure(stack.settings)
    yield stack
    stack.close()


def doctor(stack: Stack, exit_code: int) -> dict[str, dict[str, str]]:
    ran = subprocess.run(
        [sys.executable, "-m", "lapwing", "doctor", "--json"],
        env={"PATH": "/usr/bin:/bin", **stack.environ}, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert ran.returncode == exit_code, ran.stdout + ran.stderr
    assert ran.stderr == ""
    return {finding["check"]: finding for finding in json.loads(ran.stdout)["findings"]}


def send_with_the_id_in_a_header(stack: Stack, count: int) -> None:
    """Send records with a GUID in a header, which the tests' registry, Apicurio, does not know.

    confluent-kafka sends such records with schema.id.serializer = header_schema_id_serializer.
    """
    good = encode_metric_events(
        1,
        ["host-001"] * count,
        [1_700_000_000_000 + 60_000 * k for k in range(count)],
        [[1.5]] * count,
    )
    values, rows = [], {}
    for row in range(count):
        headers: list[tuple[str, bytes]] = []
        context = SerializationContext(stack.settings.topics.input, MessageField.VALUE, headers)
        schema_id = serde.SchemaId("AVRO", 1, "89791762-2336-4186-9674-299b90a802e2")
        values.append(confluent.header_schema_id_serializer(good[row][5:], context, schema_id))
        rows[row] = headers
    publisher = Publisher(stack.settings)
    publisher.send(
        Outgoing(
            stack.settings.topics.input, Blob.join(values), Blob.join([b"host-001"] * count), rows
        )
    )
    assert publisher.flush(10) == 0


def test_what_doctor_says_of_what_flows(stack: Stack) -> None:
    found = doctor(stack, 0)
    assert found["results"]["message"] == f"none: {stack.settings.topics.input} has no records"
    assert found["dead_letters"]["result"] == "skipped"

    stack.run("producer", "--fleet", "3", "--days", "2", "--speed", "max")
    found = doctor(stack, 0)
    assert "1,728 records" in found["results"]["message"]
    assert found["results"]["message"].endswith("and no predictor runs")

    predictor = stack.start("consumer_prediction")
    stack.wait_until_scored()
    found = doctor(stack, 0)
    assert found["results"]["message"].startswith("up to date: ")
    assert found["dead_letters"]["message"].startswith("none of the last ")

    send_with_the_id_in_a_header(stack, 400)
    stack.wait_until_scored()
    found = doctor(stack, 1)
    assert found["dead_letters"]["result"] == "failed"
    message = found["dead_letters"]["message"]
    assert "became dead letters: 400 unknown_schema; the newest" in message
    assert message.endswith("a registry answers by GUID from Confluent Platform 8.0 on")
    assert "lapwing dlq show" in found["dead_letters"]["remedy"]

    predictor.send_signal(signal.SIGSTOP)
    try:
        send_with_the_id_in_a_header(stack, 7)
        found = doctor(stack, 1)
        assert "7 records" in found["results"]["message"]
        assert found["results"]["message"].endswith("which has not moved for 3 s")
    finally:
        predictor.send_signal(signal.SIGCONT)
    time.sleep(1)
    stack.wait_until_scored()
    predictor.send_signal(signal.SIGTERM)
    assert predictor.wait(30) == 0, log_of(predictor)
