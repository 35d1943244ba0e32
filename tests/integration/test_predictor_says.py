"""Log messages of a predictor on a real Kafka: outage, takeover of its slot, unreadable records."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from lapwing.topics import ensure
from shared.encode.records import encode_records
from shared.kafka import Publisher
from shared.registry import Registry
from tests.integration.test_metrics import Scraped, until
from tests.support.services.records import outgoing
from tests.support.services.service import Service
from tests.support.services.stack import Stack, log_of

pytestmark = pytest.mark.integration

KNOWN_WITHIN_S = 12.0
"""A predictor knows after this time that the broker does not answer."""


@pytest.fixture
def stack(registry_settings, tmp_path):
    stack = Stack(registry_settings, tmp_path, LAPWING_OUTAGE_DEADLINE_S="120")
    ensure(stack.settings)
    yield stack
    stack.close()


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_an_outage_is_never_called_normal(stack: Stack, kafka_service: Service, busy: bool) -> None:
    predictor = Scraped(stack, "consumer_prediction")
    until(lambda: predictor.why() == "", 120)
    publisher = Publisher(stack.settings)
    if busy:
        for _ in range(20):
            publisher.send(outgoing(stack.settings.topics.input, [b"junk"] * 5, [b"a"] * 5))
            publisher.flush(5)
            time.sleep(0.05)
    seen: list[tuple[float, str, float]] = []
    kafka_service.freeze()
    try:
        began_s = time.monotonic()
        while (now_s := time.monotonic() - began_s) < 30:
            seconds = predictor.samples()["lapwing_outage_seconds"][()]
            seen.append((round(now_s, 1), predictor.why(), round(seconds, 1)))
            time.sleep(0.5)
    finally:
        kafka_service.thaw()
    print(*seen, sep="\n")
    assert not [one for one in seen if "this is normal" in one[1]]
    late = [one for one in seen if one[0] > KNOWN_WITHIN_S]
    assert all("outage for " in why for _, why, _ in late), late
    assert all(a[2] < b[2] for a, b in zip(late, late[2:], strict=False)), late
    assert late[-1][2] > 15
    until(lambda: predictor.why() == "" or (busy and "became dead letters" in predictor.why()), 90)
    until(lambda: predictor.samples()["lapwing_outage_seconds"][()] == 0, 30)
    publisher.close()
    predictor.stop()


@pytest.mark.parametrize("delivery", ["exactly-once", "at-least-once"])
def test_a_second_process_with_the_same_slot_is_named(stack: Stack, delivery: str) -> None:
    first = Scraped(stack, "consumer_prediction", "--slot", "north", "--delivery", delivery)
    until(lambda: first.why() == "", 120)
    second = Scraped(stack, "consumer_prediction", "--slot", "north", "--delivery", delivery)
    assert first.process.wait(90) == 1
    output = log_of(first.process)
    print(output)
    assert "another process runs with slot 'north'" in output
    until(lambda: second.why() == "", 60)
    second.process.send_signal(signal.SIGTERM)
    assert second.process.wait(30) == 0


READING = json.dumps(
    {
        "type": "record",
        "name": "Reading",
        "fields": [
            {"name": "device", "type": "string"},
            {"name": "timestamp", "type": {"type": "long", "logicalType": "timestamp-millis"}},
            {"name": "watts", "type": "double"},
        ],
    }
)


def test_a_forgotten_entity_field_is_loud_and_no_flood(stack: Stack) -> None:
    topic = stack.settings.topics.input
    schema_id = Registry(stack.settings.registry).register(f"{topic}-value", READING, "BACKWARD")
    rows = [
        {"device": "d1", "timestamp": 1_700_000_000_000 + 60_000 * row, "watts": 1.0}
        for row in range(20_000)
    ]
    values = encode_records(READING, schema_id, rows)
    publisher = Publisher(stack.settings)
    publisher.send(outgoing(topic, values, [b"d1"] * len(values)))
    assert publisher.flush(30) == 0
    predictor = Scraped(stack, "consumer_prediction")
    until(
        lambda: (
            predictor.samples().get("lapwing_dead_letters_total", {}).get(("schema_unfit",))
            == len(values)
        ),
        120,
    )
    why = predictor.why()
    assert why.startswith("all of the last 200 records became dead letters, mostly schema_unfit")
    assert "host" in why
    predictor.stop()
    output = [json.loads(line) for line in log_lines(predictor) if line.startswith("{")]
    loud = [one for one in output if one["event"] == "records became dead letters"]
    print(why, *loud, sep="\n")
    assert sum(one["count"] for one in loud) == len(values)
    assert len(loud) == 2, "the first at once, the rest at the end"
    assert loud[-1]["newest"].endswith(f"@{len(values) - 1}")
    assert all("input.entity_fields" in one["allowed"] for one in loud)

    mended = Scraped(
        stack,
        "consumer_prediction",
        LAPWING_INPUT__ENTITY_FIELDS="device",
        LAPWING_PREDICT__GROUP=f"{stack.settings.predict.group}-mended",
    )
    until(lambda: mended.why() == "", 60)
    until(
        lambda: (
            sum(mended.samples().get("lapwing_events_scored_total", {}).values()) == len(values)
        ),
        60,
    )
    assert mended.why() == ""
    mended.stop()


def log_lines(scraped: Scraped) -> list[str]:
    return Path(scraped.process.log).read_text("utf-8").splitlines()
