"""Whatever comes, results are finite and few, memory stays flat, and the fold returns."""

from __future__ import annotations

import numpy as np
import pytest

from shared.ensemble.fold import Rows, fold, limits_for
from shared.ensemble.kernels.layout import ENTITY_DTYPE, KEYS, METRIC_DTYPE
from tests.support.episodes import SLOW, judge, needs_speed, new_state, one_slot_each, series
from tests.support.noise import (
    DAY_MS,
    FAMILIES,
    MONDAY_MS,
    between,
    clock,
    daily,
    noise,
)

LARGE = 1.7e308
SENTINELS = [-1.0, 65535.0, -32768.0, 1e18]


def assert_finite(judged):
    """No infinity anywhere; a row that is judged has a score."""
    rows, cells, events = judged.rows, judged.cells, judged.events
    assert np.isfinite(rows["score"][rows["state"] == 1]).all()
    for name in cells.dtype.names:
        assert not np.isinf(cells[name]).any(), name
    for name in events.dtype.names:
        assert not np.isinf(events[name].astype(float)).any(), name
    assert not _holds_infinity(judged.state.metrics)
    assert not _holds_infinity(judged.state.entities)


def _holds_infinity(records):
    if records.dtype.names:
        # the course's warm-up lies over its memory: both views of the same bytes are not read
        return any(
            _holds_infinity(records[name]) for name in records.dtype.names if name != "course"
        )
    return records.dtype.kind == "f" and bool(np.isinf(records).any())


SERIES = {
    "1e18 once": lambda t, v: np.where(np.arange(len(v)) == 900, 1e18, v),
    "largest once": lambda t, v: np.where(np.arange(len(v)) == 900, LARGE, v),
    "largest of both signs": lambda t, v: np.where(np.arange(len(v)) % 2, LARGE, -LARGE),
    "all largest": lambda t, v: np.full(len(v), LARGE),
    "large": lambda t, v: v * 1e306,
    "denormal": lambda t, v: v * 1e-310,
    "tiny on large": lambda t, v: 1e15 + v * 1e-3,
    "constant": lambda t, v: np.full(len(v), 7.0),
    "all zero": lambda t, v: np.zeros(len(v)),
    "nothing but missing": lambda t, v: np.full(len(v), np.nan),
    "every other row missing": lambda t, v: np.where(np.arange(len(v)) % 2, np.nan, v),
    "first is absurd": lambda t, v: np.where(np.arange(len(v)) == 0, -32768.0, v),
    "0 and 1": lambda t, v: np.where(v > 50, 1.0, 0.0),
} | {
    f"{bad} every fiftieth row": lambda t, v, bad=bad: np.where(np.arange(len(v)) % 50 == 0, bad, v)
    for bad in SENTINELS
}


@needs_speed
@pytest.mark.parametrize("name", SERIES)
@pytest.mark.parametrize("step_s", [10, 300])
def test_awkward_values_stay_finite_and_quiet(name, step_s):
    time_ms, values = series(6 if step_s == 300 else 3, step_s)
    judged = judge(time_ms, SERIES[name](time_ms, values))
    assert_finite(judged)
    assert len(judged.alarms) <= 4


@needs_speed
@pytest.mark.parametrize("family", FAMILIES)
def test_an_interval_that_changes_three_times(family):
    parts, at = [], MONDAY_MS
    for days, step_s in ((6, 300), (2, 10), (6, 3600), (6, 60)):
        parts.append(clock(days, step_s, at))
        at += days * DAY_MS
    time_ms = np.concatenate(parts)
    judged = judge(time_ms, daily(time_ms) + 2 * noise(family, len(time_ms), 0))
    assert_finite(judged)
    assert len(judged.alarms) <= 4
    assert judged.state.metrics["interval_ms"][0] == pytest.approx(60_000, rel=0.1)


@needs_speed
def test_two_hundred_metrics_of_one_entity():
    time_ms = clock(3)
    values = np.column_stack([daily(time_ms) + noise("gauss", len(time_ms), k) for k in range(200)])
    values[between(time_ms, 2.8, 1)] *= 1e6
    judged = judge(time_ms, values)
    assert_finite(judged)
    assert 1 <= len(judged.alarms) <= 6


