"""The ensemble: rows of columns folded into the state, one verdict per row.

Law: a row's verdict depends on its own entity's earlier rows and on nothing else, whatever the cuts
     of the log or the places of
its metrics' columns; a late or duplicate row is judged on a copy of the state and leaves no trace.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit, typeof, types

from shared.ensemble.kernels.calibration import recalibrate
from shared.ensemble.kernels.forecast import BAND_ERRORS, DAY, RECENT, SHIFTED, deviate, forecast
from shared.ensemble.kernels.layout import (
    ENTITY_DTYPE,
    LIBRARY,
    MEMBERS,
    METRIC_DTYPE,
    SHAPE,
    WIDTH,
    Floats,
    Floats32,
    Ints,
    Knobs,
    Record,
)
from shared.ensemble.kernels.members import fold_value, progress
from shared.ensemble.kernels.outputs import CELL_DTYPE, ROW_DTYPE, Flags, Ints32, Limits, clear_cell
from shared.ensemble.kernels.policy import (
    decide,
    decide_cold,
    follow_budget,
    is_extreme,
    knows_peaks,
)
from shared.ensemble.kernels.policy import severity as severity_of
from shared.ensemble.kernels.residual import fold_combination, join_fit
from shared.ensemble.kernels.scale import rescale
from shared.ensemble.kernels.sharing import share_out

FARTHEST = 1e9
"""Expected values are clipped to so many spreads."""


@njit(cache=True)
def _is_wanted(
    state: Record, expected: float, width: float, direction: float, absolute: float, relative: float
) -> bool:
    """Whether the newest deviations point the way and are of the size that the user asked for, and
    outside the band.
    """
    if direction == 0.0 and absolute == 0.0 and relative == 0.0:
        return True
    least = max(absolute, relative * abs(expected)) if not math.isnan(expected) else absolute
    error = state["error"]
    if math.isnan(width):
        width = BAND_ERRORS * min(error[RECENT], error[DAY], error[SHIFTED]) * state["spread"]
    least = max(least, width)
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
def _fold_metric(
    state: Record,
    time_ms: int,
    value: float,
    warmup: int,
    asked: Floats,
    knobs: Knobs,
    cell: Record,
    shape: Floats32,
    distances: Floats32,
) -> bool:
    """Fold one value into its metric, missing or not, and write what does not depend on the
    threshold.

    asked   : float64 (3,)  direction, least deviation, least relative deviation
    returns : whether the value deviates so
    """
    expected = width = math.nan
    if state["phase"] == 2:
        centre, spread = state["centre"], state["spread"]
        likely, half, level, weekly, season = forecast(state, time_ms)
        expected = min(max(likely, -FARTHEST), FARTHEST) * spread + centre
        width = min(half, FARTHEST) * spread
        cell["expected"] = expected
        cell["lower"] = expected - width
        cell["upper"] = expected + width
        cell["level"] = min(max(level, -FARTHEST), FARTHEST) * spread + centre
        cell["weekly"] = weekly
        if not math.isnan(value):
            deviate(state, likely, season, rescale(value, centre, spread))
    if not math.isnan(value):
        fold_value(state, time_ms, value, warmup, knobs, shape, distances)
    if state["seen"] > 0:
        cell["history_ms"] = max(np.float64(time_ms - state["origin_ms"]), 0.0)
    if state["phase"] < 2:
        return False
    if state["last_active"] == 1:
        cell["quiet_ms"] = np.float64(state["quiet"]) * state["interval_ms"]
        cell["longest_ms"] = np.float64(state["longest"]) * state["interval_ms"]
    if math.isnan(value):
        return False
    for k in range(MEMBERS):
        cell["rarity"][k] = state["rarity"][k]
        cell["unseen"][k] = state["unseen"][k]
    return _is_wanted(state, expected, width, asked[0], asked[1], asked[2])


@njit(cache=True)
def _judged(metrics: Record, slots: Ints32, values: Floats) -> int:
    """Count the metrics that have a say in a row."""
    count = 0
    for column in range(slots.shape[0]):
        if (
            slots[column] >= 0
            and metrics[slots[column]]["phase"] == 2
            and not math.isnan(values[column])
        ):
            count += 1
    return count


@njit(cache=True)
def _fold_metrics(
    entity: Record,
    metrics: Record,
    slots: Ints32,
    order: Ints32,
    time_ms: int,
    values: Floats,
    warmup: int,
    cold_start: bool,
    asked: Floats,
    knobs: Knobs,
    verdict: Record,
    cells: Record,
    shape: Floats32,
    distances: Floats32,
) -> tuple[float, bool, int, float]:
    """Fold a row's values, each into its metric.

    The strongest of M metrics is chosen, which by chance alone is M times as often rare: log10 M is
    taken off (Bonferroni), so that a threshold means as many alarms for an entity of ten metrics as
    for one of a single metric; never more than half, so that a budget still finds a threshold where
    alarms are to come every day.

    returns : Z of the strongest metric (-inf = none was judged), whether any deviates as asked, the
              first extreme column of a cold start (-1 = none), the longest interval
    """
    since = entity["rows"] - entity["alarm"] if entity["alarm"] > 0 else entity["rows"]
    choice = knobs.choice * math.log10(max(_judged(metrics, slots, values), 1))
    strongest = -math.inf
    interval_ms = 0.0
    wanted = False
    extreme = -1
    done = 0.0
    for i in range(order.shape[0]):
        column = order[i]
        cell = cells[column]
        clear_cell(cell)
        if slots[column] < 0:
            continue
        state = metrics[slots[column]]
        value = values[column]
        if (
            cold_start
            and extreme < 0
            and not math.isnan(value)
            and is_extreme(state, time_ms, value)
        ):
            extreme = column
        deviates = _fold_metric(
            state, time_ms, value, warmup, asked[column], knobs, cell, shape, distances
        )
        share, minutes = progress(state, warmup)
        if share > done:
            done = share
            verdict["warmup_minutes_left"] = minutes
        if state["phase"] < 2:
            continue
        if state["joined"] == 0:
            state["joined"] = 1
            entity["warmup"] = max(entity["warmup"], state["warmup"] * state["fold"])
            join_fit(entity, column)
        interval_ms = max(interval_ms, state["interval_ms"])
        if math.isnan(value):
            continue
        z = _score_metric(state, since)
        z -= min(choice, 0.5 * max(z, 0.0))
        if not deviates:
            z = min(z, 0.0)
        wanted = wanted or deviates
        cell["metric_severity"] = severity_of(z, entity["threshold"])
        if z > strongest:
            strongest = z
            verdict["joint"] = state["joint"]
    verdict["warmup"] = done
    return strongest, wanted, extreme, interval_ms


@njit(cache=True)
def _judge_row(
    entity: Record,
    strongest: float,
    wanted: bool,
    trained: float,
    per_day: float,
    interval_ms: float,
    knobs: Knobs,
    verdict: Record,
) -> None:
    """Join the strongest metric, the combination and the trained member, and decide."""
    z = strongest
    if wanted:
        z += knobs.weight_cross * max(verdict["combination"] - knobs.cross_floor, 0.0)
        if not math.isnan(trained):
            z += knobs.weight_trained * max(trained - knobs.cross_floor, 0.0)
    entity["score"] = z
    alarm = decide(entity, z, per_day > 0.0 and knows_peaks(entity), knobs)
    verdict["is_anomaly"] = alarm
    verdict["score"] = z
    verdict["effective"] = entity["effective"]
    verdict["severity"] = severity_of(entity["effective"], entity["threshold"])
    if per_day > 0.0:
        follow_budget(entity, entity["effective"], alarm, per_day, interval_ms, knobs)


@njit(cache=True)
def _fold_row(
    entity: Record,
    metrics: Record,
    slots: Ints32,
    order: Ints32,
    time_ms: int,
    values: Floats,
    trained: float,
    warmup: int,
    per_day: float,
    cold_start: bool,
    asked: Floats,
    knobs: Knobs,
    verdict: Record,
    cells: Record,
    shape: Floats32,
    distances: Floats32,
    vector: Floats,
    usual: Floats,
) -> None:
    entity["rows"] += 1
    if per_day <= 0.0 or entity["threshold"] <= 0.0:
        entity["threshold"] = knobs.threshold
    verdict["threshold"] = entity["threshold"]
    verdict["joint"] = verdict["score"] = verdict["effective"] = verdict["severity"] = verdict[
        "warmup_minutes_left"
    ] = math.nan
    verdict["is_anomaly"] = verdict["cold_start"] = False
    verdict["combination"] = verdict["trained"] = 0.0
    verdict["top_metric"] = -1
    strongest, wanted, extreme, interval_ms = _fold_metrics(
        entity,
        metrics,
        slots,
        order,
        time_ms,
        values,
        warmup,
        cold_start,
        asked,
        knobs,
        verdict,
        cells,
        shape,
        distances,
    )
    if not math.isnan(trained):
        trained = recalibrate(entity, trained)
    if entity["warmup"] == 0:
        if decide_cold(entity, extreme >= 0):
            verdict["is_anomaly"] = verdict["cold_start"] = True
            verdict["top_metric"] = extreme
        return
    fold_combination(entity, metrics, slots, time_ms, values, vector, usual, knobs)
    entity["cross_smooth"] += knobs.smoothing * (entity["cross"] - entity["cross_smooth"])
    verdict["combination"] = 0.5 * (entity["cross"] + entity["cross_smooth"])
    if strongest > -math.inf:
        _judge_row(entity, strongest, wanted, trained, per_day, interval_ms, knobs, verdict)
        share_out(entity, metrics, slots, order, trained, knobs, verdict, cells)


def _signature() -> Any:
    """Types of the one call that there is: other arrays would compile it anew, in the middle of a
    run.
    """
    cell, row, flag = np.zeros((1, 1)), np.zeros(1), np.zeros(1, np.bool_)
    place, places = np.zeros(1, np.int32), np.zeros((1, 1), np.int32)
    limits = Limits(0, 0.0, True, row, row, row)
    state = np.zeros(1, ENTITY_DTYPE), np.zeros(1, METRIC_DTYPE)
    out = np.zeros(1, ROW_DTYPE), np.zeros((1, 1), CELL_DTYPE)
    call = (
        place,
        np.zeros(1, np.int64),
        cell,
        row,
        flag,
        flag,
        places,
        place,
        *state,
        Knobs(),
        limits,
        *out,
    )
    return types.void(*map(typeof, call))


@njit(_signature(), cache=True)
def fold_ensemble(
    entity: Ints32,
    time_ms: Ints,
    values: Floats,
    trained: Floats,
    counts: Flags,
    forgotten: Flags,
    slots: Ints32,
    order: Ints32,
    entities: Record,
    metrics: Record,
    knobs: Knobs,
    limits: Limits,
    verdicts: Record,
    cells: Record,
) -> None:
    """Fold rows and write their verdicts.

    entity    : int32 (n,)             entity index, any order
    time_ms   : int64 (n,)             event time
    values    : float64 (n, M)         finite or NaN = missing
    trained   : float64 (n,)           rarity of the trained member, -log10 of its tail rank; NaN =
                none
    counts    : bool (n,)              whether the row moves the state (neither late nor duplicate)
    forgotten : bool (n,)              whether the entity and all its metrics start anew with this
                row
    slots     : int32 (E, M)           slot of each (entity, metric), -1 = never reported
    order     : int32 (M,)             columns in the order in which they are visited: it alone
                breaks ties
    entities  : ENTITY_DTYPE (>= E,)
    metrics   : METRIC_DTYPE (>= slots used,)
    verdicts  : ROW_DTYPE (n,) out     all rows are written
    cells     : CELL_DTYPE (n, M) out

    Twins: of the parts,
           tests/reference/{absence,budget,calibration,forecast,novelty,policy,residual,season}.py.
    Cost: 3 us per value.
    """
    shape = np.zeros(SHAPE, np.float32)
    distances = np.zeros(LIBRARY, np.float32)
    vector = np.zeros(WIDTH)
    usual = np.ones(WIDTH)
    columns = values.shape[1]
    asked = np.zeros((columns, 3))
    asked[:, 0] = limits.direction
    asked[:, 1] = limits.min_absolute
    asked[:, 2] = limits.min_relative
    empty_entity = np.zeros(1, entities.dtype)
    empty_metric = np.zeros(1, metrics.dtype)
    spare_entity = np.zeros(1, entities.dtype)
    spare_metrics = np.zeros(columns, metrics.dtype)
    spare_slots = np.full(columns, -1, np.int32)
    for row in range(entity.shape[0]):
        e = entity[row]
        mine, records, places = entities[e], metrics, slots[e]
        if not counts[row]:
            spare_entity[0] = entities[e]
            for column in range(columns):
                spare_slots[column] = -1
                if slots[e, column] >= 0:
                    spare_slots[column] = column
                    spare_metrics[column] = metrics[slots[e, column]]
            mine, records, places = spare_entity[0], spare_metrics, spare_slots
        if forgotten[row]:
            if counts[row]:
                entities[e] = empty_entity[0]
            else:
                spare_entity[0] = empty_entity[0]
            for column in range(columns):
                if places[column] >= 0:
                    records[places[column]] = empty_metric[0]
        _fold_row(
            mine, records, places, order, time_ms[row], values[row], trained[row],
            limits.warmup, limits.per_day, limits.cold_start, asked, knobs, verdicts[row], cells[row], shape, distances,
            vector, usual,
        )  # fmt: skip
