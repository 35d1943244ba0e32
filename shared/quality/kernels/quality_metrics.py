"""Values of a row's metrics: those that are missing, and those that stay the same too long.

Invariant: a row adds at most one signal for all missing metrics, and one for all flat ones.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from shared.quality.kernels.quality_intervals import usual_interval_ms
from shared.quality.kernels.quality_layout import (
    FADE,
    FLAT_LINE,
    MIN_CHANGES,
    MIN_INTERVALS,
    MISSING,
    USUAL_TWICE,
    Limits,
)
from shared.quality.kernels.quality_signals import Floats, Indices, Ints, Record, add_signal, claim


@njit(cache=True)
def _update_value(state: Record, value: float, time_ms: int, limit_ms: float) -> None:
    """Fold a value into its series.

    A stretch of one value ends where the value changes or values were missing.
    """
    if state["absent"] > 0:
        state["longest_absent"] = max(state["longest_absent"], np.float64(state["absent"]))
        state["absent"] = 0
        state["missing_said"] = 0
    elif state["longest_absent"] > 0.0:
        state["longest_absent"] *= FADE
    same = state["seen"] == 1 and value == state["value"]
    if not same or time_ms - state["sample_ms"] > limit_ms:
        if state["seen"] == 1:
            state["longest_ms"] = max(state["longest_ms"], state["sample_ms"] - state["since_ms"])
        state["changes"] += 1 if state["seen"] == 1 and not same else 0
        state["seen"] = 1
        state["value"] = value
        state["since_ms"] = time_ms
        state["flat_said"] = 0
    state["sample_ms"] = time_ms


@njit(cache=True)
def _is_flat(state: Record, flat_ms: int) -> bool:
    """Whether the current stretch of one value is reported as flat.

    The metric must have varied before, and the stretch must be longer than is usual.
    """
    length = state["sample_ms"] - state["since_ms"]
    if length <= flat_ms or state["flat_said"] == 1 or state["changes"] < MIN_CHANGES:
        return False
    return bool(length > USUAL_TWICE * state["longest_ms"])


@njit(cache=True)
def _is_missed(state: Record) -> bool:
    """Whether the current absence is reported: it is new and longer than is usual."""
    return bool(
        state["missing_said"] == 0 and state["absent"] > USUAL_TWICE * state["longest_absent"]
    )


@njit(cache=True)
def update_metrics(
    row: int,
    e: int,
    time_ms: int,
    values: Floats,
    slots: Indices,
    listed: Indices,
    state: Record,
    series: Record,
    limit_ms: float,
    limits: Limits,
    n_signals: int,
    places: Ints,
    amounts: Floats,
) -> int:
    """Fold a row's values; add at most one signal for missing and one for flat metrics.

    listed : int32 (M,)  the metrics in the order in which the entity first reported them, then -1
    """
    later = state["seen"] == 0 or time_ms > state["newest_ms"]
    known = state["intervals"] >= MIN_INTERVALS
    missed, first_missed, flat, first_flat = 0, -1, 0, -1
    for k in range(listed.shape[0]):
        metric = listed[k]
        slot = slots[metric] if metric >= 0 else -1
        if slot < 0:
            continue
        metric_state = series[slot]
        if not math.isnan(values[metric]):
            _update_value(metric_state, values[metric], time_ms, limit_ms)
            if _is_flat(metric_state, limits.flat_ms):
                flat += 1
                first_flat = metric if first_flat < 0 else first_flat
        elif metric_state["seen"] == 1:
            # a further row of the same time may hold what the first did not
            metric_state["absent"] += 1 if later else 0
            if known and _is_missed(metric_state):
                missed += 1
                first_missed = metric if first_missed < 0 else first_missed
    if missed > 0 and claim(state, MISSING, time_ms, limits.repeat_ms):
        since_ms = series[slots[first_missed]]["sample_ms"]
        for metric in range(values.shape[0]):
            if (
                slots[metric] >= 0
                and math.isnan(values[metric])
                and _is_missed(series[slots[metric]])
            ):
                series[slots[metric]]["missing_said"] = 1
        n_signals = add_signal(
            n_signals,
            places,
            amounts,
            row,
            MISSING,
            e,
            first_missed,
            since_ms,
            missed,
            usual_interval_ms(state),
            missed - 1,
        )
    if flat > 0 and claim(state, FLAT_LINE, time_ms, limits.repeat_ms):
        since_ms = series[slots[first_flat]]["since_ms"]
        for metric in range(values.shape[0]):
            if (
                slots[metric] >= 0
                and not math.isnan(values[metric])
                and _is_flat(series[slots[metric]], limits.flat_ms)
            ):
                series[slots[metric]]["flat_said"] = 1
        n_signals = add_signal(
            n_signals,
            places,
            amounts,
            row,
            FLAT_LINE,
            e,
            first_flat,
            since_ms,
            values[first_flat],
            usual_interval_ms(state),
            flat - 1,
        )
    return n_signals


@njit(cache=True)
def contradicts(time_ms: int, values: Floats, slots: Indices, series: Record) -> bool:
    """Whether a metric already has a value for this time."""
    for metric in range(values.shape[0]):
        if slots[metric] >= 0 and not math.isnan(values[metric]):
            metric_state = series[slots[metric]]
            if metric_state["seen"] == 1 and metric_state["sample_ms"] == time_ms:
                return True
    return False
