"""What is usual of an entity's intervals is not reported, and each real gap or stop is."""

from __future__ import annotations

import os
from itertools import pairwise

import numpy as np
import pytest

from shared.quality.checks import KINDS, QualityState, Rows, watch
from shared.settings import QualitySettings

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
MONDAY_MS = 1_736_121_600_000
STEPS_S = [10, 60, 300, 900, 3600]
PER_DAY = 0.1
"""Verdicts a day that are bearable; the first of each entity is let pass."""

needs_speed = pytest.mark.skipif(
    os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="many rows, too slow without compiling"
)


def reported(time_ms, values=None, entity=None, asked=QualitySettings()):  # noqa: B008 - frozen
    """Verdicts of rows in order: (kind, entity, days since Monday, metric, usual interval)."""
    n = len(time_ms)
    entity = np.zeros(n, np.int32) if entity is None else entity.astype(np.int32)
    values = (np.arange(n) % 7.0)[:, None] if values is None else values
    entities, metrics = int(entity.max()) + 1, values.shape[1]
    slots = np.arange(entities * metrics, dtype=np.int32).reshape(entities, metrics)
    state, none = QualityState(), np.zeros(n, np.bool_)
    state.reserve(entities, slots.size)
    listed = np.tile(np.arange(metrics, dtype=np.int32), (n, 1))
    late_by_ms = np.zeros(n, np.int64)
    given = Rows(
        entity, time_ms.astype(np.int64), values, slots[entity], listed, late_by_ms, none, none,
        none,
    )  # fmt: skip
    out = watch(state, given, asked)
    days = (time_ms[out.row] - MONDAY_MS) / DAY_MS
    columns = (out.kind, out.entity, days, out.metric, out.usual_ms)
    return [
        (KINDS[kind].value, int(e), float(day), int(metric), float(usual_ms))
        for kind, e, day, metric, usual_ms in zip(*columns, strict=True)
    ]


def clock(days, step_s, seed=0, jitter=0.0, missing=0.0, start_ms=MONDAY_MS):
    """Event times in ms: jitter as a share of the interval, missing as a share of the rows."""
    random = np.random.default_rng([seed, step_s])
    times = np.arange(0, days * DAY_MS, step_s * 1000)
    times = times + np.round(random.uniform(-jitter, jitter, len(times)) * step_s * 1000)
    return start_ms + HOUR_MS + times[random.random(len(times)) >= missing].astype(np.int64)


def days_for(step_s):
    return {10: 7, 60: 14}.get(step_s, 40)


def without(time_ms, *holes):
    """Rows outside of (first day, last day)."""
    days = (time_ms - MONDAY_MS) / DAY_MS
    keep = np.ones(len(time_ms), np.bool_)
    for first, last in holes:
        keep &= (days < first) | (days >= last)
    return time_ms[keep]


@needs_speed
@pytest.mark.parametrize("step_s", STEPS_S)
@pytest.mark.parametrize(
    ("jitter", "missing"), [(0.05, 0.0), (0.4, 0.0), (0.25, 0.01), (0.25, 0.1), (0.4, 0.2)]
)
def test_jitter_and_missing_rows_are_usual(step_s, jitter, missing):
    days = days_for(step_s)
    found = [reported(clock(days, step_s, seed, jitter, missing)) for seed in range(4)]
    assert sum(map(len, found)) <= 2


@needs_speed
@pytest.mark.parametrize("step_s", STEPS_S)
@pytest.mark.parametrize("missing", [0.01, 0.05, 0.2])
def test_rows_that_are_missing_in_bursts_are_few_verdicts(step_s, missing):
    days, count = days_for(step_s), 0
    for seed in range(4):
        random, time_ms = np.random.default_rng([7, seed]), clock(days, step_s)
        starts = random.random(len(time_ms)) < missing / 3
        lengths = np.where(starts, random.geometric(1 / 3, len(time_ms)), 0)
        reach = np.maximum.accumulate(np.arange(len(time_ms)) + lengths)
        count += len(reported(time_ms[reach <= np.arange(len(time_ms))]))
    assert count <= max(4, PER_DAY * 4 * days)


