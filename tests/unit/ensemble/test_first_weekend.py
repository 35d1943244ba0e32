"""A first weekend is no anomaly, and what is one on it is still found.

Invariant: on a day of a kind that a metric has not shown, what lies in its range at other times of
           day is usual; what lies outside is not; levels are learned as on other days.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.ensemble.kernels.season.season_memory import is_new_kind
from tests.support.episodes import count, is_found, judge, needs_speed
from tests.support.noise import DAY_MS, FAMILIES, HOUR_MS, MONDAY_MS, between, clock, days_of, noise

MONDAY = MONDAY_MS // DAY_MS


def office(family: str, first_day: int, days: float = 16, step_s: int = 300) -> tuple[Any, Any]:
    """Return an office's load: a peak on working days, a third of it on weekends."""
    time_ms = clock(days, step_s, MONDAY_MS + first_day * DAY_MS)
    hour = time_ms % DAY_MS / HOUR_MS
    is_weekend = (days_of(time_ms).astype(int)) % 7 >= 5
    load = 60 * np.exp(-(((hour - 13) / 4) ** 2)) * np.where(is_weekend, 0.35, 1.0)
    return time_ms, 20 + load + 3 * noise(family, len(time_ms), first_day)


@given(st.integers(0, 20), st.integers(0, 40))
def test_a_kind_is_new_until_two_days_of_it_have_passed(first_day: int, days: int) -> None:
    first, day = MONDAY + first_day, MONDAY + first_day + days
    weekends = sum((d - MONDAY) % 7 >= 5 for d in range(first, day))
    alike = weekends if (day - MONDAY) % 7 >= 5 else days - weekends
    assert is_new_kind(first, day) == (alike < 2 <= days - alike)


@needs_speed
@pytest.mark.parametrize("first_day", range(7))
def test_neither_the_first_weekend_nor_the_monday_after_is_an_anomaly(first_day):
    """Of four series, one a day, without this each would alarm on both days of the weekend."""
    saturday = 5 if first_day <= 3 else 12  # from Friday on, the first one is in the warm-up
    days = [judge(*office(family, first_day), cold_start=False).alarm_days for family in FAMILIES]
    assert sum(count(found, saturday, saturday + 2) for found in days) <= 1
    assert sum(count(found, saturday, saturday + 3) for found in days) <= 2


@needs_speed
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("factor", "plus"), [(0.0, 0.0), (1.0, 90.0), (3.5, 0.0)])
def test_an_incident_outside_of_the_range_is_found_on_the_first_saturday(family, factor, plus):
    time_ms, values = office(family, 0, 9)
    incident = between(time_ms, 5.5, 2)
    values[incident] = factor * values[incident] + plus
    assert is_found(judge(time_ms, values).alarm_days, 5.5)


@needs_speed
@pytest.mark.parametrize("family", FAMILIES)
def test_a_surge_to_the_level_of_a_working_day_is_found_on_the_third_saturday(family):
    time_ms, values = office(family, 0, 21)
    values[between(time_ms, 19.45, 3)] += 40
    assert is_found(judge(time_ms, values).alarm_days, 19.45, 3)
