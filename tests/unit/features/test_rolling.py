"""The fold of places, clocks and bands against its slow twin, in any batch cuts."""

import itertools

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.columns import Columns
from shared.features.kernels.rolling import LIMIT
from shared.kernels.units import DAY_MS
from shared.scoring.state import NEVER_MS, PartitionState, fold
from tests.reference import rolling as reference

VALUES = st.one_of(
    st.just(float("nan")),
    st.floats(-1e6, 1e6),
    st.sampled_from([0.0, 1.0, 1e308, -1e308, 5e-324, 50.0]),
)
SECONDS = st.one_of(st.integers(0, 30), st.integers(86_000, 90_000), st.integers(0, 400_000))
ROWS = st.lists(st.tuples(st.integers(0, 2), SECONDS, VALUES, VALUES), max_size=60)


class Arrays:
    """A partition's state; its arrays by their names."""

    def __init__(self, entities: int, metrics: int) -> None:
        self.state = PartitionState(0)
        self.state.metrics = [f"m{k}" for k in range(metrics)]
        for entity in range(entities):
            self.state.entities.add(f"e{entity}")

    def __getattr__(self, name: str) -> np.ndarray:
        return getattr(self.state.places, name)

    def fold(self, entity, time_ms, values, window, forget_ms=NEVER_MS):
        none = np.zeros(0, np.int64), np.zeros(0, np.uint8)
        columns = Columns(np.arange(len(entity)), entity, time_ms, values, *none)
        out = fold(self.state, columns, window, forget_ms)
        self.state.next_offset += len(entity)
        return tuple(getattr(out, name) for name in reference.OUT)


def columns(rows):
    entity = np.array([row[0] for row in rows], np.int32)
    time_ms = np.array([row[1] * 1000 for row in rows], np.int64)
    return entity, time_ms, np.array([row[2:] for row in rows], np.float64).reshape(len(rows), 2)


