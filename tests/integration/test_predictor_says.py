"""What a predictor says of itself on a real Kafka: in an outage, and when a second one takes its
slot.
"""

from __future__ import annotations

import signal
import time

import pytest

from lapwing.topics import ensure
from shared.kafka import Publisher
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
    assert not [one for one in seen if "that is normal" in one[1]]
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
    said = log_of(first.process)
    print(said)
    assert "another process runs with slot 'north'" in said
    until(lambda: second.why() == "", 60)
    second.process.send_signal(signal.SIGTERM)
    assert second.process.wait(30) == 0
