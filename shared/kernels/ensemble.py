"""The ensemble: rows of columns folded into the state, one verdict per row.

Law: a row's verdict depends on its own entity's earlier rows and on nothing else, whatever the cuts of the log; a late or
duplicate row is judged on a copy of the state and leaves no trace.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from shared.kernels.forecast import BAND_ERRORS, deviate, forecast
from shared.kernels.layout import (
    ABSENCE,
    COMBINATION,
    LIBRARY,
    LONG,
    MEMBERS,
    NEIGHBOURS,
    SHAPE,
    SHORT,
    TIME_OF_DAY,
    WIDTH,
    Floats,
    Floats32,
    Ints,
    Knobs,
    Record,
)
from shared.kernels.members import fold_value
from shared.kernels.policy import decide, follow_budget, knows_peaks
from shared.kernels.policy import severity as severity_of
from shared.kernels.residual import fold_cross, join_fit
from shared.kernels.scale import rescale

USUAL = 0.4343
"""Mean rarity of a score like any other: 1 / ln 10."""

FIRST_COLD = 30
COLD_SPREADS = 8.0
COLD_QUIET = 50
"""Rows without a further cold alarm."""


class Verdicts(NamedTuple):
    """What comes out, one entry per row.

    joint       : float64 (n,)        S, the strongest metric's weighted mean of rarities
    score       : float64 (n,)        Z; NaN before the first metric is ready
    effective   : float64 (n,)        Z less habituation, what the threshold is compared with
    severity    : float64 (n,)        0..1, .5 at the threshold; NaN before
    threshold   : float64 (n,)        in force for the row
    alarm       : bool (n,)
    cold        : bool (n,)           an alarm of the robust band, before the warm-up has ended
    warmup      : float64 (n,)        share of the warm-up done, 1 = ready (the metric that is farthest)
    rarity      : float64 (n, M, 4)   calibrated score of each member; NaN = not judged
    combination : float64 (n,)        rarity of the cross-metric residual, smoothed; 0 = none
    shares      : float64 (n, M, 6)   of the four members, absence and combination; with `trained` they sum to 1
    trained     : float64 (n,)        share of the trained member
    expected, lower, upper : float64 (n, M)   NaN = not known
    """

    joint: Floats
    score: Floats
    effective: Floats
    severity: Floats
    threshold: Floats
    alarm: npt.NDArray[np.bool_]
    cold: npt.NDArray[np.bool_]
    warmup: Floats
    rarity: Floats
    combination: Floats
    shares: Floats
    trained: Floats
    expected: Floats
    lower: Floats
    upper: Floats


class Limits(NamedTuple):
    """What a user asks for.

    warmup       : samples; 0 = three days, 150 to 1024
    per_day      : alarm budget, alarms per entity and day; 0 = the fixed threshold of the knobs
    cold_start   : whether extreme values raise alarms before the warm-up has ended
    direction    : float64 (M,)  +1 up only, -1 down only, 0 both
    min_absolute : float64 (M,)  least deviation from the expected value, in the metric's unit
    min_relative : float64 (M,)  the same as a share of |expected|
    """

    warmup: int
    per_day: float
    cold_start: bool
    direction: Floats
    min_absolute: Floats
    min_relative: Floats


@njit(cache=True)
def _expect(state: Record, time_ms: int) -> tuple[float, float]:
    """Expected value and half band in the metric's unit."""
    if state["phase"] < 2:
        return math.nan, math.nan
    expected, width = forecast(state, time_ms)
    return min(max(expected, -1e9), 1e9) * state["spread"] + state["centre"], min(width, 1e9) * state["spread"]


