"""Several metrics together: what the others do not account for.

Many that move a little at once.

Invariant: cost is M times that of one metric (at most COMBINED enter the combination); sums are in
fixed order.
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
    COMBINED,
    CROSS,
    DAYS,
    JOINT,
    SHAPE,
    TRAINED,
    EnsembleParams,
)
from shared.ensemble.kernels.metric.warm_up import is_ready
from shared.ensemble.kernels.return_levels import bound, push, return_level
from shared.ensemble.kernels.views import column
from shared.kernels.steps import step
from shared.kernels.units import DAY_MS, HOUR_MS

IS_MEAN = column("mean")

LEFT_OVER = 3.0
"""Spreads of what the others leave over, below which they account for a metric."""

PAIRS_MS = 4.0 * DAY_MS
"""Memory of the covariance."""

LEAST_MAXIMA = 3
"""Days from which on ratios to levels have a level of their own."""


@njit(cache=True, error_model="numpy")
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
    """Scratch of ``combine``: float64 (COMBINED,) and three of (COMBINED, COMBINED)."""

    z: Floats
    a: Floats
    b: Floats
    c: Floats


@step
def _deviations(reported: Reported, n: int, z: Floats) -> int:
    """Write the bounded deviations of n metrics, 0 where a row has none; return how many it has."""
    count = 0
    for j in range(n):
        z[j] = 0.0
        if reported.judged[j]:
            z[j] = clip(reported.metrics[reported.slots[j]]["plain"], 6.0)
            count += 1
    return count


@step
def _compare_residual(m: Record, residual: float, params: EnsembleParams, use: int) -> None:
    """Put the mean residual of a metric over its level; the day's largest counts as it at most."""
    side = 0 if residual > 0.0 else 1
    limit: float = np.float64(m["return_level"][CROSS, side])
    if limit <= 0.0:
        limit = 2.0 * params.floor_cross
    if m["live_ms"] > 0.5 * DAY_MS and abs(residual) > m["daily_maximum"][CROSS, side]:
        m["daily_maximum"][CROSS, side] = bound(abs(residual), limit, m["maxima_n"])
    if (use >> CROSS) & 1:
        m["ratio"][CROSS] = residual / limit


@step
def _judge_residuals(
    e: Record, reported: Reported, row: Row, n: int, z: Floats, params: EnsembleParams, use: int
) -> None:
    """Judge what the regression of each metric on the others leaves over, as a mean of an hour."""
    learn = fade(row.passed_ms, max(3_600_000.0, 4.0 * row.interval_ms))
    for j in range(n):
        if not reported.judged[j]:
            continue
        s = 0.0
        for k in range(n):
            s += np.float64(e["inverse"][j, k]) * z[k]
        s = clip(s / math.sqrt(np.float64(e["inverse"][j, j])), 4.0)
        old = np.float64(e["residual"][j])
        new = old + (s - old) * learn
        e["residual"][j] = new
        if e["explained"][j] > 0.5:
            _compare_residual(reported.metrics[reported.slots[j]], new, params, use)


@step
def _learn_pairs(e: Record, n: int, z: Floats, dt: float) -> None:
    """Learn the covariance of the deviations."""
    learn = fade(dt, PAIRS_MS)
    e["pairs_w"] += (1.0 - e["pairs_w"]) * learn
    for j in range(n):
        for k in range(j + 1):
            old = np.float64(e["pairs"][j, k])
            e["pairs"][j, k] = old + (z[j] * z[k] - old) * learn


@step
def _invert_pairs(e: Record, n: int, t: int, work: CombinationWork) -> None:
    """Invert the covariance, and write what share of each metric the others explain."""
    a, inverse = work.a, work.b
    for j in range(n):
        for k in range(j + 1):
            a[j, k] = np.float64(e["pairs"][j, k]) / e["pairs_w"]
            a[k, j] = a[j, k]
        a[j, j] = a[j, j] * 1.02 + 0.02
    e["pairs_ms"] = t
    if invert(a, n, inverse, work.c):
        e["pairs_ok"] = 1
        for j in range(n):
            e["explained"][j] = 1.0 - 1.0 / (inverse[j, j] * a[j, j])
            for k in range(n):
                e["inverse"][j, k] = inverse[j, k]


