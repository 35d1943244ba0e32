"""The budget: quantiles and thresholds against the list of all peaks, and whether it is kept."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from shared.ensemble.kernels.calibration import add
from shared.ensemble.kernels.layout import ENTITY_DTYPE, SKETCH_DTYPE, Knobs
from shared.ensemble.kernels.policy import (
    HIGHEST,
    LOWEST,
    decide,
    exceeded,
    follow_budget,
    knows_peaks,
)
from tests.reference import budget

SLOW = os.environ.get("NUMBA_DISABLE_JIT") == "1"
STEP_MS = 300_000


def follow(scores, warmup, per_day, threshold):
    entity = np.zeros(1, ENTITY_DTYPE)[0]
    entity["warmup"], entity["threshold"] = warmup, threshold
    found = []
    for z in scores:
        alarm = bool(z >= entity["threshold"])
        follow_budget(entity, z, alarm, per_day, STEP_MS, Knobs())
        found.append(float(entity["threshold"]))
    return found


@settings(max_examples=4 if SLOW else 25, deadline=None)
@given(
    peaks=st.lists(
        st.one_of(st.floats(0, 100), st.integers(0, 4).map(float)), min_size=1, max_size=120
    ),
    memory=st.floats(20, 500),
    share=st.floats(0.001, 0.999),
)
def test_exceeded_equals_the_sorted_list(peaks, memory, share):
    peaks = [float(np.float32(peak)) for peak in peaks]
    sketch = np.zeros(1, SKETCH_DTYPE)[0]
    for peak in peaks:
        add(sketch, peak, memory)
    around = {budget.exceeded(peaks, memory, share * step) for step in (1 - 1e-5, 1.0, 1 + 1e-5)}
    assert exceeded(sketch, share) in around


@settings(max_examples=4 if SLOW else 25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    warmup=st.integers(5, 40),
    per_day=st.sampled_from([0.05, 0.5, 2.0, 20.0]),
    threshold=st.sampled_from([0.5, 1.3]),
)
def test_thresholds_equal_those_of_all_peaks(seed, warmup, per_day, threshold):
    length = max(1, int(np.ceil(0.2 * warmup)))
    scores = (
        np.random.default_rng(seed)
        .exponential(0.6, min(500, 100 * length))
        .astype(np.float32)
        .astype(float)
    )
    expected = budget.thresholds(scores.tolist(), warmup, per_day, STEP_MS, threshold, Knobs())
    np.testing.assert_allclose(
        follow(scores, warmup, per_day, threshold), expected, rtol=1e-4, atol=1e-4
    )


@njit
def alarm_all(entities, scores, per_day, knobs, alarms):
    entity = entities[0]
    for row in range(scores.shape[0]):
        entity["rows"] = row + 1
        alarms[row] = decide(entity, scores[row], knows_peaks(entity), knobs)
        follow_budget(entity, entity["effective"], alarms[row], per_day, STEP_MS, knobs)


@pytest.mark.skipif(SLOW, reason="long series, compiled only")
@pytest.mark.parametrize("per_day", [0.2, 1.0, 3.0])
@pytest.mark.parametrize("shape", ["exponential", "normal", "drifting", "heavy"])
def test_about_as_many_alarms_follow_as_were_asked_for(per_day, shape):
    random, rows, warmup = np.random.default_rng(3), 288 * 300, 288
    scores = {
        "exponential": random.exponential(0.45, rows),
        "normal": abs(random.normal(0, 1, rows)),
        "drifting": random.exponential(0.45, rows) * np.linspace(0.5, 2.0, rows),
        "heavy": np.minimum(random.pareto(2.0, rows), 6.0),
    }[shape]
    entities, alarms = np.zeros(1, ENTITY_DTYPE), np.zeros(rows, bool)
    entities[0]["warmup"], entities[0]["threshold"] = warmup, Knobs().threshold
    alarm_all(entities, scores, per_day, Knobs(), alarms)
    given_per_day = alarms[rows // 3 :].sum() / (rows * 2 / 3 / 288)
    assert 0.6 * per_day <= given_per_day <= 1.4 * per_day


def test_thresholds_stay_within_bounds():
    assert set(follow(np.zeros(400), 5, 20.0, 1.3)) == {1.3, LOWEST}
    found = follow(np.random.default_rng(0).pareto(0.3, 400), 5, 0.001, 1.3)
    assert max(found) == HIGHEST


def test_before_twenty_periods_the_threshold_stays():
    warmup = 50
    found = follow(np.random.default_rng(0).exponential(1, 400), warmup, 1.0, 1.3)
    assert set(found[: 19 * 10]) == {1.3}
    assert found[-1] != 1.3
