"""The course of hours: each kernel against its slow twin, and when an absence is said."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from shared.ensemble.kernels.codes import lengthen, shorten
from shared.ensemble.kernels.course.absence import watch_silence
from shared.ensemble.kernels.course.course_layout import (
    COURSE_DTYPE,
    LIBRARY,
    MEDIAN,
    SHAPE,
    SKETCH,
    SKETCH_DTYPE,
    WINDOWS,
)
from shared.ensemble.kernels.course.neighbours import (
    Unit,
    Window,
    expect_time_of_day,
    push_season,
    push_time_of_day,
    score_neighbours,
)
from shared.ensemble.kernels.course.novelty import FINE, fit_unit, push_block, score_novelty
from shared.ensemble.kernels.course.ranks import growth_of, rank, rank_and_add
from shared.ensemble.kernels.course.scale import (
    deadband,
    middle_of,
    push_median,
    rescale,
    robust_scale,
)
from shared.ensemble.kernels.layout import BIN_MS, BINS, METRIC_DTYPE, EnsembleParams
from shared.ensemble.kernels.season.season_memory import write
from shared.kernels.units import DAY_MS
from tests.reference import absence, calibration, neighbours, novelty
from tests.support.episodes import SLOW
from tests.support.noise import HOUR_MS

START = 1_700_000_000_000


def one_course():
    return np.zeros(1, COURSE_DTYPE)[0]


# --- ranks ----------------------------------------------------------------------------------------


def sketch_ranks(scores, memory):
    sketch, scratch = np.zeros(1, SKETCH_DTYPE)[0], np.zeros(SKETCH, np.float32)
    out, growth = [], growth_of(memory)
    for score in scores:
        expected = rank(sketch, score)
        out.append(rank_and_add(sketch, score, growth, scratch))
        assert out[-1] == expected
    return np.array(out), sketch


@settings(max_examples=10)
@given(
    scores=st.lists(
        st.one_of(st.floats(0, 1e6), st.integers(0, 5).map(float)), min_size=1, max_size=60
    ),
    memory=st.floats(20, 1000),
)
def test_few_scores_rank_exactly(scores, memory):
    """Scores that halves tell apart."""
    scores = [float(lengthen(shorten(score))) for score in scores]
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
        "concentrated": 5 + 0.2 * random.random(n),
        "integers": random.poisson(3, n).astype(float),
    }[kind]
    scores = [float(lengthen(shorten(score))) for score in scores]
    found, sketch = sketch_ranks(scores, 5000.0)
    assert abs(found - calibration.ranks(scores, 5000.0))[50:].max() <= 0.1
    size = sketch["size"]
    assert (np.diff(sketch["low"][:size]) >= 0).all()
    assert (sketch["high"][:size] >= sketch["low"][:size]).all()


def test_entries_stay_in_order_and_together_weigh_what_was_added():
    """Through merges, splits and fading weights."""
    random = np.random.default_rng(4)
    scores = np.where(random.random(3000) < 0.3, 0.0, random.pareto(1.0, 3000))
    scores[::7] = np.round(scores[::7])
    sketch, scratch = np.zeros(1, SKETCH_DTYPE)[0], np.zeros(SKETCH, np.float32)
    growth, total = growth_of(500.0), 0.0
    for score in scores:
        rank_and_add(sketch, score, growth, scratch)
        total = total / growth + 1.0
        size, upward = sketch["size"], sketch["upward"]
        low, high = sketch["low"][:size], sketch["high"][:size]
        assert (np.diff(low) >= 0).all()
        assert (low <= high).all()
        assert (high[:-1] <= low[1:]).all()
        assert (np.diff(upward[: size + 1]) < 0).all()
        assert not upward[size:].any()
        assert upward[0] / sketch["gain"] == pytest.approx(total, rel=1e-3)


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
    fit_unit(member, max(abs(x) for triple in history for x in triple))
    shape, distances = np.zeros(SHAPE, np.float32), np.zeros(LIBRARY, np.float32)
    found = []
    for mean, high, low in history:
        push_block(member, block, mean, high, low)
        found.append(score_novelty(member, block, stride, shape, distances))
    expected = novelty.scores(history, block, stride, LIBRARY)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-3)


def test_a_full_library_keeps_what_is_rare():
    member = one_course()["short"]
    shape, distances = np.zeros(SHAPE, np.float32), np.zeros(LIBRARY, np.float32)
    values = np.random.default_rng(0).normal(0, 1, 700)
    values[100:104] += 50
    fit_unit(member, 60.0)
    for value in values:
        push_block(member, 1, value, value, value)
        score_novelty(member, 1, 1, shape, distances)
    assert member["size"] == LIBRARY
    assert (member["library"] * member["unit"] > 40).any()


def test_a_library_is_kept_when_the_range_of_the_values_changes():
    """A hundredfold range, as after an impossible reading, and back."""
    random = np.random.default_rng(3)
    history = random.normal(0, 1, (300, 1)) + np.array([0.0, 0.5, -0.5])
    shape, distances = np.zeros(SHAPE, np.float32), np.zeros(LIBRARY, np.float32)
    scores = []
    for widths in ((8.0, 8.0, 8.0), (8.0, 800.0, 8.0)):
        member, found = one_course()["short"], []
        for place, (mean, high, low) in enumerate(history):
            fit_unit(member, widths[place // 100])
            push_block(member, 3, mean, high, low)
            found.append(score_novelty(member, 3, 3, shape, distances))
        scores.append(np.array(found))
    assert 8.0 / 2**FINE <= float(member["unit"]) < 8.0 / 2 ** (FINE - 3)
    np.testing.assert_allclose(scores[1], scores[0], atol=0.3)
    np.testing.assert_array_equal(scores[1][:100], scores[0][:100])
    assert np.abs(scores[1] - scores[0])[150:].mean() < 0.03


@njit
def season_scores(metrics, times, values, width, window, unit, windows, out):
    """A record of overlapping fields enters compiled code only inside its array."""
    m = metrics[0]
    m["course"]["season"]["width"] = width
    for i in range(times.shape[0]):
        place = times[i] % DAY_MS // BIN_MS
        write(m, place - place % width, times[i] // DAY_MS, values[i])
        push_season(m, times[i], values[i], window, unit)
        out[i] = score_neighbours(m["course"]["season"], window, windows)


@settings(max_examples=8)
@given(seed=st.integers(0, 1000), block=st.integers(1, 3), per_day=st.sampled_from([16, 24]))
def test_neighbours_equal_brute_force(seed, block, per_day):
    random = np.random.default_rng(seed)
    steps = random.choice([1, 1, 1, 1, 2, 5], 90)
    times = START + np.cumsum(steps) * (DAY_MS // per_day) + random.integers(0, 1000, 90)
    values, found = random.normal(0, 1, 90), np.zeros(90)
    season_scores(
        np.zeros(1, METRIC_DTYPE),
        times,
        values,
        BINS // per_day,
        Window(block, 2, 14),
        Unit(1.0, 0.0, 0.0, 0.0),
        np.zeros(WINDOWS, np.float32),
        found,
    )
    expected = neighbours.neighbour_scores(times.tolist(), values.tolist(), per_day, block, 2, 14)
    np.testing.assert_allclose(found, expected, atol=2e-3)


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
    assert middle_of(median) == expected[len(values) // 2]
    np.testing.assert_array_equal(median["ring"][median["order"][: len(values)]], expected)


def test_a_full_median_forgets_the_oldest():
    median = one_course()["median"]
    values = np.random.default_rng(0).normal(0, 1, 600)
    for value in values:
        push_median(median, value)
    expected = np.sort(values[-MEDIAN:].astype(np.float32))
    np.testing.assert_array_equal(median["ring"][median["order"]], expected)


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