@njit(cache=True, error_model="numpy")
def combine(
    e: Record, reported: Reported, row: Row, params: EnsembleParams, use: int, work: CombinationWork
) -> None:
    """Judge each metric by the regression on the entity's others.

    row  : interval_ms usual, time_ms and passed_ms of the row
    use  : views that may alarm, a bit each
    work : scratch; at most COMBINED metrics enter

    z are the deviations of the row, S their decayed covariance (4 days), P its inverse, computed
    again once an hour. (P z)_j / sqrt(P_jj) is what the regression of z_j on the others leaves
    over, in its own spread (Gaussian conditionals: Rue, Held, "Gaussian Markov Random Fields",
    2.2); the view is its mean over an hour. Only a metric that the others explain by half,
    1 - 1 / (P_jj S_jj), is judged. A row with at most half of the metrics changes nothing.
    Cost: O(M^2) a row, O(M^3) an hour.
    """
    n, z = min(reported.n, COMBINED), work.z
    if 2 * _deviations(reported, n, z) <= n:
        return
    if e["combined"] != n:
        e["combined"] = n
        e["pairs_ok"] = 0
    if e["pairs_ok"] == 1:
        _judge_residuals(e, reported, row, n, z, params, use)
    _learn_pairs(e, n, z, row.passed_ms)
    if row.time_ms - e["pairs_ms"] > HOUR_MS and e["pairs_w"] > 0.3:
        _invert_pairs(e, n, row.time_ms, work)


@njit(cache=True, error_model="numpy")
def is_accounted_for(e: Record, reported: Reported, place: int, view: int) -> bool:
    """Whether a metric deviates only as an episode of the entity's other metrics lets expect.

    place : of the metric in ``reported``
    view  : that would open

    Another metric, or several together, must be in an episode with a record, the others must
    explain the metric by half as a rule, and what they leave over must be usual, over the last hour
    and, unless a mean would open, in the row (LEFT_OVER of its own spreads): a mean crosses its
    level in a row that deviates more than its neighbours.
    """
    if place >= COMBINED or e["pairs_ok"] == 0 or not e["explained"][place] > 0.5:
        return False
    n = min(reported.n, COMBINED)
    in_episode = e["joint"]["state"] == REPORTED
    s = 0.0
    for k in range(n):
        m = reported.metrics[reported.slots[k]]
        if reported.judged[k]:
            s += np.float64(e["inverse"][place, k]) * clip(m["plain"], 6.0)
        if k != place:
            for key in range(SHAPE):
                in_episode = in_episode or m["episodes"][key]["state"] == REPORTED
    s /= math.sqrt(np.float64(e["inverse"][place, place]))
    hour: float = np.float64(reported.metrics[reported.slots[place]]["ratio"][CROSS])
    return bool(in_episode and (IS_MEAN[view] or abs(s) < LEFT_OVER) and abs(hour) < 0.5)


@step
def _joint_size(m: Record, figure: int) -> float:
    """Return the size of a metric's jump (0), deviation (1) or quarter-hour mean (2)."""
    x = m["means"][0]
    if figure == 0:
        x = m["near_jump"]
    elif figure == 1:
        x = m["deviation"]
    size: float = min(abs(x), 30.0)
    return size


@step
def _joint_floor(params: EnsembleParams, figure: int) -> float:
    """Return the least level of a joint figure."""
    floor = params.joint_quarter
    if figure == 0:
        floor = params.joint_jump
    elif figure == 1:
        floor = params.joint_value
    return floor


@step
def _kth_largest(
    reported: Reported,
    relevant: Array,
    is_warm: bool,
    figure: int,
    place: int,
    params: EnsembleParams,
    top: Floats,
) -> float:
    """Return the ``place``-th largest size of a figure among the metrics that count, or 0.

    is_warm : whether only metrics count that are ready
    """
    count = 0
    for j in range(reported.n):
        m = reported.metrics[reported.slots[j]]
        if not relevant[j] or (is_warm and not is_ready(m, params)):
            continue
        x = _joint_size(m, figure)
        if count < place:
            at = count
            count += 1
        elif x <= top[place - 1]:
            continue
        else:
            at = place - 1
        while at > 0 and top[at - 1] < x:
            top[at] = top[at - 1]
            at -= 1
        top[at] = x
    return top[place - 1] if count >= place else 0.0


