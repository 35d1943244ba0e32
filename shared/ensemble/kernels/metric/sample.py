"""One sample of a metric: a value, a rate, or the mean of a minute.

Invariant: a pure fold over the metric's samples in order of time; what one sample moves is bounded.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from shared.ensemble.kernels.array_types import Floats, Record
from shared.ensemble.kernels.codes import clip, encode
from shared.ensemble.kernels.course.members import CourseWork
from shared.ensemble.kernels.course.members import fold_value as fold_course
from shared.ensemble.kernels.fades import (
    INTERVAL,
    OF_DAY,
    OF_ERROR,
    OF_HOUR,
    OF_HOURS4,
    OF_OFTEN,
    OF_QUARTER,
    OF_SHARE,
    write_fades,
)
from shared.ensemble.kernels.fetching import Ahead, fetch_course
from shared.ensemble.kernels.layout import (
    ALL,
    ALL_VIEWS,
    BACK,
    BINS,
    COURSE,
    HOUR,
    HOURS4,
    LEVEL,
    MISSED,
    OFTEN,
    QUARTER,
    RING,
    SEASONS,
    TWO,
    VALUE,
    EnsembleParams,
    Settings,
)
from shared.ensemble.kernels.metric.day_end import close_hour, close_metric_day
from shared.ensemble.kernels.metric.deviation import (
    LARGEST_CODED,
    LARGEST_DEVIATION,
    Sample,
    baseline_at,
    excuse_recurring,
    judge_missing,
    nearest_baseline,
    season_at,
    spread_in_force,
    spread_of,
)
from shared.ensemble.kernels.metric.local_views import (
    follow_range,
    judge_jump,
    judge_stuck,
    restart_spread,
)
from shared.ensemble.kernels.metric.relearning import accept_change, recode
from shared.ensemble.kernels.metric.view_levels import compare_with_levels, follow_tail
from shared.ensemble.kernels.metric.warm_up import judge_cold
from shared.ensemble.kernels.season.digest import turn
from shared.ensemble.kernels.season.season_memory import bin_of, near_of, width_of, write
from shared.kernels.steps import step
from shared.kernels.units import DAY_MS, HOUR_MS

MOST_SAMPLES = 10_000
"""Samples that are counted of a bin."""


class MetricWork(NamedTuple):
    """Scratch of a metric.

    tmp    : float64 (SCRATCH,)
    seen   : float64 (ALL_VIEWS,) what each view sees of a sample, in spreads
    fades  : float64 (FADES,)
    course : that of the course
    """

    tmp: Floats
    seen: Floats
    fades: Floats
    course: CourseWork


@step
def _coded(m: Record, value: float) -> float:
    """Return a value in the unit of the memory, bounded."""
    scale = m["scale"] if m["scale"] > 0.0 else 1.0
    return clip((value - m["centre"]) / scale, LARGEST_CODED)


@step
def _begin(m: Record, value: float, interval_ms: float) -> None:
    """Set what is not zero before a metric's first sample."""
    m["centre"] = value
    m["day"] = -1
    m["stretch"] = 1.0
    m["width"] = width_of(interval_ms)


