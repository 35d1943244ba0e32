"""The course of hours: each kernel against its slow twin, and when an absence is said."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from shared.ensemble.kernels.course.absence import watch_silence
from shared.ensemble.kernels.course.course_layout import (
    COURSE_DTYPE,
    LIBRARY,
    MEDIAN,
    SHAPE,
    SKETCH_DTYPE,
    WINDOWS,
)
from shared.ensemble.kernels.course.neighbours import (
    expect_time_of_day,
    push_season,
    push_time_of_day,
    score_neighbours,
)
from shared.ensemble.kernels.course.novelty import push_block, score_novelty
from shared.ensemble.kernels.course.ranks import add, growth_of, rank, rank_and_add
from shared.ensemble.kernels.course.scale import deadband, push_median, rescale, robust_scale
from shared.ensemble.kernels.layout import EnsembleParams
from tests.reference import absence, calibration, neighbours, novelty
from tests.support.episodes import SLOW
from tests.support.noise import HOUR_MS

START = 1_700_000_000_000


def one_course():
    return np.zeros(1, COURSE_DTYPE)[0]


# --- ranks ----------------------------------------------------------------------------------------


def sketch_ranks(scores, memory):
    sketch = np.zeros(1, SKETCH_DTYPE)[0]
    out = []
    for score in scores:
        out.append(rank(sketch, score))
        add(sketch, score, memory)
    return np.array(out), sketch


@settings(max_examples=10)
@given(
    scores=st.lists(
        st.one_of(st.floats(0, 1e6), st.integers(0, 5).map(float)), min_size=1, max_size=60
    ),
    memory=st.floats(20, 1000),
)
def test_few_scores_rank_exactly(scores, memory):
    found, _ = sketch_ranks(scores, memory)
    expected = [calibration.rank(scores[:i], s, memory) for i, s in enumerate(scores)]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["normal", "pareto", "zeros", "drift", "concentrated", "integers"])
def test_many_scores_rank_within_a_tenth(kind):
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
    assert abs(found - calibration.ranks(scores, 5000.0))[50:].max() <= 0.1
    size = sketch["size"]
    assert (np.diff(sketch["low"][:size]) >= 0).all()
    assert (sketch["high"][:size] >= sketch["low"][:size]).all()


def test_a_rank_and_an_addition_at_once_are_the_same_as_one_after_the_other():
    """Through merges, splits and fading weights."""
    random = np.random.default_rng(4)
    scores = np.where(random.random(3000) < 0.3, 0.0, random.pareto(1.0, 3000))
    scores[::7] = np.round(scores[::7])
    expected, after = sketch_ranks(scores, 500.0)
    sketch = np.zeros(1, SKETCH_DTYPE)[0]
    growth = growth_of(500.0)
    found = [rank_and_add(sketch, score, growth) for score in scores]
    np.testing.assert_array_equal(found, expected)
    assert sketch.tobytes() == after.tobytes()


def test_ranks_forget():
    scores = np.concatenate([np.full(400, 10.0), np.random.default_rng(0).random(4000)])
    found, _ = sketch_ranks(np.append(scores, 5.0), 200.0)
    assert found[-1] > 2.0


# --- novelty and neighbours -----------------------------------------------------------------------


@settings(max_examples=5)
@given(seed=st.integers(0, 1000), block=st.integers(1, 6), stride=st.integers(2, 3))
def test_novelty_equals_brute_force(seed, block, stride):
    random = np.random.default_rng(seed)
    history = [(x, x + abs(y), x - abs(y)) for x, y in random.normal(0, 3, (120, 2))]
    member = one_course()["long"]
    shape, distances = np.zeros(SHAPE, np.float32), np.zeros(LIBRARY, np.float32)
    found = []
    for mean, high, low in history:
        push_block(member, block, mean, high, low)
        found.append(score_novelty(member, block, stride, shape, distances))
    expected = novelty.scores(history, block, stride, LIBRARY)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


def test_a_full_library_keeps_what_is_rare():
    member = one_course()["short"]
    shape, distances = np.zeros(SHAPE, np.float32), np.zeros(LIBRARY, np.float32)
    values = np.random.default_rng(0).normal(0, 1, 700)
    values[100:104] += 50
    for value in values:
        push_block(member, 1, value, value, value)
        score_novelty(member, 1, 1, shape, distances)
    assert member["size"] == LIBRARY
    assert (member["library"] > 40).any()


@settings(max_examples=8)
@given(seed=st.integers(0, 1000), block=st.integers(1, 3), per_day=st.sampled_from([16, 24]))
def test_neighbours_equal_brute_force(seed, block, per_day):
    random = np.random.default_rng(seed)
    steps = random.choice([1, 1, 1, 1, 2, 5], 90)
    times = START + np.cumsum(steps) * (86_400_000 // per_day) + random.integers(0, 1000, 90)
    values = random.normal(0, 1, 90)
    state, windows = one_course()["season"], np.zeros(WINDOWS)
    found = []
    for time_ms, value in zip(times, values, strict=True):
        push_season(state, time_ms - times[0], per_day, block, value)
        found.append(score_neighbours(state, per_day, block, 2, 14, windows))
    expected = neighbours.neighbour_scores(times.tolist(), values.tolist(), per_day, block, 2, 14)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_time_of_day_equals_dictionaries():
    random = np.random.default_rng(2)
    times = (START + np.cumsum(random.integers(1, 5_000_000, 400))).tolist()
    values = random.normal(0, 1, 400).tolist()
    bins = one_course()["bins"]
    found = []
    for time_ms, value in zip(times, values, strict=True):
        expected = expect_time_of_day(bins, time_ms)
        found.append(0.0 if np.isnan(expected) else abs(value - expected))
        push_time_of_day(bins, time_ms, value, 20.0)
    expected = neighbours.time_of_day_scores(times, values, 20.0)
    np.testing.assert_allclose(found, expected, atol=1e-5)


# --- scale ----------------------------------------------------------------------------------------


@given(st.lists(st.floats(-1e150, 1e150), min_size=1, max_size=50))
def test_scale_and_median(values):
    array = np.array(values)
    centre, spread = robust_scale(array)
    assert centre == np.sort(array)[len(array) // 2]
    assert spread > 0
    scaled = np.array([rescale(value, centre, spread) for value in values])
    assert np.isfinite(scaled).all()
    median = one_course()["median"]
    for value in scaled:
        push_median(median, value)
    expected = np.sort(scaled.astype(np.float32))
    np.testing.assert_array_equal(median["sorted"][: len(values)], expected)


def test_a_full_median_forgets_the_oldest():
    median = one_course()["median"]
    values = np.random.default_rng(0).normal(0, 1, 600)
    for value in values:
        push_median(median, value)
    expected = np.sort(values[-MEDIAN:].astype(np.float32))
    np.testing.assert_array_equal(median["sorted"], expected)


def test_what_is_near_the_middle_counts_as_the_middle():
    assert deadband(1.05, 1.0, 0.1) == 0.0
    assert deadband(1.5, 1.0, 0.1) == 0.5
    assert deadband(0.5, 1.0, 0.1) == -0.5


# --- absence --------------------------------------------------------------------------------------


@njit
def watch_all(states, active, times, shortest, params, out):
    for row in range(active.shape[0]):
        watch_silence(states[0], active[row], times[row], shortest, params)
        out[row] = states[0]["absence"]


def watch(active, step_ms=HOUR_MS, shortest=3, warmup=100):
    states, out = np.zeros(1, COURSE_DTYPE), np.zeros(len(active))
    states[0]["origin_ms"], states[0]["warmup"], states[0]["fold"] = START, warmup, 1
    states[0]["interval_ms"] = step_ms
    times = START + step_ms * np.arange(len(active))
    watch_all(states, np.array(active, bool), times, shortest, EnsembleParams(), out)
    return out, states[0]


def expected_of(active, step_ms=HOUR_MS, shortest=3, warmup=100):
    times = [START + row * step_ms for row in range(len(active))]
    keep = 1 - 1 / (2 * EnsembleParams().rank_memory * warmup)
    return absence.silences(active, times, shortest, keep, EnsembleParams(), step_ms)


@settings(max_examples=5 if SLOW else 30)
@given(
    gaps=st.lists(st.integers(1, 12), min_size=5, max_size=60),
    burst=st.integers(1, 4),
    last=st.integers(0, 60),
    step_ms=st.sampled_from([HOUR_MS // 2, HOUR_MS, 3 * HOUR_MS]),
)
def test_silences_equal_the_list_of_all_silences(gaps, burst, last, step_ms):
    active = [flag for gap in gaps for flag in [False] * gap + [True] * burst] + [False] * last
    found, expected = watch(active, step_ms)[0], expected_of(active, step_ms)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def nightly(nights):
    return ([False] * 23 + [True]) * nights


def test_a_usual_event_that_does_not_come_is_missed_soon_after_it_was_due():
    found, state = watch(nightly(12) + [False] * 40)
    assert not found[: 12 * 24 + 25].any()
    missed = found[12 * 24 :]
    assert np.flatnonzero(missed)[0] == int(1.1 * 23)
    assert missed[30] > 1.3
    assert (np.diff(missed[missed > 0]) > 0).all()
    assert state["gaps"] == 11


@pytest.mark.parametrize(
    ("name", "active"),
    [
        ("never active", [False] * 400),
        ("always active", [True] * 400),
        ("active once", [False] * 50 + [True] + [False] * 400),
        ("within the first week", nightly(4) + [False] * 60),
        (
            "few silences, all unlike",
            [flag for gap in (3, 30, 7, 60, 12, 45) for flag in [False] * gap + [True]]
            + [False] * 99,
        ),
        ("pauses inside a burst", [True, False, False] * 100 + [False] * 99),
    ],
)
def test_nothing_is_said(name, active):
    found, _ = watch(active)
    assert not found.any(), name
