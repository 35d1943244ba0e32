"""What stays or recurs is usual, no single row rules, and the rate of false alarms stays.

Each property holds for all noise families.
"""

from __future__ import annotations

import numpy as np
import pytest

from shared.ensemble.kernels.layout import SPREAD
from tests.support.episodes import count, is_found, judge, needs_speed, series
from tests.support.noise import FAMILIES, between, clock, daily, days_of, noise

pytestmark = needs_speed

ABSURD = [1e18, -1.0, 65535.0, -32768.0, 1e300, -1e300]


# --- no single row rules --------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("absurd", ABSURD)
@pytest.mark.parametrize("day", [0.5, 5])
def test_an_absurd_row_moves_nothing_for_long_and_hides_nothing(family, absurd, day):
    time_ms, values = series(20, family=family)
    usual = judge(time_ms, values).cells["expected"][:, 0]
    values[between(time_ms, day, 5 / 60)] = absurd
    values[between(time_ms, 15.5, 2)] *= 2.2
    judged = judge(time_ms, values)
    after = (days_of(time_ms) > day + 1) & (days_of(time_ms) > 2) & (days_of(time_ms) < 15.5)
    expected = judged.cells["expected"][:, 0]
    assert np.isfinite(expected[after]).all()
    assert np.quantile(abs(expected - usual)[after], 0.99) < 3.0
    assert is_found(judged.alarm_days, 15.5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sentinel_a_day_moves_nothing(family):
    time_ms, values = series(24, family=family)
    usual = judge(time_ms, values).cells["expected"][:, 0]
    rng = np.random.default_rng(1)
    for day in range(20):
        values[between(time_ms, day + rng.random(), 5 / 60)] = 65535.0
    values[between(time_ms, 21.5, 2)] *= 2.2
    judged = judge(time_ms, values)
    later = days_of(time_ms) > 4
    assert np.quantile(abs(judged.cells["expected"][:, 0] - usual)[later], 0.95) < 4.0
    assert is_found(judged.alarm_days, 21.5)


# --- what stays is learned ------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("times", [1.6, 0.5, 1000.0, 0.001])
@pytest.mark.parametrize("seed", [0, 2])
def test_a_new_level_or_unit_is_said_once_and_learned(family, times, seed):
    time_ms, values = series(40, family=family, seed=seed)
    values[days_of(time_ms) >= 20] *= times
    judged = judge(time_ms, values)
    days = judged.alarm_days
    assert is_found(days, 20)
    assert count(days, 20, 22) <= 3
    assert count(days, 22, 40) <= 3
    late = days_of(time_ms) > 36
    error = abs(judged.cells["expected"][:, 0] - values)[late]
    assert np.median(error) < 8.0 * times


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("times", [60.0, 1000.0, 2.0**20, 0.001])
def test_a_new_unit_keeps_what_was_known_of_the_spread(family, times):
    time_ms, values = series(40, family=family, seed=1)
    values[days_of(time_ms) >= 20] *= times
    cells = judge(time_ms, values).cells[:, 0]
    width = cells["upper"] - cells["lower"]
    before, after = between(time_ms, 17, 72), between(time_ms, 36, 72)
    assert 0.5 < np.median(width[after]) / times / np.median(width[before]) < 2.0


@pytest.mark.parametrize("family", FAMILIES)
def test_a_new_spread_is_learned(family):
    time_ms = clock(40)
    wide = np.where(days_of(time_ms) >= 20, 8.0, 2.0)
    values = daily(time_ms) + wide * noise(family, len(time_ms), 5)
    days = judge(time_ms, values).alarm_days
    assert count(days, 20, 22) >= 1
    assert count(days, 22, 40) <= 3


@pytest.mark.parametrize("family", FAMILIES)
def test_eight_rows_are_not_yet_the_new_level(family):
    time_ms, values = series(24, 3600, family)
    shifted = between(time_ms, 20.5, 8)
    values[shifted] += 40
    judged = judge(time_ms, values)
    error = judged.cells["expected"][shifted, 0] - daily(time_ms)[shifted]
    assert abs(error).max() < 12


# --- what recurs is usual -------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("minutes", [5, 15, 60])
def test_a_job_that_wanders_is_usual_after_four_nights(family, minutes):
    time_ms, values = series(30, family=family, swing=0.0)
    rng = np.random.default_rng(3)
    for day in range(30):
        start = day + 2 / 24 + int(rng.integers(-2, 3)) * 5 / 1440
        values[between(time_ms, start, minutes / 60)] += 60
    days = judge(time_ms, values).alarm_days
    night = (days % 1 > 1 / 24) & (days % 1 < 5 / 24)
    assert (night & (days > 4)).sum() <= 1
    values[between(time_ms, 25.5, max(minutes, 15) / 60)] += 60
    assert is_found(judge(time_ms, values).alarm_days, 25.5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sunday_job_is_usual_after_four_sundays(family):
    time_ms, values = series(56, 900, family)
    for week in range(8):
        values[between(time_ms, 7 * week + 6 + 2 / 24, 2)] += 60
    days = judge(time_ms, values).alarm_days
    sundays = [count(days, 7 * week + 6, 7 * week + 6.5) for week in range(8)]
    assert sundays[0] == 1
    assert sundays[4:] == [0, 0, 0, 0]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_job_that_does_not_run_is_said_each_time(family):
    time_ms, values = series(44, family=family, swing=0.0)
    for day in range(44):
        if day not in (36, 41):
            values[between(time_ms, day + 2 / 24, 1)] += 60
    days = judge(time_ms, values).alarm_days
    assert is_found(days, 36 + 2 / 24, 2)
    assert is_found(days, 41 + 2 / 24, 2)


# --- a rate that stays ----------------------------------------------------------------------------


@pytest.mark.parametrize("step_s", [300, 3600])
def test_false_alarms_stay_as_rare_as_they_were(step_s):
    by_month = np.zeros(4)
    hosts = 2 if step_s == 300 else 6
    for family in FAMILIES:
        for seed in range(hosts):
            time_ms, values = series(120, step_s, family, seed=seed)
            days = judge(time_ms, values).alarm_days
            by_month += [count(days, *month) for month in ((4, 30), (30, 60), (60, 90), (90, 120))]
    rates = by_month / (hosts * len(FAMILIES)) / [26, 30, 30, 30]
    assert rates.mean() <= 0.03
    assert rates[3] <= max(1.5 * rates[0], 0.03)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("step_s", [60, 300, 900])
def test_a_weekly_season_that_is_believed_is_no_change_of_spread(family, step_s):
    """The least usual jump shrinks when it is: a view of the spread in its units would alarm."""
    time_ms = clock(30, step_s)
    values = 60 + 2 * (days_of(time_ms) % 7) + 0.2 * noise(family, len(time_ms), 0)
    judged = judge(time_ms, values)
    assert SPREAD not in judged.alarms["view"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("step_s", [60, 300])
def test_a_larger_spread_is_found_under_a_weekly_season(family, step_s):
    time_ms = clock(32, step_s)
    spread = np.where(between(time_ms, 29.5, 6), 0.8, 0.2)
    values = 60 + 2 * (days_of(time_ms) % 7) + spread * noise(family, len(time_ms), 0)
    assert is_found(judge(time_ms, values).alarm_days, 29.5, 6)