@step
def _close_periods(
    m: Record, t: int, local_ms: int, gap: float, params: EnsembleParams, tmp: Floats
) -> None:
    """End the hour and the day, where a sample is the first of other ones."""
    day, hour = int(local_ms // DAY_MS), int(local_ms // HOUR_MS)
    first = m["samples"] == 0
    if hour != m["hour"] or first:
        close_hour(m, hour, gap, tmp)
        if not first:
            accept_change(m, t, hour, params, tmp)
    if day != m["day"]:
        close_metric_day(m, day, params, tmp)


@step
def _forget_newest(m: Record) -> None:
    """Forget what is compared with the newest samples: they are too old."""
    for k in range(3):
        m["means"][k] = 0.0
    m["fresh"] = 0
    m["newest_n"] = 0
    restart_spread(m)


@step
def _enter_bin(m: Record, day: int, bin_: int, tmp: Floats) -> bool:
    """Bring the ring of bins to that of a sample; return whether it is another one."""
    if bin_ == m["bin"] and day == m["day"] and m["bin_n"] != 0:
        return False
    for k in range(RING - 1):
        m["window"][0, k] = m["window"][0, k + 1]
        m["window"][1, k] = m["window"][1, k + 1]
        m["window_bin"][k] = m["window_bin"][k + 1]
    m["window"][0, RING - 1] = encode(m["bin_mean"])
    m["window"][1, RING - 1] = min(m["bin_n"], MOST_SAMPLES)
    m["window_bin"][RING - 1] = m["day"] * BINS + m["bin"] if m["bin_n"] > 0 else -1
    turn(m, day, bin_, tmp)
    m["day"] = day
    m["bin"] = bin_
    m["bin_n"] = 0
    return True


@step
def _keep_newest(m: Record, value: float, x: float) -> None:
    """Keep a sample that cannot be judged, for the jumps of later ones."""
    m["expected"] = x
    m["newest_values"][m["newest_n"] % BACK] = value
    for c in range(SEASONS + 1):
        m["newest_residuals"][c, m["newest_n"] % BACK] = x
    m["newest_n"] += 1


@step
def _remember(m: Record, x: float, day: int, bin_: int) -> None:
    """Write the mean of the sample's bin so far into the memory."""
    m["bin_n"] += 1
    if m["bin_n"] > 1:
        m["crowded"] = day + 1
    m["bin_mean"] = x if m["bin_n"] == 1 else m["bin_mean"] + (x - m["bin_mean"]) / m["bin_n"]
    write(m, bin_, day, m["bin_mean"])


@njit(cache=True, error_model="numpy")
def fold_sample(
    m: Record,
    t: int,
    local_ms: int,
    value: float,
    settings: Settings,
    params: EnsembleParams,
    work: MetricWork,
    ahead: Ahead,
) -> bool:
    """Judge and learn one sample.

    ahead   : its course is read ahead where this one's is folded
    returns : whether it could be judged
    """
    tmp, v, fades = work.tmp, work.seen, work.fades
    first = m["samples"] == 0
    iv = max(m["interval_ms"], 60_000.0)
    gap = np.float64(t - m["sample_ms"]) if not first else 0.0
    dt = min(gap, 4.0 * iv)
    m["live_ms"] += dt
    if first:
        _begin(m, value, iv)
    if m["scale"] <= 0.0 and value != m["centre"]:
        m["scale"] = abs(value - m["centre"])
    for view in range(ALL_VIEWS):
        v[view] = 0.0
    _close_periods(m, t, local_ms, gap, params, tmp)
    if gap > max(6.0 * iv, 1_800_000.0):
        _forget_newest(m)
    width = width_of(iv)
    if width != m["width"]:
        m["width"] = width
        m["bin_n"] = 0
    day, bin_ = int(local_ms // DAY_MS), bin_of(local_ms, width)
    turned = _enter_bin(m, day, bin_, tmp)
    write_fades(dt, iv, fades)
    judge_stuck(m, t, value, gap, iv, fades, v)
    judge_cold(m, value, params)
    near = near_of(width)
    hour = int(local_ms // HOUR_MS) % 24
    sample = Sample(t, hour, value, _coded(m, value), near, turned)
    judged = not math.isnan(m["baselines"][ALL, near]) and m["scale"] > 0.0
    if (settings.use >> COURSE) & 1:
        fetch_course(ahead, 0)
    if judged:
        judge_sample(m, sample, fades, settings.use, params, v, tmp)
    elif m["scale"] > 0.0 or first:
        _keep_newest(m, value, sample.x)
    follow_range(m, value, sample.x)
    _remember(m, sample.x, day, bin_)
    if (settings.use >> COURSE) & 1:
        fetch_course(ahead, 1)
        fold_course(m, t, local_ms, value, settings.warmup, params, work.course)
    m["last"] = value
    m["sample_ms"] = t
    m["samples"] += 1
    if m["samples"] == 24 and m["steps"] > 0 and m["step"] > 0.0:
        recode(m, m["centre"], m["scale"] * m["step"])
    compare_with_levels(m, v, params, settings.use)
    return judged


@step
def _nearest(
    m: Record, sample: Sample, spread: float, params: EnsembleParams, tmp: Floats
) -> tuple[float, float, float]:
    """Return a sample's deviation from what its time has shown, its residual, and that value.

    The old unit is tried as well while a new one is young; a deviation that recurs is reduced.
    """
    near = sample.near
    z, residual, expected = nearest_baseline(m, sample.x, near, spread)
    if m["old_until_ms"] > sample.time_ms:
        other = clip((sample.value - m["old_centre"]) / m["old_scale"], LARGEST_CODED)
        z_old, r_old, _ = nearest_baseline(m, other, near, spread)
        if abs(z_old) + 0.3 < abs(z):
            z, residual = z_old, r_old
    if abs(z) > params.excuse:
        z = excuse_recurring(m, sample.x, z, near, spread, params, tmp)
    return clip(z, LARGEST_DEVIATION), residual, expected


@step
def _follow_hour(m: Record, sample: Sample, season: int, size: float, fades: Floats) -> None:
    """Add a sample to the sums of its hour, and its error to that of each season.

    season : that has a value at this time
    size   : of the deviation, in spreads
    """
    x, near, typical = sample.x, sample.near, m["typical"]
    for c in range(SEASONS):
        r = x - baseline_at(m, c, near)
        most = 20.0 * typical + abs(m["level"][c])
        m["hour_r"][c] += clip(r, most)
        m["hour_c"][c] += 1
        e = min(abs(r - m["level"][c]) / typical, 10.0)
        m["error"][c] += (e - np.float64(m["error"][c])) * fades[OF_ERROR]
    usual = np.float64(m["baselines"][season, near])
    r = x - usual
    most = 20.0 * typical + abs(m["level"][season])
    if r * m["before_r"] > 0.0:  # two in a row on the same side are no single row
        most = max(most, 1.5 * abs(m["before_r"]))
    m["hour_x"] += clip(r, most)
    m["hour_n"] += 1
    m["hour_u"] += usual
    m["hour_z"] += min(size, 4.0)


@step
def _follow_means(m: Record, z: float, fades: Floats, v: Floats) -> None:
    """Judge the deviation, two of them in a row, and its means of up to four hours."""
    v[VALUE] = z
    if m["fresh"] >= 1 and z * m["before"] > 0.0:
        v[TWO] = z if abs(z) < abs(m["before"]) else m["before"]
    m["before"] = z
    ew = m["means"]
    ew[0] += (clip(z, 15.0) - ew[0]) * fades[OF_QUARTER]
    ew[1] += (clip(z, 3.0) - ew[1]) * fades[OF_HOUR]
    ew[2] += (clip(z, 2.5) - ew[2]) * fades[OF_HOURS4]
    v[QUARTER] = ew[0]
    v[HOUR] = ew[1]
    v[HOURS4] = ew[2]
    m["fresh"] += 1


@step
def _follow_share(m: Record, size: float, deviates: bool, fades: Floats, v: Floats) -> None:
    """Learn the share of values that deviate and how much; judge the share of the last hour.

    size : of the deviation, coded
    """
    counted = 1.0 if deviates else 0.0
    m["share"] += (counted - m["share"]) * fades[OF_SHARE]
    if deviates:
        if m["sizes"] == 0:
            m["size"] = size
        else:
            way = 1.0 if size > m["size"] else -1.0
            m["size"] *= math.exp(min(0.1, 1.0 / m["sizes"]) * way)
        m["sizes"] += 1
    m["often"] += (counted - m["often"]) * fades[OF_OFTEN]
    if m["share"] < 0.05:
        v[OFTEN] = m["often"]


@step
def _follow_typical(m: Record, remembered: float, typical: float, fades: Floats) -> None:
    """Move the typical spread towards that which the memory shows at this time."""
    if remembered > 0.0 and typical > 0.0:
        change = math.log(remembered / typical)
        if m["samples"] > 600:
            m["typical"] *= math.exp(clip(change, 0.5) * fades[OF_DAY])
        else:
            m["typical"] *= math.exp(clip(change, 0.02))


@step
def judge_sample(
    m: Record,
    sample: Sample,
    fades: Floats,
    use: int,
    params: EnsembleParams,
    v: Floats,
    tmp: Floats,
) -> None:
    """Write what each view sees of a sample, and learn it.

    use : views that may alarm, a bit each; what is missing is looked for by none but its own
    v   : float64 (ALL_VIEWS,)  out, in spreads
    """
    x, near = sample.x, sample.near
    season = season_at(m, near)
    remembered, floor = spread_of(m, near)
    if m["typical"] <= 1e-9:
        m["typical"] = max(remembered, 1e-9)
    typical, level = m["typical"], m["level"][season]
    spread = spread_in_force(m, remembered, floor, level)
    z, residual, nearest = _nearest(m, sample, spread, params, tmp)
    usual = np.float64(m["baselines"][season, near]) + level
    m["expected"] = nearest if abs(z) < 3.0 else usual
    m["spread"] = spread
    m["deviation"] = z
    m["plain"] = clip((x - usual) / spread, 30.0)
    follow_tail(m, m["plain"])
    _follow_hour(m, sample, season, abs(x - usual) / max(remembered, floor), fades)
    _follow_means(m, z, fades, v)
    v[LEVEL] = clip(level / max(m["daily"], 0.5 * typical), 1e3) if m["levels_n"] >= 2 else 0.0
    if sample.turned and (use >> MISSED) & 1:
        judge_missing(m, spread, fades[INTERVAL], tmp)
    v[MISSED] = clip(m["missed"], 1e3)
    m["near_jump"] = 0.0
    judge_jump(m, sample, floor, residual, fades, v, tmp)
    m["before_r"] = x - np.float64(m["baselines"][season, near])
    size = abs(x - usual)
    deviates = size > 0.05 * spread and abs(x - nearest) > 0.05 * spread
    _follow_share(m, size, deviates, fades, v)
    _follow_typical(m, remembered, typical, fades)
