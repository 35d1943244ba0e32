"""The evaluation as files: a JSON of the figures and a picture of each entity.

Law: everything shown is computed from the trained model and its rows; pictures are for people and
     no other part reads them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from consumer_training.training import TEST, TRAIN, Trained, feature_blocks
from shared.labels import Window, Windows, find
from shared.wording import moment

MAX_PICTURES = 30

Floats = npt.NDArray[np.float64]
Times = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class EntityView:
    """What a picture of one entity shows.

    metrics     : (M,) those that the entity reports
    time_ms     : int64 (n,)
    values, expected, lower, upper : float64 (n, M)   NaN = missing, or not known yet
    boundary_ms : where the test part begins, None if it has none
    warm_ms     : from here on an expected value is known
    at_ms       : int64 (a,)    event time of each anomaly
    at_value    : float64 (a,)  its value
    at_metric   : int64 (a,)    the metric that made it odd
    severity    : float64 (a,)
    labels      : labelled anomalies
    """

    entity: str
    title: str
    subtitle: str
    metrics: tuple[str, ...]
    time_ms: Times
    values: Floats
    expected: Floats
    lower: Floats
    upper: Floats
    boundary_ms: int | None
    warm_ms: int
    at_ms: Times
    at_value: Floats
    at_metric: Times
    severity: Floats
    labels: Sequence[Window]


def report_json(figures: Mapping[str, Any], pictures: Mapping[str, str], left_out: int) -> bytes:
    """Write the figures, with the file of each picture and how many entities have none."""
    document = {**figures, "pictures": dict(pictures), "entities_without_picture": left_out}
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def entities_csv(figures: Mapping[str, Any]) -> bytes:
    """Write the figures of each entity as a table, for a spreadsheet or a notebook; oddest first."""
    import pandas as pd  # slow to import, and only a report needs it

    rows = [
        {"entity": name, **figures["per_entity"][name]}
        for name in choose_entities(figures, limit=len(figures["per_entity"]))
    ]
    table: str = pd.json_normalize(rows, sep=".").to_csv(index=False, lineterminator="\n")
    return table.encode()


def choose_entities(figures: Mapping[str, Any], limit: int = MAX_PICTURES) -> list[str]:
    """The entities most worth a picture: highest severity in the test part first, then most alarms,
    then by name.
    """
    per_entity = figures["per_entity"]

    def interest(name: str) -> tuple[float, float, str]:
        return -per_entity[name]["peak_severity"], -per_entity[name]["test"]["alarms"], name

    return sorted(per_entity, key=interest)[:limit]


def file_names(entities: Sequence[str]) -> dict[str, str]:
    """A file name for each entity that every system can bear, each its own."""
    names: dict[str, str] = {}
    for entity in entities:
        plain = re.sub(r"[^A-Za-z0-9._-]+", "_", entity).strip("._")[:80]
        if plain != entity or plain.lower() in {
            name.removesuffix(".png").lower() for name in names.values()
        }:
            plain = f"{plain or 'entity'}-{hashlib.sha256(entity.encode()).hexdigest()[:8]}"
        names[entity] = f"{plain}.png"
    return names


def views(
    trained: Trained, entities: Sequence[str], labels: Windows | None = None
) -> Iterator[EntityView]:
    """Gather what the pictures of some entities show."""
    for number, (name, partition) in enumerate(trained.rows.series):
        if (
            name in entities
            and trained.part[trained.rows.bounds[number] : trained.rows.bounds[number + 1]].any()
        ):
            several = sum(one == name for one, _ in trained.rows.series) > 1
            title = f"{name} (partition {partition})" if several else name
            yield _view(trained, number, title, find(labels or {}, name) or ())


def _view(trained: Trained, number: int, title: str, labels: Sequence[Window]) -> EntityView:
    rows, model = trained.rows, trained.model
    low, high = int(rows.bounds[number]), int(rows.bounds[number + 1])
    part, scores = trained.part[low:high], trained.scores[low:high]
    folded = rows.fold(number, number + 1, model.window)
    shown = [rows.metrics.index(name) for name in model.metrics]
    present = np.asarray(~np.isnan(rows.values[low:high][:, shown]).all(axis=0))
    shown = [metric for metric, there in zip(shown, present, strict=True) if there]
    marked = np.zeros(len(rows), np.bool_)
    marked[low:high] = scores > model.threshold
    at, at_metric = _anomalies(trained, marked, present)
    known = ~np.isnan(folded.expected[:, shown])
    time_ms = rows.time_ms[low:high]
    keep = np.flatnonzero(folded.counted)
    values = rows.values[low:high][:, shown]
    tests, warm = time_ms[part == TEST], time_ms[known.any(axis=1)]
    said = (
        f"{len(at)} {'anomaly' if len(at) == 1 else 'anomalies'} in {int((part > 0).sum()):,} rows"
    )
    return EntityView(
        entity=rows.series[number][0],
        title=title,
        subtitle=(
            f"{model.detector.replace('_', ' ')} · {said} · trained up to"
            f" {moment(int(time_ms[part == TRAIN][-1]))} UTC"
        ),
        metrics=tuple(rows.metrics[metric] for metric in shown),
        time_ms=time_ms[keep],
        values=values[keep],
        expected=folded.expected[keep][:, shown],
        lower=folded.lower[keep][:, shown],
        upper=folded.upper[keep][:, shown],
        boundary_ms=int(tests[0]) if len(tests) and (part == TRAIN).any() else None,
        warm_ms=int(warm[0]) if len(warm) else int(time_ms[-1]),
        at_ms=time_ms[at - low],
        at_value=values[at - low, at_metric] if len(at) else np.empty(0),
        at_metric=at_metric,
        severity=model.severity(scores[at - low]),
        labels=labels,
    )


def _anomalies(
    trained: Trained, marked: npt.NDArray[np.bool_], present: npt.NDArray[np.bool_]
) -> tuple[Times, Times]:
    """Row numbers of the marked rows, and which of the present metrics made each odd."""
    model, rows = trained.model, trained.rows
    kept = [rows.metrics.index(name) for name in model.metrics]
    for where, block in feature_blocks(
        rows, marked, model.window, kept, model.scale, model.calendar
    ):
        shares, _ = model.attribute(block)
        return where, shares[:, :-1][:, present].argmax(axis=1)
    return np.empty(0, np.int64), np.empty(0, np.int64)
