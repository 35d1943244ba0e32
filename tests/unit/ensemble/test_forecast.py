"""Forecast: four forecasts against dictionaries, and which of them is believed."""

from __future__ import annotations

import os

import numpy as np
import pytest
from numba import njit

from shared.ensemble.kernels.forecast import deviate, follow, forecast
from shared.ensemble.kernels.layout import METRIC_DTYPE
from tests.reference.forecast import Forecast

SLOW = os.environ.get("NUMBA_DISABLE_JIT") == "1"
MONDAY = 1_704_067_200_000
DAY_MS = 86_400_000


@njit
def fold_all(states, times, values, out):
    for row in range(values.shape[0]):
        out[row, 0], out[row, 1], out[row, 2], out[row, 3], out[row, 4] = forecast(
            states[0], times[row]
        )
        follow(states[0], times[row], values[row])


@njit
def deviate_all(states, expected, season, values, out):
    for row in range(values.shape[0]):
        deviate(states[0], expected, season, values[row])
        out[row, 0] = states[0]["run_up"]
        out[row, 1] = states[0]["run_down"]


def fold(times, values, interval_ms, then=()):
    """Forecast of each value before it is learned; ``then`` are times that are only asked about."""
    states, out = np.zeros(1, METRIC_DTYPE), np.zeros((len(values), 5))
    states[0]["origin_ms"], states[0]["interval_ms"], states[0]["phase"] = times[0], interval_ms, 2
    fold_all(states, np.array(times), np.array(values), out)
    asked = np.zeros((1, 5))
    for time_ms in then:
        fold_all(states.copy(), np.array([time_ms]), np.zeros(1), asked)
        out = np.concatenate([out, asked])
    return out, states[0]


def series(kind, days, interval_ms):
    random = np.random.default_rng(7)
    times = MONDAY + np.arange(days * DAY_MS // interval_ms) * interval_ms
    phase = 2 * np.pi * (times % DAY_MS) / DAY_MS
    weekend = (times - MONDAY) // DAY_MS % 7 >= 5
    noise = random.normal(0, 0.15, len(times))
    shapes = {
        "weekends": np.where(weekend, -1.0, 1.5 * np.sin(phase)),
        "daily": 3 * np.sin(phase),
        "walk": np.cumsum(random.normal(0, 0.5, len(times))),
        "steps": (times - MONDAY) // (3 * DAY_MS) * 2.0,
        "spikes": np.where(random.random(len(times)) < 0.02, 50.0, 0.0),
    }
    return times.tolist(), (shapes[kind] + noise).tolist()


@pytest.mark.parametrize("kind", ["weekends", "daily", "walk", "steps", "spikes"])
@pytest.mark.parametrize("interval_ms", [3_600_000, 10_800_000, 1_200_000])
def test_forecasts_equal_dictionaries(kind, interval_ms):
    times, values = series(kind, 30 if SLOW or interval_ms < 3_600_000 else 60, interval_ms)
    slow = Forecast(times[0], interval_ms)
    expected = []
    for time_ms, x in zip(times, values, strict=True):
        expected.append(slow.expect(time_ms))
        slow.learn(time_ms, x)
    found, state = fold(times, values, interval_ms)
    np.testing.assert_allclose(found, np.array(expected, float), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(state["error"], list(slow.error.values()), rtol=1e-6)


def test_the_time_of_the_week_is_believed_after_three_weeks_and_is_right():
    times, values = series("weekends", 42, 3_600_000)
    found, _ = fold(times, values, 3_600_000)
    expected, half, level, weekly = found[:, 0], found[:, 1], found[:, 2], found[:, 3] == 1
    age = (np.array(times) - times[0]) / DAY_MS
    assert not weekly[age < 21].any()
    assert weekly[age >= 23].all()
    assert (level[weekly] == expected[weekly]).all()
    late = age >= 28
    assert abs(expected - values)[late].mean() < 0.25
    assert (abs(expected - values)[late] <= half[late]).mean() > 0.95


def test_without_weekends_the_week_adds_nothing():
    times, values = series("daily", 42, 3_600_000)
    found, _ = fold(times, values, 3_600_000)
    assert (found[:, 3] == 1).mean() < 0.1


def test_a_first_value_is_expected_again_and_only_near_its_time_of_day():
    found, _ = fold([MONDAY], [4.0], 3_600_000, then=[MONDAY + 60_000, MONDAY + DAY_MS // 2])
    assert np.isnan(found[[0, 2]][:, [0, 1, 2, 4]]).all()
    assert not found[:, 3].any()
    assert found[1].tolist() == [4.0, 0.0, 4.0, 0.0, 4.0]


def test_deviations_are_from_forecast_and_nearer_season_and_fade():
    out = np.zeros((3, 2))
    states = np.zeros(1, METRIC_DTYPE)
    deviate_all(states, 5.0, 6.0, np.array([8.0, 5.5, 1.0]), out)
    np.testing.assert_allclose(out, [[2.0, 0.0], [2.0 * 11 / 12, 0.0], [2.0 * (11 / 12) ** 2, 4.0]])
    unknown = np.zeros((1, 2))
    deviate_all(states, np.nan, np.nan, np.array([100.0]), unknown)
    assert unknown[0].tolist() == out[2].tolist()


def test_a_gap_of_months_leaves_the_levels():
    times, values = series("weekends", 42, 3_600_000)
    saturday_morning = MONDAY + 7 * 40 * DAY_MS + 5 * DAY_MS + DAY_MS // 4
    expected, _, level, weekly, _ = fold(times, values, 3_600_000, then=[saturday_morning])[0][-1]
    assert weekly
    assert abs(expected + 1.0) < 0.25
    assert level == expected
