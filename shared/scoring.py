"""From records to verdicts: decode, fold, score, judge; the one path that prediction, training and replay walk.

Law: for the same log prefix and activations the outcome is the same to the byte, however the log is cut into batches; an
entity's verdicts do not depend on other entities.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared.batch import Batch
from shared.codec import Columns, Plans, decode
from shared.events import Anomaly, State
from shared.explaining import explain
from shared.features import vectors
from shared.kernels.rolling import follow_runs
from shared.model import Model
from shared.settings import InputSettings
from shared.state import Folded, PartitionState, fold
from shared.verdicts import Verdicts

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rules:
    """What scoring needs of the settings.

    detector_id : what stands in verdicts while no model says otherwise
    window      : samples in the rolling features while no model says otherwise
    """

    input: InputSettings
    detector_id: str
    window: int
    max_entities: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that one batch leads to; rows of ``columns`` that were accepted have a verdict each."""

    batch: Batch
    columns: Columns
    folded: Folded
    verdicts: Verdicts
    anomalies: list[Anomaly]
    model: Model | None
    detector_id: str
    plans: Plans


class Scorer:
    """One partition's state and the model that judges it from its activation on."""

    def __init__(self, state: PartitionState, rules: Rules) -> None:
        self.state = state
        self.rules = rules
        self.model: Model | None = None
        self._rows = np.empty(0, np.int32)

    def use(self, model: Model | None) -> None:
        """Judge by another model from the next row on."""
        self.model = model
        self._rows = np.empty(0, np.int32)

    @property
    def detector_id(self) -> str:
        """Return who judges now."""
        return self.model.detector.value if self.model else self.rules.detector_id

    def process(self, batch: Batch, plans: Plans) -> Outcome:
        """Decode, fold and judge a batch of this partition; moves the state behind its last row.

        plans : a plan, a SchemaUnfit or None for every schema id in the batch
        """
        state, rules = self.state, self.rules
        columns = decode(batch, plans, rules.input, state.entities, state.metrics, rules.max_entities)
        folded = fold(state, columns, self.model.window if self.model else rules.window)
        verdicts, X, judged = self._judge(columns, folded)
        anomalies: list[Anomaly] = []
        alarms = np.flatnonzero(verdicts.is_anomaly & ~folded.duplicate)
        if self.model is not None and len(alarms):
            anomalies = explain(self.model, batch, columns, folded, verdicts, X[np.searchsorted(judged, alarms)], alarms, state)
            top = {name: index for index, name in enumerate(state.metrics)}
            for row, anomaly in zip(alarms, anomalies, strict=True):
                verdicts.top_metric[row] = top.get(anomaly.metric, -1)
        state.next_offset = int(batch.offsets[-1]) + 1 if len(batch) else state.next_offset
        return Outcome(batch, columns, folded, verdicts, anomalies, self.model, self.detector_id, plans)

    def _judge(self, columns: Columns, folded: Folded) -> tuple[Verdicts, Floats, npt.NDArray[np.int64]]:
        n = len(columns.entity)
        score, severity = np.full(n, np.nan), np.full(n, np.nan)
        is_anomaly, status = np.zeros(n, np.bool_), np.full(n, State.WARMING, np.uint8)
        X, judged = np.empty((0, 0)), np.empty(0, np.int64)
        if self.model is not None and n:
            rows = self._entity_rows(self.model)[columns.entity]
            judged = np.flatnonzero(rows >= 0)
            X = vectors(
                _in_model_order(folded.rolling[judged], self.state.metrics, self.model.metrics),
                rows[judged], columns.time_ms[judged], self.model.scale, self.model.calendar,
            )  # fmt: skip
            score[judged] = self.model.score(X)
            severity[judged] = self.model.severity(score[judged])
            is_anomaly[judged] = score[judged] > self.model.threshold
            status[judged] = State.READY
        run = np.empty(n, np.int64)
        follow_runs(columns.entity, is_anomaly, folded.counted, self.state.run, run)
        top_metric = _most_deviating(columns.values, folded)
        return Verdicts(score, severity, is_anomaly, status, top_metric, run), X, judged

    def _entity_rows(self, model: Model) -> npt.NDArray[np.int32]:
        """Row of every entity of the partition in the model's scale, -1 = the model has not seen it."""
        known = len(self._rows)
        if known < len(self.state.entities):
            fresh = [self.state.entities.name(index) for index in range(known, len(self.state.entities))]
            self._rows = np.concatenate([self._rows, model.entity_rows(fresh)])
        return self._rows


def _in_model_order(rolling: Floats, metrics: list[str], wanted: tuple[str, ...]) -> Floats:
    ordered = np.full((len(rolling), len(wanted), rolling.shape[2]), np.nan)
    position = {name: index for index, name in enumerate(metrics)}
    for column, name in enumerate(wanted):
        if name in position:
            ordered[:, column] = rolling[:, position[name]]
    return ordered


def _most_deviating(values: Floats, folded: Folded) -> npt.NDArray[np.int32]:
    """Metric whose value lies farthest outside its expectation, in half widths of the band; -1 where none is known."""
    if not values.shape[1]:
        return np.full(len(values), -1, np.int32)
    half = (folded.upper - folded.lower) / 2
    smallest = 0.01 * np.abs(folded.expected) + np.finfo(np.float64).tiny
    deviation = np.abs(values - folded.expected) / np.maximum(half, smallest)
    deviation = np.where(np.isnan(deviation), -1.0, deviation)
    return np.where(deviation.max(axis=1) >= 0, deviation.argmax(axis=1), -1).astype(np.int32)
