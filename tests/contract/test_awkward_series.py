"""Awkward series through every detector: finite scores, no storm of alarms, no crash."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.ensemble.fold import EnsembleState, Rows, fold, limits_for, params_for, views_of
from shared.ensemble.kernels.outputs import WORSE

SLOW = os.environ.get("NUMBA_DISABLE_JIT") == "1"
ROWS = 130 if SLOW else 4000
START = 1_700_000_000_000
STEP = 300_000
DETECTORS = ("ensemble", "time_of_day", "jump", "course", "combination", "isolation_forest")
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
        "one impossible reading": np.where(steps == rows // 2, 1e18, random.normal(5, 1, rows)),
        "sentinels": np.where(random.random(rows) < 0.01, 65535.0, random.normal(5, 1, rows)),
    }[name]


NAMES = (
    "constant", "zero", "huge", "denormal", "integer steps", "rising", "falling", "negative",
    "two levels", "rare ones", "counts", "heavy tail", "noise", "walk", "all missing",
    "mostly missing", "every other missing", "two points", "extremes", "constant then jump",
    "one impossible reading", "sentinels",
)  # fmt: skip


def judge(values, time_ms, detector, per_day=0.0, trained=None):
    rows, metrics = values.shape
    state = EnsembleState(1, metrics)
    slots = np.tile(np.arange(metrics, dtype=np.int32), (rows, 1))
    limits = limits_for(metrics, detector, per_day=per_day)
    given = Rows(np.zeros(rows, np.int32), time_ms, values, slots, trained=trained)
    return fold(state, given, limits, params_for(1.0, detector))


def assert_sane(out, values):
    rows, events = out.rows, out.events
    ready = rows["state"] == 1
    assert np.isfinite(rows["score"][ready]).all()
    assert not np.isinf(rows["score"]).any()
    assert (np.isfinite(rows["score"]) == np.isfinite(rows["severity"])).all()
    for severity in (rows["severity"], out.cells["metric_severity"]):
        judged = np.isfinite(severity)
        assert ((severity[judged] >= 0) & (severity[judged] <= 1)).all()
    assert ((rows["warmup"] >= 0) & (rows["warmup"] <= 1)).all()
    alarms = events[events["phase"] <= WORSE]
    assert np.array_equal(np.unique(alarms["row"]), np.flatnonzero(rows["is_anomaly"]))
    assert np.isfinite(alarms["score"]).all()
    assert (alarms["severity"] >= 0.5).all()
    for name in ("value", "expected", "lower", "upper", "peak_value"):
        assert not np.isinf(events[name]).any() or np.abs(values[~np.isnan(values)]).max() > 1e200


def alarms(out):
    return int((out.events["phase"] <= WORSE).sum())


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("name", NAMES)
def test_awkward_series_are_finite_and_quiet(name, detector):
    values = awkward(name, ROWS)[:, None]
    trained = np.random.default_rng(0).exponential(0.4343, ROWS)
    out = judge(values, START + STEP * np.arange(ROWS), detector, trained=trained)
    assert_sane(out, values)
    assert alarms(out) <= max(6, ROWS * STEP / 86_400_000 * MOST_PER_DAY)


@pytest.mark.parametrize("name", NAMES[::5] if SLOW else NAMES)
def test_a_budget_holds_on_awkward_series(name):
    values = awkward(name, ROWS)[:, None]
    out = judge(values, START + STEP * np.arange(ROWS), "ensemble", per_day=0.5)
    assert_sane(out, values)
    assert alarms(out) <= max(6, ROWS * STEP / 86_400_000 * MOST_PER_DAY)


@pytest.mark.parametrize("detector", DETECTORS)
def test_all_awkward_series_as_metrics_of_one_entity(detector):
    rows = 90 if SLOW else 2500
    values = np.stack([awkward(name, rows) for name in NAMES[:18]], 1)
    trained = np.random.default_rng(0).exponential(0.4343, rows)
    out = judge(values, START + STEP * np.arange(rows), detector, trained=trained)
    assert_sane(out, values)
    assert alarms(out) <= max(6, rows * STEP / 86_400_000 * 2 * MOST_PER_DAY)


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
    times = START + np.cumsum(np.array(gaps[:rows], np.int64))
    assert_sane(judge(column, times, detector), column)


def own_case(detector, days=24):
    """Make two metrics that follow one load, with an anomaly of the detector's own kind."""
    rows = days * 288
    random = np.random.default_rng(5)
    load = 10 + 4 * np.sin(2 * np.pi * np.arange(rows) / 288) + random.normal(0, 0.3, rows)
    values = np.stack(
        [load * 2 + random.normal(0, 0.2, rows), load * 7 + random.normal(0, 0.5, rows)], 1
    )
    happens = slice(6000, 6100) if detector == "course" else slice(6000, 6036)
    if detector == "combination":  # each metric for itself stays within what it has shown before
        values[happens, 1] = values[happens, 1] * 0.7 + 12
    elif detector == "course":
        values[happens] = values[happens][::-1] + random.normal(0, 6, (100, 2))
    else:
        values[happens] += 60
    trained = random.exponential(0.4343, rows)
    if detector == "isolation_forest":
        trained[happens] = 5.0
    return START // 86_400_000 * 86_400_000 + STEP * np.arange(rows), values, happens, trained


@pytest.mark.skipif(SLOW, reason="long series, compiled only")
@pytest.mark.parametrize("detector", DETECTORS)
def test_every_detector_finds_what_is_its_own(detector):
    time_ms, values, happens, trained = own_case(detector)
    out = judge(values, time_ms, detector, trained=trained)
    assert_sane(out, values)
    opened = out.events[out.events["phase"] == 0]
    found = opened[(opened["row"] >= happens.start) & (opened["row"] < happens.stop + 12)]
    assert len(found)
    if detector != "ensemble":
        assert all((views_of(detector) >> int(view)) & 1 for view in opened["view"])


@pytest.mark.skipif(SLOW, reason="long series, compiled only")
@pytest.mark.parametrize("seed", range(5))
def test_the_course_of_a_single_metric_needs_less(seed):
    rows = 24 * 288
    random = np.random.default_rng(seed)
    load = 10 + 4 * np.sin(2 * np.pi * np.arange(rows) / 288) + random.normal(0, 0.3, rows)
    values = (load * 2 + random.normal(0, 0.2, rows))[:, None]
    happens = slice(6000, 6100)
    values[happens] = values[happens][::-1] + random.normal(0, 4, (100, 1))
    time_ms = START // 86_400_000 * 86_400_000 + STEP * np.arange(rows)
    out = judge(values, time_ms, "course")
    assert_sane(out, values)
    opened = out.events["row"][out.events["phase"] == 0]
    assert len(opened)
    assert ((opened >= happens.start) & (opened < happens.stop + 12)).all()


def test_what_is_not_a_detector_or_no_threshold_is_named():
    with pytest.raises(
        ValueError, match="'forest', not one of ensemble, time_of_day, jump, course"
    ):
        views_of("forest")
    for threshold in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="threshold is"):
            params_for(threshold)
    assert type(params_for(2).threshold) is float
