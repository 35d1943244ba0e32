"""Evaluates a trained model on held-out rows; with labels, it counts hits and misses.

Invariant: pure; the figures are JSON values and depend only on the rows, the model and the labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from consumer_training.training import TEST, TRAIN, Trained
from shared.kernels.units import DAY_MS
from shared.labels import Window, Windows, find

LEVELS = (0.0, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0)


def evaluate(trained: Trained, labels: Windows | None = None) -> dict[str, Any]:
    """Return the figures; ``per_entity`` has one entry per entity, everything else is small.

    An alarm is a run of consecutive rows above the threshold. Only windows that overlap an entity's
    test part are evaluated; an alarm that overlaps no window of its entity is a false alarm.
    """
    part = trained.part
    scores = trained.scores
    flagged = scores > trained.model.threshold
    per_entity = _per_entity(trained, flagged, labels)
    figures: dict[str, Any] = {
        "rows": {"train": int((part == TRAIN).sum()), "test": int((part == TEST).sum())},
        "entities": len(per_entity),
        "threshold": trained.model.threshold,
        "flagged_share": {
            "train": _share(flagged, part == TRAIN),
            "test": _share(flagged, part == TEST),
        },
        "alarms_per_entity_and_day": {
            name: _rate(
                sum(e[name]["alarms"] for e in per_entity.values()),
                sum(e[name]["days"] for e in per_entity.values()),
            )
            for name in ("train", "test")
        },
        "score_quantiles": {
            "levels": list(LEVELS),
            "train": _quantiles(scores[part == TRAIN]),
            "test": _quantiles(scores[part == TEST]),
        },
        "labels": _label_totals(per_entity) if labels is not None else None,
        "per_entity": per_entity,
    }
    return figures


def runs(flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return start and exclusive end of each run of consecutive True flags, int64 (k, 2)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return edges.reshape(-1, 2)


def _per_entity(
    trained: Trained, flagged: npt.NDArray[np.bool_], labels: Windows | None
) -> dict[str, dict[str, Any]]:
    entries: dict[str, dict[str, Any]] = {}
    rows = trained.rows
    model = trained.model
    for (name, _), low, high in zip(
        rows.series, rows.bounds[:-1].tolist(), rows.bounds[1:].tolist(), strict=True
    ):
        used = low + np.flatnonzero(trained.part[low:high])
        if not len(used):
            continue
        entry = entries.setdefault(
            name,
            {"partitions": 0, "train": _empty_part(), "test": _empty_part(), "peak_severity": 0.0},
        )
        entry["partitions"] += 1
        for key, kind in (("train", TRAIN), ("test", TEST)):
            chosen = used[trained.part[used] == kind]
            _add_part(entry[key], rows.time_ms[chosen], flagged[chosen])
        test = used[trained.part[used] == TEST]
        if len(test):
            peak = float(model.severity(trained.scores[test]).max())
            entry["peak_severity"] = max(entry["peak_severity"], round(peak, 4))
        if labels is not None:
            _add_labels(entry, rows.time_ms[test], flagged[test], find(labels, name) or ())
    return entries


def _empty_part() -> dict[str, float]:
    return {"rows": 0, "flagged": 0, "alarms": 0, "days": 0.0}


def _add_part(
    entry: dict[str, float], time_ms: npt.NDArray[np.int64], flagged: npt.NDArray[np.bool_]
) -> None:
    entry["rows"] += len(time_ms)
    entry["flagged"] += int(flagged.sum())
    entry["alarms"] += len(runs(flagged))
    entry["days"] += round(float(time_ms[-1] - time_ms[0]) / DAY_MS, 6) if len(time_ms) else 0.0


def _add_labels(
    entry: dict[str, Any],
    time_ms: npt.NDArray[np.int64],
    flagged: npt.NDArray[np.bool_],
    windows: Sequence[Window],
) -> None:
    counts = entry.setdefault("labels", {"windows": 0, "hit": 0, "missed": 0, "false_alarms": 0})
    inside = np.zeros(len(time_ms), np.bool_)
    for window in windows:
        within = (time_ms >= window.start_ms) & (time_ms <= window.end_ms)
        if within.any():
            counts["windows"] += 1
            counts["hit" if flagged[within].any() else "missed"] += 1
            inside |= within
    counts["false_alarms"] += sum(not inside[low:high].any() for low, high in runs(flagged))


def _label_totals(per_entity: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    totals = {
        key: sum(entry["labels"][key] for entry in per_entity.values())
        for key in ("windows", "hit", "missed", "false_alarms")
    }
    days = sum(entry["test"]["days"] for entry in per_entity.values())
    return totals | {"false_alarms_per_entity_and_day": _rate(totals["false_alarms"], days)}


def _share(flagged: npt.NDArray[np.bool_], rows: npt.NDArray[np.bool_]) -> float:
    return round(float(flagged[rows].mean()), 6) if rows.any() else 0.0


def _rate(count: float, days: float) -> float:
    return round(count / days, 4) if days > 0 else 0.0


def _quantiles(scores: npt.NDArray[np.float64]) -> list[float]:
    return [float(value) for value in np.quantile(scores, LEVELS)] if len(scores) else []
