"""The laws of the ensemble: one fold, whatever the cuts, neighbours and restarts; finite and quiet
on awkward series.
"""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.ensemble.fold import EnsembleState, fold, limits_for
from shared.ensemble.kernels.ensemble_rows import fold_ensemble
from shared.ensemble.kernels.layout import ENTITY_DTYPE, METRIC_DTYPE, Knobs
from tests.support.ensembles import (
    EXAMPLES,
    ROWS,
    SLOW,
    START,
    STEP,
    WARMUP,
    assert_same,
    day_series,
    judge_one,
    log_of,
    needs_speed,
    new_state,
    one_slot_each,
    run,
)


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
@given(
    seed=st.integers(0, 10_000),
    cuts=st.lists(st.integers(1, ROWS - 1), max_size=6),
    restart=st.booleans(),
)
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
    alone, _ = run(
        (np.zeros(mine.sum(), np.int32), time_ms[mine], values[mine], counts[mine]), entities=1
    )
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


@settings(max_examples=EXAMPLES, deadline=None)
@given(seed=st.integers(0, 10_000), shuffle=st.permutations(range(4)))
def test_the_places_of_columns_do_not_matter(seed, shuffle):
    entity, time_ms, values, counts = log_of(seed, entities=1, metrics=4)
    # all are ready in the same row, so that only the order decides
    values = np.where(np.isnan(values), 0.0, values)
    values[:, 3] = values[:, 1]
    limits = limits_for(4, WARMUP, direction=[0, 1, -1, 0], min_absolute=[0, 0.5, 0, 0])
    slots = one_slot_each(1, 4)
    state, other_state = new_state(1, 4), new_state(1, 4)
    expected = fold(state, slots, entity, time_ms, values, limits, counts=counts)
    place = np.argsort(shuffle).astype(np.int32)  # where the column that was i is now
    moved = limits._replace(
        **{
            name: getattr(limits, name)[shuffle]
            for name in ("direction", "min_absolute", "min_relative")
        }
    )
    found = fold(
        other_state,
        slots[:, shuffle].copy(),
        entity,
        time_ms,
        values[:, shuffle],
        moved,
        counts=counts,
        order=place,
    )
    assert (
        state.entities["columns"][0, :4].tolist()
        == np.array(shuffle)[other_state.entities["columns"][0, :4]].tolist()
    )
    for name in ("gram", "precision", "variance", "sketch"):
        assert state.entities[name].tobytes() == other_state.entities[name].tobytes()
    for name in expected._fields:
        one, other = getattr(expected, name), getattr(found, name)
        if name == "top_metric":
            other = np.where(other < 0, -1, np.array(shuffle)[other])
        assert (one if one.ndim == 1 else one[:, shuffle]).tobytes() == other.astype(
            one.dtype
        ).tobytes(), name


def test_ties_go_to_the_first_in_order():
    time_ms = START + STEP * np.arange(ROWS)
    values = np.repeat(np.random.default_rng(0).normal(0, 1, (ROWS, 1)), 2, 1)
    tops = []
    for order in ([0, 1], [1, 0]):
        state, asked = new_state(1, 2), limits_for(2, WARMUP)
        out = fold(
            state,
            one_slot_each(1, 2),
            np.zeros(ROWS),
            time_ms,
            values,
            asked,
            order=np.array(order),
        )
        tops.append(set(out.top_metric[out.top_metric >= 0].tolist()))
    assert tops == [{0}, {1}]
    for order in ([0, 0], [0], [1, 2]):
        with pytest.raises(ValueError, match="order is"):
            fold(
                state,
                one_slot_each(1, 2),
                np.zeros(ROWS),
                time_ms,
                values,
                asked,
                order=np.array(order),
            )