@njit(cache=True)
def _is_extreme(state: Record, value: float) -> bool:
    """Whether a value of the warm-up lies far outside everything so far."""
    n = state["count"]
    if state["phase"] == 2 or n < FIRST_COLD:
        return False
    warm = state["warm"]
    low = np.float64(warm[0, 2])
    high = np.float64(warm[0, 1])
    for i in range(n):
        low = min(low, np.float64(warm[i, 2]))
        high = max(high, np.float64(warm[i, 1]))
    beyond = max(low - value, value - high)
    if beyond <= high - low:
        return False
    ordered = np.sort(warm[:n, 0].copy())
    centre = np.float64(ordered[n // 2])
    spread = max((np.float64(ordered[int(n * 0.9)]) - np.float64(ordered[int(n * 0.1)])) / 2.56, 0.01 * abs(centre))
    return bool(spread > 0.0 and abs(value - centre) > COLD_SPREADS * spread)


@njit(cache=True)
def _is_wanted(state: Record, expected: float, direction: float, min_absolute: float, min_relative: float) -> bool:
    """Whether the newest deviations point the way and are of the size that the user asked for."""
    if direction == 0.0 and min_absolute == 0.0 and min_relative == 0.0:
        return True
    least = max(min_absolute, min_relative * abs(expected)) if not math.isnan(expected) else min_absolute
    error = state["error"]
    least = max(least, BAND_ERRORS * min(error[0], error[1], error[2]) * state["spread"])  # outside the band
    up = direction >= 0.0 and state["run_up"] * state["spread"] >= least
    down = direction <= 0.0 and state["run_down"] * state["spread"] >= least
    return up or down


@njit(cache=True)
def _score_metric(state: Record, since_alarm: int) -> float:
    """Z of a metric; a silence speaks once."""
    if state["absence"] > state["score"] and since_alarm > state["quiet"]:
        return np.float64(state["absence"])
    return np.float64(state["score"])


@njit(cache=True)
def _write_shares(state: Record, silent: bool, weight: float, knobs: Knobs, shares: Floats) -> float:
    """Parts of one metric, not normalised; returned: their sum."""
    rarity = state["rarity"]
    shares[LONG] = weight * knobs.weight_long * max(rarity[LONG] - USUAL, 0.0)
    shares[NEIGHBOURS] = weight * knobs.weight_neighbours * max(rarity[NEIGHBOURS] - USUAL, 0.0)
    shares[TIME_OF_DAY] = weight * knobs.weight_time * max(rarity[TIME_OF_DAY] - USUAL, 0.0)
    shares[SHORT] = weight * knobs.weight_short * max(rarity[SHORT] - USUAL, 0.0)
    if silent:
        shares[ABSENCE] = weight * 3.0 * state["absence"]
    total = 0.0
    for k in range(ABSENCE + 1):
        total += shares[k]
    return total


@njit(cache=True)
def _fold_combination(
    entity: Record, metrics: Record, slots: npt.NDArray[np.int32], values: Floats, vector: Floats, knobs: Knobs
) -> None:
    """Judge the combination when all metrics of the fit that still report are there; else it says nothing."""
    entity["cross"] = 0.0
    if entity["metrics"] < 2:
        return
    for k in range(entity["metrics"]):
        column = entity["columns"][k]
        value = values[column]
        if math.isnan(value):
            if entity["rows"] - entity["seen"][k] <= entity["warmup"]:
                return
            vector[k] = 0.0
            continue
        entity["seen"][k] = entity["rows"]
        state = metrics[slots[column]]
        vector[k] = rescale(value, state["centre"], state["spread"])
    fold_cross(entity, vector, knobs.rank_memory * entity["warmup"], knobs)


@njit(cache=True)
def _fold_row(
    row: int,
    entity: Record,
    metrics: Record,
    slots: npt.NDArray[np.int32],
    time_ms: int,
    values: Floats,
    trained: float,
    knobs: Knobs,
    limits: Limits,
    out: Verdicts,
    shape: Floats32,
    distances: Floats32,
    vector: Floats,
) -> None:
    columns = values.shape[0]
    entity["rows"] += 1
    since = entity["rows"] - entity["alarm"] if entity["alarm"] > 0 else entity["rows"]
    strongest = -math.inf
    interval_ms = 0.0
    extreme = False
    done = 0.0
    for column in range(columns):
        for k in range(MEMBERS):
            out.rarity[row, column, k] = math.nan
        out.expected[row, column] = out.lower[row, column] = out.upper[row, column] = math.nan
        slot = slots[column]
        if slot < 0:
            continue
        state = metrics[slot]
        value = values[column]
        expected, width = _expect(state, time_ms)
        out.expected[row, column] = expected
        out.lower[row, column] = expected - width
        out.upper[row, column] = expected + width
        if not math.isnan(value):
            extreme = extreme or (limits.cold_start and _is_extreme(state, value))
            if state["phase"] == 2:
                deviate(state, time_ms, rescale(value, state["centre"], state["spread"]))
            fold_value(state, time_ms, value, limits.warmup, knobs, shape, distances)
        if state["phase"] < 2:
            if state["warmup"] > 0:
                done = max(done, (state["count"] + state["in_fold"] / max(state["fold"], 1)) / state["warmup"])
            else:
                done = max(done, 0.01)
            continue
        done = 1.0
        if state["joined"] == 0:
            state["joined"] = 1
            entity["warmup"] = max(entity["warmup"], state["warmup"] * state["fold"])
            join_fit(entity, column)
        interval_ms = max(interval_ms, state["interval_ms"])
        if math.isnan(value):
            continue
        for k in range(MEMBERS):
            out.rarity[row, column, k] = state["rarity"][k]
        if _is_wanted(state, expected, limits.direction[column], limits.min_absolute[column], limits.min_relative[column]):
            z = _score_metric(state, since)
            if z > strongest:
                strongest = z
                out.joint[row] = state["joint"]
    out.warmup[row] = min(done, 1.0)
    out.cold[row] = False
    out.alarm[row] = False
    entity["threshold"] = entity["threshold"] if limits.per_day > 0.0 and entity["threshold"] > 0.0 else knobs.threshold
    out.threshold[row] = entity["threshold"]
    out.score[row] = out.effective[row] = out.severity[row] = math.nan
    out.combination[row] = 0.0
    if entity["warmup"] == 0:
        out.joint[row] = math.nan
        if extreme and (entity["alarm"] == 0 or since > COLD_QUIET):
            entity["alarm"] = entity["rows"]
            out.alarm[row] = out.cold[row] = True
        return
    _fold_combination(entity, metrics, slots, values, vector, knobs)
    entity["cross_smooth"] += knobs.smoothing * (entity["cross"] - entity["cross_smooth"])
    out.combination[row] = 0.5 * (entity["cross"] + entity["cross_smooth"])
    if strongest == -math.inf:
        out.joint[row] = math.nan
        return
    z = strongest + knobs.weight_cross * max(out.combination[row] - knobs.cross_floor, 0.0)
    if not math.isnan(trained):
        z += knobs.weight_trained * max(trained - knobs.cross_floor, 0.0)
    entity["score"] = z
    out.alarm[row] = decide(entity, z, limits.per_day > 0.0 and knows_peaks(entity), knobs)
    out.score[row] = z
    out.effective[row] = entity["effective"]
    out.severity[row] = severity_of(entity["effective"], entity["threshold"])
    if limits.per_day > 0.0:
        follow_budget(entity, entity["effective"], out.alarm[row], limits.per_day, interval_ms, knobs)


@njit(cache=True)
def _share_out(
    row: int, entity: Record, metrics: Record, slots: npt.NDArray[np.int32], trained: float, knobs: Knobs, out: Verdicts
) -> None:
    """Attribute a row: a metric counts the more, the stronger it is itself."""
    total = 0.0
    columns = slots.shape[0]
    for column in range(columns):
        for k in range(COMBINATION + 1):
            out.shares[row, column, k] = 0.0
        if math.isnan(out.rarity[row, column, 0]):
            continue
        state = metrics[slots[column]]
        silent = state["absence"] > state["score"]
        total += _write_shares(state, silent, 10.0 ** min(state["score"], 3.0), knobs, out.shares[row, column])
    strength = 10.0 ** min(max(out.score[row], 0.0), 3.0) if not math.isnan(out.score[row]) else 0.0
    column = entity["cross_metric"]
    part = 3.0 * strength * knobs.weight_cross * max(out.combination[row] - knobs.cross_floor, 0.0)
    if part > 0.0 and not math.isnan(out.rarity[row, column, 0]):
        out.shares[row, column, COMBINATION] = part
        total += part
    part = 0.0
    if not math.isnan(trained):
        part = 3.0 * strength * knobs.weight_trained * max(trained - knobs.cross_floor, 0.0)
        total += part
    out.trained[row] = part / total if total > 0.0 else 0.0
    for column in range(columns):
        for k in range(COMBINATION + 1):
            out.shares[row, column, k] = out.shares[row, column, k] / total if total > 0.0 else 0.0


@njit(cache=True)
def fold_ensemble(
    entity: npt.NDArray[np.int32],
    time_ms: Ints,
    values: Floats,
    trained: Floats,
    counts: npt.NDArray[np.bool_],
    slots: npt.NDArray[np.int32],
    entities: Record,
    metrics: Record,
    knobs: Knobs,
    limits: Limits,
    out: Verdicts,
) -> None:
    """Fold rows and write their verdicts.

    entity   : int32 (n,)             entity index, any order
    time_ms  : int64 (n,)             event time
    values   : float64 (n, M)         finite or NaN = missing
    trained  : float64 (n,)           rarity of the trained member, -log10 of its tail rank; NaN = none
    counts   : bool (n,)              whether the row moves the state (neither late nor duplicate)
    slots    : int32 (E, M)           slot of each (entity, metric), -1 = never reported
    entities : ENTITY_DTYPE (>= E,)
    metrics  : METRIC_DTYPE (>= slots used,)
    out      : Verdicts, all rows are written

    Twins: of the parts, tests/reference/{calibration,novelty,season,residual,policy}.py.  Cost: 3 us per value.
    """
    shape = np.zeros(SHAPE, np.float32)
    distances = np.zeros(LIBRARY, np.float32)
    vector = np.zeros(WIDTH)
    columns = values.shape[1]
    spare_entity = np.zeros(1, entities.dtype)
    spare_metrics = np.zeros(columns, metrics.dtype)
    spare_slots = np.full(columns, -1, np.int32)
    for row in range(entity.shape[0]):
        e = entity[row]
        if counts[row]:
            _fold_row(
                row, entities[e], metrics, slots[e], time_ms[row], values[row], trained[row], knobs, limits, out,
                shape, distances, vector,
            )  # fmt: skip
            _share_out(row, entities[e], metrics, slots[e], trained[row], knobs, out)
            continue
        spare_entity[0] = entities[e]
        for column in range(columns):
            spare_slots[column] = -1
            if slots[e, column] >= 0:
                spare_slots[column] = column
                spare_metrics[column] = metrics[slots[e, column]]
        _fold_row(
            row, spare_entity[0], spare_metrics, spare_slots, time_ms[row], values[row], trained[row], knobs, limits, out,
            shape, distances, vector,
        )  # fmt: skip
        _share_out(row, spare_entity[0], spare_metrics, spare_slots, trained[row], knobs, out)
