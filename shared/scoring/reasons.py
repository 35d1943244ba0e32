"""Why the ensemble, or one of its members, alarms: shares per metric and member, and one sentence.

Invariant: an explanation is computed from the row's own verdict; it changes no score.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from shared.ensemble.fold import MEMBER_NAMES, PART_NAMES
from shared.ensemble.kernels.layout import ABSENCE, COMBINATION, MEMBERS
from shared.ensemble.kernels.outputs import Verdicts as Joint
from shared.events import Anomaly
from shared.scoring.verdicts import Scored, alarm_of, direction_of
from shared.wording import days, duration, relative_to_usual, short, time_of_day

TRAINED = "trained"
"""The trained member's share in ``attributions``."""

_SEEN_AS = {
    "novelty": "a course of hours",
    "neighbours": "a course at this time of day",
    "time_of_day": "so far from the time of day",
    "burst": "a course of minutes",
}


@dataclass(frozen=True, slots=True)
class Explained:
    """A batch that was scored, and what the ensemble said of it."""

    scored: Scored
    joint: Joint


def explain_alarms(found: Explained, rows: npt.NDArray[np.int64]) -> list[Anomaly]:
    """Build the anomaly of each alarm; rows are int64 (a,) of columns, folded and verdicts."""
    return [_anomaly(found, int(row)) for row in rows]


def _anomaly(found: Explained, row: int) -> Anomaly:
    scored, joint = found.scored, found.joint
    column = int(scored.verdicts.top_metric[row])
    metric = scored.state.metrics[column] if column >= 0 else None
    shares = _attributions(found, row)
    top = max(shares, key=lambda name: shares[name], default=None)
    cold = bool(scored.verdicts.cold_start[row])
    reason = _cold(found, row, column) if cold else _sentence(found, row, column, top)
    event = alarm_of(scored, row, metric, reason)
    model = scored.model if TRAINED in shares else None
    since = None
    if top is not None and top.endswith(".absence"):
        since = int(scored.columns.time_ms[row] - joint.quiet_ms[row, column])
    return replace(
        event,
        model_id=model.model_id if model else None,
        model_version=model.version if model else None,
        direction=direction_of(event.value, event.expected),
        top_feature=top,
        attributions=shares,
        since=since,
    )


def _attributions(found: Explained, row: int) -> dict[str, float]:
    """Shares by ``metric.member`` that sum to 1, in the order of the metrics' names; empty for a
    cold alarm.
    """
    if found.scored.verdicts.cold_start[row]:
        return {}
    joint, names = found.joint, found.scored.state.metrics
    parts = {
        f"{names[column]}.{PART_NAMES[part]}": float(joint.shares[row, column, part])
        for column in sorted(range(joint.shares.shape[1]), key=lambda column: names[column])
        for part in range(joint.shares.shape[2])
    }
    parts[TRAINED] = float(joint.trained[row])
    return {name: share for name, share in parts.items() if share > 0.0}


def _cold(found: Explained, row: int, column: int) -> str:
    if column < 0:
        return "far outside everything seen so far, while still warming up"
    metric, value = (
        found.scored.state.metrics[column],
        float(found.scored.columns.values[row, column]),
    )
    watched = duration(float(found.joint.history_ms[row, column]))
    return (
        f"{metric} is {short(value)}, far outside everything in its first {watched} (still"
        " warming up)"
    )


def _sentence(found: Explained, row: int, column: int, top: str | None) -> str:
    if column < 0:
        return "the entity as a whole is rarely so"
    joint, metric = found.joint, found.scored.state.metrics[column]
    part = int(np.argmax(joint.shares[row, column]))
    watched = days(float(joint.history_ms[row, column]))
    if part == ABSENCE:
        quiet, longest = float(joint.quiet_ms[row, column]), float(joint.longest_ms[row, column])
        return (
            f"{metric} has been quiet for {duration(quiet)}; its longest pause in {watched} was"
            f" {duration(longest)}"
        )
    said = _against_usual(found, row, column)
    if top == TRAINED and found.scored.model:
        return (
            f"{said}; the {found.scored.model.detector.value.replace('_', ' ')} finds the metrics"
            " together rare"
        )
    if part == COMBINATION:
        return f"{said}; the other metrics do not account for it"
    return f"{said}; {_rarity(found, row, column, part, watched)}"


def _against_usual(found: Explained, row: int, column: int) -> str:
    metric, time_ms = found.scored.state.metrics[column], int(found.scored.columns.time_ms[row])
    value, level = (
        float(found.scored.columns.values[row, column]),
        float(found.joint.level[row, column]),
    )
    if math.isnan(value):
        return f"{metric} is missing"
    if math.isnan(level):
        return f"{metric} is {short(value)}"
    when = time_of_day(time_ms, weekly=bool(found.joint.weekly[row, column]))
    return f"{metric} is {short(value)}, {relative_to_usual(value, level)} for {when}"


def _rarity(found: Explained, row: int, column: int, part: int, watched: str) -> str:
    name = MEMBER_NAMES[part] if part < MEMBERS else MEMBER_NAMES[0]
    if found.joint.unseen[row, column, part]:
        return f"{_SEEN_AS[name]} never seen in {watched}"
    one_in = 10.0 ** float(found.joint.rarity[row, column, part])
    return f"{_SEEN_AS[name]} seen once in {one_in:,.0f} samples"
