"""From records to verdicts: decode, fold, score, judge; the one path that prediction, training and
                          replay walk.

Law: for the same log prefix and activations the outcome is the same to the byte, however the log is
     cut into batches; an
entity's verdicts do not depend on other entities, but for the data-quality verdict that it has
stopped reporting.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shared.batch import Batch
from shared.columns import Columns
from shared.ensemble.fold import EnsembleState, knobs_for, limits_for
from shared.ensemble.fold import fold as fold_ensemble
from shared.ensemble.kernels.outputs import Limits
from shared.events import Anomaly, State
from shared.features.kernels.rolling import follow_runs
from shared.features.vectors import vectors
from shared.models.model import Model
from shared.ports import Decoder
from shared.quality.checks import Signals, watch
from shared.quality.checks import verdicts as quality_verdicts
from shared.scoring.configuration import Configuration
from shared.scoring.explaining import explain
from shared.scoring.reasons import Explained, explain_alarms
from shared.scoring.state import Folded, PartitionState, fold
from shared.scoring.verdicts import Scored, Verdicts
from shared.settings import DetectionSettings

Floats = npt.NDArray[np.float64]
_DAY_MS = 86_400_000
_DIRECTIONS = {"both": 0.0, "up": 1.0, "down": -1.0}
COLD_SEVERITY = 0.5
"""Severity of an alarm that has no calibrated score yet."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What scoring needs of the settings; the configuration may be replaced by an activation's."""

    configuration: Configuration
    max_entities: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that one batch leads to; rows of ``columns`` that were accepted have a verdict each.

    anomalies : alarms and data-quality verdicts, in the order of their rows
    decoder   : can say more of the rows that were rejected
    """

    batch: Batch
    columns: Columns
    folded: Folded
    verdicts: Verdicts
    anomalies: list[Anomaly]
    model: Model | None
    detector_id: str
    decoder: Decoder


class _Trained(NamedTuple):
    """Rows that the model knows, their feature vectors and scores."""

    rows: npt.NDArray[np.int64]
    X: Floats
    scores: Floats


class Scorer:
    """One partition's state, and what judges it from its activation on.

    A state may come from a snapshot in the middle of the log: until ``use`` says what the log says,
    nothing of it is dropped.
    """

    def __init__(self, state: PartitionState, rules: Rules) -> None:
        self.state = state
        self.rules = rules
        self.model: Model | None = None
        self._rows = np.empty(0, np.int32)
        self._configure(rules.configuration)

    def use(self, model: Model | None, configuration: Configuration | None = None) -> None:
        """Judge by another model, and perhaps another configuration, from the next row on."""
        self.model = model
        self._rows = np.empty(0, np.int32)
        if configuration is not None:
            self._configure(configuration)
            if configuration.detector.is_trained:
                self.state.ensemble = EnsembleState()

    def _configure(self, configuration: Configuration) -> None:
        self.configuration = configuration
        if not configuration.detector.is_trained:
            self._knobs = knobs_for(configuration.detector.value, configuration.detection.threshold)
        self._limits = _limits(configuration.detection, [])

    @property
    def detector_id(self) -> str:
        """Return who judges now."""
        return self.configuration.detector.value

    def entity_states(self) -> npt.NDArray[np.uint8]:
        """Return the State of every entity of the partition as its arrays have it now.

        returns : uint8 (E,) in the order of the entities
        READY   : warmed up, or known to the model where a model alone decides
        STALE   : ready, and silent for so long that it has stopped reporting
        Cost    : O(E), some 0.1 us an entity
        """
        state, count = self.state, len(self.state.entities)
        ready, gone = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
        if not self.configuration.detector.is_trained:
            warmup = state.ensemble.entities["warmup"][:count]
            ready[: len(warmup)] = warmup > 0
        elif self.model is not None:
            ready[:] = self._entity_rows(self.model) >= 0
        stopped = state.quality.stopped(self.configuration.quality)
        gone[: len(stopped)] = stopped
        known = np.where(gone, State.STALE, State.READY)
        return np.where(ready, known, State.WARMING).astype(np.uint8)

    def process(self, batch: Batch, decoder: Decoder) -> Outcome:
        """Decode, fold and judge a batch of this partition; moves the state behind its last row.

        decoder : has prepared the batch
        """
        state, rules, quality = self.state, self.rules, self.configuration.quality
        columns = decoder.decode(batch, state.entities, state.metrics, rules.max_entities)
        window = self.model.window if self.model else self.configuration.window
        folded = fold(state, columns, window, round(quality.forget_days * _DAY_MS))
        trained = self._score(columns, folded)
        if self.configuration.detector.is_trained:
            verdicts, alarms = self._by_model(columns, folded, trained, batch)
        else:
            verdicts, alarms = self._by_members(columns, folded, trained, batch)
        signals = self._watch(columns, folded)
        verdicts.state[signals.stale & (verdicts.state == State.READY)] = State.STALE
        anomalies = alarms
        if quality.events:
            said = quality_verdicts(
                signals,
                batch,
                columns,
                state.entities,
                state.metrics,
                self.detector_id,
                verdicts.state,
            )
            anomalies = sorted([*alarms, *said], key=lambda anomaly: anomaly.source_offset)
        state.next_offset = int(batch.offsets[-1]) + 1 if len(batch) else state.next_offset
        return Outcome(
            batch, columns, folded, verdicts, anomalies, self.model, self.detector_id, decoder
        )

    def _watch(self, columns: Columns, folded: Folded) -> Signals:
        state = self.state
        state.quality.reserve(len(state.entities), state.slots_used)
        return watch(
            state.quality, state.slots, columns.entity, columns.time_ms, columns.values,
            folded.late_by_ms, folded.duplicate, folded.forgotten, self.configuration.quality,
        )  # fmt: skip

    def _score(self, columns: Columns, folded: Folded) -> _Trained:
        """Score the rows whose entity the model knows."""
        if self.model is None or not len(columns):
            return _Trained(np.empty(0, np.int64), np.empty((0, 0)), np.empty(0))
        entity_rows = self._entity_rows(self.model)[columns.entity]
        rows = np.flatnonzero(entity_rows >= 0)
        X = vectors(
            _in_model_order(folded.rolling[rows], self.state.metrics, self.model.metrics),
            entity_rows[rows], columns.time_ms[rows], self.model.scale, self.model.calendar,
        )  # fmt: skip
        return _Trained(rows, X, self.model.score(X))

    def _by_model(
        self, columns: Columns, folded: Folded, trained: _Trained, batch: Batch
    ) -> tuple[Verdicts, list[Anomaly]]:
        """The trained model alone decides: a score above its threshold is an anomaly."""
        n, model = len(columns), self.model
        verdicts = _undecided(
            n, _most_deviating(columns.values, folded), folded.expected, folded.lower, folded.upper
        )
        if model is not None:
            rows = trained.rows
            verdicts.score[rows] = trained.scores
            verdicts.severity[rows] = model.severity(trained.scores)
            verdicts.threshold[rows] = model.threshold
            verdicts.is_anomaly[rows] = trained.scores > model.threshold
            verdicts.state[rows] = State.READY
        follow_runs(
            columns.entity,
            verdicts.is_anomaly,
            folded.counted,
            folded.forgotten,
            self.state.run,
            verdicts.run,
        )
        alarms = np.flatnonzero(verdicts.is_anomaly & ~folded.duplicate)
        if model is None or not len(alarms):
            return verdicts, []
        X = trained.X[np.searchsorted(trained.rows, alarms)]
        scored = Scored(batch, columns, folded, verdicts, self.state, model, self.detector_id)
        anomalies = explain(scored, model, X, alarms)
        place = {name: index for index, name in enumerate(self.state.metrics)}
        for row, anomaly in zip(alarms, anomalies, strict=True):
            verdicts.top_metric[row] = place.get(anomaly.metric or "", -1)
        return verdicts, anomalies

    def _by_members(
        self, columns: Columns, folded: Folded, trained: _Trained, batch: Batch
    ) -> tuple[Verdicts, list[Anomaly]]:
        """The online members decide, with the trained model as one of them."""
        state = self.state
        state.ensemble.reserve(len(state.entities), state.slots_used)
        if len(self._limits.direction) != columns.values.shape[1]:
            self._limits = _limits(self.configuration.detection, state.metrics)
        rarity = np.full(len(columns), np.nan)
        if self.model is not None:
            rarity[trained.rows] = self.model.rarity(trained.scores)
        joint = fold_ensemble(
            state.ensemble, state.slots, columns.entity, columns.time_ms, columns.values, self._limits, self._knobs,
            trained=rarity, counts=folded.counted, forgotten=folded.forgotten,
            order=np.array(sorted(range(len(state.metrics)), key=state.metrics.__getitem__), np.int32),
        )  # fmt: skip
        deviating = _most_deviating(columns.values, folded)
        top = np.where(joint.top_metric >= 0, joint.top_metric, deviating).astype(np.int32)
        verdicts = _undecided(
            len(columns), top,
            np.where(np.isnan(joint.expected), folded.expected, joint.expected),
            np.where(np.isnan(joint.expected), folded.lower, joint.lower),
            np.where(np.isnan(joint.expected), folded.upper, joint.upper),
        )  # fmt: skip
        judged = ~np.isnan(joint.score)
        verdicts.score[:] = joint.score
        verdicts.severity[:] = np.where(joint.cold_start, COLD_SEVERITY, joint.severity)
        verdicts.threshold[judged] = joint.threshold[judged]
        verdicts.is_anomaly[:] = joint.is_anomaly & ~folded.duplicate
        verdicts.cold_start[:] = joint.cold_start
        verdicts.state[joint.warmup >= 1.0] = State.READY
        verdicts.warmup_percent[:] = 100.0 * joint.warmup
        verdicts.warmup_minutes_left[:] = joint.warmup_minutes_left
        verdicts.metric_severity[:] = joint.metric_severity
        follow_runs(
            columns.entity,
            verdicts.is_anomaly,
            folded.counted,
            folded.forgotten,
            state.run,
            verdicts.run,
        )
        scored = Scored(batch, columns, folded, verdicts, state, self.model, self.detector_id)
        alarms = np.flatnonzero(verdicts.is_anomaly)
        return verdicts, explain_alarms(Explained(scored, joint), alarms)

    def _entity_rows(self, model: Model) -> npt.NDArray[np.int32]:
        """Row of every entity of the partition in the model's scale, -1 = the model has not seen
        it.
        """
        known = len(self._rows)
        if known < len(self.state.entities):
            fresh = [
                self.state.entities.name(index) for index in range(known, len(self.state.entities))
            ]
            self._rows = np.concatenate([self._rows, model.entity_rows(fresh)])
        return self._rows


def _undecided(
    rows: int, top: npt.NDArray[np.int32], expected: Floats, lower: Floats, upper: Floats
) -> Verdicts:
    """Verdicts that say nothing yet."""
    unknown = {
        name: np.full(rows, np.nan)
        for name in ("score", "severity", "threshold", "warmup_percent", "warmup_minutes_left")
    }
    return Verdicts(
        **unknown,
        is_anomaly=np.zeros(rows, np.bool_),
        cold_start=np.zeros(rows, np.bool_),
        state=np.full(rows, State.WARMING, np.uint8),
        top_metric=top,
        run=np.zeros(rows, np.int64),
        expected=expected,
        lower=lower,
        upper=upper,
        metric_severity=np.full(expected.shape, np.nan),
    )


def _limits(detection: DetectionSettings, metrics: list[str]) -> Limits:
    """What the user asks of each metric, by its name."""
    rules = [detection.metrics.get(name) for name in metrics]

    def of(name: str) -> list[float]:
        default = getattr(detection, name)
        given = [getattr(rule, name) if rule else None for rule in rules]
        chosen = [default if value is None else value for value in given]
        return [_DIRECTIONS[value] for value in chosen] if name == "direction" else chosen

    return limits_for(
        len(metrics),
        warmup=detection.warmup_samples,
        per_day=detection.alarms_per_day or 0.0,
        cold_start=detection.cold_start,
        direction=np.array(of("direction"), np.float64),
        min_absolute=np.array(of("min_absolute"), np.float64),
        min_relative=np.array(of("min_relative"), np.float64),
    )


def _in_model_order(rolling: Floats, metrics: list[str], wanted: tuple[str, ...]) -> Floats:
    ordered = np.full((len(rolling), len(wanted), rolling.shape[2]), np.nan)
    position = {name: index for index, name in enumerate(metrics)}
    for column, name in enumerate(wanted):
        if name in position:
            ordered[:, column] = rolling[:, position[name]]
    return ordered


def _most_deviating(values: Floats, folded: Folded) -> npt.NDArray[np.int32]:
    """Metric whose value lies farthest outside its expectation, in half widths of the band; -1
    where none is known.
    """
    if not values.shape[1]:
        return np.full(len(values), -1, np.int32)
    half = (folded.upper - folded.lower) / 2
    smallest = 0.01 * np.abs(folded.expected) + np.finfo(np.float64).tiny
    with np.errstate(over="ignore"):
        deviation = np.abs(values - folded.expected) / np.maximum(half, smallest)
    deviation = np.where(np.isnan(deviation), -1.0, deviation)
    return np.where(deviation.max(axis=1) >= 0, deviation.argmax(axis=1), -1).astype(np.int32)
