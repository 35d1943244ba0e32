"""Awkward series through the ensemble and through every part alone: finite scores, no storm of
alarms, no crash.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.ensemble.fold import (
    MEMBER_NAMES,
    PART_NAMES,
    EnsembleState,
    fold,
    knobs_for,
    limits_for,
)

SLOW = os.environ.get("NUMBA_DISABLE_JIT") == "1"
ROWS = 130 if SLOW else 4000
WARMUP = 60 if SLOW else 0
START = 1_700_000_000_000
STEP = 300_000
DETECTORS = ("ensemble", *MEMBER_NAMES, "combination")
MOST_PER_DAY = 1.2


def awkward(name, rows):
    random = np.random.default_rng(3)
    steps = np.arange(rows, dtype=float)
    return {
        "constant": np.full(rows, 7.0),
        "zero": np.zeros(rows),
        "huge": random.normal(0, 1, rows) * 1e300,
        "denormal": random.integers(0, 9, rows) * 5e-324,
        "integer steps": np.floor(steps / 50),
        "rising": steps * 1e3,
        "falling": -(steps**2),
        "negative": random.normal(-1e6, 5, rows),
        "two levels": (steps // 20 % 2) * 4.0,
        "rare ones": (random.random(rows) < 0.02).astype(float),
        "counts": random.poisson(0.3, rows).astype(float),
        "heavy tail": random.pareto(1.0, rows),
        "noise": random.normal(0, 1, rows),
        "walk": np.cumsum(random.normal(0, 1, rows)),
        "all missing": np.full(rows, np.nan),
        "mostly missing": np.where(random.random(rows) < 0.9, np.nan, random.normal(0, 1, rows)),
        "every other missing": np.where(steps % 2 == 0, np.nan, random.normal(0, 1, rows)),
        "two points": np.where(steps < 2, 1.0, np.nan),
        "extremes": np.where(steps % 2 == 0, 1.7e308, -1.7e308),
        "constant then jump": np.where(steps < rows // 2, 3.0, 4.0),
    }[name]


NAMES = (
    "constant", "zero", "huge", "denormal", "integer steps", "rising", "falling", "negative", "two levels", "rare ones",
    "counts", "heavy tail", "noise", "walk", "all missing", "mostly missing", "every other missing", "two points", "extremes",
    "constant then jump",
)  # fmt: skip


def judge(values, time_ms, detector, warmup=WARMUP, per_day=0.0, trained=None):
    rows, metrics = values.shape
    state = EnsembleState()
    state.reserve(1, metrics)
    slots = np.arange(metrics, dtype=np.int32)[None]
    limits = limits_for(metrics, warmup, per_day=per_day)
    return fold(
        state, slots, np.zeros(rows), time_ms, values, limits, knobs_for(detector, 1.3), trained
    )


def assert_sane(out, values):
    present = ~np.isnan(values)
    ready = out.warmup == 1.0
    assert np.isfinite(out.score[ready & present.all(1)]).all()
    assert not np.isinf(out.score).any()
    assert (np.isfinite(out.score) == np.isfinite(out.severity)).all()
    for severity in (out.severity, out.metric_severity):
        judged = np.isfinite(severity)
        assert ((severity[judged] >= 0) & (severity[judged] <= 1)).all()
    assert not np.isnan(out.metric_severity[present & ~np.isnan(out.rarity[:, :, 0])]).any()
    assert not np.isinf(out.rarity).any()
    assert (out.rarity[~np.isnan(out.rarity)] >= 0).all()
    shared = out.shares.sum((1, 2)) + out.trained
    assert np.isclose(shared[shared > 0], 1.0).all()
    assert ((out.top_metric >= 0) == (out.shares.sum((1, 2)) > 0))[~out.cold_start].all()
    assert (out.is_anomaly[~out.cold_start] <= (out.severity >= 0.5)[~out.cold_start]).all()


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("name", NAMES)
def test_awkward_series_are_finite_and_quiet(name, detector):
    values = awkward(name, ROWS)[:, None]
    out = judge(values, START + STEP * np.arange(ROWS), detector)
    assert_sane(out, values)
    assert not (
        np.isinf(out.expected) | np.isinf(out.lower) | np.isinf(out.upper)
    ).any() or name in ("huge", "extremes")
    assert out.is_anomaly.sum() <= max(6, ROWS * STEP / 86_400_000 * MOST_PER_DAY)


@pytest.mark.parametrize("name", NAMES[::5] if SLOW else NAMES)
def test_a_budget_holds_on_awkward_series(name):
    values = awkward(name, ROWS)[:, None]
    out = judge(values, START + STEP * np.arange(ROWS), "ensemble", per_day=0.5)
    assert_sane(out, values)
    assert out.is_anomaly.sum() <= max(6, ROWS * STEP / 86_400_000 * MOST_PER_DAY)


@pytest.mark.parametrize("detector", DETECTORS)
def test_all_awkward_series_as_metrics_of_one_entity(detector):
    rows = 90 if SLOW else 2500
    values = np.stack([awkward(name, rows) for name in NAMES[:18]], 1)
    trained = np.random.default_rng(0).exponential(0.4343, rows)
    out = judge(
        values, START + STEP * np.arange(rows), detector, warmup=40 if SLOW else 0, trained=trained
    )
    assert_sane(out, values)
    assert out.is_anomaly.sum() <= max(6, rows * STEP / 86_400_000 * MOST_PER_DAY)
    assert detector == "ensemble" or not out.trained.any()
    assert detector != "ensemble" or SLOW or out.trained.any()


@settings(max_examples=2 if SLOW else 12, deadline=None)
@given(
    values=st.lists(
        st.one_of(st.floats(allow_nan=True, allow_infinity=False), st.integers(-3, 3).map(float)),
        min_size=60,
        max_size=160,
    ),
    gaps=st.lists(
        st.sampled_from([0, 1, 1000, STEP, STEP, STEP, 86_400_000, 40 * 86_400_000]),
        min_size=60,
        max_size=160,
    ),
    detector=st.sampled_from(DETECTORS),
)
def test_any_finite_values_and_any_gaps_give_finite_scores(values, gaps, detector):
    rows = min(len(values), len(gaps))
    column = np.array(values[:rows])[:, None]
    assert_sane(
        judge(column, START + np.cumsum(np.array(gaps[:rows], np.int64)), detector, warmup=30),
        column,
    )


def own_case(detector, days=28):
    """Two metrics that follow one load, and rows in which something happens that the detector is
    there for.
    """
    rows = days * 288
    random = np.random.default_rng(5)
    load = 10 + 4 * np.sin(2 * np.pi * np.arange(rows) / 288) + random.normal(0, 0.3, rows)
    values = np.stack(
        [load * 2 + random.normal(0, 0.2, rows), load * 7 + random.normal(0, 0.5, rows)], 1
    )
    happens = slice(7300, 7325) if detector != "novelty" else slice(7300, 7400)
    if detector == "combination":  # each metric for itself stays within what it has shown before
        values[happens, 1] = values[happens, 1] * 0.7 + 12
    else:
        values[happens] += 60
    return START // 86_400_000 * 86_400_000 + STEP * np.arange(rows), values, happens


@pytest.mark.skipif(SLOW, reason="long series, compiled only")
@pytest.mark.parametrize("detector", DETECTORS)
def test_every_detector_finds_what_is_its_own(detector):
    time_ms, values, happens = own_case(detector)
    out = judge(values, time_ms, detector)
    assert_sane(out, values)
    assert happens.start <= np.nanargmax(out.score) < happens.stop
    assert out.severity[happens].max() >= 0.5  # whether it alarms also depends on the alarms before
    parts = out.shares[happens.start + np.nanargmax(out.score[happens])].sum(0)
    if detector != "ensemble":
        assert parts[PART_NAMES.index(detector)] == pytest.approx(1.0)


def test_what_is_not_a_detector_or_no_threshold_is_named():
    with pytest.raises(
        ValueError,
        match="'forest', not one of ensemble, novelty, burst, neighbours, time_of_day, combination",
    ):
        knobs_for("forest", 1.3)
    for threshold in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="threshold is"):
            knobs_for("ensemble", threshold)
    assert knobs_for("ensemble", 2).threshold == 2.0
    assert type(knobs_for("burst", 2).threshold) is float
