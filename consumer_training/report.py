"""Writes the evaluation as files: figures as JSON and CSV, and a picture of each entity.

Invariant: everything is computed from the trained model and its rows; no other part reads the
           pictures.
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

from consumer_training.training import TEST, TRAIN, Trained
from shared.labels import Window, Windows, find
from shared.wording import moment

MAX_PICTURES = 30

Floats = npt.NDArray[np.float64]
Times = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class EntityView:
    """The content of one entity's picture.

    metrics     : (M,) metrics that the entity reports
    time_ms     : int64 (n,)  of the rows that were sampled
    values, expected, lower, upper : float64 (n, M)   NaN = missing, or no expected value yet
    boundary_ms : start of the test part, None if there is none
    warm_ms     : time of the first expected value
    at_ms       : int64 (a,)    event time of each anomaly
    at_value    : float64 (a,)  its value
    at_metric   : int64 (a,)    the metric with the largest contribution
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
    """Return the figures, the picture files, and the number of entities without a picture."""
    document = {**figures, "pictures": dict(pictures), "entities_without_picture": left_out}
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def entities_csv(figures: Mapping[str, Any]) -> bytes:
    """Return the figures of each entity as CSV, highest severity first."""
    import pandas as pd  # slow to import, and only a report needs it

    rows = [
        {"entity": name, **figures["per_entity"][name]}
        for name in choose_entities(figures, limit=len(figures["per_entity"]))
    ]
    table: str = pd.json_normalize(rows, sep=".").to_csv(index=False, lineterminator="\n")
    return table.encode()


def choose_entities(figures: Mapping[str, Any], limit: int = MAX_PICTURES) -> list[str]:
    """Choose entities to draw: by highest severity in the test part, most alarms, then name."""
    per_entity = figures["per_entity"]

    def rank(name: str) -> tuple[float, float, str]:
        return -per_entity[name]["peak_severity"], -per_entity[name]["test"]["alarms"], name

    return sorted(per_entity, key=rank)[:limit]


def file_names(entities: Sequence[str]) -> dict[str, str]:
    """Return a distinct file name for each entity that is valid on every operating system."""
    names: dict[str, str] = {}
    for entity in entities:
        plain = re.sub(r"[^A-Za-z0-9._-]+", "_", entity).strip("._")[:80]
        if plain != entity or plain.lower() in {
            name.removesuffix(".svg").lower() for name in names.values()
        }:
            plain = f"{plain or 'entity'}-{hashlib.sha256(entity.encode()).hexdigest()[:8]}"
        names[entity] = f"{plain}.svg"
    return names


def views(
    trained: Trained, entities: Sequence[str], labels: Windows | None = None
) -> Iterator[EntityView]:
    """Yield the content of the pictures of some entities."""
    for number, (name, partition) in enumerate(trained.rows.series):
        if (
            name in entities
            and trained.part[trained.rows.bounds[number] : trained.rows.bounds[number + 1]].any()
        ):
            several = sum(other == name for other, _ in trained.rows.series) > 1
            title = f"{name} (partition {partition})" if several else name
            yield _view(trained, number, title, find(labels or {}, name) or ())


def _view(trained: Trained, number: int, title: str, labels: Sequence[Window]) -> EntityView:
    rows = trained.rows
    model = trained.model
    low = int(rows.bounds[number])
    high = int(rows.bounds[number + 1])
    part = trained.part[low:high]
    scores = trained.scores[low:high]
    shown = [rows.metrics.index(name) for name in model.metrics]
    present = np.asarray(~np.isnan(rows.values[low:high][:, shown]).all(axis=0))
    shown = [metric for metric, there in zip(shown, present, strict=True) if there]
    flagged = np.zeros(len(rows), np.bool_)
    flagged[low:high] = scores > model.threshold
    at = np.flatnonzero(flagged)
    at_metric = _most_deviating(rows.values[at][:, shown], rows.bands[at][:, shown])
    bands = rows.bands[low:high][:, shown]
    known = ~np.isnan(bands[:, :, 0])
    time_ms = rows.time_ms[low:high]
    values = rows.values[low:high][:, shown]
    tests = time_ms[part == TEST]
    warm = time_ms[known.any(axis=1)]
    noun = "anomaly" if len(at) == 1 else "anomalies"
    count = f"{len(at)} {noun} in {int((part > 0).sum()):,} rows"
    return EntityView(
        entity=rows.series[number][0],
        title=title,
        subtitle=(
            f"{model.detector.replace('_', ' ')} · {count} · trained up to"
            f" {moment(int(rows.time_ms[trained.part == TRAIN].max()))} UTC"
        ),
        metrics=tuple(rows.metrics[metric] for metric in shown),
        time_ms=time_ms,
        values=values,
        expected=bands[:, :, 0],
        lower=bands[:, :, 1],
        upper=bands[:, :, 2],
        boundary_ms=int(tests[0]) if len(tests) and (part == TRAIN).any() else None,
        warm_ms=int(warm[0]) if len(warm) else int(time_ms[-1]),
        at_ms=time_ms[at - low],
        at_value=values[at - low, at_metric] if len(at) else np.empty(0),
        at_metric=at_metric,
        severity=model.severity(scores[at - low]),
        labels=labels,
    )


def _most_deviating(values: Floats, bands: Floats) -> Times:
    """Return the metric of each row that lies furthest from its expected value, int64 (a,).

    values : float64 (a, M)
    bands  : float64 (a, M, 3)  expected value, lower and upper end of the usual range
    """
    half = np.maximum(0.5 * (bands[:, :, 2] - bands[:, :, 1]), np.finfo(np.float64).tiny)
    with np.errstate(over="ignore"):
        deviation = np.abs(values - bands[:, :, 0]) / half
    largest: Times = np.where(np.isnan(deviation), -1.0, deviation).argmax(axis=1)
    return largest
