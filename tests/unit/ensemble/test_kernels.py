"""Each kernel that has a closed form against its slow twin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from shared.ensemble.fold import Rows, fold, limits_for
from shared.ensemble.kernels.codes import (
    MISSING,
    SORTED_AT_ONCE,
    decode,
    encode,
    lengthen,
    shorten,
    sort_first,
)
from shared.ensemble.kernels.entity.row import Reported
from shared.ensemble.kernels.entity.together import invert, join
from shared.ensemble.kernels.layout import (
    BINS,
    DAYS,
    ENTITY_DTYPE,
    KIND,
    METRIC_DTYPE,
    RING,
    SEASONS,
    WEEK,
    EnsembleParams,
)
from shared.ensemble.kernels.metric.interval import follow_interval
from shared.ensemble.kernels.return_levels import bound, push, return_level
from shared.ensemble.kernels.season.digest import digest
from shared.ensemble.kernels.season.extremes import EXTREMES, extremes, recurring
from shared.ensemble.kernels.season.season_memory import near_of, newest_day, read, width_of, write
from shared.kernels.clock import is_weekend
from tests.reference import episodes as slow
from tests.reference import season as slow_season
from tests.support.episodes import SLOW, needs_speed, new_state, one_slot_each
from tests.support.noise import DAY_MS, FAMILIES, MONDAY_MS, noise

finite = st.floats(-1e9, 1e9)


# --- codes ----------------------------------------------------------------------------------------


@given(finite, finite)
def test_codes_are_the_nearest_half_floats_and_ordered(x, y):
    assert encode(x) == slow.code_of(x)
    assert decode(encode(x)) == slow.value_of(slow.code_of(x))
    assert encode(x) > MISSING
    if x <= y:
        assert encode(x) <= encode(y)


@given(st.floats(1e-4, 65000))
def test_a_code_is_within_its_promise(x):
    assert abs(decode(encode(x)) - x) <= x * 2**-10
    assert encode(-x) == -encode(x)


@given(st.lists(finite, max_size=SORTED_AT_ONCE + 8))
def test_the_first_numbers_are_sorted_and_no_other_is_touched(numbers):
    a = np.array([*numbers, -2e9, 7.0])
    sort_first(a, len(numbers))
    assert a.tolist() == [*sorted(numbers), -2e9, 7.0]


@pytest.mark.parametrize("n", range(13))
def test_a_network_sorts_all_zeros_and_ones_and_so_everything(n):
    """The zero-one principle: Knuth, "The Art of Computer Programming" 3, 5.3.4."""
    for bits in range(2**n):
        a = np.array([bits >> k & 1 for k in range(n)], float)
        sort_first(a, n)
        assert (np.diff(a) >= 0).all()


# --- return levels --------------------------------------------------------------------------------


@settings(max_examples=60)
@given(
    st.lists(st.floats(0.0, 50.0, width=32), min_size=1, max_size=DAYS),
    st.floats(2.0, 100.0),
    st.floats(0.0, 0.5),
    st.floats(0.0, 1.0),
)
def test_a_return_level_equals_the_law_of_the_logarithms(maxima, days, prior, trust):
    ring = np.zeros(DAYS, np.float32)
    ring[: len(maxima)] = maxima
    found = return_level(ring, len(maxima), 0.7, days, prior, trust, np.zeros(DAYS))
    assert found == pytest.approx(slow.return_level(maxima, 0.7, days, prior, trust), rel=1e-9)


@needs_speed
@pytest.mark.parametrize("family", FAMILIES)
def test_a_return_level_is_reached_about_as_rarely_as_it_says(family):
    """Daily maxima of 288 values; asked: once in 20 days, with the slope that 28 days tell."""
    reached = []
    for seed in range(40):
        days = np.abs(noise(family, 288 * 128, seed)).reshape(128, 288).max(axis=1)
        level = return_level(
            days[:DAYS].astype(np.float32), DAYS, 0.1, 20.0, 0.15, 1.0, np.zeros(DAYS)
        )
        reached.append((days[DAYS:] > level).mean())
    assert 1 / 80 < np.mean(reached) < 1 / 8


@given(st.floats(0, 1e6), st.floats(0.1, 10), st.integers(0, 40))
def test_a_day_of_alarms_counts_at_most_as_its_level(size, level, count):
    counted = bound(size, level, count)
    assert counted <= size
    assert counted <= (3.0 if count < 7 else 1.0) * level


def test_a_ring_keeps_the_newest_days():
    ring, count = np.zeros(DAYS, np.float32), 0
    for day in range(100):
        count = push(ring, count, float(day))
    assert count == 100
    assert sorted(ring.tolist()) == list(range(100 - DAYS, 100))


# --- season ---------------------------------------------------------------------------------------


def remembered(seed, days=40, bins=12, step=1, share=0.8):
    """A memory and its dictionary: some days of some bins are missing, none with a share of 1."""
    rng = np.random.default_rng(seed)
    states, memory = np.zeros(1, METRIC_DTYPE), {}
    first = 20_000 + seed % 7
    for day in range(first, first + days):
        for bin_ in range(0, bins * step, step):
            if rng.random() < share:
                x = float(np.float16(rng.normal(3, 2)))
                write_first(states, bin_, day, x)
                memory[day, bin_] = x
    return states, memory, first + days


@njit
def write_first(states, bin_, day, x):
    write(states[0], bin_, day, x)


@njit
def write_and_find(states, bin_, day, later):
    write(states[0], bin_, day, 1.0)
    return newest_day(states[0], bin_, later)


@given(st.integers(0, 200_000), st.integers(-DAYS, 32_000))
def test_the_newest_day_of_a_bin_is_kept_in_two_bytes(day, later):
    states = np.zeros(1, METRIC_DTYPE)
    assert write_and_find(states, 7, day, day + later) == day


@given(st.floats(-1e12, 1e12))
def test_a_half_is_near_its_number_and_keeps_its_own(x):
    near = float(lengthen(shorten(x)))
    assert abs(near - min(max(x, -4e9), 4e9)) <= 2**-10 * abs(x) + 1e-12
    assert float(lengthen(shorten(near))) == near
    assert -(2**15) <= shorten(x) < 2**15


@njit
def read_first(states, bin_, day):
    return read(states[0], bin_, day)


HISTORIES = st.sampled_from(
    [
        {},
        {"share": 1.0},
        {"share": 1.0, "days": 9},
        {"share": 1.0, "days": 23},
        {"share": 1.0, "days": 1},
    ]
)
"""Histories with gaps and without, which are read in different ways."""


@njit
def digest_first(states, bin_, day, at, tmp):
    digest(states[0], bin_, day, at, tmp)


@njit
def extremes_first(states, day, bin_, high, low):
    return extremes(states[0], day, bin_, high, low)


@settings(max_examples=3 if SLOW else 25)
@given(
    st.integers(0, 99),
    st.integers(0, 11),
    st.sampled_from([0, KIND, WEEK]),
    st.integers(-1, 9),
    HISTORIES,
)
def test_a_digest_equals_the_dictionary(seed, bin_, season, ahead, history):
    states, memory, day = remembered(seed, **history)
    day += ahead
    states["season"] = season
    digest_first(states, bin_, day, 2, np.zeros(400))
    usual, middle, wide = slow_season.digest(
        {(d, b): x for (d, b), x in memory.items() if d >= _kept(states, b)}, bin_, day, season
    )
    np.testing.assert_allclose(states["baselines"][0, :, 2], usual, rtol=1e-6)
    if not np.isnan(middle):
        assert states["median_spread"][0, 2] == pytest.approx(middle, rel=1e-6)
        assert states["quantile_spread"][0, 2] == pytest.approx(wide, rel=1e-6)


def _kept(states, bin_):
    """The oldest day whose place the bin's newest day has not taken."""
    return int(states["written"][0, bin_]) - DAYS


