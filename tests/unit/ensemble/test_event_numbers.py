"""The numbers that a sentence needs, each against its slow twin or what it must be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from shared.ensemble.kernels.entity.event_rows import RESOLUTION, count_days
from shared.ensemble.kernels.layout import (
    BINS,
    DAYS,
    HOUR,
    HOURS4,
    METRIC_DTYPE,
    QUARTER,
    EnsembleParams,
)
from shared.ensemble.kernels.metric.interval import span_of
from shared.ensemble.kernels.metric.warm_up import judge_cold
from shared.ensemble.kernels.outputs import CLOSED, EVENT_DTYPE
from shared.ensemble.kernels.season.season_memory import near_of, write
from shared.kernels.units import DAY_MS, HOUR_MS, MINUTE_MS
from tests.reference import season as slow_season
from tests.support.episodes import SLOW, judge, needs_speed, series
from tests.support.noise import between, days_of


@njit
def write_first(states, bin_, day, x):
    write(states[0], bin_, day, x)


@njit
def count_first(events, states, day, bin_):
    count_days(events[0], states[0], day, bin_)


@njit
def cold_first(states, value, params):
    judge_cold(states[0], value, params)


def remembered(seed: int, width: int, days: int = 32):
    """A memory around midnight, with a high value here and there, and its dictionary."""
    rng = np.random.default_rng(seed)
    states, memory = np.zeros(1, METRIC_DTYPE), {}
    states["scale"], states["width"] = 1.0, width
    first = 20_000
    for day in range(first, first + days):
        for bin_ in (*range(BINS - 6 * width, BINS, width), *range(0, 6 * width, width)):
            if rng.random() < 0.7 and 0 <= bin_ < BINS:
                x = float(np.float16(rng.normal(3, 1) + 20 * (rng.random() < 0.02)))
                write_first(states, bin_, day, x)
                memory[day, bin_] = x
    return states, memory, first + days - 1


@settings(max_examples=3 if SLOW else 40)
@given(
    st.integers(0, 99),
    st.sampled_from([1, 2, 3, 12]),
    st.integers(-5, 5),
    st.sampled_from([8.0, 3.0, -2.0]),
    st.booleans(),
    st.sampled_from([0, 2, 9]),
)
def test_days_without_a_value_as_extreme_are_those_of_the_dictionary(
    seed, width, step, value, up, moved
):
    states, memory, day = remembered(seed, width)
    bin_ = (step * width) % BINS
    events = np.zeros(1, EVENT_DTYPE)
    events["value"], events["direction"] = value, 1 if up else -1
    events["time_ms"] = day * DAY_MS
    events["moved_ms"] = day * DAY_MS - moved * DAY_MS - 3 * HOUR_MS if moved else 0
    count_first(events, states, day, bin_)
    near = near_of(width) * width
    kept = {(d, b): x for (d, b), x in memory.items() if d >= int(states["written"][0, b]) - DAYS}
    seen, without = slow_season.days_without(
        kept,
        bin_,
        day,
        (near, near + width - 1),
        value - (RESOLUTION if up else -RESOLUTION) * abs(value),
        up,
        moved or DAYS,
    )
    assert (events["watched_days"][0], events["rarest_days"][0]) == (seen, without)


def test_a_mean_is_longer_on_coarse_data():
    minute, hour = 1.0 * MINUTE_MS, 1.0 * HOUR_MS
    spans = [span_of(view, minute) for view in (QUARTER, HOUR, HOURS4)]
    assert spans == [15 * minute, hour, 4 * hour]
    assert [span_of(view, hour) for view in (QUARTER, HOUR, HOURS4)] == [
        1.5 * hour,
        3 * hour,
        6 * hour,
    ]


def test_a_cold_value_is_no_part_of_the_range_that_it_is_outside_of():
    states, params = np.zeros(1, METRIC_DTYPE), EnsembleParams()
    said = []
    for value in [5.0] * 40 + [97.0, 97.0, 5.0]:
        cold_first(states, value, params)
        said.append((int(states["cold"][0]), float(states["low"][0]), float(states["high"][0])))
        states["samples"] += 1
        states["last"] = value
    assert said[40] == (1, 5.0, 5.0)
    assert said[41:] == [(0, 5.0, 97.0)] * 2


@needs_speed
@pytest.mark.parametrize("up", [True, False])
def test_an_end_is_accepted_only_where_the_level_stays_that_way(up):
    """A short deviation the other way does not become usual because the level has moved."""
    sign = 1 if up else -1
    time_ms, values = series(26, seed=1)
    values[days_of(time_ms) >= 20.2] += 45 * sign
    values[between(time_ms, 21.2, 0.3)] -= 90 * sign
    ends = judge(time_ms, values).says(CLOSED)
    ends = ends[(days_of(ends["time_ms"]) > 21) & (days_of(ends["time_ms"]) < 22)]
    reasons = {int(end["direction"]): int(end["reason"]) for end in ends}
    assert reasons[-sign] == 0
    assert reasons[sign] == 1