@settings(max_examples=EXAMPLES, deadline=None)
@given(seed=st.integers(0, 10_000), at=st.integers(5, ROWS - 2))
def test_a_forgotten_entity_starts_anew(seed, at):
    entity, time_ms, values, counts = log_of(seed)
    at += (
        int(np.flatnonzero((entity[at:] == 1) & counts[at:])[0])
        if ((entity[at:] == 1) & counts[at:]).any()
        else 0
    )
    who, forgotten = entity[at], np.arange(ROWS) == at
    counts[at] = True
    limits = limits_for(2, WARMUP)
    state = new_state(3, 2)
    whole = fold(
        state,
        one_slot_each(3, 2),
        entity,
        time_ms,
        values,
        limits,
        counts=counts,
        forgotten=forgotten,
    )
    mine = (entity == who) & (np.arange(ROWS) >= at)
    fresh = new_state(3, 2)
    anew = fold(
        fresh,
        one_slot_each(3, 2),
        entity[mine],
        time_ms[mine],
        values[mine],
        limits,
        counts=counts[mine],
    )
    assert_same([x[mine] for x in whole], anew)
    assert state.entities[who].tobytes() == fresh.entities[who].tobytes()
    assert (
        state.metrics[2 * who : 2 * who + 2].tobytes()
        == fresh.metrics[2 * who : 2 * who + 2].tobytes()
    )
    others = entity != who
    plain, _ = run((entity, time_ms, values, counts), limits=limits)
    assert_same([x[others] for x in whole], [x[others] for x in plain])
    counts[at] = False  # a late row forgets nothing
    _, kept = run((entity, time_ms, values, counts), limits=limits)
    state = new_state(3, 2)
    fold(
        state,
        one_slot_each(3, 2),
        entity,
        time_ms,
        values,
        limits,
        counts=counts,
        forgotten=forgotten,
    )
    assert state.metrics.tobytes() == kept.metrics.tobytes()


def test_arrays_of_other_kinds_give_the_same_bits_and_compile_nothing():
    entity, time_ms, values, counts = log_of(5, rows=120)
    expected, _ = run((entity, time_ms, values, counts))
    values.setflags(write=False)
    found, _ = run(
        (entity.astype(np.int64), time_ms, np.asfortranarray(values)[:, :], counts.astype(np.uint8))
    )
    assert_same(expected, found)
    assert SLOW or len(fold_ensemble.signatures) == 1


def test_a_warm_up_that_gets_shorter_on_the_way_ends():
    time_ms = START + STEP * np.arange(200)
    values = np.random.default_rng(0).normal(0, 1, (200, 1))
    state, slots = new_state(1, 1), one_slot_each(1, 1)
    fold(state, slots, np.zeros(100), time_ms[:100], values[:100], limits_for(1))
    out = fold(state, slots, np.zeros(100), time_ms[100:], values[100:], limits_for(1, 20))
    assert out.warmup[0] == 1.0
    assert np.isfinite(out.score).all()


@needs_speed
def test_a_spike_is_found_and_explained():
    time_ms, values = day_series(10)
    values[2500:2506] += 30
    out, _ = judge_one(time_ms, values)
    found = np.flatnonzero(out.is_anomaly)
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
    assert judge_one(time_ms, values)[0].is_anomaly.any()
    assert not judge_one(time_ms, values, direction=1)[0].is_anomaly[2400:2600].any()
    assert judge_one(time_ms, values, direction=-1)[0].is_anomaly[2400:2600].any()
    assert not judge_one(time_ms, values, min_absolute=50.0)[0].is_anomaly.any()
    assert not judge_one(time_ms, values, min_relative=9.0)[0].is_anomaly.any()


@needs_speed
def test_the_nightly_job_that_does_not_run_is_missed():
    time_ms, values = day_series(16, noise=0.02)
    values[:] = np.random.default_rng(1).normal(0, 0.02, len(values))
    for day in range(16):
        if day != 13:
            values[day * 288 + 36 : day * 288 + 48] = 20.0
    out, _ = judge_one(time_ms, values)
    found = np.flatnonzero(out.is_anomaly)
    due = 13 * 288 + 36
    assert out.cold_start[found[0]]  # the first run of all, before the warm-up has ended
    assert found.size == 2
    assert due <= found[1] <= due + 60


@needs_speed
def test_what_only_the_combination_shows_is_found():
    time_ms, load = day_series(12, noise=0.3)
    random = np.random.default_rng(5)
    values = np.stack(
        [load * 2 + random.normal(0, 0.2, len(load)), load * 7 + random.normal(0, 0.5, len(load))],
        1,
    )
    values[2900:2920, 1] = values[2900:2920, 1] * 0.7 + 12
    out, _ = judge_one(time_ms, values)
    assert out.is_anomaly[2900:2925].any()
    row = np.flatnonzero(out.is_anomaly)[np.flatnonzero(out.is_anomaly) >= 2900][0]
    assert out.shares[row, :, 5].sum() > 0.1


@needs_speed
def test_cold_start_says_only_extremes():
    time_ms, values = day_series(2)
    values[400] += 100
    out, _ = judge_one(time_ms, values)
    assert np.flatnonzero(out.is_anomaly).tolist() == [400]
    assert out.cold_start[400]
    assert np.isnan(out.score[400])
    assert not judge_one(time_ms, values, cold_start=False)[0].is_anomaly.any()
    assert 0 < out.warmup[300] < 1