@settings(max_examples=3 if SLOW else 25)
@given(st.integers(0, 99), st.integers(0, 11), st.integers(-1, 1), HISTORIES)
def test_extremes_equal_the_dictionary(seed, bin_, ahead, history):
    states, memory, day = remembered(seed, **history)
    day += ahead
    states["width"] = 1
    high, low = np.zeros(EXTREMES), np.zeros(EXTREMES)
    found = extremes_first(states, day, bin_, high, low)
    kept = {(d, b): x for (d, b), x in memory.items() if d >= _kept(states, b)}
    top, bottom = slow_season.extremes(kept, bin_, day, near_of(1))
    np.testing.assert_array_equal(high[:DAYS], top)
    np.testing.assert_array_equal(low[:DAYS], bottom)
    assert found == (~np.isnan(top)).sum()


def test_memory_returns_what_was_written_and_forgets_what_is_old():
    states, memory, day = remembered(5)
    for d in range(day - 60, day + 5):
        for bin_ in range(12):
            code = read_first(states, bin_, d)
            kept = (d, bin_) in memory and d >= _kept(states, bin_)
            assert (code != MISSING) == kept
            if kept:
                assert decode(code) == memory[d, bin_]


@given(st.integers(0, 40_000))
def test_weekends_are_those_of_the_calendar(day):
    assert is_weekend(day) == slow_season.is_weekend(day)


@given(st.floats(1.0, 2 * 86_400_000.0))
def test_a_day_holds_a_whole_number_of_samples(interval_ms):
    width = width_of(interval_ms)
    assert BINS % width == 0
    assert 2 * near_of(width) + 1 <= RING
    assert width == 1 or width * 300_000 * 0.8 <= interval_ms


