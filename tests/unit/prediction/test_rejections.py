"""What a predictor says of records that became dead letters, and of records without a key."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from consumer_prediction.health.readiness import Readiness
from consumer_prediction.health.rejections import LOG_EVERY_S, MIN_RECORDS, NEARLY_ALL, RECENT
from shared.decode.avro.misplaced import misplaced
from shared.events import Detector, Reason
from shared.operations.counters import DEAD_LETTERS
from tests.support.loop_world import TOPICS, World, begun, configured, metric_event

EVENT = "records became dead letters"


class Watched:
    """A predictor without records; ``put`` gives it some, and returns what it logged."""

    def __init__(self, folder) -> None:
        self.world = World(folder, records=0, configuration=configured(Detector.ENSEMBLE))
        self.loop = begun(self.world)
        self.world.step(self.loop)
        self.minute = 0

    def put(self, *values: bytes, key: bytes = b"alpha", partition: int = 0) -> list[dict]:
        for value in values:
            self.world.log.append(TOPICS.input, partition, value, key)
        with capture_logs() as logged:
            for _ in range(len(values) + 3):
                self.world.step(self.loop)
        return [one for one in logged if one["event"] == EVENT]

    def good(self, count: int) -> list[bytes]:
        self.minute += count
        return [metric_event("alpha", self.minute - count + row, 1.0) for row in range(count)]

    @property
    def why(self) -> str:
        readiness = Readiness()
        readiness.loop = self.loop
        return readiness()


@pytest.fixture
def it(tmp_path) -> Watched:
    return Watched(tmp_path)


def test_a_new_reason_is_reported_at_once_with_what_helps(it: Watched) -> None:
    assert it.put(*it.good(3)) == []
    (logged,) = it.put(b"\x01junk")
    assert logged["log_level"] == "warning"
    assert (logged["reason"], logged["count"]) == ("not_avro", 1)
    assert logged["newest"] == f"{TOPICS.input}[0]@3"
    assert logged["because"].startswith(Reason.NOT_AVRO.sentence)
    assert logged["allowed"].startswith("Confluent's wire format")
    assert logged["remedy"] == "lapwing dlq list --reason not_avro"
    (other,) = it.put(b"")
    assert (other["reason"], other["newest"]) == ("empty", f"{TOPICS.input}[0]@4")


def test_a_flood_is_reported_once_a_minute_with_its_count(it: Watched) -> None:
    (first,) = it.put(b"\x01junk")
    assert it.put(*[b"\x01junk"] * 40, partition=1) == []
    it.world.tick(LOG_EVERY_S)
    (second,) = it.put(b"\x01junk", partition=1)
    assert first["count"] == 1
    assert 40 <= second["count"] <= 41
    rest = 41 - second["count"]
    it.world.tick(LOG_EVERY_S)
    assert sum(one["count"] for one in it.put()) == rest
    assert it.world.counters.value(DEAD_LETTERS, "not_avro") == 42


def test_what_was_not_logged_yet_is_logged_when_it_is_due_though_nothing_comes(it: Watched) -> None:
    it.put(b"\x01junk")
    assert it.put(*[b"\x01junk"] * 5) == []
    it.world.tick(LOG_EVERY_S)
    (logged,) = it.put()
    assert (logged["count"], logged["newest"]) == (5, f"{TOPICS.input}[0]@5")
    it.world.tick(LOG_EVERY_S)
    assert it.put() == []


def test_what_was_not_logged_yet_is_logged_at_the_end(it: Watched) -> None:
    it.put(b"\x01junk")
    it.put(*[b"\x01junk"] * 5)
    with capture_logs() as logged:
        it.loop.drain()
    assert [one["count"] for one in logged if one["event"] == EVENT] == [5]


def test_only_what_was_committed_is_reported(it: Watched) -> None:
    it.loop.transaction.sink.fail["commit"] = "abort"
    logged = it.put(b"\x01junk")
    assert (logged, it.loop.rebuilding or it.loop.transaction.is_open) == ([], True)
    for _ in range(5):
        logged += it.put()
    assert [one["count"] for one in logged] == [1]


def test_not_ready_while_nearly_all_became_dead_letters(it: Watched) -> None:
    it.put(*[b"\x01junk"] * (MIN_RECORDS - 1))
    assert it.why == ""
    it.put(b"\x01junk")
    remedy = misplaced(b"\x01junk")
    assert it.why == (
        f"all of the last {MIN_RECORDS} records became dead letters, mostly not_avro"
        f" ({Reason.NOT_AVRO.sentence}: {remedy}), most recently"
        f" {TOPICS.input}[0]@{MIN_RECORDS - 1}; `lapwing dlq list` shows them"
    )
    it.put(*it.good(1))
    assert it.why.startswith(
        f"{MIN_RECORDS} of the last {MIN_RECORDS + 1} records became dead letters"
    )
    it.put(*it.good(3))
    assert it.why == ""


def test_the_flood_is_forgotten_once_enough_good_records_came(it: Watched) -> None:
    it.put(*[b"\x01junk"] * 3 * RECENT)
    assert it.why.startswith(f"all of the last {RECENT} records")
    it.put(*it.good(round(RECENT * (1 - NEARLY_ALL)) + 1))
    assert it.why == ""


def test_one_bad_partition_of_two_is_not_nearly_all(it: Watched) -> None:
    it.put(*it.good(30), partition=1)
    it.put(*[b"\x01junk"] * 3 * RECENT)
    assert f"{RECENT} of the last {RECENT + 30} records" not in it.why
    it.put(*it.good(30), partition=1)
    assert it.why == ""
    it.loop.dependencies.source.take(1)
    it.world.step(it.loop)
    assert it.why.startswith(f"all of the last {RECENT} records")


def test_records_without_a_key_are_reported_once(it: Watched) -> None:
    def logged(*values: bytes, key: bytes) -> list[dict]:
        for value in values:
            it.world.log.append(TOPICS.input, 0, value, key)
        with capture_logs() as logged:
            for _ in range(6):
                it.world.step(it.loop)
        return [one for one in logged if one["event"] == "records have no key"]

    assert logged(*it.good(2), key=b"alpha") == []
    assert logged(b"\x01junk", key=b"") == []
    (once,) = logged(*it.good(3), key=b"")
    assert once["newest"].startswith(f"{TOPICS.input}[0]@")
    assert "(host) as the record key" in once["remedy"]
    assert logged(*it.good(3), key=b"") == []