def test_on_the_first_day_only_the_absurd_is_said():
    """A job that runs once a day has not been seen yet."""
    time_ms, values = day_series(2)
    wide = np.ptp(values[:200])
    for beyond, said in ((8 * wide, False), (40 * wide, True)):
        changed = values.copy()
        changed[200] += beyond
        assert judge_one(time_ms, changed)[0].is_anomaly[200] == said


@needs_speed
def test_a_threshold_means_as_much_for_many_metrics_as_for_one():
    random = np.random.default_rng(5)
    rows, metrics = 20 * 288, 9
    time_ms = START + STEP * np.arange(rows)
    values = np.sin(2 * np.pi * (time_ms % 86_400_000) / 86_400_000)[:, None] + random.normal(
        0, 0.3, (rows, metrics)
    )

    def alarms(columns):
        state, entity = new_state(1, columns), np.zeros(rows, np.int32)
        knobs = Knobs(weight_cross=0.0)
        return fold(
            state,
            one_slot_each(1, columns),
            entity,
            time_ms,
            values[:, :columns],
            limits_for(columns),
            knobs,
        )

    one, nine = alarms(1), alarms(9)
    assert nine.is_anomaly.sum() <= 3 * max(one.is_anomaly.sum(), 1)
    assert np.nanmean(nine.score > 1.0) < 3 * max(np.nanmean(one.score > 1.0), 1e-3)


@needs_speed
def test_a_job_that_the_other_metrics_do_not_account_for_is_nothing_new_after_some_nights():
    random, days = np.random.default_rng(6), 25
    rows = days * 288
    time_ms = START - START % 86_400_000 + STEP * np.arange(rows)
    load = np.sin(2 * np.pi * np.arange(rows) / 288) + 2 + random.normal(0, 0.1, rows)
    values = np.stack(
        [load + random.normal(0, 0.05, rows), 3 * load + random.normal(0, 0.1, rows)], axis=1
    )
    for day in range(days):
        start = day * 288 + 36 + random.integers(-2, 3)
        values[start : start + 8, 1] += 6
    out = fold(
        new_state(1, 2),
        one_slot_each(1, 2),
        np.zeros(rows, np.int32),
        time_ms,
        values,
        limits_for(2),
    )
    night = (
        (np.arange(rows) % 288 >= 30) & (np.arange(rows) % 288 < 54) & (np.arange(rows) > 12 * 288)
    )
    assert out.is_anomaly[night].sum() <= 2
    before = out.combination[18 * 288 + 150]
    values[18 * 288 + 150 :, 1][:4] += 6
    odd = fold(
        new_state(1, 2),
        one_slot_each(1, 2),
        np.zeros(rows, np.int32),
        time_ms,
        values,
        limits_for(2),
    )
    assert odd.is_anomaly[18 * 288 + 150 : 18 * 288 + 160].any()
    assert odd.combination[18 * 288 + 151] > before + 1


@needs_speed
def test_a_trained_member_that_has_drifted_pages_nobody():
    time_ms, values = day_series(40, noise=0.3)
    rows, random = len(values), np.random.default_rng(3)
    honest = random.exponential(0.4343, rows)

    def scores(trained):
        state = new_state(1, 1)
        column, entity = values[:, None], np.zeros(rows, np.int32)
        return fold(
            state, one_slot_each(1, 1), entity, time_ms, column, limits_for(1), trained=trained
        )

    without = scores(None)
    late = np.arange(rows) > 10 * 288
    always = scores(np.full(rows, 3.0))
    assert always.score[late].tobytes() == without.score[late].tobytes()
    lone = honest.copy()
    lone[9000] = 4.0
    assert scores(lone).score[9000] - without.score[9000] > 1.0
    assert scores(lone).trained[9000] > 0.5
    often = np.where(random.random(rows) < 0.1, 3.0, honest)
    assert scores(often).is_anomaly.sum() <= without.is_anomaly.sum() + 6
    quiet = scores(np.full(rows, np.nan))
    assert_same(quiet, without)


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
            {
                "ensemble_entities": np.zeros((1, 3), np.uint8),
                "ensemble_metrics": np.zeros((0, 3), np.uint8),
            }
        )


def digest_of_a_run():
    out, state = run(log_of(3, rows=450), limits=limits_for(2, 60, per_day=1.0))
    parts = [x.tobytes() for x in out] + [state.metrics.tobytes(), state.entities.tobytes()]
    return hashlib.sha256(b"".join(parts)).hexdigest()


@needs_speed
def test_compiled_and_interpreted_give_the_same_bytes():
    found = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import runpy; print(runpy.run_path({__file__!r})['digest_of_a_run']())",
        ],
        env=os.environ | {"NUMBA_DISABLE_JIT": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == digest_of_a_run()
