"""Time is time, and the clock may be wrong: intervals, scrapers, rows ahead, late rows, zones.

Each property holds for all noise families.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.ensemble.kernels.metric.interval import follow_interval
from shared.ensemble.kernels.outputs import CLOSED, OPEN
from tests.support.episodes import count, is_found, judge, needs_speed, series
from tests.support.noise import (
    DAY_MS,
    FAMILIES,
    HOUR_MS,
    MONDAY_MS,
    between,
    clock,
    daily,
    days_of,
    noise,
)

pytestmark = needs_speed


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("step_s", [60, 300, 900, 3600])
def test_an_incident_is_found_at_any_interval(family, step_s):
    time_ms, values = series(20, step_s, family)
    values[between(time_ms, 16.5, 3)] *= 2.2
    days = judge(time_ms, values).alarm_days
    assert is_found(days, 16.5, 4)
    assert count(days, 16.5, 16.7) <= 2
    assert count(days, 4, 16.5) <= 2


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("step_s", [60, 300, 3600])
def test_two_scrapers_seconds_apart_change_nothing(family, step_s):
    time_ms, values = series(20, step_s, family)
    values[between(time_ms, 16.5, 3)] *= 2.2
    both = np.sort(np.concatenate([time_ms, time_ms + 3000]))
    judged = judge(both, np.repeat(values, 2))
    assert is_found(judged.alarm_days, 16.5, 4)
    warm = days_of(both)[judged.rows["state"] == 1]
    assert warm[0] <= 3.5


@pytest.mark.parametrize("pauses", [(57_000, 3_000), (3_597_000, 3_000), (200_000, 100_000)])
@pytest.mark.parametrize("first", [0, 1])
def test_of_two_pauses_in_turn_the_longer_is_the_interval(pauses, first):
    time_ms = MONDAY_MS + np.cumsum(np.tile(pauses, 300)[first:])
    judged = judge(time_ms, noise("gauss", len(time_ms), 0))
    assert judged.state.entities["interval_ms"][0] == pytest.approx(pauses[0], rel=0.15)


@pytest.mark.parametrize(("before_s", "after_s"), [(300, 10), (3600, 60), (10, 300), (60, 3600)])
def test_the_interval_follows_a_change_within_hours(before_s, after_s):
    first = clock(6, before_s)
    hours = 12 if after_s < before_s else 48 * after_s / 3600
    then = clock(hours / 24, after_s, MONDAY_MS + 6 * DAY_MS)
    time_ms = np.concatenate([first, then])
    judged = judge(time_ms, daily(time_ms) + noise("gauss", len(time_ms), 0))
    assert judged.state.entities["interval_ms"][0] == pytest.approx(1000 * after_s, rel=0.2)


def jittered(seed: int) -> np.ndarray:
    """Return times a minute apart with jitter, a tenth missing, a gap and a fast first minute.

    The last quarter of an hour is whole.
    """
    rng = np.random.default_rng(seed)
    kept = rng.random(4 * 1440) > 0.1
    kept[-15:] = True
    regular = np.delete(clock(4, 60)[kept], slice(2000, 2300))
    time_ms = np.unique(regular + rng.integers(-5000, 5000, len(regular)))
    return np.concatenate([time_ms[0] - 60_000 + 1000 * np.arange(30), time_ms])


@settings(max_examples=8)
@given(st.integers(0, 99), st.sampled_from(FAMILIES))
@example(27, "gauss")
def test_jitter_gaps_and_a_fast_first_minute_leave_the_interval(seed, family):
    time_ms = jittered(seed)
    judged = judge(time_ms, 50 + noise(family, len(time_ms), seed))
    assert judged.state.metrics["interval_ms"][0] == pytest.approx(60_000, rel=0.25)


@pytest.mark.parametrize("seed", [*range(10), 27])
def test_rows_that_are_missing_in_a_row_move_the_interval_for_minutes_only(seed):
    """Each long pause raises it by a tenth, so that a new interval is followed within hours."""
    time_ms, interval, found = jittered(seed), 0.0, []
    for seen, pause in enumerate(np.diff(time_ms).tolist(), 1):
        interval = follow_interval(interval, float(pause), seen)
        found.append(interval)
    off = np.abs(np.log(np.array(found[200:]) / 60_000))
    assert np.mean(off > np.log(1.25)) < 0.05
    assert off.max() < np.log(2.2)


@pytest.mark.parametrize(("step_s", "days"), [(300, 3), (3600, 3), (86_400, 21)])
def test_a_warm_up_ends_after_its_days_on_coarse_data_too(step_s, days):
    time_ms, values = series(days + 2, step_s)
    judged = judge(time_ms, values)
    assert judged.rows["state"][days_of(time_ms) >= days].min() == 1
    assert judged.rows["state"][days_of(time_ms) < 1].max() == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_far_ahead_freezes_nobody(family):
    time_ms, values = series(30, family=family)
    values[between(time_ms, 20, 2)] *= 2.2
    with_ahead = np.insert(time_ms, 3000, time_ms[3000] + 365 * DAY_MS)
    judged = judge(with_ahead, np.insert(values, 3000, values[3000]))
    assert np.flatnonzero(judged.rows["ahead"]).tolist() == [3000]
    assert judged.rows["late"].sum() == 0
    assert is_found(judged.alarm_days, 20)


def test_a_leap_that_others_confirm_is_followed():
    time_ms, values = series(10)
    time_ms[1500:] += 365 * DAY_MS
    judged = judge(time_ms, values)
    assert np.flatnonzero(judged.rows["ahead"]).tolist() == [1500, 1501]
    assert judged.state.entities["newest_ms"][0] == time_ms[-1]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_backlog_newest_first_gives_the_same_episodes(family):
    wanted = same = 0
    for seed in range(3):
        time_ms, values = series(24, family=family, seed=seed)
        values[between(time_ms, 20.3, 2.4)] *= 2.0
        late = slice(*np.searchsorted(days_of(time_ms), [20.2, 20.45]))
        order = np.arange(len(time_ms))
        order[late] = order[late][::-1]
        in_order = judge(time_ms, values).says(OPEN)
        backlog = judge(time_ms[order], values[order]).says(CLOSED)
        for event in in_order[days_of(in_order["time_ms"]) > 20.2]:
            wanted += 1
            same += bool((abs(backlog["start_ms"] - event["start_ms"]) <= 300_000).any())
    assert wanted >= 3
    assert same >= 0.9 * wanted


@pytest.mark.parametrize("family", FAMILIES)
def test_seasons_follow_the_clock_that_people_live_by(family):
    time_ms = clock(40)
    change = MONDAY_MS + 25 * DAY_MS
    zone = (
        np.array([MONDAY_MS - 1000 * DAY_MS, change]),
        np.array([HOUR_MS, 2 * HOUR_MS]),
    )
    local = time_ms + np.where(time_ms >= change, 2 * HOUR_MS, HOUR_MS)
    values = daily(local) + 2 * noise(family, len(local), 0)
    values[(local % DAY_MS >= 2 * HOUR_MS) & (local % DAY_MS < 3 * HOUR_MS)] += 60
    at_home = judge(time_ms, values, zone=zone).alarm_days
    abroad = judge(time_ms, values).alarm_days
    assert count(at_home, 25, 40) <= 2
    assert count(abroad, 25, 40) > count(at_home, 25, 40)
