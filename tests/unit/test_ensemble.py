"""The laws of the ensemble: one fold, whatever the cuts, neighbours and restarts; finite and quiet on awkward series."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.ensemble import EnsembleState, fold, limits_for
from shared.kernels.layout import ENTITY_DTYPE, METRIC_DTYPE, Knobs

SLOW = os.environ.get("NUMBA_DISABLE_JIT") == "1"
EXAMPLES = 2 if SLOW else 8
ROWS = 130 if SLOW else 700
WARMUP = 40 if SLOW else 100
START = 1_700_000_000_000
STEP = 300_000


def one_slot_each(entities, metrics):
    return np.arange(entities * metrics, dtype=np.int32).reshape(entities, metrics)


def new_state(entities, metrics):
    state = EnsembleState()
    state.reserve(entities, entities * metrics)
    return state


def log_of(seed, rows=ROWS, entities=3, metrics=2):
    """A log of several entities with season, spikes, missing values, late and repeated rows."""
    random = np.random.default_rng(seed)
    entity = random.integers(0, entities, rows).astype(np.int32)
    time_ms = START + np.arange(rows) * (STEP // entities) + random.integers(0, 1000, rows)
    phase = 2 * np.pi * (time_ms % 86_400_000) / 86_400_000
    values = np.sin(phase)[:, None] * random.uniform(0, 5, metrics) + random.normal(0, 0.3, (rows, metrics))
    values[random.random(rows) < 0.01] *= 30
    values[random.random((rows, metrics)) < 0.02] = np.nan
    counts = random.random(rows) > 0.03
    return entity, time_ms.astype(np.int64), values, counts


def run(log, cuts=(), entities=3, restart=False, limits=None):
    entity, time_ms, values, counts = log
    metrics = values.shape[1]
    state, slots = new_state(entities, metrics), one_slot_each(entities, metrics)
    limits = limits or limits_for(metrics, WARMUP, per_day=1.0)
    parts = []
    edges = [0, *sorted(cuts), len(entity)]
    for a, b in pairwise(edges):
        parts.append(fold(state, slots, entity[a:b], time_ms[a:b], values[a:b], limits, counts=counts[a:b]))
        if restart:
            state = EnsembleState.from_arrays(state.to_arrays(entities, entities * metrics))
    joined = [np.concatenate([p[k] for p in parts]) for k in range(len(parts[0]))]
    return joined, state


def assert_same(a, b):
    for x, y in zip(a, b, strict=True):
        assert x.tobytes() == y.tobytes()


@pytest.mark.parametrize("seed", [0, 1])
def test_whole_log_equals_row_by_row(seed):
    log = log_of(seed)
    whole, state = run(log)
    single, other = run(log, cuts=range(1, len(log[0])))
    assert_same(whole, single)
    assert state.metrics.tobytes() == other.metrics.tobytes()
    assert state.entities.tobytes() == other.entities.tobytes()
    assert np.isfinite(whole[1]).any()


@settings(max_examples=EXAMPLES, deadline=None)
@given(seed=st.integers(0, 10_000), cuts=st.lists(st.integers(1, ROWS - 1), max_size=6), restart=st.booleans())
def test_cuts_and_restarts_change_nothing(seed, cuts, restart):
    log = log_of(seed)
    whole, state = run(log)
    cut, other = run(log, cuts=cuts, restart=restart)
    assert_same(whole, cut)
    assert state.metrics.tobytes() == other.metrics.tobytes()


@settings(max_examples=EXAMPLES, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_an_entity_does_not_depend_on_others(seed):
    entity, time_ms, values, counts = log_of(seed)
    whole, _ = run((entity, time_ms, values, counts))
    mine = entity == 1
    alone, _ = run((np.zeros(mine.sum(), np.int32), time_ms[mine], values[mine], counts[mine]), entities=1)
    assert_same([x[mine] for x in whole], alone)


@settings(max_examples=EXAMPLES, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_rows_that_do_not_count_leave_no_trace(seed):
    entity, time_ms, values, counts = log_of(seed)
    with_them, state = run((entity, time_ms, values, counts))
    without, other = run((entity[counts], time_ms[counts], values[counts], counts[counts]))
    assert state.metrics.tobytes() == other.metrics.tobytes()
    assert_same([x[counts] for x in with_them], without)


@settings(max_examples=EXAMPLES, deadline=None)
@given(seed=st.integers(0, 10_000), at=st.integers(WARMUP, ROWS - 2))
def test_the_future_is_not_known(seed, at):
    log = log_of(seed)
    whole, _ = run(log)
    changed = log[2].copy()
    changed[at:] = changed[at:] * 3 + 7
    other, _ = run((log[0], log[1], changed, log[3]))
    assert_same([x[:at] for x in whole], [x[:at] for x in other])


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
        "all missing": np.full(rows, np.nan),
        "mostly missing": np.where(random.random(rows) < 0.9, np.nan, random.normal(0, 1, rows)),
        "two points": np.where(steps < 2, 1.0, np.nan),
        "extremes": np.where(steps % 2 == 0, 1.7e308, -1.7e308),
        "constant then jump": np.where(steps < rows // 2, 3.0, 4.0),
    }[name]


NAMES = [
    "constant", "zero", "huge", "denormal", "integer steps", "rising", "falling", "negative", "two levels", "rare ones",
    "counts", "heavy tail", "noise", "all missing", "mostly missing", "two points", "extremes", "constant then jump",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("per_day", [0.0, 0.5])
def test_awkward_series_are_finite_and_quiet(name, per_day):
    rows = 260 if SLOW else 4000
    values = awkward(name, rows)[:, None]
    time_ms = START + STEP * np.arange(rows, dtype=np.int64)
    limits = limits_for(1, 100 if SLOW else 0, per_day=per_day)
    out = fold(new_state(1, 1), one_slot_each(1, 1), np.zeros(rows, np.int32), time_ms, values, limits)
    judged = np.isfinite(out.score)
    assert not np.isinf(out.score).any()
    assert ((out.severity[judged] >= 0) & (out.severity[judged] <= 1)).all()
    assert not np.isinf(out.rarity).any()
    assert not (np.isinf(out.expected) | np.isinf(out.lower) | np.isinf(out.upper)).any() or name in ("huge", "extremes")
    assert out.alarm.sum() <= max(6, rows * STEP / 86_400_000 * 1.2)


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    values=st.lists(
        st.one_of(st.floats(allow_nan=True, allow_infinity=False), st.integers(-3, 3).map(float)), min_size=60, max_size=160
    ),
    gaps=st.lists(st.sampled_from([0, 1, 1000, STEP, STEP, STEP, 86_400_000, 40 * 86_400_000]), min_size=60, max_size=160),
)
def test_any_finite_values_and_any_gaps_give_finite_scores(values, gaps):
    rows = min(len(values), len(gaps))
    time_ms = START + np.cumsum(np.array(gaps[:rows], np.int64))
    out = fold(
        new_state(1, 1),
        one_slot_each(1, 1),
        np.zeros(rows, np.int32),
        time_ms,
        np.array(values[:rows])[:, None],
        limits_for(1, 30),
    )
    assert not np.isinf(out.score).any()
    judged = np.isfinite(out.severity)
    assert ((out.severity[judged] >= 0) & (out.severity[judged] <= 1)).all()
    assert (np.isfinite(out.score) == np.isfinite(out.severity)).all()


def day_series(days, seed=0, noise=0.1):
    rows = days * 288
    time_ms = START // 86_400_000 * 86_400_000 + STEP * np.arange(rows, dtype=np.int64)
    phase = 2 * np.pi * (np.arange(rows) % 288) / 288
    return time_ms, 10 + 4 * np.sin(phase) + np.random.default_rng(seed).normal(0, noise, rows)


def judge_one(time_ms, values, **asked):
    values = values[:, None] if values.ndim == 1 else values
    limits = limits_for(values.shape[1], **asked)
    state = new_state(1, values.shape[1])
    return fold(state, one_slot_each(1, values.shape[1]), np.zeros(len(values), np.int32), time_ms, values, limits), state


needs_speed = pytest.mark.skipif(SLOW, reason="long series, compiled only")


@needs_speed
def test_a_spike_is_found_and_explained():
    time_ms, values = day_series(10)
    values[2500:2506] += 30
    out, _ = judge_one(time_ms, values)
    found = np.flatnonzero(out.alarm)
    assert found.size == 1
    assert 2500 <= found[0] <= 2505
    row = found[0]
    assert out.severity[row] >= 0.5
    assert math.isclose(out.shares[row].sum() + out.trained[row], 1.0, rel_tol=1e-9)
    assert out.upper[2500, 0] < values[2500]
    assert abs(out.expected[2500, 0] - (values[2500] - 30)) < 1.5


@needs_speed
def test_the_band_holds_most_values():
    time_ms, values = day_series(10)
    out, _ = judge_one(time_ms, values)
    known = np.isfinite(out.expected[:, 0])
    inside = (values >= out.lower[:, 0]) & (values <= out.upper[:, 0])
    assert inside[known].mean() > 0.99
    assert (out.upper - out.lower)[known, 0].mean() < 4.0


@needs_speed
def test_direction_and_least_deviation_hold_alarms_back():
    time_ms, values = day_series(10)
    values[2500:2506] -= 30
    assert judge_one(time_ms, values)[0].alarm.any()
    assert not judge_one(time_ms, values, direction=1)[0].alarm[2400:2600].any()
    assert judge_one(time_ms, values, direction=-1)[0].alarm[2400:2600].any()
    assert not judge_one(time_ms, values, min_absolute=50.0)[0].alarm.any()
    assert not judge_one(time_ms, values, min_relative=9.0)[0].alarm.any()


@needs_speed
def test_the_nightly_job_that_does_not_run_is_missed():
    time_ms, values = day_series(16, noise=0.02)
    values[:] = np.random.default_rng(1).normal(0, 0.02, len(values))
    for day in range(16):
        if day != 13:
            values[day * 288 + 36 : day * 288 + 48] = 20.0
    out, _ = judge_one(time_ms, values)
    found = np.flatnonzero(out.alarm)
    due = 13 * 288 + 36
    assert out.cold[found[0]]  # the first run of all, before the warm-up has ended
    assert found.size == 2
    assert due <= found[1] <= due + 60


@needs_speed
def test_what_only_the_combination_shows_is_found():
    time_ms, load = day_series(12, noise=0.3)
    random = np.random.default_rng(5)
    values = np.stack([load * 2 + random.normal(0, 0.2, len(load)), load * 7 + random.normal(0, 0.5, len(load))], 1)
    values[2900:2920, 1] = values[2900:2920, 1] * 0.7 + 12
    out, _ = judge_one(time_ms, values)
    assert out.alarm[2900:2925].any()
    row = np.flatnonzero(out.alarm)[np.flatnonzero(out.alarm) >= 2900][0]
    assert out.shares[row, :, 5].sum() > 0.1


@needs_speed
def test_weekends_are_learned_after_three_weeks():
    rows = 8 * 7 * 48
    time_ms = 1_704_067_200_000 + 1_800_000 * np.arange(rows, dtype=np.int64)
    day = np.arange(rows) // 48 % 7
    phase = 2 * np.pi * (np.arange(rows) % 48) / 48
    values = np.where(day < 5, 10 + 5 * np.sin(phase), 6.0) + np.random.default_rng(0).normal(0, 0.2, rows)
    out, _ = judge_one(time_ms, values)
    late = np.arange(rows) > 4 * 7 * 48
    assert out.alarm[late].sum() <= 1
    weekend = late & (day >= 5)
    assert out.rarity[weekend, 0, 2].mean() < 0.8


@needs_speed
def test_cold_start_says_only_extremes():
    time_ms, values = day_series(2)
    values[200] += 100
    out, _ = judge_one(time_ms, values)
    assert np.flatnonzero(out.alarm).tolist() == [200]
    assert out.cold[200]
    assert np.isnan(out.score[200])
    assert not judge_one(time_ms, values, cold_start=False)[0].alarm.any()
    assert 0 < out.warmup[300] < 1


@needs_speed
@pytest.mark.parametrize("step_ms", [1_000, 60_000, 300_000, 3_600_000])
def test_the_interval_sets_warm_up_and_fold(step_ms):
    rows = 3000 if step_ms > 1000 else 2000
    values = np.random.default_rng(0).normal(0, 1, rows)
    _, state = judge_one(START + step_ms * np.arange(rows, dtype=np.int64), values)
    metric = state.metrics[0]
    assert metric["interval_ms"] == step_ms
    per_three_days = 3 * 86_400_000 / step_ms
    assert metric["fold"] == max(1, math.ceil(per_three_days / 1024))
    assert metric["warmup"] == int(min(max(per_three_days / metric["fold"], 150), 1024))


def test_state_is_small():
    assert METRIC_DTYPE.itemsize <= 64 * 1024
    assert ENTITY_DTYPE.itemsize <= 8 * 1024


def test_a_budget_of_none_leaves_the_threshold_alone():
    out, _ = run(log_of(1), limits=limits_for(2, WARMUP))
    assert (out[4] == Knobs().threshold).all()


def test_impossible_limits_are_refused():
    for asked in (
        {"warmup": 1},
        {"warmup": 2000},
        {"per_day": -1.0},
        {"direction": 2},
        {"min_absolute": -1.0},
        {"min_relative": np.nan},
    ):
        with pytest.raises(ValueError, match=next(iter(asked)).split("_")[0]):
            limits_for(1, **asked)
    with pytest.raises(ValueError, match="ensemble_entities"):
        EnsembleState.from_arrays(
            {"ensemble_entities": np.zeros((1, 3), np.uint8), "ensemble_metrics": np.zeros((0, 3), np.uint8)}
        )


def digest_of_a_run():
    out, state = run(log_of(3, rows=450), limits=limits_for(2, 60, per_day=1.0))
    parts = [x.tobytes() for x in out] + [state.metrics.tobytes(), state.entities.tobytes()]
    return hashlib.sha256(b"".join(parts)).hexdigest()


@needs_speed
def test_compiled_and_interpreted_give_the_same_bytes():
    found = subprocess.run(
        [sys.executable, "-c", f"import runpy; print(runpy.run_path({__file__!r})['digest_of_a_run']())"],
        env=os.environ | {"NUMBA_DISABLE_JIT": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == digest_of_a_run()
