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
from shared.ensemble.kernels.layout import (
    ALL,
    ALL_VIEWS,
    BACK,
    BIN_MS,
    BINS,
    COURSE,
    DAY_MS,
    HOUR,
    HOUR_MS,
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
    LEVEL_DEAD_ZONE,
    excuse_recurring,
    judge_missing,
    nearest_usual,
    spread_of,
)
from shared.ensemble.kernels.metric.interval import (
    OF_DAY,
    OF_ERROR,
    OF_HOUR,
    OF_HOURS4,
    OF_OFTEN,
    OF_QUARTER,
    OF_SHARE,
    write_fades,
)
from shared.ensemble.kernels.metric.local_views import follow_range, judge_jump, judge_stuck
from shared.ensemble.kernels.metric.relearning import accept_change, recode
from shared.ensemble.kernels.metric.view_levels import compare_with_levels, follow_tail
from shared.ensemble.kernels.metric.warm_up import judge_cold
from shared.ensemble.kernels.season import near_of, turn, width_of, write


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


@njit(cache=True)
def fold_sample(
    m: Record,
    t: int,
    local_ms: int,
    value: float,
    settings: Settings,
    params: EnsembleParams,
    work: MetricWork,
) -> bool:
    """Judge and learn one sample.

    returns : whether it could be judged
    """
    tmp = work.tmp
    first = m["samples"] == 0
    iv = max(m["interval_ms"], 60_000.0)
    gap = np.float64(t - m["sample_ms"]) if not first else 0.0
    dt = min(gap, 4.0 * iv)
    m["live_ms"] += dt
    if first:
        m["centre"] = value
        m["day"] = -1
        m["stretch"] = 1.0
        m["width"] = width_of(iv)
    if m["scale"] <= 0.0 and value != m["centre"]:
        m["scale"] = abs(value - m["centre"])
    scale = m["scale"] if m["scale"] > 0.0 else 1.0
    x = clip((value - m["centre"]) / scale, LARGEST_CODED)
    day, hour = int(local_ms // DAY_MS), int(local_ms // HOUR_MS)
    v = work.seen
    for view in range(ALL_VIEWS):
        v[view] = 0.0
    if hour != m["hour"] or first:
        close_hour(m, hour, gap, tmp)
        if not first:
            accept_change(m, t, hour, params, tmp)
            scale = m["scale"] if m["scale"] > 0.0 else 1.0
            x = clip((value - m["centre"]) / scale, LARGEST_CODED)
    if day != m["day"]:
        before = m["scale"]
        close_metric_day(m, day, params, tmp)
        if m["scale"] != before:
            scale = m["scale"]
            x = clip((value - m["centre"]) / scale, LARGEST_CODED)
    if gap > max(6.0 * iv, 1_800_000.0):
        for k in range(3):
            m["means"][k] = 0.0
        m["fresh"] = 0
        m["newest_n"] = 0
        m["spread_now"] = m["spread_usual"]
        m["spread_ms"] = 0.0
    width = width_of(iv)
    if width != m["width"]:
        m["width"] = width
        m["bin_n"] = 0
    bin_ = int((local_ms % DAY_MS) // BIN_MS)
    bin_ -= bin_ % width
    turned = bin_ != m["bin"] or day != m["day"] or m["bin_n"] == 0
    if turned:
        for k in range(RING - 1):
            m["window"][0, k] = m["window"][0, k + 1]
            m["window_bin"][k] = m["window_bin"][k + 1]
        m["window"][0, RING - 1] = encode(m["bin_mean"])
        m["window_bin"][RING - 1] = m["day"] * BINS + m["bin"] if m["bin_n"] > 0 else -1
        turn(m, day, bin_, tmp)
        m["day"] = day
        m["bin"] = bin_
        m["bin_n"] = 0
    fades = work.fades
    write_fades(dt, iv, fades)
    judge_stuck(m, t, value, gap, iv, fades, v)
    judge_cold(m, value, params)
    near = near_of(width)
    judged = not math.isnan(m["usual_values"][ALL, near]) and m["scale"] > 0.0
    if judged:
        judge_sample(m, t, x, value, int(hour % 24), near, turned, fades, params, v, tmp)
    elif m["scale"] > 0.0 or first:
        m["expected"] = x
        m["newest_values"][m["newest_n"] % BACK] = value
        for c in range(SEASONS + 1):
            m["newest_residuals"][c, m["newest_n"] % BACK] = x
        m["newest_n"] += 1
    follow_range(m, value, x)
    m["bin_n"] += 1
    if m["bin_n"] > 1:
        m["crowded"] = day + 1
    m["bin_mean"] = x if m["bin_n"] == 1 else m["bin_mean"] + (x - m["bin_mean"]) / m["bin_n"]
    write(m, bin_, day, m["bin_mean"])
    if (settings.use >> COURSE) & 1:
        fold_course(m["course"], t, value, settings.warmup, params, work.course)
    m["last"] = value
    m["sample_ms"] = t
    m["samples"] += 1
    if m["samples"] == 24 and m["steps"] > 0 and m["step"] > 0.0:
        recode(m, m["centre"], m["scale"] * m["step"])
    compare_with_levels(m, v, params, settings.use)
    return judged


@njit(cache=True)
def judge_sample(
    m: Record,
    t: int,
    x: float,
    value: float,
    hour: int,
    near: int,
    turned: bool,
    fades: Floats,
    params: EnsembleParams,
    v: Floats,
    tmp: Floats,
) -> None:
    """Write what each view sees of a sample, and learn it."""
    season = m["season"]
    if math.isnan(m["usual_values"][season, near]):
        season = ALL
    remembered, floor = spread_of(m, near)
    if m["typical"] <= 1e-9:
        m["typical"] = max(remembered, 1e-9)
    plain_spread = max(remembered, floor)
    spread = max(remembered * m["stretch"], floor)
    level = m["level"][season]
    spread += 0.2 * max(0.0, abs(level) - LEVEL_DEAD_ZONE * m["typical"])
    z, residual, near_value = nearest_usual(m, x, near, spread)
    if m["old_until_ms"] > t:
        other = clip((value - m["old_centre"]) / m["old_scale"], LARGEST_CODED)
        z_old, r_old, _ = nearest_usual(m, other, near, spread)
        if abs(z_old) + 0.3 < abs(z):
            z, residual = z_old, r_old
    if abs(z) > params.excuse:
        z = excuse_recurring(m, x, z, near, spread, params, tmp)
    z = clip(z, LARGEST_DEVIATION)
    usual = np.float64(m["usual_values"][season, near]) + level
    m["expected"] = near_value if abs(z) < 3.0 else usual
    m["spread"] = spread
    m["deviation"] = z
    m["plain"] = clip((x - usual) / spread, 30.0)
    follow_tail(m, m["plain"])
    typical = m["typical"]
    for c in range(SEASONS):
        u = np.float64(m["usual_values"][c, near])
        if math.isnan(u):
            u = np.float64(m["usual_values"][ALL, near])
        r = x - u
        most = 20.0 * typical + abs(m["level"][c])
        m["hour_r"][c] += clip(r, most)
        m["hour_c"][c] += 1
        e = min(abs(r - m["level"][c]) / typical, 10.0)
        m["error"][c] += (e - np.float64(m["error"][c])) * fades[OF_ERROR]
    r = x - np.float64(m["usual_values"][season, near])
    most = 20.0 * typical + abs(m["level"][season])
    if r * m["before_r"] > 0.0:  # two in a row on the same side are no single row
        most = max(most, 1.5 * abs(m["before_r"]))
    m["hour_x"] += clip(r, most)
    m["hour_n"] += 1
    m["hour_u"] += np.float64(m["usual_values"][season, near])
    m["hour_z"] += min(abs(x - usual) / plain_spread, 4.0)
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
    v[LEVEL] = clip(level / max(m["daily"], 0.5 * typical), 1e3) if m["levels_n"] >= 2 else 0.0
    if turned:
        judge_missing(m, spread, tmp)
    v[MISSED] = clip(m["missed"], 1e3)
    m["near_jump"] = 0.0
    judge_jump(m, x, value, hour, floor, residual, near, fades, v, tmp)
    m["before_r"] = x - np.float64(m["usual_values"][season, near])
    size = abs(x - usual)
    odd = 1.0 if size > 0.05 * spread and abs(x - near_value) > 0.05 * spread else 0.0
    m["share"] += (odd - m["share"]) * fades[OF_SHARE]
    if odd > 0.0:
        m["size"] = (
            size
            if m["sizes"] == 0
            else m["size"]
            * math.exp(min(0.1, 1.0 / m["sizes"]) * (1.0 if size > m["size"] else -1.0))
        )
        m["sizes"] += 1
    m["often"] += (odd - m["often"]) * fades[OF_OFTEN]
    if m["share"] < 0.05:
        v[OFTEN] = m["often"]
    if remembered > 0.0 and typical > 0.0:
        m["typical"] *= math.exp(
            clip(math.log(remembered / typical), 0.5) * fades[OF_DAY]
            if m["samples"] > 600
            else clip(math.log(remembered / typical), 0.02)
        )
