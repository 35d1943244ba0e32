"""Reads out of the detector's memory why a row got its verdict.

Invariant: pure; every number is one that the detector compared with, or is computed from its memory
of the entity's earlier rows.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from lapwing.explain.recomputation import Recomputed
from shared.ensemble.kernels.codes import MISSING, decode
from shared.ensemble.kernels.layout import (
    ALL,
    BINS,
    DAYS,
    KIND,
    NO_METRIC,
    RECENT,
    SIDES,
    TRAINED_KEY,
    VIEW_NAMES,
    WEEK,
)
from shared.ensemble.kernels.season.season_memory import bin_of, near_of, newest_day
from shared.events import State
from shared.kernels.units import DAY_MS
from shared.scoring.alarms import scope_of, way_of

SEASON_NAMES = {ALL: "14 days", KIND: "days of its kind", WEEK: "its weekday", RECENT: "4 days"}
"""What a time of day is compared with."""

WINDOW_BINS = 24
"""Bins of five minutes before a row that are compared with other days: two hours."""

NEAREST = 3
LEAST_COMMON = 0.5
"""Share of a window's bins that another day must have as well."""

_Records = npt.NDArray[np.void]


def _uncompiled(kernel: Any) -> Any:
    """Return a kernel as plain Python: for single numbers, compiling takes longer."""
    return getattr(kernel, "py_func", kernel)


def row_evidence(found: Recomputed, row: int = 0) -> dict[str, Any]:
    """Return what led to the verdict of an accepted row; plain values, None = not known.

    found : its state is still that after the row
    """
    outcome, state = found.outcome, found.state
    verdicts, columns = outcome.verdicts, outcome.columns
    place = int(outcome.folded.place[row])
    entity = state.ensemble.entities[place]
    time_ms = int(columns.time_ms[row])
    top = int(verdicts.top_metric[row])
    listed = [int(column) for column in outcome.folded.listed[row] if column >= 0]
    return {
        "entity": state.entities.name(int(columns.entity[row])),
        "event_time": time_ms,
        "state": State(int(verdicts.state[row])).name,
        "score": _number(verdicts.score[row]),
        "threshold": _number(verdicts.threshold[row]),
        "severity": _number(verdicts.severity[row]),
        "is_anomaly": bool(verdicts.is_anomaly[row]),
        "cold_start": bool(verdicts.cold_start[row]),
        "top_metric": state.metrics[top] if top >= 0 else None,
        "late": bool(outcome.folded.late_by_ms[row] > 0),
        "ahead": bool(outcome.folded.ahead[row]),
        "duplicate": bool(outcome.folded.duplicate[row]),
        "watched_days": _number(entity["live_ms"] / DAY_MS),
        "joint_ratio": _number(entity["joint_ratio"]),
        "trained_ratio": _number(entity["trained_ratio"]),
        "metrics": [_metric(found, row, column, time_ms) for column in listed],
        "episodes": _open_episodes(found, row, entity),
    }


def _metric(found: Recomputed, row: int, column: int, time_ms: int) -> dict[str, Any]:
    verdicts, state = found.outcome.verdicts, found.state
    slot = int(found.outcome.folded.slots[row, column])
    shown: dict[str, Any] = {
        "name": state.metrics[column],
        "value": _number(found.outcome.columns.values[row, column]),
        "expected": _number(verdicts.expected[row, column]),
        "lower": _number(verdicts.lower[row, column]),
        "upper": _number(verdicts.upper[row, column]),
        "severity": _number(verdicts.metric_severity[row, column]),
    }
    if slot < 0 or slot >= len(state.ensemble.metrics):
        return shown | {"views": [], "usual": {}, "alike_days": []}
    record = state.ensemble.metrics[slot]
    local_ms = time_ms + _shift(found, time_ms)
    return shown | {
        "views": _views(record),
        "usual": _usual(record),
        "season": SEASON_NAMES[int(record["season"])],
        "deviation_spreads": _number(record["deviation"]),
        "spread": _number(record["spread"] * record["scale"]),
        "alike_days": _alike_days(record, local_ms),
    }


