"""Each kernel against its slow twin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from shared.ensemble.kernels.calibration import add, rank, recalibrate
from shared.ensemble.kernels.layout import (
    ENTITY_DTYPE,
    LIBRARY,
    METRIC_DTYPE,
    SHAPE,
    SKETCH_DTYPE,
    WIDTH,
    Knobs,
)
from shared.ensemble.kernels.novelty import push_block, score_novelty
from shared.ensemble.kernels.policy import decide, exceeded, severity
from shared.ensemble.kernels.residual import fold_cross, join_fit, learn_apart, usual_apart
from shared.ensemble.kernels.scale import chomp, push_median, rescale, robust_scale
from shared.ensemble.kernels.season import (
    expect_time_of_day,
    expect_time_of_week,
    push_season,
    push_time_of_day,
    score_neighbours,
)
from tests.reference import calibration, novelty, policy, residual, season


def sketch_ranks(scores, memory):
    sketch = np.zeros(1, SKETCH_DTYPE)[0]
    out = []
    for score in scores:
        out.append(rank(sketch, score))
        add(sketch, score, memory)
    return np.array(out), sketch


@settings(max_examples=10, deadline=None)
@given(
    scores=st.lists(
        st.one_of(st.floats(0, 1e6), st.integers(0, 5).map(float)), min_size=1, max_size=140
    ),
    memory=st.floats(20, 1000),
)
def test_few_scores_rank_exactly(scores, memory):
    found, _ = sketch_ranks(scores, memory)
    expected = [calibration.rank(scores[:i], s, memory) for i, s in enumerate(scores)]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["normal", "pareto", "zeros", "drift", "concentrated", "integers"])
def test_many_scores_rank_within_a_twentieth(kind):
    random = np.random.default_rng(1)
    n = 3000
    scores = {
        "normal": abs(random.normal(0, 1, n)),
        "pareto": random.pareto(1.0, n),
        "zeros": np.where(random.random(n) < 0.7, 0.0, random.exponential(1, n)),
        "drift": np.linspace(0, 5, n) + random.random(n),
        "concentrated": 5 + 1e-3 * random.random(n),
        "integers": random.poisson(3, n).astype(float),
    }[kind]
    found, sketch = sketch_ranks(scores, 5000.0)
    expected = calibration.ranks(scores, 5000.0)
    assert abs(found - expected)[50:].max() <= 0.05
    size = sketch["size"]
    assert (np.diff(sketch["low"][:size]) >= 0).all()
    assert (sketch["high"][:size] >= sketch["low"][:size]).all()


def test_ranks_forget():
    scores = np.concatenate([np.full(400, 10.0), np.random.default_rng(0).random(4000)])
    found, _ = sketch_ranks(np.append(scores, 5.0), 200.0)
    assert found[-1] > 2.0


@pytest.mark.parametrize("shift", [0.0, 1.0, 3.0])
def test_trained_rarities_are_worth_what_their_mean_allows(shift):
    rarities = np.random.default_rng(1).exponential(0.4343, 400) + shift
    entity = np.zeros(1, ENTITY_DTYPE)[0]
    entity["warmup"] = 100
    found = [recalibrate(entity, rarity) for rarity in rarities]
    np.testing.assert_allclose(found, calibration.recalibrated(rarities.tolist(), 100), rtol=1e-9)
    assert found[0] <= 0.4344
    assert 0.3 < np.mean(found[100:]) < 0.5


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 1000), block=st.integers(1, 6), stride=st.integers(1, 3))
def test_novelty_equals_brute_force(seed, block, stride):
    random = np.random.default_rng(seed)
    history = [(x, x + abs(y), x - abs(y)) for x, y in random.normal(0, 3, (120, 2))]
    member = np.zeros(1, METRIC_DTYPE)[0]["long"]
    shape, distances = np.zeros(SHAPE, np.float32), np.zeros(LIBRARY, np.float32)
    found = []
    for mean, high, low in history:
        push_block(member, block, mean, high, low)
        found.append(score_novelty(member, block, stride, shape, distances))
    np.testing.assert_allclose(
        found, novelty.scores(history, block, stride, LIBRARY), rtol=2e-5, atol=2e-5
    )


def test_a_full_library_keeps_what_is_rare():
    member = np.zeros(1, METRIC_DTYPE)[0]["short"]
    shape, distances = np.zeros(SHAPE, np.float32), np.zeros(LIBRARY, np.float32)
    random = np.random.default_rng(0)
    values = random.normal(0, 1, 700)
    values[100:104] += 50
    for value in values:
        push_block(member, 1, value, value, value)
        score_novelty(member, 1, 1, shape, distances)
    assert member["size"] == LIBRARY
    library = member["library"][:, :LIBRARY]
    assert (library > 40).any()


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1000), block=st.integers(1, 3), per_day=st.sampled_from([16, 24]))
def test_neighbours_equal_brute_force(seed, block, per_day):
    random = np.random.default_rng(seed)
    steps = random.choice([1, 1, 1, 1, 2, 5], 90)
    times = (
        1_700_000_000_000
        + np.cumsum(steps) * (86_400_000 // per_day)
        + random.integers(0, 1000, 90)
    )
    values = random.normal(0, 1, 90)
    state = np.zeros(1, METRIC_DTYPE)[0]["season"]
    found = []
    for time_ms, value in zip(times, values, strict=True):
        push_season(state, time_ms - times[0], per_day, block, value)
        found.append(score_neighbours(state, per_day, block, 2, 14))
    expected = season.neighbour_scores(times.tolist(), values.tolist(), per_day, block, 2, 14)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_time_of_day_equals_dictionaries():
    random = np.random.default_rng(2)
    times = (1_700_000_000_000 + np.cumsum(random.integers(1, 5_000_000, 400))).tolist()
    values = random.normal(0, 1, 400).tolist()
    bins = np.zeros(1, METRIC_DTYPE)[0]["bins"]
    found = []
    for time_ms, value in zip(times, values, strict=True):
        expected = expect_time_of_day(bins, time_ms)
        found.append(0.0 if np.isnan(expected) else abs(value - expected))
        push_time_of_day(bins, time_ms, value, 20.0)
    np.testing.assert_allclose(found, season.time_of_day_scores(times, values, 20.0), atol=1e-5)
    assert not np.isnan(expect_time_of_week(bins, times[-1]))


@pytest.mark.parametrize("metrics", [2, 5])
def test_residuals_equal_regressions(metrics):
    random = np.random.default_rng(4)
    rows = random.normal(0, 1, (80, 1)) * random.uniform(0.5, 2, metrics) + random.normal(
        0, 0.3, (80, metrics)
    )
    entity = np.zeros(1, ENTITY_DTYPE)[0]
    for column in range(metrics):
        join_fit(entity, column)
    knobs, weights = Knobs(), []
    for i, row in enumerate(rows):
        vector = np.zeros(WIDTH)
        vector[:metrics] = row
        spread = np.sqrt(entity["variance"][:metrics].astype(float))
        solved = i <= 64
        fold_cross(entity, vector, np.ones(WIDTH), 1000.0, knobs)
        scaled = entity["before"][0, :metrics].astype(float)
        if i > 5 and solved:
            expected = (
                residual.residuals(
                    rows[: i + 1], np.array(weights), knobs.cross_memory, knobs.cross_ridge
                )
                / spread
            )
            np.testing.assert_allclose(scaled, expected, rtol=2e-3, atol=2e-3)
        worst = abs(scaled).max() if i else 0.0
        weights.append(min(1.0, 16.0 / worst**2) if worst else 1.0)


def test_a_fit_without_excitement_does_not_wind_up():
    entity = np.zeros(1, ENTITY_DTYPE)[0]
    for column in range(3):
        join_fit(entity, column)
    for _ in range(3000):
        fold_cross(
            entity, np.array([1.0, 1.0, 0.0, 0.0] + [0.0] * 13), np.ones(WIDTH), 1000.0, Knobs()
        )
    assert np.isfinite(entity["precision"]).all()
    assert abs(entity["precision"]).max() < 1e3
    fold_cross(entity, np.array([1.0, 3.0, 0.0, 0.0] + [0.0] * 13), np.ones(WIDTH), 1000.0, Knobs())
    assert entity["cross"] > 1.0


@njit
def learn_first(states, time_ms, residual):
    learn_apart(states[0], time_ms, residual)


@njit
def usual_of_first(states, time_ms, knobs):
    return usual_apart(states[0], time_ms, knobs)


def test_what_is_usual_at_a_time_of_day_is_that_much_less_odd():
    """Twice the faded mean of the deviations at this half hour or at a neighbour's, at least 1."""
    states, night, step_ms = np.zeros(1, METRIC_DTYPE), 3 * 3_600_000, 300_000
    states["interval_ms"] = step_ms
    mean, rate = 0.0, 48 * step_ms / (5 * 86_400_000)
    for day in range(20):
        for k in range(6):
            learn_first(states, day * 86_400_000 + night + k * step_ms, -8.0 if k < 3 else 40.0)
            mean += ((8.0 if k < 3 else 16.0) - mean) * rate
    for minutes, usual in (
        (0, 2 * mean),
        (29, 2 * mean),
        (-10, 2 * mean),
        (59, 2 * mean),
        (-31, 1.0),
        (60, 1.0),
    ):
        assert abs(usual_of_first(states, night + minutes * 60_000, Knobs()) - usual) < 1e-4


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50))
def test_scale_and_median(values):
    array = np.array(values)
    centre, spread = robust_scale(array)
    assert centre == np.sort(array)[len(array) // 2]
    assert spread > 0
    assert np.isfinite(rescale(values[0], centre, spread))
    median = np.zeros(1, METRIC_DTYPE)[0]["median"]
    for value in values:
        push_median(median, value)
    np.testing.assert_array_equal(
        median["sorted"][: len(values)], np.sort(array.astype(np.float32))
    )


def test_a_full_median_forgets_the_oldest():
    median = np.zeros(1, METRIC_DTYPE)[0]["median"]
    values = np.random.default_rng(0).normal(0, 1, 600)
    for value in values:
        push_median(median, value)
    np.testing.assert_array_equal(median["sorted"], np.sort(values[-255:].astype(np.float32)))


def test_chomp_and_severity():
    assert chomp(1.05, 1.0, 0.1) == 0.0
    assert chomp(1.5, 1.0, 0.1) == 0.5
    z = np.linspace(-2, 9, 300)
    found = np.array([severity(x, 1.2) for x in z])
    assert (np.diff(found) >= 0).all()
    assert severity(1.2, 1.2) == 0.5
    assert severity(np.nextafter(1.2, 0), 1.2) < 0.5
    assert found.min() == 0.0
    assert found.max() < 1.0


def test_exceeded_is_a_quantile():
    scores = np.random.default_rng(0).exponential(1, 2000)
    _, sketch = sketch_ranks(scores, 1e9)
    for share in (0.01, 0.1, 0.5):
        assert abs((scores >= exceeded(sketch, share)).mean() - share) < 0.02


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), warmup=st.integers(10, 60), budgeted=st.booleans())
def test_policy_equals_the_list_of_alarms(seed, warmup, budgeted):
    scores = np.random.default_rng(seed).exponential(0.6, 400)
    entity = np.zeros(1, ENTITY_DTYPE)[0]
    entity["warmup"], entity["threshold"] = warmup, 1.2
    found, levels = [], []
    for row, z in enumerate(scores, start=1):
        entity["rows"] = row
        if decide(entity, z, budgeted, Knobs()):
            found.append(row)
        levels.append(float(entity["effective"]))
    expected, expected_levels = policy.alarms(scores, warmup, 1.2, Knobs(), budgeted)
    assert found == expected
    np.testing.assert_allclose(levels, expected_levels, atol=1e-9)
