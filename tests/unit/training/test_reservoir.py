"""A sample of each series: even over time, by seed, in bounded memory, whatever the batches."""

from __future__ import annotations

import numpy as np
import pytest

from consumer_training.reading.reservoir import (
    ALARMED,
    LEAST_ROWS,
    MOST_ROWS,
    USABLE,
    Chosen,
    Reservoir,
    salt_of,
)
from shared.features.vectors import FEATURES
from shared.kernels.units import MINUTE_MS

START_MS = 1_704_067_200_000


def chosen(series: np.ndarray, time_ms: np.ndarray, use: np.ndarray | None = None) -> Chosen:
    n = len(series)
    values = time_ms[:, None].astype(float)
    return Chosen(
        series.astype(np.int64), time_ms, values, np.tile(values, (1, FEATURES)) % 1000,
        np.zeros((n, 1, 3)), np.zeros(n, np.uint8) if use is None else use
    )  # fmt: skip


def filled(
    rows: int, series: int = 3, seed: int = 0, cut: int = 10_000, budget: int = 1 << 18
) -> Reservoir:
    """Rows every five minutes; the series come one after the other to be known."""
    reservoir = Reservoir(seed, budget)
    owner = np.tile(np.arange(series), rows)
    time_ms = START_MS + np.repeat(np.arange(rows), series) * 5 * MINUTE_MS
    use = np.where(np.arange(len(owner)) % 11 == 0, ALARMED, USABLE).astype(np.uint8)
    for low in range(0, len(owner), cut):
        part = slice(low, low + cut)
        order = np.argsort(owner[part], kind="stable")
        known = int(owner[: low + cut].max()) + 1
        salts = np.array([salt_of(f"h{k}", 0) for k in range(known)], np.uint64)
        reservoir.reserve(salts, 1)
        reservoir.add(chosen(owner[part][order], time_ms[part][order], use[part][order]))
    return reservoir


def test_few_rows_are_all_kept() -> None:
    kept = filled(200, budget=1 << 26).kept(1)
    assert kept["time_ms"].tolist() == [START_MS + k * 5 * MINUTE_MS for k in range(200)]
    assert (kept["values"][:, 0] == kept["time_ms"]).all()


@pytest.mark.parametrize("cut", [7, 1_000, 40_000])
def test_batches_change_nothing(cut: int) -> None:
    want, got = filled(9_000), filled(9_000, cut=cut)
    assert want.rows == got.rows < MOST_ROWS
    for series in range(3):
        for name, array in want.kept(series).items():
            assert got.kept(series)[name].tobytes() == array.tobytes(), name


def test_what_is_kept_is_even_over_time_and_bounded() -> None:
    reservoir = filled(40_000)
    for series in range(3):
        times = reservoir.kept(series)["time_ms"]
        assert reservoir.rows // 2 - 1 <= len(times) <= reservoir.rows
        quarter = np.histogram(times, 4)[0]
        assert quarter.min() > 0.9 * quarter.max()
    assert reservoir.nbytes <= 4 * (1 << 18)  # room for twice as many series, at half the budget


def test_more_series_have_fewer_rows_each() -> None:
    few, many = filled(3_000, 2, budget=1 << 20), filled(3_000, 40, budget=1 << 20)
    assert LEAST_ROWS <= many.rows < few.rows
    assert many.nbytes <= 2 * (1 << 20)


def test_many_series_with_many_metrics_take_no_memory() -> None:
    """Thousands of series that share no metric: a row of each would have the metrics of all."""
    reservoir = Reservoir(0)
    reservoir.reserve(np.arange(3_000, dtype=np.uint64), 3)
    assert not reservoir.is_overfull
    before = reservoir.nbytes
    reservoir.reserve(np.arange(3_000, dtype=np.uint64), 9_000)
    assert reservoir.is_overfull
    assert reservoir.nbytes == before
    one = Reservoir(0)
    one.reserve(np.arange(1, dtype=np.uint64), 10_000)
    assert not one.is_overfull
    assert one.nbytes <= 2 * one.budget_bytes


def test_usable_rows_are_preferred() -> None:
    use = filled(40_000).kept(0)["use"]
    assert (use == USABLE).all()


def test_rows_of_one_stratum_are_chosen_by_seed() -> None:
    first, again, other = (filled(40_000, seed=seed).kept(0)["time_ms"] for seed in (0, 0, 1))
    assert first.tolist() == again.tolist()
    assert first.tolist() != other.tolist()