def test_ten_thousand_entities_of_ten_minutes_each():
    """Each takes the place of one that is gone: what is remembered does not grow."""
    entities, live = (200, 20) if SLOW else (10_000, 50)
    state, slots, limits = new_state(live, 1), one_slot_each(live, 1), limits_for(1)
    size = state.entities.nbytes + state.metrics.nbytes
    entity = np.repeat(np.arange(live, dtype=np.int32), 10)
    values = noise("lognormal", 10 * entities, 0).reshape(-1, 10 * live, 1)
    for k, rows in enumerate(values):
        time_ms = MONDAY_MS + k * 600_000 + np.tile(60_000 * np.arange(10), live)
        out = fold(state, Rows(entity, time_ms, rows, slots[entity]), limits)
        assert len(out.events) == 0
        assert (out.rows["state"] == 0).all()
        state.entities[:] = np.zeros(1, ENTITY_DTYPE)
        state.metrics[:] = np.zeros(1, METRIC_DTYPE)
    assert state.entities.nbytes + state.metrics.nbytes == size


@needs_speed
@pytest.mark.parametrize("family", FAMILIES)
def test_time_that_runs_backwards_for_a_day(family):
    time_ms, values = series(12, family=family)
    back = time_ms[1999] - 300_000 * np.arange(1, 289)
    time_ms = np.concatenate([time_ms[:2000], back, time_ms[2000:]])
    values = np.concatenate([values[:2000], values[1711:1999][::-1], values[2000:]])
    judged = judge(time_ms, values)
    assert_finite(judged)
    assert judged.rows["late"].sum() == 288
    assert len(judged.alarms) <= 3


@needs_speed
def test_a_log_in_reverse_is_late_but_for_its_first_row():
    time_ms, values = series(4)
    judged = judge(time_ms[::-1].copy(), values)
    assert_finite(judged)
    assert judged.rows["late"].sum() == len(time_ms) - 1
    assert len(judged.events) == 0


@needs_speed
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("apart_ms", [0, 7_000])
def test_two_producers_of_one_entity_that_disagree(family, apart_ms):
    once = clock(12)
    time_ms = np.sort(np.concatenate([once, once + apart_ms]))
    values = daily(time_ms) + 2 * noise(family, len(time_ms), 0)
    values[1::2] += 40
    judged = judge(time_ms, values)
    assert_finite(judged)
    assert judged.rows["duplicate"].sum() == 0
    assert len(judged.alarms) <= 4


@needs_speed
@pytest.mark.parametrize("family", FAMILIES)
def test_a_gap_of_a_year_is_no_storm(family):
    time_ms, values = series(20, family=family)
    time_ms[2880:] += 365 * DAY_MS
    judged = judge(time_ms, values)
    assert_finite(judged)
    assert len(judged.alarms) <= 3


@needs_speed
def test_a_repeated_row_is_a_duplicate_and_changes_nothing():
    time_ms, values = series(4)
    once = judge(time_ms, values)
    twice = judge(np.repeat(time_ms, 2), np.repeat(values, 2))
    assert twice.rows["duplicate"].tolist() == [0, 1] * len(time_ms)
    assert twice.rows["score"][::2].tobytes() == once.rows["score"].tobytes()


@needs_speed
def test_a_total_that_only_grows_is_judged_by_its_rate():
    time_ms = clock(26)
    rate = daily(time_ms) + 2 * noise("gauss", len(time_ms), 0)
    rate[between(time_ms, 20.5, 2)] *= 3
    total = np.cumsum(rate * 300)
    total[4000:] -= total[4000]  # the process restarts
    judged = judge(time_ms, total)
    assert judged.state.metrics["counter"][0] == 1
    assert any(20.5 <= day <= 20.6 for day in judged.alarm_days)
    restart = (time_ms[4000] - MONDAY_MS) / DAY_MS
    assert not any(restart <= day <= restart + 0.1 for day in judged.alarm_days)


@pytest.mark.parametrize("metrics", [1, 30])
def test_a_row_that_ends_everything_finds_room_for_its_events(metrics):
    """Every metric opens, grows worse and closes at once: the fold returns, and loses no event."""
    days = 3 if SLOW else 6
    time_ms = clock(days, 3600 if SLOW else 300)
    values = np.column_stack(
        [daily(time_ms) + 2 * noise("laplace", len(time_ms), k) for k in range(metrics)]
    )
    part = slice(-len(time_ms) // 8, -len(time_ms) // 10)
    values[part] = 1e9 * np.sign(np.arange(metrics) % 2 - 0.5)
    judged = judge(time_ms, values)
    assert len(judged.rows) == len(time_ms)
    assert (np.diff(judged.events["row"]) >= 0).all()
    most = np.bincount(judged.events["row"]).max() if len(judged.events) else 0
    assert most <= 2 * KEYS * metrics + 8