def _views(record: Any) -> list[dict[str, Any]]:
    """Return each view's ratio to its level, the largest first; unused views are left out.

    level : in spreads, None where the view needs none
    """
    shown = []
    for view, sides in enumerate(SIDES.tolist()):
        ratio = float(record["ratio"][view])
        if ratio == 0.0:
            continue
        side = 0 if ratio > 0.0 or sides == 1 else 1
        level = float(record["return_level"][view, side]) if sides else math.nan
        shown.append(
            {
                "view": VIEW_NAMES[view],
                "ratio": ratio,
                "level": _number(level),
                "seen": _number(ratio * level),
            }
        )
    return sorted(shown, key=lambda one: (-abs(one["ratio"]), one["view"]))


def _usual(record: Any) -> dict[str, float | None]:
    """Return what each season shows at this time of day, in the metric's unit."""
    near = _uncompiled(near_of)(int(record["width"]))
    return {
        name: _value(record, float(record["baselines"][season, near]))
        for season, name in SEASON_NAMES.items()
    }


def _alike_days(record: Any, local_ms: int) -> list[dict[str, Any]]:
    """Return the days whose last two hours before this time of day were nearest to today's.

    difference : root mean square of the differences, in spreads
    value      : the day's value at this time, in the metric's unit
    """
    day, width = int(local_ms // DAY_MS), max(int(record["width"]), 1)
    last_bin = _uncompiled(bin_of)(local_ms, width)
    bins = range(last_bin, max(last_bin - WINDOW_BINS, -1), -width)
    today = np.array([_remembered(record, one, day) for one in bins])
    spread = max(float(record["spread"]), 1e-9)
    found = []
    for before in range(day - 1, day - DAYS, -1):
        that_day = np.array([_remembered(record, one, before) for one in bins])
        common = ~(np.isnan(today) | np.isnan(that_day))
        if not common.any() or common.sum() < LEAST_COMMON * len(today):
            continue
        difference = math.sqrt(float(np.mean((today - that_day)[common] ** 2))) / spread
        date = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=before)).date()
        found.append(
            {
                "date": date.isoformat(),
                "difference": difference,
                "value": _value(record, float(that_day[0])),
            }
        )
    return sorted(found, key=lambda one: (one["difference"], one["date"]))[:NEAREST]


def _remembered(record: Any, bin_: int, day: int) -> float:
    """Return the coded mean of a bin on a day; NaN where there is none."""
    last = _uncompiled(newest_day)(record, bin_ % BINS, day)
    if last < 0 or day > last or last - day >= DAYS:
        return math.nan
    code = int(record["memory"][bin_ % BINS, day % DAYS])
    return math.nan if code == MISSING else float(_uncompiled(decode)(code))


def _open_episodes(found: Recomputed, row: int, entity: Any) -> list[dict[str, Any]]:
    """Return the episodes that are open after the row."""
    state = found.state
    shown = []
    for column, slot in enumerate(found.outcome.folded.slots[row].tolist()):
        if 0 <= slot < len(state.ensemble.metrics):
            for key, episode in enumerate(state.ensemble.metrics[slot]["episodes"]):
                shown += _episode(episode, key, state.metrics[column])
    shown += _episode(entity["joint"], NO_METRIC, None)
    shown += _episode(entity["trained"], TRAINED_KEY, None)
    return sorted(shown, key=lambda one: (one["start"], one["metric"] or "", one["scope"]))


def _episode(episode: Any, key: int, metric: str | None) -> list[dict[str, Any]]:
    if episode["state"] == 0:
        return []
    shown = {
        "metric": metric,
        "scope": scope_of(key),
        "direction": way_of(key) or None,
        "opened_by": VIEW_NAMES[int(episode["view"])],
        "opened_at_offset": int(episode["opened_at"]),
        "start": int(episode["start_ms"]),
        "newest_evidence": int(episode["seen_ms"]),
        "peak_time": int(episode["peak_ms"]),
        "peak_value": _number(episode["peak_value"]),
        "peak_ratio": _number(episode["peak"]),
    }
    return [shown]


def _shift(found: Recomputed, time_ms: int) -> int:
    """Return local time minus UTC in ms."""
    changes, shifts = found.configuration.zone_arrays
    return int(shifts[max(int(np.searchsorted(changes, time_ms, side="right")) - 1, 0)])


def _value(record: Any, coded: float) -> float | None:
    """Return a coded value in the metric's unit."""
    if math.isnan(coded):
        return None
    scale = float(record["scale"])
    return float(record["centre"]) + coded * (scale if scale > 0.0 else 1.0)


def _number(value: Any) -> float | None:
    number = float(value)
    return None if math.isnan(number) else number
