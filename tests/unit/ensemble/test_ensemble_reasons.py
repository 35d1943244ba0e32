"""What a verdict says beside its score: what was expected, how long, how far, which metric; and NaN
where nothing is known.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.support.ensembles import START, STEP, day_series, judge_one, needs_speed


def test_an_extreme_metric_of_a_cold_start_is_named():
    time_ms, values = START + STEP * np.arange(60), np.random.default_rng(0).normal(0, 1, (60, 3))
    values[50, 1] += 500
    out, _ = judge_one(time_ms, values)
    assert out.cold_start.nonzero()[0].tolist() == [50]
    assert out.top_metric[50] == 1
    assert (np.delete(out.top_metric, 50) == -1).all()
    assert np.isnan(out.metric_severity).all()


@pytest.mark.parametrize("step_ms", [60_000, 300_000, 7_200_000])
@pytest.mark.parametrize("asked", [0, 40])
def test_the_warm_up_counts_down(step_ms, asked):
    rows = 160
    time_ms = START + step_ms * np.arange(rows)
    values = np.random.default_rng(0).normal(0, 1, (rows, 2))
    values[:, 1] = np.nan
    values[100:, 1] = 1.0  # a metric that comes later does not put the entity back
    out, state = judge_one(time_ms, values, warmup=asked)
    per_three_days = 3 * 86_400_000 / step_ms
    fold = math.ceil(per_three_days / 1024)
    total = asked or fold * int(min(max(per_three_days / fold, 150), 1024))
    left = np.maximum(total - 1 - np.arange(rows), 0)
    assert np.isnan(out.warmup_minutes_left[0])
    np.testing.assert_allclose(out.warmup_minutes_left[1:], left[1:] * step_ms / 60_000)
    np.testing.assert_allclose(out.warmup[1:], 1 - left[1:] / total)
    assert (np.isfinite(out.score) == (left == 0)).all()
    assert (state.metrics["seen"] == [rows, rows - 100]).all()


def test_nothing_is_left_of_a_metric_that_never_reported():
    out, _ = judge_one(START + STEP * np.arange(20), np.full((20, 2), np.nan))
    assert (out.warmup == 0).all()
    for name in (
        "warmup_minutes_left",
        "history_ms",
        "metric_severity",
        "level",
        "score",
        "expected",
    ):
        assert np.isnan(getattr(out, name)).all(), name
    for name in ("quiet_ms", "longest_ms", "weekly", "is_anomaly", "cold_start", "shares"):
        assert not getattr(out, name).any(), name
    assert (out.top_metric == -1).all()


@needs_speed
def test_a_row_says_what_its_reasons_need():
    time_ms, load = day_series(10)
    values = np.stack([load, np.random.default_rng(2).normal(50, 1, len(load))], 1)
    values[:30, 1] = np.nan
    values[2500:2506, 1] += 40
    values[2700, 0] = np.nan
    out, _ = judge_one(time_ms, values)
    np.testing.assert_array_equal(out.history_ms[:, 0], time_ms - time_ms[0])
    np.testing.assert_array_equal(out.history_ms[30:, 1], time_ms[30:] - time_ms[30])
    assert np.isnan(out.history_ms[:30, 1]).all()
    ready = np.isfinite(out.score)
    assert np.isnan(out.metric_severity[~ready]).all()
    assert np.isnan(out.metric_severity[2700, 0])
    assert np.isfinite(out.metric_severity[2700, 1])
    before = (
        ready
        & (np.arange(len(load)) < np.flatnonzero(out.is_anomaly & ~out.cold_start)[0])
        & (out.combination <= 1.5)
    )
    assert before.sum() > 500
    np.testing.assert_allclose(
        np.nanmax(out.metric_severity[before], 1), out.severity[before], rtol=1e-9
    )
    row = 2500 + int(np.argmax(out.is_anomaly[2500:2506]))
    assert out.top_metric[row] == 1
    assert out.metric_severity[row, 1] > 0.5 > out.metric_severity[row, 0]
    known = np.isfinite(out.expected)
    assert (np.isfinite(out.level) == known).all()
    sine = 10 + 4 * np.sin(2 * np.pi * (np.arange(len(load)) % 288) / 288)
    assert abs(out.level[:, 0] - sine)[known[:, 0]].mean() < 0.5
    assert not out.weekly.any()


@needs_speed
def test_silences_are_told_in_time():
    time_ms, values = day_series(16)
    values[:] = np.random.default_rng(1).normal(0, 0.02, len(values))
    for day in range(15):
        values[day * 288 + 36 : day * 288 + 48] = 20.0
    out, _ = judge_one(time_ms, values)
    hours_quiet, hours_longest = out.quiet_ms[:, 0] / 3.6e6, out.longest_ms[:, 0] / 3.6e6
    assert hours_quiet[12 * 288 + 40] == 0.0
    assert hours_quiet[12 * 288 + 47 + 60] == pytest.approx(5.0)
    assert 20 < hours_longest[12 * 288] < 23.1
    assert hours_quiet[-1] > hours_longest[-1]
    assert (out.longest_ms[:863] == 0).all()


def half_hours(weeks):
    """Weekdays with a bow, weekends flat at 6; and which rows are of a weekend."""
    rows = weeks * 7 * 48
    time_ms = 1_704_067_200_000 + 1_800_000 * np.arange(rows, dtype=np.int64)
    weekend = np.arange(rows) // 48 % 7 >= 5
    phase = 2 * np.pi * (np.arange(rows) % 48) / 48
    return (
        time_ms,
        np.where(weekend, 6.0, 10 + 5 * np.sin(phase))
        + np.random.default_rng(0).normal(0, 0.2, rows),
        weekend,
    )


@needs_speed
def test_weekends_are_learned_after_three_weeks():
    time_ms, values, weekend = half_hours(8)
    out, _ = judge_one(time_ms, values)
    late = np.arange(len(values)) > 4 * 7 * 48
    assert out.is_anomaly[late].sum() <= 1
    weekend &= late
    assert out.rarity[weekend, 0, 2].mean() < 0.8
    assert out.weekly[weekend].mean() > 0.9
    assert abs(out.expected[weekend & out.weekly[:, 0], 0] - 6.0).mean() < 0.5
    assert (out.level == out.expected)[out.weekly].all()
    assert not out.weekly[: 3 * 7 * 48].any()


@needs_speed
def test_a_weekday_on_a_saturday_is_too_high():
    time_ms, values, _ = half_hours(8)
    saturday = 7 * 7 * 48 + 5 * 48
    values[saturday + 8 : saturday + 14] = 11.0  # below what weekdays have at that time
    found = judge_one(time_ms, values, direction=1)[0].is_anomaly
    assert found[saturday + 8 : saturday + 16].any()
    assert (
        not judge_one(time_ms, values, direction=-1)[0]
        .is_anomaly[saturday + 8 : saturday + 14]
        .any()
    )
