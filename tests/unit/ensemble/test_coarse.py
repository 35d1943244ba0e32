"""Coarse data: a row stands for an hour, and what lasts some rows elsewhere lasts hours.

Each property holds for all noise families.
"""

from __future__ import annotations

import numpy as np
import pytest

from shared.ensemble.kernels.layout import SPREAD
from tests.support.episodes import count, is_found, judge, needs_speed, series
from tests.support.noise import FAMILIES, HOUR_MS, between, clock, daily, noise

pytestmark = needs_speed


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("step_s", [900, 3600])
def test_a_burst_hides_no_outage_of_another_metric_hours_later(family, step_s):
    time_ms = clock(26, step_s)
    values = np.column_stack(
        [daily(time_ms) + 2 * noise(family, len(time_ms), metric) for metric in range(2)]
    )
    values[between(time_ms, 20.5, step_s / 3600), 0] += 60
    values[between(time_ms, 20.5 + 2 / 24, 6), 1] = -20
    judged = judge(time_ms, values)
    about = judged.alarms["metric"]
    assert is_found(judged.alarm_days[about == 0], 20.5, 1)
    assert is_found(judged.alarm_days[about == 1], 20.5 + 2 / 24, 2)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_incident_that_is_over_is_no_change_of_spread(family):
    echoes, days = 0, (14 + 10 / 24, 20 + 10 / 24, 26 + 10 / 24)
    for seed in range(6):
        time_ms = clock(32, 3600)
        values = daily(time_ms - 14 * HOUR_MS, swing=30) + 3 * noise(family, len(time_ms), seed)
        for day in days:
            values[between(time_ms, day, 2)] *= 2.2
        judged = judge(time_ms, values)
        assert all(is_found(judged.alarm_days, day, 2) for day in days)
        of_spread = judged.alarm_days[judged.alarms["view"] == SPREAD]
        echoes += sum(count(of_spread, day + 0.2, day + 1) for day in days)
    assert echoes <= 2


@pytest.mark.parametrize("family", FAMILIES)
def test_a_clock_two_days_ahead_leaves_the_hours_after_it_in_order(family):
    time_ms, values = series(20, 3600, family)
    with_ahead = np.insert(time_ms, 300, time_ms[300] + 48 * HOUR_MS)
    judged = judge(with_ahead, np.insert(values, 300, values[300]))
    assert np.flatnonzero(judged.rows["ahead"]).tolist() == [300]
    assert judged.rows["late"].sum() == 0
