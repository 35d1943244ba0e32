"""The stream and its schedule against the event-by-event twin, without sleeping."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.files.series import Series
from producer.replay import WEEK_MS, Schedule, align, merge, metric_order, plan, rebase
from tests.reference import replay as reference

INF = float("inf")


def series(name, times, metrics=("cpu",), values=None, entities=None, entity=None):
    n = len(times)
    block = (
        np.arange(n * len(metrics), dtype=float).reshape(n, -1)
        if values is None
        else np.array(values, float)
    )
    codes = np.zeros(n, np.int32) if entity is None else np.array(entity, np.int32)
    return Series(name, entities or (name,), metrics, codes, np.array(times, np.int64), block)


def stream(times):
    return merge([series("a", times)])


@st.composite
def many_series(draw):
    made = []
    for number in range(draw(st.integers(1, 4))):
        n = draw(st.integers(1, 6))
        metrics = tuple(
            draw(
                st.lists(
                    st.sampled_from(["cpu", "disk_write", "zeta", "alpha"]),
                    min_size=1,
                    max_size=3,
                    unique=True,
                )
            )
        )
        values = [
            [draw(st.one_of(st.just(math.nan), st.integers(0, 9))) for _ in metrics]
            for _ in range(n)
        ]
        names = (f"e{number}", "shared")
        times = draw(st.lists(st.integers(0, 5), min_size=n, max_size=n))
        made.append(
            series(
                f"s{number}",
                times,
                metrics,
                values,
                names,
                draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)),
            )
        )
    return made


@given(many_series())
def test_merge_equals_its_twin(all_series):
    merged = merge(all_series)
    events = [
        (
            int(merged.time_ms[row]),
            merged.entities[merged.entity[row]],
            {
                m: float(v)
                for m, v in zip(merged.metrics, merged.values[row], strict=True)
                if not math.isnan(v)
            },
        )
        for row in range(len(merged))
    ]
    assert events == reference.merge(all_series)
    assert len(set(merged.entities)) == len(merged.entities)


def test_metrics_stand_as_in_the_schema():
    assert metric_order(["zeta", "cpu", "alpha"]) == (
        "cpu",
        "network_in",
        "disk_write",
        "alpha",
        "zeta",
    )
    assert metric_order(["zeta", "alpha", "zeta"]) == ("alpha", "zeta")


@given(st.lists(st.integers(0, 60 * WEEK_MS), min_size=1, max_size=5))
def test_align_shifts_by_whole_weeks_into_the_last_week(starts):
    shifted, weeks = align([series(f"s{i}", [start + 7, start]) for i, start in enumerate(starts)])
    for start, one, week in zip(starts, shifted, weeks, strict=True):
        assert one.time_ms.tolist() == [start + 7 + week * WEEK_MS, start + week * WEEK_MS]
        assert max(starts) - WEEK_MS < start + week * WEEK_MS <= max(starts)


def test_align_keeps_hour_and_weekday():
    old = int(datetime(2013, 10, 9, 16, 25, tzinfo=UTC).timestamp() * 1000)
    new = int(datetime(2014, 4, 10, 0, 4, tzinfo=UTC).timestamp() * 1000)
    (moved, _), weeks = align([series("old", [old]), series("new", [new])])
    time = datetime.fromtimestamp(moved.time_ms[0] / 1000, UTC)
    assert (time.weekday(), time.hour, time.minute) == (2, 16, 25)
    assert time == datetime(2014, 4, 9, 16, 25, tzinfo=UTC)
    assert weeks == [26, 0]


def test_rebase_moves_the_last_event_to_the_given_time():
    moved = rebase(stream([5, 9, 20]), 1_000)
    assert moved.time_ms.tolist() == [985, 989, 1000]


def test_rows_of_a_later_round_are_later_by_whole_weeks():
    whole = stream([0, WEEK_MS, WEEK_MS + 5])
    again = whole.rows(4, 6)
    assert again.time_ms.tolist() == [3 * WEEK_MS, 3 * WEEK_MS + 5]
    assert again.values[:, 0].tolist() == [1.0, 2.0]
    assert whole.rows(3, 4).time_ms[0] > whole.time_ms[-1]


@given(
    steps=st.lists(st.integers(0, 900_000), min_size=1, max_size=20),
    backfill=st.floats(0, 1),
    speed=st.sampled_from([0.5, 1.0, 300.0]),
    extra=st.integers(0, 40),
)
def test_due_times_equal_their_twin_also_through_rounds(steps, backfill, speed, extra):
    times = np.cumsum(steps).tolist()
    schedule = plan(stream(times), backfill=backfill, speed=speed, loop=True)
    positions = len(times) + extra
    expected = reference.due_s(times, schedule.paced_from, speed, positions)
    assert [schedule.due_s(p) for p in range(positions)] == pytest.approx(expected, abs=1e-9)


@given(
    steps=st.lists(st.integers(0, 900_000), min_size=1, max_size=20),
    shares=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted),
    backfill=st.floats(0, 1),
    speed=st.sampled_from([1.0, 300.0, INF]),
    loop=st.booleans(),
    max_rows=st.integers(1, 7),
)
def test_next_stop_takes_every_position_once_and_none_before_it_is_due(
    steps, shares, backfill, speed, loop, max_rows
):
    whole = stream(np.cumsum(steps).tolist())
    schedule = plan(
        whole, start=shares[0], stop=shares[1], backfill=backfill, speed=speed, loop=loop
    )
    end = schedule.stop if schedule.stop is not None else 3 * len(whole)
    position, elapsed, taken = schedule.start, 0.0, []
    while position < end:
        after = schedule.next_stop(position, elapsed, max_rows)
        assert position <= after <= position + max_rows
        if after == position:
            due = schedule.due_s(position)
            assert due > elapsed
            elapsed = due + 1e-6
            continue
        assert all(schedule.due_s(p) <= elapsed + 1e-6 for p in range(position, after))
        assert position // len(whole) == (after - 1) // len(whole)
        taken += range(position, after)
        position = after
    assert taken[: max(end - schedule.start, 0)] == list(range(schedule.start, end))


def test_parts_of_a_replay_fit_together():
    whole = stream(list(range(101)))
    first, second = plan(whole, stop=0.6, speed=INF), plan(whole, start=0.6, speed=INF)
    assert first.stop == second.start == 61
    assert second.stop == 101


def test_backfill_goes_at_full_speed_and_the_clock_starts_after_it():
    schedule = plan(stream([0, 300_000, 600_000, 900_000, 1_200_000]), backfill=0.6, speed=300)
    assert isinstance(schedule, Schedule)
    assert schedule.paced_from == 3
    assert schedule.next_stop(0, 0.0, 100) == 3
    assert schedule.next_stop(3, 0.0, 100) == 4
    assert [schedule.due_s(p) for p in range(5)] == [0, 0, 0, 0, 1.0]
    assert schedule.next_stop(4, 0.99, 100) == 4
    assert schedule.next_stop(4, 1.0, 100) == 5


def test_a_loop_does_not_wait_for_the_week_to_end():
    schedule = plan(stream([0, 300_000, 600_000]), speed=300, loop=True)
    assert schedule.due_s(3) == pytest.approx(3.0)
    assert schedule.next_stop(2, 50.0, 100) == 3
    assert schedule.next_stop(3, 3.5, 100) == 4


def test_what_was_sent_before_is_left_out():
    whole = stream(range(10))
    assert plan(whole, sent_before=4).start == 4
    assert plan(whole, start=0.6, sent_before=4).start == 6
    done = plan(whole, stop=0.6, sent_before=8)
    assert (done.start, done.stop) == (6, 6)


def test_a_loop_resumes_in_the_round_that_it_had_reached():
    schedule = plan(stream([0, 300_000, 600_000]), speed=300, loop=True, sent_before=7)
    assert (schedule.start, schedule.paced_from) == (7, 7)
    assert schedule.due_s(8) - schedule.due_s(7) == 1.0