@settings(max_examples=150, deadline=None)
@given(ROWS, st.integers(2, 6), st.sampled_from([NEVER_MS, 5_000]))
def test_fold_equals_the_twin(rows, window, forget_ms):
    entity, time_ms, values = columns(rows)
    if forget_ms < NEVER_MS:
        entity[:] = 0  # with several, the partition's clock drops the silent ones too
    got = Arrays(3, 2).fold(entity, time_ms, values, window, forget_ms)
    if not rows:
        return
    limited = np.where(np.abs(values) > LIMIT, np.sign(values) * LIMIT, values)
    want = reference.fold_rows(entity, time_ms, limited, window, forget_ms)
    plain = ~(np.abs(values) > LIMIT).any()
    for mine, theirs in zip(got, want, strict=True) if plain else ():
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-6)
    for mine, theirs in zip(got[3:], want[3:], strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert not np.isinf(got[0]).any()


@settings(max_examples=100, deadline=None)
@given(ROWS, st.lists(st.integers(0, 60), max_size=5), st.sampled_from([NEVER_MS, 5_000]))
def test_batch_cuts_change_no_bit(rows, cuts, forget_ms):
    entity, time_ms, values = columns(rows)
    whole, pieces = Arrays(3, 2), Arrays(3, 2)
    want = whole.fold(entity, time_ms, values, 5, forget_ms)
    bounds = sorted({0, len(rows), *(cut for cut in cuts if cut < len(rows))})
    parts = [
        pieces.fold(entity[a:b], time_ms[a:b], values[a:b], 5, forget_ms)
        for a, b in itertools.pairwise(bounds)
    ]
    for k in range(len(want)):
        got = np.concatenate([part[k] for part in parts]) if parts else want[k][:0]
        assert got.tobytes() == want[k].tobytes()
    assert whole.state.to_arrays().keys() == pieces.state.to_arrays().keys()
    for name, array in whole.state.to_arrays().items():
        assert array.tobytes() == pieces.state.to_arrays()[name].tobytes(), name


def test_there_is_no_band_before_the_window_is_full():
    entity, values = np.zeros(4, np.int32), np.array([[1.0], [2.0], [6.0], [0.0]])
    expected, lower, upper, *_ = Arrays(1, 1).fold(entity, np.arange(4), values, 3)
    assert np.isnan(expected[:3]).all()
    assert expected[3] == 3.0
    spread = np.std([1.0, 2.0, 6.0])
    np.testing.assert_allclose([lower[3, 0], upper[3, 0]], [3 - 3 * spread, 3 + 3 * spread])


def test_late_and_duplicate_rows_leave_the_state_alone():
    arrays = Arrays(1, 1)
    arrays.fold(np.zeros(2, np.int32), np.array([10, 20]), np.array([[1.0], [2.0]]), 3)
    before = (
        arrays.ring.tobytes(),
        arrays.pushed.tobytes(),
        arrays.newest_ms.tobytes(),
        arrays.events.tobytes(),
    )
    out = arrays.fold(np.zeros(2, np.int32), np.array([20, 5]), np.array([[2.0], [9.0]]), 3)
    assert out[5].tolist() == [True, False]
    assert out[3].tolist() == [0, 15]
    assert (
        arrays.ring.tobytes(),
        arrays.pushed.tobytes(),
        arrays.newest_ms.tobytes(),
        arrays.events.tobytes(),
    ) == before


def test_equal_times_with_other_values_are_data():
    arrays = Arrays(1, 1)
    out = arrays.fold(np.zeros(2, np.int32), np.array([20, 20]), np.array([[2.0], [3.0]]), 3)
    assert not out[5].any()
    assert arrays.events[0] == 2


MINUTE_MS = 60_000


def test_a_row_far_ahead_is_marked_until_three_agree():
    arrays, start = Arrays(1, 1), 10 * DAY_MS
    times = np.array([start + k * MINUTE_MS for k in range(20)])
    arrays.fold(np.zeros(20, np.int32), times, np.arange(20.0)[:, None], 3)
    far = start + 400 * DAY_MS
    rows = np.array([far, start + 20 * MINUTE_MS, far, far + MINUTE_MS, far + 2 * MINUTE_MS])
    out = arrays.fold(np.zeros(5, np.int32), rows, np.full((5, 1), 7.0), 3)
    assert out[4].tolist() == [True, False, True, True, False]
    assert out[3].tolist() == [0, 0, 0, 0, 0]
    assert arrays.newest_ms[0] == far + 2 * MINUTE_MS
    assert arrays.events[0] == 22


def test_the_usual_interval_follows_a_change_within_hours_and_no_single_pause():
    arrays = Arrays(1, 1)
    fold = lambda times: arrays.fold(  # noqa: E731
        np.zeros(len(times), np.int32), times, np.zeros((len(times), 1)), 3
    )
    fold(5 * MINUTE_MS * np.arange(300))
    assert arrays.interval_ms[0] == 5 * MINUTE_MS
    at = int(arrays.newest_ms[0])
    fold(np.array([at + 20 * 3_600_000]))
    assert arrays.interval_ms[0] < 6 * MINUTE_MS
    at = int(arrays.newest_ms[0])
    fold(at + 10_000 * np.arange(1, 4 * 360))
    assert abs(arrays.interval_ms[0] / 10_000 - 1) < 0.2


def test_an_entity_that_returns_after_long_starts_anew():
    arrays = Arrays(1, 1)
    arrays.fold(
        np.zeros(3, np.int32), np.array([10, 20, 30]), np.array([[1.0], [2.0], [3.0]]), 2, 50
    )
    out = arrays.fold(np.zeros(2, np.int32), np.array([81, 90]), np.array([[7.0], [9.0]]), 2, 50)
    assert out[8].tolist() == [True, False]
    assert np.isnan(out[0]).all()
    assert out[7].all()


def test_the_level_is_that_of_pandas():
    rng = np.random.default_rng(3)
    entity, values = rng.integers(0, 3, 400).astype(np.int32), rng.normal(50, 10, (400, 1))
    values[rng.random(400) < 0.1] = np.nan
    expected, *_ = Arrays(3, 1).fold(entity, np.arange(400), values, 12)
    frame = pd.DataFrame({"entity": entity, "value": values[:, 0]}).dropna()
    grouped = frame.groupby("entity").value
    present = frame.index
    before = (
        grouped.apply(lambda series: series.rolling(12).mean().shift(1)).droplevel(0).sort_index()
    )
    np.testing.assert_allclose(expected[present, 0], before, rtol=1e-9)