@needs_speed
@pytest.mark.parametrize("step_s", STEPS_S)
@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_every_real_gap_is_reported(step_s, missing):
    """Four gaps of ten intervals, or two hours, at other times of day."""
    hours = max(2.0, 10 * step_s / 3600)
    starts = [8.2, 10.5, 12.35, 14.8] if step_s > 60 else [3.2, 4.5, 5.6, 6.75]
    time_ms = clock(days_for(step_s) + 3, step_s, 1, 0.1, missing)
    holes = [(day, day + hours / 24) for day in starts]
    gaps = [day for kind, _, day, *_ in reported(without(time_ms, *holes)) if kind == "gap"]
    late = [day for day in gaps if day >= starts[0]]
    assert len(late) == len(starts)
    for day, start in zip(late, starts, strict=True):
        assert 0 <= day - (start + hours / 24) < 4 * step_s / 86400


@needs_speed
@pytest.mark.parametrize("step_s", STEPS_S)
def test_two_scrapers_seconds_apart_change_only_the_interval(step_s):
    once = clock(days_for(step_s), step_s, 0, 0.0, 0.1)
    both = np.sort(np.concatenate([once, once + 3000]))
    assert reported(both) == []
    gap = reported(without(both, (3.4, 3.4 + 20 * step_s / 86400)))
    assert [kind for kind, *_ in gap] == ["gap"]
    assert gap[0][4] == pytest.approx(step_s * 1000 - 3000, rel=0.2)


@needs_speed
@pytest.mark.parametrize("step_s", [60, 300, 900])
def test_a_fast_first_minute_changes_nothing(step_s):
    fast = MONDAY_MS + HOUR_MS - 1000 * np.arange(60, 0, -1)
    time_ms = np.concatenate([fast, clock(8, step_s)])
    assert reported(time_ms) == []
    found = reported(without(time_ms, (1.3, 1.3 + 8 * step_s / 86400)))
    assert [(kind, usual_ms) for kind, *_, usual_ms in found] == [("gap", step_s * 1000.0)]


@needs_speed
@pytest.mark.parametrize(
    "steps_s",
    [(300, 10, 3600, 60), (3600, 60, 900, 10), (60, 3600, 300, 3600), (10, 3600, 60, 900)],
)
@pytest.mark.parametrize(("jitter", "missing"), [(0.0, 0.0), (0.2, 0.05)])
def test_a_new_interval_is_reported_once_and_followed(steps_s, jitter, missing):
    each = 6
    parts = [
        clock(each, step_s, k, jitter, missing, MONDAY_MS + each * k * DAY_MS)
        for k, step_s in enumerate(steps_s)
    ]
    time_ms = np.unique(np.concatenate(parts))
    longer = sum(b > 5 * a for a, b in pairwise(steps_s))
    assert len(reported(time_ms)) <= longer
    end = (time_ms[-1] - MONDAY_MS) / DAY_MS
    hole = (end - 1, end - 1 + 12 * steps_s[-1] / 86400)
    *_, last = reported(without(time_ms, hole))
    assert last[0] == "gap"
    assert last[4] == pytest.approx(1000 * steps_s[-1], rel=0.15)


@needs_speed
def test_a_metric_has_an_interval_of_its_own():
    """One metric in every row, one once an hour: empty cells are usual, the metric's end is not."""
    time_ms = clock(20, 300)
    values = np.column_stack([np.arange(len(time_ms)) % 7.0, np.full(len(time_ms), np.nan)])
    values[5::12, 1] = np.arange(len(values[5::12])) % 5.0
    assert reported(time_ms, values) == []
    values[10 * 288 :, 1] = np.nan
    (missing,) = reported(time_ms, values)
    assert (missing[0], missing[3], missing[4]) == ("missing", 1, float(HOUR_MS))
    assert 10 + 1 / 24 < missing[2] < 10.5


@needs_speed
@pytest.mark.parametrize("step_s", [10, 300, 3600])
def test_single_empty_cells_are_usual_and_the_end_of_a_metric_is_reported(step_s):
    days = days_for(step_s)
    time_ms, random = clock(days, step_s), np.random.default_rng(3)
    values = random.normal(size=(len(time_ms), 3))
    values[random.random(values.shape) < 0.05] = np.nan
    assert reported(time_ms, values) == []
    gone = len(time_ms) * 3 // 4
    values[gone:, 1] = np.nan
    (missing,) = reported(time_ms, values)
    assert missing[::3] == ("missing", 1)
    assert 0 < missing[2] - (time_ms[gone] - MONDAY_MS) / DAY_MS < 12 * step_s / 86400


