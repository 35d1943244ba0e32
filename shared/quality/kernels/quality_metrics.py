"""Values of a row's metrics: those that are missing, and those that stay the same too long.

Invariant: a row adds at most one signal for all missing metrics, and one for all flat ones.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from shared.kernels.clock import local_of
from shared.quality.kernels.presence import DAY_MS, mark_present, usual_silence
from shared.quality.kernels.quality_intervals import (
    is_known,
    learn_interval,
    silence_limit_ms,
    usual_interval_ms,
)
from shared.quality.kernels.quality_layout import (
    CLIP,
    FLAT_LINE,
    FLAT_MEMORY_MS,
    METRIC_BINS,
    MIN_CHANGES,
    MISSING,
    USUAL_TWICE,
    Limits,
)
from shared.quality.kernels.quality_signals import Floats, Indices, Ints, Record, add_signal, claim

_METRIC_BIN_MS = DAY_MS // METRIC_BINS


@njit(cache=True)
def _flat_limit_ms(state: Record, flat_ms: int) -> float:
    """Longest stretch of one value without a signal."""
    limit_ms: float = max(np.float64(flat_ms), USUAL_TWICE * state["longest_ms"])
    return limit_ms


@njit(cache=True)
def _unusual_ms(
    state: Record, time_ms: int, gap_intervals: float, changes: Ints, shifts: Ints
) -> float:
    """Return how much of the time without a value does not recur, in ms."""
    absent_ms: float = state["absent_ms"]
    interval_ms = usual_interval_ms(state["rhythm"])
    if not absent_ms > gap_intervals * interval_ms:
        return absent_ms
    usual_ms = usual_silence(
        state["presence"],
        state["first_ms"],
        local_of(state["sample_ms"], changes, shifts),
        local_of(time_ms, changes, shifts),
        interval_ms,
    )
    return max(absent_ms - usual_ms, 1.0)


@njit(cache=True)
def _update_value(
    state: Record,
    value: float,
    time_ms: int,
    limit_ms: float,
    limits: Limits,
    changes: Ints,
    shifts: Ints,
) -> None:
    """Fold a value into its series.

    A stretch of one value ends where the value changes or values were missing.
    """
    gap_intervals = limits.gap_intervals
    if state["absent_ms"] > 0.0:
        silent_ms = _unusual_ms(state, time_ms, gap_intervals, changes, shifts)
        learn_interval(state["rhythm"], state["absent_ms"], silent_ms, time_ms, gap_intervals)
    local_ms = local_of(time_ms, changes, shifts)
    if state["seen"] == 0:
        state["first_ms"] = local_ms
    mark_present(state["presence"], local_ms)
    state["absent_ms"] = 0.0
    state["missing_reported"] = 0
    same = state["seen"] == 1 and value == state["value"]
    if not same or time_ms - state["sample_ms"] > limit_ms:
        if state["seen"] == 1:
            length = np.float64(state["sample_ms"] - state["since_ms"])
            counted = min(length, _flat_limit_ms(state, limits.flat_ms))
            passed = np.float64(time_ms - state["since_ms"])
            faded = state["longest_ms"] * (1.0 - min(passed / FLAT_MEMORY_MS, 1.0))
            state["longest_ms"] = max(faded, counted)
        state["changes"] += 1 if state["seen"] == 1 and not same else 0
        state["seen"] = 1
        state["value"] = value
        state["since_ms"] = time_ms
        state["flat_reported"] = 0
    state["sample_ms"] = time_ms


@njit(cache=True)
def _is_flat(state: Record, flat_ms: int) -> bool:
    """Whether the current stretch of one value is reported as flat.

    The metric must have varied before, and the stretch must be longer than is usual.
    """
    length = state["sample_ms"] - state["since_ms"]
    if length <= flat_ms or state["flat_reported"] == 1 or state["changes"] < MIN_CHANGES:
        return False
    return bool(length > _flat_limit_ms(state, flat_ms))


@njit(cache=True)
def _is_missed(
    state: Record,
    newest_ms: int,
    time_ms: int,
    step_ms: float,
    gap_intervals: float,
    changes: Ints,
    shifts: Ints,
) -> bool:
    """Whether the current absence is reported: it is new and longer than is usual.

    newest_ms : time of the row before
    step_ms   : time that the row covers

    What recurs of an absence is looked up where it becomes too long, and in each bin after that.
    """
    limit_ms = silence_limit_ms(state["rhythm"], gap_intervals)
    if state["missing_reported"] == 1 or state["absent_ms"] <= limit_ms:
        return False
    is_new_bin = time_ms // _METRIC_BIN_MS > newest_ms // _METRIC_BIN_MS
    if not is_new_bin and state["absent_ms"] - step_ms > limit_ms:
        return False
    return _unusual_ms(state, time_ms, gap_intervals, changes, shifts) > limit_ms


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
    changes: Ints,
    shifts: Ints,
    n_signals: int,
    integers: Ints,
    floats: Floats,
) -> int:
    """Fold a row's values; add at most one signal for missing and one for flat metrics.

    listed : int32 (M,)  the metrics in the order in which the entity first reported them, then -1
    """
    step_ms = np.float64(time_ms - state["newest_ms"]) if state["seen"] == 1 else 0.0
    if state["rhythm"]["intervals"] > 0:
        step_ms = min(step_ms, CLIP * state["rhythm"]["interval_ms"])
    newest_ms: int = state["newest_ms"]
    known, gap_intervals = is_known(state["rhythm"]), limits.gap_intervals
    missed, first_missed, flat, first_flat = 0, -1, 0, -1
    for k in range(listed.shape[0]):
        metric = listed[k]
        slot = slots[metric] if metric >= 0 else -1
        if slot < 0:
            continue
        metric_state = series[slot]
        if metric_state["seen"] == 1:
            metric_state["absent_ms"] += step_ms
        if not math.isnan(values[metric]):
            _update_value(metric_state, values[metric], time_ms, limit_ms, limits, changes, shifts)
            if _is_flat(metric_state, limits.flat_ms):
                flat += 1
                first_flat = metric if first_flat < 0 else first_flat
        elif (
            metric_state["seen"] == 1
            and known
            and _is_missed(
                metric_state, newest_ms, time_ms, step_ms, gap_intervals, changes, shifts
            )
        ):
            missed += 1
            first_missed = metric if first_missed < 0 else first_missed
    if missed > 0 and claim(state, MISSING, time_ms, limits.repeat_ms):
        first_state = series[slots[first_missed]]
        for metric in range(values.shape[0]):
            if (
                slots[metric] >= 0
                and math.isnan(values[metric])
                and _is_missed(
                    series[slots[metric]],
                    newest_ms,
                    time_ms,
                    step_ms,
                    gap_intervals,
                    changes,
                    shifts,
                )
            ):
                series[slots[metric]]["missing_reported"] = 1
        n_signals = add_signal(
            n_signals,
            integers,
            floats,
            row,
            MISSING,
            e,
            first_missed,
            first_state["sample_ms"],
            missed,
            usual_interval_ms(first_state["rhythm"]),
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
                series[slots[metric]]["flat_reported"] = 1
        n_signals = add_signal(
            n_signals,
            integers,
            floats,
            row,
            FLAT_LINE,
            e,
            first_flat,
            since_ms,
            values[first_flat],
            usual_interval_ms(state["rhythm"]),
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
