"""Values of a row's metrics: those that are missing, and those that stay the same too long.

Invariant: a row adds at most one signal for all missing metrics, and one for all flat ones.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from shared.kernels.clock import Zone, local_of
from shared.kernels.steps import step
from shared.kernels.units import DAY_MS
from shared.quality.kernels.presence import mark_present, usual_silence
from shared.quality.kernels.quality_arguments import Floats, Indices, Memory, Record, Rows
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
from shared.quality.kernels.quality_signals import Signal, Table, add_signal, claim

_METRIC_BIN_MS = DAY_MS // METRIC_BINS


class Step(NamedTuple):
    """The time between an entity's row and the one before."""

    newest_ms: int  # of the row before
    time_ms: int
    covered_ms: float  # counts as absence of a value that the row does not have


class Found(NamedTuple):
    """The metrics of a row that a signal is about."""

    metrics: int
    first: int  # -1 = none


@njit(cache=True)
def _flat_limit_ms(state: Record, flat_ms: int) -> float:
    """Longest stretch of one value without a signal."""
    limit_ms: float = max(np.float64(flat_ms), USUAL_TWICE * state["longest_ms"])
    return limit_ms


@njit(cache=True)
def _unusual_ms(state: Record, time_ms: int, gap_intervals: float, zone: Zone) -> float:
    """Return how much of the time without a value does not recur, in ms."""
    absent_ms: float = state["absent_ms"]
    interval_ms = usual_interval_ms(state["rhythm"])
    if not absent_ms > gap_intervals * interval_ms:
        return absent_ms
    usual_ms = usual_silence(
        state["presence"],
        state["first_ms"],
        local_of(state["sample_ms"], zone),
        local_of(time_ms, zone),
        interval_ms,
    )
    return max(absent_ms - usual_ms, 1.0)


@step
def _update_value(
    state: Record,
    value: float,
    time_ms: int,
    limit_ms: float,
    limits: Limits,
    zone: Zone,
) -> None:
    """Fold a value into its series.

    A stretch of one value ends where the value changes or values were missing.
    """
    gap_intervals = limits.gap_intervals
    if state["absent_ms"] > 0.0:
        silent_ms = _unusual_ms(state, time_ms, gap_intervals, zone)
        learn_interval(state["rhythm"], state["absent_ms"], silent_ms, time_ms, gap_intervals)
    local_ms = local_of(time_ms, zone)
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
def _is_missed(state: Record, step: Step, gap_intervals: float, zone: Zone) -> bool:
    """Whether the current absence is reported: it is new and longer than is usual.

    What recurs of an absence is looked up where it becomes too long, and in each bin after that.
    """
    limit_ms = silence_limit_ms(state["rhythm"], gap_intervals)
    if state["missing_reported"] == 1 or state["absent_ms"] <= limit_ms:
        return False
    is_new_bin = step.time_ms // _METRIC_BIN_MS > step.newest_ms // _METRIC_BIN_MS
    if not is_new_bin and state["absent_ms"] - step.covered_ms > limit_ms:
        return False
    return _unusual_ms(state, step.time_ms, gap_intervals, zone) > limit_ms


@step
def _step_of(state: Record, time_ms: int) -> Step:
    """Return the time since an entity's row before."""
    covered_ms = np.float64(time_ms - state["newest_ms"]) if state["seen"] == 1 else 0.0
    if state["rhythm"]["intervals"] > 0:
        covered_ms = min(covered_ms, CLIP * state["rhythm"]["interval_ms"])
    return Step(state["newest_ms"], time_ms, covered_ms)


@step
def _update_all(
    row: int, given: Rows, memory: Memory, step: Step, limit_ms: float, limits: Limits, zone: Zone
) -> tuple[Found, Found]:
    """Fold a row's values and absences; return the metrics that are missed, and those flat."""
    values, slots, listed = given.values[row], given.slots[row], given.listed[row]
    known = is_known(memory.entities[given.entity[row]]["rhythm"])
    missed, first_missed, flat, first_flat = 0, -1, 0, -1
    for k in range(listed.shape[0]):
        metric = listed[k]
        slot = slots[metric] if metric >= 0 else -1
        if slot < 0:
            continue
        state, value = memory.series[slot], values[metric]
        if state["seen"] == 1:
            state["absent_ms"] += step.covered_ms
        if not math.isnan(value):
            _update_value(state, value, step.time_ms, limit_ms, limits, zone)
            if _is_flat(state, limits.flat_ms):
                flat += 1
                first_flat = metric if first_flat < 0 else first_flat
        elif state["seen"] == 1 and known and _is_missed(state, step, limits.gap_intervals, zone):
            missed += 1
            first_missed = metric if first_missed < 0 else first_missed
    return Found(missed, first_missed), Found(flat, first_flat)


@step
def _report_missing(
    row: int, given: Rows, memory: Memory, step: Step, found: Found, limits: Limits, zone: Zone
) -> Signal:
    """Mark the missed metrics as reported; return their signal."""
    values, slots = given.values[row], given.slots[row]
    first = memory.series[slots[found.first]]
    for metric in range(values.shape[0]):
        if slots[metric] >= 0 and math.isnan(values[metric]):
            state = memory.series[slots[metric]]
            if _is_missed(state, step, limits.gap_intervals, zone):
                state["missing_reported"] = 1
    usual_ms = usual_interval_ms(first["rhythm"])
    return Signal(
        row, MISSING, given.entity[row], found.first, first["sample_ms"], np.float64(found.metrics),
        usual_ms, found.metrics - 1,
    )  # fmt: skip


@step
def _report_flat(row: int, given: Rows, memory: Memory, found: Found, flat_ms: int) -> Signal:
    """Mark the flat metrics as reported; return their signal."""
    values, slots, entity = given.values[row], given.slots[row], given.entity[row]
    since_ms = memory.series[slots[found.first]]["since_ms"]
    for metric in range(values.shape[0]):
        if slots[metric] >= 0 and not math.isnan(values[metric]):
            state = memory.series[slots[metric]]
            if _is_flat(state, flat_ms):
                state["flat_reported"] = 1
    usual_ms = usual_interval_ms(memory.entities[entity]["rhythm"])
    return Signal(
        row, FLAT_LINE, entity, found.first, since_ms, values[found.first], usual_ms,
        found.metrics - 1,
    )  # fmt: skip


@step
def update_metrics(
    row: int,
    given: Rows,
    memory: Memory,
    limit_ms: float,
    limits: Limits,
    zone: Zone,
    table: Table,
) -> None:
    """Fold a row's values; add at most one signal for missing and one for flat metrics.

    limit_ms : longest silence of the entity without a signal
    """
    state = memory.entities[given.entity[row]]
    step = _step_of(state, given.time_ms[row])
    missed, flat = _update_all(row, given, memory, step, limit_ms, limits, zone)
    if missed.metrics > 0 and claim(state, MISSING, step.time_ms, limits.repeat_ms):
        add_signal(table, _report_missing(row, given, memory, step, missed, limits, zone))
    if flat.metrics > 0 and claim(state, FLAT_LINE, step.time_ms, limits.repeat_ms):
        add_signal(table, _report_flat(row, given, memory, flat, limits.flat_ms))


@njit(cache=True)
def contradicts(time_ms: int, values: Floats, slots: Indices, series: Record) -> bool:
    """Whether a metric already has a value for this time."""
    for metric in range(values.shape[0]):
        if slots[metric] >= 0 and not math.isnan(values[metric]):
            metric_state = series[slots[metric]]
            if metric_state["seen"] == 1 and metric_state["sample_ms"] == time_ms:
                return True
    return False