def test_a_gap_of_the_rows_is_no_absence_of_a_metric():
    time_ms = without(clock(6, 3600), (4.2, 5.2))
    values = np.column_stack([np.arange(len(time_ms)), np.arange(len(time_ms))]) % 7.0
    after = np.searchsorted(time_ms, MONDAY_MS + 4.5 * DAY_MS)
    values[after, 1] = np.nan
    assert [kind for kind, *_ in reported(time_ms, values)] == ["gap"]


def test_a_silence_of_all_entities_stops_none():
    """A broker's outage: each entity has a gap, and none is reported as stopped."""
    one = without(clock(4, 300), (3.2, 3.4))
    entity = np.tile(np.arange(6), len(one))
    found = reported(np.repeat(one, 6) + np.tile(np.arange(6), len(one)), None, entity)
    assert sorted((kind, e) for kind, e, *_ in found) == [("gap", e) for e in range(6)]


def test_an_entity_that_stays_away_after_a_silence_of_all_has_stopped():
    one = without(clock(4, 300), (3.2, 3.4))
    times = np.repeat(one, 6) + np.tile(np.arange(6), len(one))
    entity = np.tile(np.arange(6), len(one))
    keep = (entity != 4) | (times < MONDAY_MS + 3.3 * DAY_MS)
    found = reported(times[keep], None, entity[keep])
    stopped = [(e, day) for kind, e, day, *_ in found if kind == "stopped"]
    assert [e for e, _ in stopped] == [4]
    assert 1 < 24 * (stopped[0][1] - 3.4) < 1.2


@needs_speed
def test_disorder_that_goes_on_is_reported_once():
    """Rows with two values for one time on every day; then none for a week, and again."""
    once = clock(30, 300)
    day = (once - MONDAY_MS) // DAY_MS
    twice = np.sort(np.concatenate([once, once[(day < 12) | (day >= 20)]]))
    found = [(kind, int(when)) for kind, _, when, *_ in reported(twice)]
    assert found == [("repeated_time", 0), ("repeated_time", 20)]


@needs_speed
def test_a_flat_line_is_reported_after_a_longer_one_too():
    """No single stretch rules: weeks later one of two days is reported again."""
    time_ms = clock(70, 300)
    day = (time_ms - MONDAY_MS) / DAY_MS
    values = np.where((day > 10) & (day < 20) | (day > 60) & (day < 62), 3.0, np.arange(len(day)))
    found = [(kind, int(when)) for kind, _, when, *_ in reported(time_ms, values[:, None])]
    assert found == [("flat_line", 11), ("flat_line", 61)]


def office_metric(days, step_s, back=None):
    """Two metrics, of which the second has values in office hours only; it stays away from back."""
    time_ms = clock(days, step_s)
    day, hour = (time_ms - MONDAY_MS) // DAY_MS, time_ms % DAY_MS / HOUR_MS
    values = np.column_stack([np.arange(len(time_ms)), np.arange(len(time_ms))]) % 7.0
    values[(day % 7 >= 5) | (hour < 8) | (hour >= 18), 1] = np.nan
    if back is not None:
        values[time_ms >= MONDAY_MS + back * DAY_MS, 1] = np.nan
    return time_ms, values


@needs_speed
@pytest.mark.parametrize("step_s", [60, 300, 1800, 3600])
def test_office_hours_of_one_metric_are_learned_and_their_break_is_reported(step_s):
    days = [day for _, _, day, *_ in reported(*office_metric(40, step_s))]
    assert len(days) <= 3
    assert all(day < 14 for day in days)
    late = [day for _, _, day, *_ in reported(*office_metric(40, step_s, back=36)) if day > 14]
    assert len(late) == 1
    assert 8 / 24 < late[0] - 36 < 8 / 24 + 1 / 24 + 6.5 * step_s / 86400
