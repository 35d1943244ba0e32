"""What is warming up alarms as a cold start only, and the time left is right at any interval."""

from __future__ import annotations

import numpy as np
import pytest

from shared.ensemble.kernels.layout import NO_METRIC
from tests.support.episodes import is_found, judge, needs_speed
from tests.support.noise import (
    FAMILIES,
    MONDAY_MS,
    between,
    clock,
    daily,
    days_of,
    noise,
)

pytestmark = needs_speed

WEEK_MIN = 7 * 1440


def host(family: str, metrics: int, days: float):
    time_ms = clock(days)
    columns = [daily(time_ms) + 2 * noise(family, len(time_ms), k) for k in range(metrics)]
    return time_ms, np.column_stack(columns)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("day", [1.55, 1.75, 1.95])
def test_the_joint_view_is_silent_until_the_metrics_are_ready(family, day):
    time_ms, values = host(family, 8, 3)
    values[between(time_ms, day, 1)] += 40
    judged = judge(time_ms, values, cold_start=False)
    warming = judged.rows["state"] == 0
    assert warming[days_of(time_ms) < 2].all()
    assert np.isnan(judged.rows["score"][warming]).all()
    assert (days_of(judged.events["time_ms"]) >= 2).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_metrics_that_come_later_do_not_count_until_they_are_ready(family):
    time_ms, values = host(family, 8, 16)
    values[days_of(time_ms) < 10, 4:] = np.nan
    values[between(time_ms, 11.5, 1), 4:] += 40
    values[between(time_ms, 14.5, 1), 4:] += 40
    judged = judge(time_ms, values, cold_start=False)
    joint = judged.alarms[judged.alarms["key"] == NO_METRIC]
    assert not is_found(days_of(joint["time_ms"]), 11.5)
    assert is_found(judged.alarm_days, 14.5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_weekly_metric_says_how_long_it_still_takes_and_is_judged_then(family):
    time_ms = MONDAY_MS + 3_600_000 * np.arange(19 * 168)
    values = np.column_stack([daily(time_ms), np.full(len(time_ms), np.nan)])
    values[:, 0] += 2 * noise(family, len(time_ms), 1)
    weekly = np.arange(0, len(time_ms), 168)
    values[weekly, 1] = 100 + 2 * noise(family, len(weekly), 2)
    values[weekly[17], 1] = 300
    judged = judge(time_ms, values)
    left = judged.rows["warmup_minutes_left"][weekly]
    assert left[1:14] == pytest.approx(WEEK_MIN * np.arange(12, -1, -1), rel=1e-6)
    assert left[14:] == pytest.approx(0.0)
    assert np.isnan(judged.cells["metric_severity"][weekly[:13], 1]).all()
    assert not np.isnan(judged.cells["metric_severity"][weekly[14:], 1]).any()
    assert is_found(judged.alarm_days[judged.alarms["metric"] == 1], 17 * 7, 1)
