"""Verdict on a row: the largest ratio, what the user asks for, the episode it belongs to.

Invariant: nothing here is remembered; a row's verdict is read from the state.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from shared.ensemble.kernels.array_types import Array, Floats, Record
from shared.ensemble.kernels.entity.evidence import evidence, severity_of
from shared.ensemble.kernels.entity.row import Reported, decode_value
from shared.ensemble.kernels.layout import (
    ALL_VIEWS,
    DIRECTION,
    HOUR,
    HOURLY,
    HOURS4,
    KEYS,
    LEVEL,
    MIN_ABSOLUTE,
    MIN_RELATIVE,
    MISSED,
    NO_METRIC,
    OFTEN,
    QUARTER,
    STUCK,
    TRAINED_KEY,
    TWO,
    VALUE,
    EnsembleParams,
)
from shared.ensemble.kernels.metric.deviation import beyond_range
from shared.ensemble.kernels.metric.warm_up import is_ready, time_left_ms, warmup_share
from shared.ensemble.kernels.outputs import WORSE
from shared.ensemble.kernels.season.season_memory import first_day_of, is_new_kind
from shared.ensemble.kernels.views import column as column_of
from shared.kernels.units import MINUTE_MS

IS_SIGNED = column_of("signed")
BY_TIME_OF_DAY = np.isin(
    np.arange(ALL_VIEWS), [VALUE, TWO, QUARTER, HOUR, HOURS4, MISSED, LEVEL, OFTEN]
)
"""Views that compare with what is usual at a time of day."""


@njit(cache=True, error_model="numpy")
def largest_ratio(
    reported: Reported, params: EnsembleParams, views: Array
) -> tuple[float, int, bool]:
    """Return the largest ratio of a row's metrics, its place, and whether any is ready.

    reported : its ratios are written
    views    : uint8 (>= n,)  out, the view that has each
    """
    top, place, ready = 0.0, -1, False
    for j in range(reported.n):
        m = reported.metrics[reported.slots[j]]
        ready = ready or is_ready(m, params)
        reported.ratios[j] = math.nan
        views[j] = 0
        if not reported.judged[j]:
            continue
        mine = 0.0
        for key in range(HOURLY):
            q, view = evidence(m, key, 1.0)
            if q > mine:
                mine = q
                views[j] = view
        reported.ratios[j] = mine
        if mine > top:
            top, place = mine, j
    return top, place, ready


@njit(cache=True, error_model="numpy")
def apply_limits(m: Record, limits: Floats) -> bool:
    """Hold back what the user does not ask for; whether the value deviates as asked.

    limits : float64 (3,)  direction, least deviation, least share of |expected|
    """
    way = limits[DIRECTION]
    if way == 0.0 and limits[MIN_ABSOLUTE] <= 0.0 and limits[MIN_RELATIVE] <= 0.0:
        return True
    q = m["ratio"]
    expected = decode_value(m, m["expected"])
    least = max(limits[MIN_ABSOLUTE], limits[MIN_RELATIVE] * abs(expected))
    off = m["last"] - expected
    small = abs(off) < least
    for view in range(ALL_VIEWS):
        if view == MISSED:
            usual = decode_value(m, m["missed_usual"])
            much = max(limits[MIN_ABSOLUTE], limits[MIN_RELATIVE] * abs(usual))
            if abs(usual - decode_value(m, m["missed_most"])) < much:
                q[view] = 0.0
        elif small and view != STUCK:
            q[view] = 0.0
        if IS_SIGNED[view]:
            if q[view] * way < 0.0:
                q[view] = 0.0
        elif view != STUCK and off * way < 0.0:
            q[view] = 0.0
    return bool(not small and off * way >= 0.0)


@njit(cache=True, error_model="numpy")
def excuse_new_kind(reported: Reported, day: int, shift_ms: int) -> bool:
    """Hold back what a day's kind may explain that the metrics have not shown: a first weekend.

    day      : local
    shift_ms : local time minus UTC
    returns  : whether any metric is held back

    What lies in a metric's range at other times of day is no deviation then; what lies outside
    counts by as much. Levels are learned from the views as they are.
    """
    any_ = False
    for j in range(reported.n):
        m = reported.metrics[reported.slots[j]]
        if not reported.judged[j] or not is_new_kind(first_day_of(m, shift_ms), day):
            continue
        any_ = True
        x, z = (m["last"] - m["centre"]) / m["scale"], m["deviation"]
        share = beyond_range(m, x, z, m["spread"]) / z if z != 0.0 else 0.0
        for view in range(ALL_VIEWS):
            if BY_TIME_OF_DAY[view]:
                m["ratio"][view] *= share
    return any_


@njit(cache=True, error_model="numpy")
def name_episode(e: Record, reported: Reported, out: Record) -> None:
    """Write the open episode with a record that a row belongs to: the most severe lately."""
    most = -1.0
    for j in range(reported.n):
        m = reported.metrics[reported.slots[j]]
        for key in range(KEYS):
            ep = m["episodes"][key]
            if ep["state"] == 1 and ep["recent"] > most:
                most = ep["recent"]
                out["episode_column"] = reported.columns[j]
                out["episode_key"] = key
                out["episode_at"] = ep["opened_at"]
    for key in (NO_METRIC, TRAINED_KEY):
        ep = e["joint"] if key == NO_METRIC else e["trained"]
        if ep["state"] == 1 and ep["recent"] > most:
            most = ep["recent"]
            out["episode_column"] = -1
            out["episode_key"] = key
            out["episode_at"] = ep["opened_at"]
    out["in_episode"] = 1 if most >= 0.0 else 0


@njit(cache=True, error_model="numpy")
def clear_row(out: Record, cells: Record, params: EnsembleParams) -> None:
    """Write what is known of a row that is not judged."""
    out["score"] = out["severity"] = math.nan
    out["threshold"] = params.threshold
    out["warmup"] = 0.0
    out["warmup_minutes_left"] = math.nan
    out["top_metric"] = -1
    out["state"] = out["late"] = out["ahead"] = out["duplicate"] = out["is_anomaly"] = 0
    out["cold_start"] = out["in_episode"] = out["episode_key"] = 0
    out["episode_column"] = out["episode_at"] = -1
    for column in range(cells.shape[0]):
        cell = cells[column]
        cell["expected"] = cell["lower"] = cell["upper"] = cell["metric_severity"] = math.nan


@njit(cache=True, error_model="numpy")
def write_cells(
    e: Record,
    reported: Reported,
    params: EnsembleParams,
    out: Record,
    cells: Record,
) -> None:
    """Write expected values, bands and severities of a row's metrics, and its share of warm-up."""
    level = e["return_level"] * e["threshold"]
    warm, left = 1.0, 0.0
    for j in range(reported.n):
        m, cell = reported.metrics[reported.slots[j]], cells[reported.columns[j]]
        if reported.judged[j] and m["scale"] > 0.0:
            half = m["spread"] * m["scale"] * level
            expected = decode_value(m, m["expected"])
            cell["expected"] = expected
            cell["lower"] = expected - np.float64(m["return_level"][VALUE, 1]) * half
            cell["upper"] = expected + np.float64(m["return_level"][VALUE, 0]) * half
        if reported.judged[j] and is_ready(m, params):
            cell["metric_severity"] = severity_of(reported.ratios[j] / (level * params.threshold))
        if m["samples"] > 0:
            warm = min(warm, warmup_share(m, params))
            left = max(left, time_left_ms(m, params))
    out["warmup"] = warm
    out["warmup_minutes_left"] = left / MINUTE_MS


@njit(cache=True, error_model="numpy")
def mark_anomalies(out: Record, events: Record) -> float:
    """Mark a row whose events hold an anomaly; returns their largest score, 0 = none."""
    own_score = 0.0
    for k in range(events.shape[0]):
        if events[k]["phase"] <= WORSE:
            out["is_anomaly"] = 1
            own_score = max(own_score, events[k]["score"])
            out["cold_start"] = max(out["cold_start"], events[k]["cold_start"])
    return own_score


@njit(cache=True, error_model="numpy")
def write_score(
    out: Record, e: Record, top: float, joint: float, own_score: float, params: EnsembleParams
) -> None:
    """Write a row's score, the largest ratio of any view to its level.

    top, joint : largest ratio of the metrics, and of the joint view
    own_score       : largest score of the row's own anomalies

    It is scaled so that the threshold in force is what it must reach.
    """
    budget = e["threshold"]
    score = max(top / (e["return_level"] * budget), joint / budget)
    score = max(score, e["trained_ratio"] / budget, own_score * params.threshold)
    out["score"] = score * budget
    out["severity"] = severity_of(score / params.threshold)
    out["state"] = 1
