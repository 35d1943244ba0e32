"""A row that is older than its entity's newest.

Judged by its own time, joined to the episodes of that time.

Invariant: no later row's season, spread or level depends on when a late row arrived.
"""

from __future__ import annotations

import math

from numba import njit

from shared.ensemble.kernels.array_types import Floats, Record
from shared.ensemble.kernels.codes import bounded
from shared.ensemble.kernels.entity.episode import (
    JOINED_ANOTHER,
    REPORTED,
    count_opening,
    start_episode,
)
from shared.ensemble.kernels.entity.event_rows import (
    About,
    count_days,
    describe,
    write_band,
    write_event,
)
from shared.ensemble.kernels.entity.evidence import severity_of
from shared.ensemble.kernels.entity.metric_episodes import AFTER_STUCK_MS
from shared.ensemble.kernels.entity.row import Reported, Row, decode_value, gate_of, joining_ms
from shared.ensemble.kernels.fold_arguments import Outputs
from shared.ensemble.kernels.layout import (
    AS_IT_IS,
    FAST_DOWN,
    FAST_UP,
    VALUE,
    EnsembleParams,
)
from shared.ensemble.kernels.metric.late_value import judge_late
from shared.ensemble.kernels.metric.warm_up import is_ready
from shared.ensemble.kernels.outputs import OPEN
from shared.ensemble.kernels.season.season_memory import bin_of
from shared.kernels.steps import step
from shared.kernels.units import DAY_MS


@njit(cache=True, error_model="numpy")
def _join_episode(
    ep: Record, ratio: float, t: int, value: float, expected: float, params: EnsembleParams
) -> None:
    """Let a late value widen an episode of about its time, and be its peak."""
    if ratio >= 1.0:
        ep["start_ms"] = min(ep["start_ms"], t)
    if ratio >= params.hysteresis:
        ep["seen_ms"] = max(ep["seen_ms"], t)
        if ratio > ep["peak"]:
            ep["peak"] = ratio
            ep["peak_ms"] = t
            ep["peak_value"] = value
            ep["peak_expected"] = expected


@njit(cache=True, error_model="numpy")
def _judge_late_value(
    e: Record,
    m: Record,
    ratio: float,
    value: float,
    column: int,
    row: Row,
    params: EnsembleParams,
    v: Record,
) -> int:
    """Join a late value's episode or open one.

    ratio   : to the level of single values, signed
    returns : events that it wrote
    """
    t = row.time_ms
    gate = gate_of(e, max(row.interval_ms, 60_000.0), params)
    size = abs(ratio) / gate.level
    key = FAST_UP if ratio > 0.0 else FAST_DOWN
    ep = m["episodes"][key]
    expected = decode_value(m, m["expected"])
    first, last = ep["start_ms"] - gate.quiet_ms, ep["seen_ms"] + gate.quiet_ms
    if ep["opened_ms"] > 0 and first <= t <= last:
        _join_episode(ep, size, t, value, expected, params)
    elif size >= 1.0 and t - m["stuck_ms"] > AFTER_STUCK_MS:
        joins = e["opened_ms"] > 0 and abs(t - e["opened_ms"]) <= joining_ms(row.interval_ms)
        state = JOINED_ANOTHER if joins else REPORTED
        start_episode(ep, size, VALUE, t, value, expected, state, params)
        m["fast_ms"][key] = max(m["fast_ms"][key], t)
        if not joins:
            write_event(v, row, About(column, key, VALUE), OPEN, value, size, gate.threshold, ep)
            describe(v, m, gate.level, t)
            v["measure"] = AS_IT_IS
            v["expected"] = v["usual"] = expected
            v["lately"] = 0.0
            write_band(v, m, gate.level)
            count_days(v, m, int(row.local_ms // DAY_MS), bin_of(row.local_ms, m["width"]))
            count_opening(e, t, size)
            return 1
    return 0


@step
def judge_late_row(
    e: Record,
    reported: Reported,
    values: Floats,
    row: Row,
    params: EnsembleParams,
    out: Outputs,
    at: int,
    tmp: Floats,
) -> int:
    """Judge a late row by its own time; it joins an episode of about that time or opens one.

    values  : float64 (M,)        of the row, NaN = missing
    row     : interval_ms is the entity's own here
    tmp     : float64 (SCRATCH,)  scratch
    returns : events written so far
    """
    cells, verdict = out.cells[row.place], out.rows[row.place]
    level = gate_of(e, row.interval_ms, params).level
    largest, place = 0.0, -1
    for j in range(reported.n):
        x, m = values[reported.columns[j]], reported.metrics[reported.slots[j]]
        if math.isnan(x) or not is_ready(m, params):
            continue
        ratio = judge_late(m, row.time_ms, row.local_ms, bounded(x), tmp)
        if math.isnan(ratio):
            continue
        cells[reported.columns[j]]["expected"] = decode_value(m, m["expected"])
        if abs(ratio) / level > largest:
            largest, place = abs(ratio) / level, j
        at += _judge_late_value(e, m, ratio, x, reported.columns[j], row, params, out.events[at])
    if place >= 0:
        verdict["score"] = largest * params.threshold
        verdict["severity"] = severity_of(largest)
        verdict["top_metric"] = reported.columns[place]
        verdict["state"] = 1
    return at