@njit(cache=True, error_model="numpy")
def join(
    e: Record,
    reported: Reported,
    relevant: Array,
    watched: bool,
    params: EnsembleParams,
    top: Floats,
) -> float:
    """Return the largest ratio of the row's joint figures to their levels.

    relevant   : bool (>= n,)     metrics that count: judged, and deviating as the user asks
    watched : whether today's largest figures are remembered
    top     : float64 (>= n,)  scratch

    A figure is the k-th largest size of a row's jumps, deviations or quarter-hour means, k a
    quarter of the metrics, at least 2: the order statistic that k independent outliers reach, and
    one does not. Its level is learned from its own days, so that dependence between metrics is in
    it. Metrics that are warming up do not count; while all are, figures are learned and the ratio
    is 0. Twin: tests/reference/episodes.py::joint.
    """
    e["joint_ratio"] = 0.0
    if reported.n < 3:
        return 0.0
    place = max(2, reported.n // 4)
    is_warm = False
    for j in range(reported.n):
        is_warm = is_warm or is_ready(reported.metrics[reported.slots[j]], params)
    best: float = 0.0
    for r in range(JOINT):
        x = _kth_largest(reported, relevant, is_warm, r, place, params, top)
        limit: float = np.float64(e["joint_levels"][r])
        if limit <= 0.0:
            limit = 2.0 * _joint_floor(params, r)
        if watched and x > e["joint_daily_maxima"][r]:
            e["joint_daily_maxima"][r] = bound(x, limit, e["joint_n"])
        best = max(best, x / limit)
    level = max(e["joint_return_level"], 1.0)
    if watched:
        e["joint_daily_ratio"] = max(e["joint_daily_ratio"], bound(best, level, e["joint_n"]))
    best = best / level if is_warm else 0.0
    e["joint_ratio"] = best
    return float(best)


@njit(cache=True, error_model="numpy")
def follow_trained(e: Record, rarity: float, row: Row, params: EnsembleParams, use: int) -> bool:
    """Compare a trained model's rarity of a row with its level; return whether it is known.

    rarity : -log10 of the share of training rows that reach the row's score; NaN = not known

    In the ensemble the level is higher: what the other views do not see has to be rarer, as each
    further view has false alarms of its own.
    """
    e["trained_ratio"] = 0.0
    if math.isnan(rarity) or not (use >> TRAINED) & 1:
        return False
    rarity = clip(rarity, 8.0)
    e["trained_mean"] += (rarity - e["trained_mean"]) * fade(
        row.passed_ms, max(900_000.0, 1.5 * row.interval_ms)
    )
    e["trained_live_ms"] += row.passed_ms
    size = 0.5 * (rarity + e["trained_mean"])
    limit = e["trained_level"] if e["trained_level"] > 0.0 else 2.0 * params.floor_trained
    if e["trained_live_ms"] > 0.5 * DAY_MS:
        e["trained_daily_maximum"] = max(
            e["trained_daily_maximum"], bound(size, limit, e["trained_days"])
        )
    is_alone = use == 1 << TRAINED
    e["trained_ratio"] = size / (limit if is_alone else limit * params.among_others)
    return True


@njit(cache=True, error_model="numpy")
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


@step
def _close_joint_day(e: Record, n: int, params: EnsembleParams, trust: float, tmp: Floats) -> None:
    """Set the levels of the joint figures, and that of the largest of them."""
    for r in range(JOINT):
        e["joint_daily_maxima"][r] = 0.0
        floor = _joint_floor(params, r)
        if n > 0:
            level = return_level(
                e["joint_maxima"][r], n, 0.3 * floor, params.joint_days, params.slope, trust, tmp
            )
            e["joint_levels"][r] = max(level, floor * (1.0 + 0.5 / n))
    e["joint_daily_ratio"] = 0.0
    e["joint_return_level"] = 1.0
    if n >= LEAST_MAXIMA:
        level = return_level(
            e["joint_ratios"], n, 0.3, params.return_joint, params.slope, trust, tmp
        )
        e["joint_return_level"] = max(1.0, level)


@step
def _largest_level(e: Record, n: int, metrics: int, params: EnsembleParams, tmp: Floats) -> float:
    """Return the level of an entity's largest ratio, by that of n days."""
    if n < LEAST_MAXIMA:
        return 1.0
    many = max(metrics, 1)
    days = params.return_entity * float(many) ** params.entity_power
    trust = 1.0 - (1.0 - params.trust_entity) / many
    return max(1.0, return_level(e["maxima"], n, 0.3, days, params.slope, trust, tmp))


@njit(cache=True, error_model="numpy")
def close_day(e: Record, params: EnsembleParams, judged: bool, metrics: int, tmp: Floats) -> None:
    """End the entity's day: levels of the joint view, of the trained one and of the largest ratio.

    judged  : whether the day counts
    metrics : of the entity; more of them reach any level more often
    tmp     : float64 (>= DAYS,)  scratch
    """
    _close_trained_day(e, params, tmp)
    if judged:
        e["maxima_n"] = push(e["maxima"], e["maxima_n"], e["daily_maximum"])
    if judged and e["joint_daily_ratio"] > 0.0:  # a day before the third metric tells nothing
        count = e["joint_n"]
        push(e["joint_ratios"], count, e["joint_daily_ratio"])
        for r in range(JOINT):
            push(e["joint_maxima"][r], count, e["joint_daily_maxima"][r])
        e["joint_n"] = count + 1
    e["daily_maximum"] = 0.0
    many = min(max((metrics - 2) / 10.0, 0.0), 1.0)
    trust = 1.0 - (1.0 - params.trust_joint) * many
    _close_joint_day(e, min(e["joint_n"], DAYS), params, trust, tmp)
    e["return_level"] = _largest_level(e, min(e["maxima_n"], DAYS), metrics, params, tmp)
