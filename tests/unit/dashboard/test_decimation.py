"""M4 against its twin; what a chart must never lose; gaps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.history.decimation import gaps, m4, usual_interval_ms
from tests.reference import decimation


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=300),
    st.integers(1, 20),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 0.3, 1.0]),
)
def test_m4_equals_its_twin(steps, columns, seed, missing):
    generator = np.random.default_rng(seed)
    time_ms = np.cumsum(np.array(steps, np.int64)) * 1000
    values = generator.integers(0, 6, len(steps)).astype(np.float64)
    values[generator.random(len(steps)) < missing] = np.nan
    bounds = (int(time_ms[0]) - 1500, int(time_ms[-1]) + 700)
    chosen = m4(time_ms, values, bounds, columns)
    assert chosen.tolist() == decimation.m4(time_ms, values, bounds, columns)
    assert len(chosen) <= max(4 * columns, len(time_ms) if len(time_ms) <= 4 * columns else 0)


def test_a_spike_of_one_point_stays():
    time_ms = np.arange(1_000_000, dtype=np.int64) * 1000
    values = np.sin(time_ms / 1e7)
    values[423_457], values[900_001] = 50.0, -50.0
    chosen = m4(time_ms, values, (0, int(time_ms[-1])), 500)
    assert {423_457, 900_001, 0, 999_999} <= set(chosen.tolist())
    assert len(chosen) <= 2000
    assert (np.diff(chosen) > 0).all()


def test_few_points_are_all_kept():
    time_ms = np.arange(40, dtype=np.int64)
    assert m4(time_ms, np.zeros(40), (0, 39), 10).tolist() == list(range(40))
    assert m4(time_ms[:0], np.zeros(0), (0, 39), 10).tolist() == []


def test_points_beside_the_range_belong_to_the_outer_columns():
    time_ms = np.arange(100, dtype=np.int64) * 10
    chosen = m4(time_ms, np.zeros(100), (300, 600), 5)
    assert chosen[0] == 0
    assert chosen[-1] == 99


def test_gaps_are_pauses_of_more_than_three_intervals():
    time_ms = np.array([0, 10, 20, 30, 61, 71, 200, 210], np.int64)
    interval_ms = usual_interval_ms(time_ms)
    assert interval_ms == 10
    assert gaps(time_ms, interval_ms) == [(30, 61), (71, 200)]
    assert gaps(time_ms[:2], usual_interval_ms(time_ms[:2])) == []


@pytest.mark.parametrize("count", [201, 1000])
def test_of_many_gaps_the_longest_are_told(count):
    steps = np.full(4 * count, 10, np.int64)
    steps[::4] = 100 + np.arange(count)
    found = gaps(np.cumsum(steps), 10)
    assert len(found) == 200
    assert min(after - before for before, after in found) > 100
    assert found == sorted(found)