def test_a_quantile_of_a_season_reads_its_own_days_only():
    values = np.arange(28, dtype=float)
    monday = 20_000 - (20_000 + 3) % 7
    tmp = np.zeros(400)
    assert recurring(values, monday, WEEK, 0.0, tmp) == (6.0, 4)
    assert recurring(values, monday, WEEK, 0.99, tmp) == (27.0, 4)
    assert recurring(values, monday, 0, 0.99, tmp) == (13.0, 14)
    top, days = recurring(values, monday, KIND, 0.99, tmp)
    assert days == 10
    assert top == [k for k in range(28) if not is_weekend(monday - 1 - k)][9]
    assert recurring(np.full(28, np.nan), monday, 0, 0.5, tmp)[1] == 0


# --- interval and counter -------------------------------------------------------------------------


@settings(max_examples=30)
@given(
    st.lists(st.sampled_from([1.0, 3.0, 57.0, 60.0, 300.0, 3600.0]), min_size=1, max_size=3),
    st.integers(0, 99),
)
def test_the_interval_lies_between_the_medians_by_count_and_by_time(pauses, seed):
    """Of pauses in any mixture, in any order."""
    rng = np.random.default_rng(seed)
    drawn = rng.choice(pauses, 4000)
    found, newest = 0.0, []
    for seen, pause in enumerate(drawn):
        found = follow_interval(found, float(pause), seen)
        newest.append(found)
    medians = sorted([np.median(drawn), slow.interval(drawn)])
    assert 0.7 * medians[0] <= np.median(newest[2000:]) <= 1.4 * medians[1]


@needs_speed
def test_a_counter_is_judged_by_its_growth_per_second():
    rng = np.random.default_rng(0)
    n = 1500
    times = MONDAY_MS + 300_000 * np.arange(n)
    totals = np.cumsum(rng.uniform(0, 1e6, n))
    totals[900:] -= totals[900]  # a restart
    state, slots, limits = new_state(1, 1), one_slot_each(1, 1), limits_for(1)
    entity, found, at = np.zeros(1, np.int32), [], None
    for k in range(n):
        before = state.metrics["samples"][0]
        rows = Rows(entity, times[k : k + 1], totals[k : k + 1, None], slots)
        fold(state, rows, limits)
        if state.metrics["counter"][0]:
            at = k if at is None else at
            if state.metrics["samples"][0] != before and k > at:
                found.append(state.metrics["last"][0])
    assert at is not None
    np.testing.assert_allclose(found, slow.rates(times[at:], totals[at:]))


# --- several metrics ------------------------------------------------------------------------------


@settings(max_examples=30)
@given(st.integers(1, 24), st.integers(0, 999))
def test_cholesky_inverts(n, seed):
    b = np.random.default_rng(seed).normal(size=(n, n))
    a = b @ b.T + 0.1 * np.eye(n)
    out, low = np.zeros((24, 24)), np.zeros((24, 24))
    assert invert(a, n, out, low)
    np.testing.assert_allclose(out[:n, :n] @ a, np.eye(n), atol=1e-7)
    np.testing.assert_allclose(np.tril(low[:n, :n]), np.linalg.cholesky(a), atol=1e-9)


def test_what_is_not_positive_is_not_inverted():
    out, low = np.zeros((2, 2)), np.zeros((2, 2))
    assert not invert(np.array([[1.0, 2.0], [2.0, 1.0]]), 2, out, low)
    assert not invert(np.zeros((2, 2)), 2, out, low)


@njit
def join_first(entities, reported, params, top):
    return join(entities[0], reported, reported.judged, False, params, top)


@settings(max_examples=40)
@given(st.integers(1, 40), st.integers(0, 999), st.sampled_from([0.0, 0.7, 1.0]))
def test_the_joint_view_is_the_kth_largest_size_of_the_metrics_that_are_ready(n, seed, share):
    rng = np.random.default_rng(seed)
    entities, metrics = np.zeros(1, ENTITY_DTYPE), np.zeros(n, METRIC_DTYPE)
    jumps, off, means = rng.normal(0, 3, (3, n))
    metrics["near_jump"], metrics["deviation"], metrics["means"][:, 0] = jumps, off, means
    here, ready = rng.random(n) < 0.8, rng.random(n) < share
    metrics["live_ms"], metrics["samples"] = np.where(ready, 3.0 * DAY_MS, 1.0 * DAY_MS), 600
    entities["joint_levels"] = [2.0, 3.0, 4.0]
    places = np.arange(n)
    reported = Reported(metrics, places, places, here, np.zeros(n), n)
    found = join_first(entities, reported, EnsembleParams(), np.zeros(n))
    sizes = [np.where(here & ready, x, np.nan) for x in (jumps, off, means)]
    levels = (2.0, 3.0, 4.0)
    ratios = [slow.joint(x) / level for x, level in zip(sizes, levels, strict=True)]
    assert found == pytest.approx(max(ratios) if n >= 3 else 0.0)


def test_no_season_is_left_out_of_the_ring():
    assert METRIC_DTYPE["baselines"].shape == (SEASONS, RING)
