"""The replay's loop: what is sent when, who is waited for, and what is logged of it."""

from __future__ import annotations

import numpy as np
import pytest
import structlog

from producer.loop import CHUNK_RECORDS
from producer.pacing import ConsumerPace, Silence, parse_groups
from producer.progress import Lines
from shared.errors import ConfigError, TransportError
from shared.operations.counters import EVENTS_PRODUCED, OUTAGE_SECONDS
from tests.support.replaying import Clock, Log, made, sent_times

INF = float("inf")


@pytest.fixture
def logged():
    with structlog.testing.capture_logs() as lines:
        yield lines


def test_everything_is_sent_once_in_order():
    it = made(2 * CHUNK_RECORDS + 5, speed=INF)
    it.replay.run()
    assert sent_times(it.sender) == it.stream.time_ms.tolist()
    assert [len(chunk) for chunk in it.sender.sent] == [CHUNK_RECORDS, CHUNK_RECORDS, 5]
    assert it.replay.sent == it.sender.acknowledged == len(it.stream)
    assert it.counters.value(EVENTS_PRODUCED, "in") == len(it.stream)


def test_never_a_flush_per_message_and_the_pace_is_that_of_event_time():
    it = made(50, speed=300)
    it.replay.run()
    assert it.clock.now - 100 == pytest.approx(49, abs=0.5)
    np.testing.assert_allclose(np.array(it.sender.at) - 100, np.arange(50), atol=0.01)
    assert it.sender.flushes <= 1


def test_a_backfill_goes_at_once_and_the_rest_in_event_time():
    it = made(10, speed=300, backfill=0.6)
    it.replay.run()
    np.testing.assert_allclose(np.array(it.sender.at) - 100, [0, 0, 1, 2, 3], atol=0.01)
    assert [len(chunk) for chunk in it.sender.sent] == [6, 1, 1, 1, 1]


def test_a_stop_ends_a_loop_and_what_was_sent_is_acknowledged():
    clock = Clock()
    it = made(10, speed=300, loop=True, clock=clock, stopping=lambda: clock.now > 135)
    it.replay.run()
    assert it.replay.sent == 36
    assert it.sender.acknowledged == 36
    assert it.clock.now < 136
    assert (np.diff(sent_times(it.sender)) > 0).all()


def test_readers_bound_how_far_it_runs_ahead():
    clock, behind = Clock(), {"now": 0, "most": 0}

    def lag(group, topic):
        behind["now"] = it.replay.sent - min(it.replay.sent, int((clock.now - 100) * 200))
        behind["most"] = max(behind["most"], behind["now"])
        return behind["now"]

    it = made(2_000, speed=INF, clock=clock, pace=ConsumerPace([("g", "in")], 300, lag))
    it.replay.run()
    assert it.replay.sent == 2_000
    assert 150 <= behind["most"] <= 300
    assert clock.now - 100 == pytest.approx((2_000 - 300) / 200, rel=0.15)


def test_waiting_for_consumers_is_reported():
    clock = Clock()
    it = made(
        10,
        speed=INF,
        clock=clock,
        stopping=lambda: clock.now > 125,
        pace=ConsumerPace([("g", "t")], 4, lambda *_: 4),
    )
    it.replay.run()
    assert it.replay.sent == 0
    logged = [
        fields["because"] for event, fields in it.log.lines if event == "waiting for consumers"
    ]
    assert logged == ["group g has a lag of 4 in t"] * 2


def test_lags_of_all_groups_and_unacknowledged_records_are_added_up():
    asked = []
    pace = ConsumerPace([("a", "x"), ("b", "y")], 10, lambda *pair: asked.append(pair) or 3)
    assert pace.allowed(0, 2, 0.0) == 2
    assert pace.allowed(1, 2, 0.01) == 1
    assert pace.allowed(2, 0, 0.019) == 0
    assert asked == [("a", "x"), ("b", "y")]
    assert pace.allowed(2, 0, 0.03) == 4


def test_pace_groups_are_read():
    assert parse_groups(["g", "h@scores"], "in") == [("g", "in"), ("h", "scores")]
    for wrong in ("", "@t", "g@"):
        with pytest.raises(ConfigError, match="write GROUP, or GROUP@TOPIC"):
            parse_groups([wrong], "in")


def no_room():
    return TransportError("localhost:9092 takes no records")


def test_a_full_queue_is_waited_for_without_sending_twice():
    it = made(10, speed=INF)
    it.sender.trouble = [no_room(), no_room(), None]
    it.replay.run()
    assert sent_times(it.sender) == it.stream.time_ms.tolist()


def test_a_full_queue_that_stays_full_is_an_outage(logged):
    it = made(10, speed=INF, clock=Clock(tick=2.0))
    it.sender.trouble = [no_room()] * 6
    it.replay.run()
    assert it.replay.sent == it.sender.acknowledged == 10
    assert [line["event"] for line in logged] == ["no answer", "available again"]
    assert logged[0]["seconds"] <= 14
    assert "localhost:9092" in logged[0]["because"]
    assert it.counters.value(OUTAGE_SECONDS) == 0


def test_an_outage_ends_in_an_error_after_the_deadline():
    it = made(10, speed=INF, clock=Clock(tick=2.0), deadline_s=40)
    it.sender.trouble = [no_room()] * 100
    with pytest.raises(TransportError, match=r"gave up after 4\d s") as raised:
        it.replay.run()
    assert not raised.value.retriable


def test_a_broker_that_acknowledges_nothing_is_an_outage_although_the_queue_has_room(logged):
    it = made(1_000, speed=300, deadline_s=60)
    it.sender.away = True
    with pytest.raises(
        TransportError,
        match=r"localhost:9092 has acknowledged none of 6\d records; gave up after 60 s",
    ):
        it.replay.run()
    assert [line["seconds"] for line in logged] == pytest.approx([8.5], abs=1)


def test_the_end_waits_for_what_is_under_way_and_a_stop_only_ten_seconds():
    clock = Clock()
    it = made(10, speed=INF, clock=clock, stopping=lambda: clock.now > 105)
    it.sender.away = True
    it.sender.flush = lambda timeout_s: clock.sleep(timeout_s)
    it.replay.run()
    assert 115 <= clock.now <= 116.5
    assert it.sender.acknowledged == 0


def test_a_refused_record_ends_the_replay_with_its_reason():
    it = made(2 * CHUNK_RECORDS, speed=INF)
    it.sender.failed, it.sender.first_error = 3, TransportError("too large", retriable=False)
    with pytest.raises(TransportError, match="too large"):
        it.replay.run()
    it = made(10, speed=INF)
    it.sender.trouble = [TransportError("no such topic", retriable=False)]
    with pytest.raises(TransportError, match="no such topic"):
        it.replay.run()


def test_silence_begins_when_something_waits_and_nothing_comes():
    silence = Silence()
    assert silence.since(0, 0, 1.0) == 1.0
    assert silence.since(0, 5, 2.0) == 1.0
    assert silence.since(1, 5, 3.0) == 3.0
    assert silence.since(1, 5, 9.0) == 3.0
    assert silence.since(1, 0, 9.5) == 9.5


def test_progress_is_a_line_every_five_seconds():
    log = Log()
    lines = Lines(log, 100, 0.0)
    for second in range(1, 13):
        lines.show(second, second, 1_700_000_000_000, float(second))
    assert [fields["sent"] for _, fields in log.lines] == [5, 10]
    assert log.lines[0][1] == {
        "sent": 5, "acknowledged": 5, "percent": 5.0, "events_per_s": 1.0,
        "event_time": "2023-11-14 22:13:20",
    }  # fmt: skip
