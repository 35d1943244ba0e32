"""Several metrics together: what the others do not account for.

Many that move a little at once.

Invariant: cost is M times that of one metric (at most MEMBERS enter the combination); sums in fixed
order.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from shared.ensemble.kernels.array_types import Array, Floats, Record
from shared.ensemble.kernels.codes import clip, fade
from shared.ensemble.kernels.entity.episode import REPORTED
from shared.ensemble.kernels.entity.row import Reported, Row
from shared.ensemble.kernels.layout import (
    CROSS,
    DAY_MS,
    DAYS,
    HOUR_MS,
    JOINT,
    MEMBERS,
    SHAPE,
    TRAINED,
    EnsembleParams,
)
from shared.ensemble.kernels.metric.warm_up import is_ready
from shared.ensemble.kernels.return_levels import bound, push, return_level

LEFT_OVER = 3.0
"""Spreads of what the others leave over, below which they account for a metric."""


@njit(cache=True)
def invert(a: Floats, n: int, out: Floats, low: Floats) -> bool:
    """Invert a symmetric positive matrix by Cholesky in fixed order.

    a, out, low : float64 (n, n) or larger; low: out, the factor L of a = L L'
    returns     : whether a is positive definite; if not, out is not written

    Each column of the inverse solves L L' x = e. Source: Golub, Van Loan, "Matrix Computations",
    4.2. Twin: numpy.linalg.inv. Cost: O(n^3).
    """
    for j in range(n):
        for i in range(j, n):
            s = a[i, j]
            for k in range(j):
                s -= low[i, k] * low[j, k]
            if i == j:
                if s <= 0.0:
                    return False
                low[j, j] = math.sqrt(s)
            else:
                low[i, j] = s / low[j, j]
    for c in range(n):
        for i in range(n):
            s = 1.0 if i == c else 0.0
            for k in range(i):
                s -= low[i, k] * out[k, c]
            out[i, c] = s / low[i, i]
        for i in range(n - 1, -1, -1):
            s = out[i, c]
            for k in range(i + 1, n):
                s -= low[k, i] * out[k, c]
            out[i, c] = s / low[i, i]
    return True


class CombinationWork(NamedTuple):
    """Scratch of ``combine``: float64 (MEMBERS,) and three of (MEMBERS, MEMBERS)."""

    z: Floats
    a: Floats
    b: Floats
    c: Floats


@njit(cache=True)
def combine(
    e: Record, of: Reported, row: Row, params: EnsembleParams, use: int, work: CombinationWork
) -> None:
    """Judge each metric by what the entity's others say of it.

    row  : interval_ms usual, time_ms and passed_ms of the row
    use  : views that may alarm, a bit each
    work : scratch; at most MEMBERS metrics enter

    z are the deviations of the row, S their decayed covariance (4 days), P its inverse, anew once
    an
    hour. (P z)_j / sqrt(P_jj) is what the regression of z_j on the others leaves over, in its own
    spread (Gaussian conditionals: Rue, Held, "Gaussian Markov Random Fields", 2.2); the view is its
    mean over an hour. Only a metric that the others explain by half, 1 - 1 / (P_jj S_jj), is
    judged.
    Cost: O(M^2) a row, O(M^3) an hour.
    """
    n, t, dt, iv = min(of.n, MEMBERS), row.time_ms, row.passed_ms, row.interval_ms
    z, a, b, c = work.z, work.a, work.b, work.c
    count = 0
    for j in range(n):
        z[j] = clip(of.metrics[of.slots[j]]["plain"], 6.0) if of.here[j] else 0.0
        count += 1 if of.here[j] else 0
    if 2 * count <= n:
        return
    if e["members"] != n:
        e["members"] = n
        e["pairs_ok"] = 0
    if e["pairs_ok"] == 1:
        learn = fade(dt, max(3_600_000.0, 4.0 * iv))
        for j in range(n):
            if not of.here[j]:
                continue
            s = 0.0
            for k in range(n):
                s += np.float64(e["inverse"][j, k]) * z[k]
            s = clip(s / math.sqrt(np.float64(e["inverse"][j, j])), 4.0)
            old = np.float64(e["residual"][j])
            new = old + (s - old) * learn
            e["residual"][j] = new
            m = of.metrics[of.slots[j]]
            if e["explained"][j] > 0.5:
                side = 0 if new > 0.0 else 1
                limit: float = np.float64(m["return_level"][CROSS, side])
                if limit <= 0.0:
                    limit = 2.0 * params.floor_cross
                if m["live_ms"] > 0.5 * DAY_MS and abs(new) > m["daily_maximum"][CROSS, side]:
                    m["daily_maximum"][CROSS, side] = bound(abs(new), limit, m["maxima_n"])
                if (use >> CROSS) & 1:
                    m["ratio"][CROSS] = new / limit
    learn = fade(dt, 4.0 * DAY_MS)
    e["pairs_w"] += (1.0 - e["pairs_w"]) * learn
    for j in range(n):
        for k in range(j + 1):
            old = np.float64(e["pairs"][j, k])
            e["pairs"][j, k] = old + (z[j] * z[k] - old) * learn
    if t - e["pairs_ms"] > HOUR_MS and e["pairs_w"] > 0.3:
        for j in range(n):
            for k in range(j + 1):
                a[j, k] = np.float64(e["pairs"][j, k]) / e["pairs_w"]
                a[k, j] = a[j, k]
            a[j, j] = a[j, j] * 1.02 + 0.02
        e["pairs_ms"] = t
        if invert(a, n, b, c):
            e["pairs_ok"] = 1
            for j in range(n):
                e["explained"][j] = 1.0 - 1.0 / (b[j, j] * a[j, j])
                for k in range(n):
                    e["inverse"][j, k] = b[j, k]


@njit(cache=True)
def is_accounted_for(e: Record, of: Reported, place: int) -> bool:
    """Whether a metric deviates only as an episode of the entity's other metrics lets expect.

    place : of the metric in ``of``

    Another metric, or several together, must be in an episode with a record, the others must
    explain the metric by half as a rule, and what they leave over must be usual, in the row
    (LEFT_OVER of its own spreads) and over the last hour.
    """
    if place >= MEMBERS or e["pairs_ok"] == 0 or not e["explained"][place] > 0.5:
        return False
    n = min(of.n, MEMBERS)
    reported = e["joint"]["state"] == REPORTED
    s = 0.0
    for k in range(n):
        m = of.metrics[of.slots[k]]
        if of.here[k]:
            s += np.float64(e["inverse"][place, k]) * clip(m["plain"], 6.0)
        if k != place:
            for key in range(SHAPE):
                reported = reported or m["episodes"][key]["state"] == REPORTED
    s /= math.sqrt(np.float64(e["inverse"][place, place]))
    hour: float = np.float64(of.metrics[of.slots[place]]["ratio"][CROSS])
    return bool(reported and abs(s) < LEFT_OVER and abs(hour) < 0.5)


@njit(cache=True)
def join(
    e: Record, of: Reported, asked: Array, watched: bool, params: EnsembleParams, top: Floats
) -> float:
    """Return the largest ratio of the row's joint figures to their levels.

    asked   : bool (>= n,)     metrics that count: judged, and deviating as the user asks
    watched : whether today's largest figures are remembered
    top     : float64 (>= n,)  scratch

    A figure is the k-th largest size of a row's jumps, deviations or quarter-hour means, k a
    quarter
    of the metrics, at least 2: the order statistic that k independent outliers reach, and one does
    not. Its level is learned from its own days, so that dependence between metrics is in it.
    Metrics that are warming up do not count; while all are, figures are learned and the ratio is 0.
    Twin: tests/reference/episodes.py::joint.
    """
    e["joint_ratio"] = 0.0
    n = of.n
    if n < 3:
        return 0.0
    place = max(2, n // 4)
    is_warm = False
    for j in range(n):
        is_warm = is_warm or is_ready(of.metrics[of.slots[j]], params)
    best: float = 0.0
    for r in range(JOINT):
        count = 0
        for j in range(n):
            if not asked[j]:
                continue
            m = of.metrics[of.slots[j]]
            if is_warm and not is_ready(m, params):
                continue
            x = abs(m["near_jump"] if r == 0 else m["deviation"] if r == 1 else m["means"][0])
            x = min(x, 30.0)
            at = count
            if count < place:
                count += 1
            elif x <= top[place - 1]:
                continue
            else:
                at = place - 1
            while at > 0 and top[at - 1] < x:
                top[at] = top[at - 1]
                at -= 1
            top[at] = x
        x = top[place - 1] if count >= place else 0.0
        floor = (
            params.joint_jump if r == 0 else params.joint_value if r == 1 else params.joint_quarter
        )
        limit: float = np.float64(e["joint_levels"][r])
        if limit <= 0.0:
            limit = 2.0 * floor
        if watched and x > e["joint_daily_maxima"][r]:
            e["joint_daily_maxima"][r] = bound(x, limit, e["maxima_n"])
        best = max(best, x / limit)
    if watched:
        e["joint_daily_ratio"] = max(
            e["joint_daily_ratio"], bound(best, max(e["joint_return_level"], 1.0), e["maxima_n"])
        )
    best = best / max(e["joint_return_level"], 1.0) if is_warm else 0.0
    e["joint_ratio"] = best
    return float(best)


@njit(cache=True)
def follow_trained(
    e: Record, rarity: float, t: int, dt: float, iv: float, params: EnsembleParams, use: int
) -> bool:
    """Compare a trained model's rarity of a row with its level; return whether it is known.

    rarity : -log10 of the share of training rows that reach the row's score; NaN = not known
    """
    e["trained_ratio"] = 0.0
    if math.isnan(rarity) or not (use >> TRAINED) & 1:
        return False
    rarity = clip(rarity, 8.0)
    e["trained_mean"] += (rarity - e["trained_mean"]) * fade(dt, max(900_000.0, 1.5 * iv))
    e["trained_live_ms"] += dt
    size = 0.5 * (rarity + e["trained_mean"])
    limit = e["trained_level"] if e["trained_level"] > 0.0 else 2.0 * params.floor_trained
    if e["trained_live_ms"] > 0.5 * DAY_MS:
        e["trained_daily_maximum"] = max(
            e["trained_daily_maximum"], bound(size, limit, e["trained_days"])
        )
    e["trained_ratio"] = size / limit
    return True


@njit(cache=True)
def _close_trained_day(e: Record, params: EnsembleParams, tmp: Floats) -> None:
    if e["trained_live_ms"] <= DAY_MS:
        return
    e["trained_days"] = push(e["trained_maxima"], e["trained_days"], e["trained_daily_maximum"])
    e["trained_daily_maximum"] = 0.0
    n = min(e["trained_days"], DAYS)
    floor = params.floor_trained
    level = return_level(
        e["trained_maxima"],
        n,
        0.3 * floor,
        params.return_trained,
        params.slope,
        params.trust_view,
        tmp,
    )
    e["trained_level"] = max(level, floor * (1.0 + params.early / n))


@njit(cache=True)
def close_day(e: Record, params: EnsembleParams, judged: bool, metrics: int, tmp: Floats) -> None:
    """End the entity's day: levels of the joint view, of the trained one and of the largest ratio.

    judged  : whether the day counts
    metrics : of the entity; more of them reach any level more often
    tmp     : float64 (>= DAYS,)  scratch
    """
    _close_trained_day(e, params, tmp)
    if judged:
        count = e["maxima_n"]
        push(e["maxima"], count, e["daily_maximum"])
        push(e["joint_ratios"], count, e["joint_daily_ratio"])
        for r in range(JOINT):
            push(e["joint_maxima"][r], count, e["joint_daily_maxima"][r])
        e["maxima_n"] = count + 1
    e["daily_maximum"] = 0.0
    n = min(e["maxima_n"], DAYS)
    few = 1.0 - (1.0 - params.trust_joint) * min(max((metrics - 2) / 10.0, 0.0), 1.0)
    for r in range(JOINT):
        e["joint_daily_maxima"][r] = 0.0
        floor = (
            params.joint_jump if r == 0 else params.joint_value if r == 1 else params.joint_quarter
        )
        if n > 0:
            level = return_level(
                e["joint_maxima"][r], n, 0.3 * floor, params.joint_days, params.slope, few, tmp
            )
            e["joint_levels"][r] = max(level, floor * (1.0 + 0.5 / n))
    e["joint_daily_ratio"] = 0.0
    e["joint_return_level"] = 1.0
    e["return_level"] = 1.0
    if n >= 3:
        e["joint_return_level"] = max(
            1.0,
            return_level(e["joint_ratios"], n, 0.3, params.return_joint, params.slope, few, tmp),
        )
        e["return_level"] = max(
            1.0,
            return_level(
                e["maxima"],
                n,
                0.3,
                params.return_entity * float(max(metrics, 1)) ** params.entity_power,
                params.slope,
                1.0 - (1.0 - params.trust_entity) / max(metrics, 1),
                tmp,
            ),
        )
