"""From records to verdicts: the one path that prediction, training and replay share.

Its steps: decode, fold, score, decide.

Invariant: for the same log prefix and activations the outcome is the same to the byte, however the
           log is divided into batches; only the verdict that an entity has stopped reporting
           depends on other entities.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from shared.batch import Batch
from shared.columns import Columns
from shared.ensemble.fold import Deviations, Interruption, Limits, Rows, limits_for, params_for
from shared.ensemble.fold import Verdicts as Found
from shared.ensemble.fold import fold as fold_ensemble
from shared.ensemble.grouped import fold_grouped
from shared.ensemble.kernels.layout import AHEAD, DUPLICATE, IN_ORDER, LATE
from shared.ensemble.kernels.metric.warm_up import READY_SAMPLES
from shared.events import Anomaly, State
from shared.kernels.trained.trained_rows import WITHOUT_MODEL
from shared.kernels.units import DAY_MS, HOUR_MS
from shared.models.model import Model
from shared.ports import Decoder
from shared.quality.checks import Dropped, Signals, watch
from shared.quality.checks import Rows as QualityRows
from shared.quality.checks import verdicts as quality_verdicts
from shared.scoring.alarms import COLD_SEVERITY, Context, build, episode_id
from shared.scoring.configuration import Configuration
from shared.scoring.explaining import Trained
from shared.scoring.leaving import interruptions_of, limit_verdicts, restarts, with_names
from shared.scoring.reasons import Speaker
from shared.scoring.state import Folded, PartitionState, fold
from shared.scoring.values_seen import ValuesSeen
from shared.scoring.verdicts import Verdicts

Floats = npt.NDArray[np.float64]
_DIRECTIONS = {"both": 0.0, "up": 1.0, "down": -1.0}
_READY, _WARMING = np.uint8(State.READY), np.uint8(State.WARMING)


@dataclass(frozen=True, slots=True)
class Rules:
    """What scoring needs of the settings; the configuration may be replaced by an activation's."""

    configuration: Configuration


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that one batch leads to; rows of ``columns`` that were accepted have a verdict each.

    anomalies : alarms, ends of episodes and data-quality verdicts, in the order of their rows
    decoder   : can say more of the rows that were rejected
    trained   : what a trained model sees of the accepted rows; no features without a model, unless
                they were asked for
    """

    batch: Batch
    columns: Columns
    folded: Folded
    verdicts: Verdicts
    anomalies: list[Anomaly]
    model: Model | None
    detector_id: str
    decoder: Decoder
    trained: Trained | ValuesSeen


class Scorer:
    """One partition's state, and the model and configuration that score it once active.

    A state may come from a snapshot in the middle of the log: until ``use`` says what the log says,
    nothing of it is dropped.

    features : whether an outcome has the features of its rows without a model, too; as a training
               needs them, which reads long batches: they are folded entity by entity
    """

    def __init__(self, state: PartitionState, rules: Rules, features: bool = False) -> None:
        self.state = state
        self.rules = rules
        self.model: Model | None = None
        self._features = features
        self._configure(rules.configuration)

    def use(self, model: Model | None, configuration: Configuration | None = None) -> None:
        """Use another model, and perhaps another configuration, from the next row on."""
        self.model = model
        if configuration is not None:
            self._configure(configuration)

    def _configure(self, configuration: Configuration) -> None:
        self.configuration = configuration
        detection = configuration.detection
        self._knobs = params_for(detection.threshold, configuration.detector.value)._replace(
            ready_days=detection.warmup_days
        )
        self._zone = configuration.zone_arrays
        self._digest = np.frombuffer(configuration.detection_digest, np.uint8)
        self._limits = _limits(configuration, [])

    @property
    def detector_id(self) -> str:
        """Name of the detector in use."""
        return self.configuration.detector.value

    def entity_states(self) -> npt.NDArray[np.uint8]:
        """Return the State of every entity that is remembered as its arrays have it now.

        returns : uint8 (E,) in the order of their places
        READY   : the warm-up of a metric is over; where a model alone decides, only with a model
        STALE   : ready, and silent for so long that it has stopped reporting
        Cost    : O(E + S) for S metrics of all entities, some 0.1 us each
        """
        state, owners = self.state, self.state.owners()
        count = len(owners)
        ready, has_stopped = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
        metrics = state.ensemble.metrics[: state.slots_used]
        slot_is_ready = metrics["live_ms"] >= self._knobs.ready_days * DAY_MS
        slot_is_ready &= metrics["samples"] >= READY_SAMPLES
        slot_owners = state.places.slot_place[: len(metrics)]
        ready[slot_owners[slot_is_ready & (slot_owners >= 0)]] = True
        if self.configuration.detector.is_trained and self.model is None:
            ready[:] = False
        stopped = state.quality.stopped(self.configuration.quality)
        has_stopped[: len(stopped)] = stopped
        known = np.where(has_stopped, State.STALE, State.READY)
        return np.where(ready, known, State.WARMING).astype(np.uint8)[owners >= 0]

    def process(self, batch: Batch, decoder: Decoder) -> Outcome:
        """Decode, fold and score a batch of this partition; moves the state behind its last row.

        decoder : has prepared the batch
        """
        state, quality = self.state, self.configuration.quality
        if state.tidy():
            self._limits = _limits(self.configuration, state.metrics)
        columns = decoder.decode(batch, state.entities, state.metrics)
        offsets = batch.offsets[columns.accepted]
        restarted = self._restarted(columns)
        window = self.configuration.window
        forget_ms = round(quality.forget_days * DAY_MS)
        folded = fold(state, columns, window, forget_ms, self.configuration.max_entities, offsets)
        signals = self._watch(columns, folded)
        interruptions = interruptions_of(state, columns, folded, signals, offsets, restarted)
        seen = self._values_seen(columns)
        found = self._fold(columns, folded, interruptions, offsets, seen)
        trained: Trained | ValuesSeen = Trained(
            found.features, found.sources, columns.values, found.cells, state.metrics
        )
        if seen is not None:
            trained = seen.of_folded(found.rows)
        if self.configuration.detector.is_trained:
            _clear_unknown(found, trained.known)
        verdicts = self._verdicts(columns, folded, found, batch)
        if signals.stale.any():
            verdicts.state[signals.stale & (verdicts.state == State.READY)] = State.STALE
        anomalies = build(
            Context(
                batch, columns, folded, verdicts, found, state, self.model, trained,
                self.detector_id, Speaker(self._zone)
            )
        )  # fmt: skip
        if quality.events:
            limit = self.configuration.max_entities
            data_quality = [
                *limit_verdicts(batch, columns, folded, state, self.detector_id, verdicts, limit),
                *quality_verdicts(
                    with_names(signals, state, columns, folded),
                    batch,
                    columns,
                    state.entities,
                    state.metrics,
                    self.detector_id,
                    verdicts.state,
                ),
            ]
            anomalies = sorted(
                [*anomalies, *data_quality], key=lambda anomaly: anomaly.source_offset
            )
        state.settle()
        state.next_offset = int(batch.offsets[-1]) + 1 if len(batch) else state.next_offset
        return Outcome(
            batch, columns, folded, verdicts, anomalies, self.model, self.detector_id, decoder,
            trained
        )  # fmt: skip

    def _restarted(self, columns: Columns) -> list[Interruption]:
        """Note by which settings the rows are judged; list who has an episode under others."""
        state = self.state
        if not len(columns) or np.array_equal(state.judged_by, self._digest):
            return []
        was_judged = state.judged_by.any()
        state.judged_by = self._digest.copy()
        state.reserve(0, 0, columns.values.shape[1], 0)
        return restarts(state, columns.values.shape[1]) if was_judged else []

    def _watch(self, columns: Columns, folded: Folded) -> Signals:
        state, dropped = self.state, folded.releases
        state.quality.reserve(state.places_used, state.slots_used)
        rows = QualityRows(
            folded.place,
            columns.time_ms,
            columns.values,
            folded.slots,
            folded.listed,
            folded.late_by_ms,
            folded.ahead,
            folded.duplicate,
            folded.forgotten,
        )
        gone = Dropped(dropped.row, dropped.place, dropped.slots)
        return watch(state.quality, rows, self.configuration.quality, self._zone, gone)

    def _values_seen(self, columns: Columns) -> ValuesSeen | None:
        """Score the rows by a model of values; None where there is none."""
        if self.model is None or not self.model.sees_values:
            return None
        return ValuesSeen.of(
            self.model, columns, self.state.entities, self.state.metrics, self._zone
        )

    def _fold(
        self,
        columns: Columns,
        folded: Folded,
        interruptions: list[Interruption],
        offsets: npt.NDArray[np.int64],
        seen: ValuesSeen | None,
    ) -> Found:
        """Score the rows by the fold, with the trained model as one of its views.

        seen : what a model of values finds in the rows, before the fold
        """
        state = self.state
        state.ensemble.reserve(state.places_used, state.slots_used)
        if len(self._limits.metrics) != columns.values.shape[1]:
            self._limits = _limits(self.configuration, state.metrics)
        rows = Rows(
            folded.place,
            columns.time_ms,
            columns.values,
            folded.slots,
            order=_by_name(tuple(state.metrics)),
            marks=_marks(folded),
            trained=None if seen is None else seen.rarity,
            offsets=offsets,
            names=columns.entity,
        )
        model = WITHOUT_MODEL if self._features else None
        if self.model is not None and seen is None:
            model = self.model.arrays
        fold_rows = fold_grouped if self._features else fold_ensemble
        return fold_rows(
            state.ensemble, rows, self._limits, self._knobs, self._zone, interruptions, model
        )

    def _verdicts(self, columns: Columns, folded: Folded, found: Found, batch: Batch) -> Verdicts:
        """Lay out what the fold computed."""
        rows, cells = found.rows, found.cells
        known = ~np.isnan(cells["expected"])
        ready = rows["state"] == 1
        is_scored = ~np.isnan(rows["score"])
        cold_start = rows["cold_start"] == 1
        return Verdicts(
            score=rows["score"].copy(),
            severity=np.where(cold_start, COLD_SEVERITY, rows["severity"]),
            threshold=np.where(is_scored, rows["threshold"], np.nan),
            is_anomaly=rows["is_anomaly"] == 1,
            cold_start=cold_start,
            state=np.where(ready, _READY, _WARMING),
            warmup_percent=np.where(folded.ahead, np.nan, 100.0 * rows["warmup"]),
            warmup_minutes_left=rows["warmup_minutes_left"].copy(),
            top_metric=_top_metrics(rows["top_metric"], columns.values, folded),
            episode_id=self._episode_ids(columns, rows, batch),
            expected=np.where(known, cells["expected"], folded.expected),
            lower=np.where(known, cells["lower"], folded.lower),
            upper=np.where(known, cells["upper"], folded.upper),
            metric_severity=cells["metric_severity"].copy(),
        )

    def _episode_ids(
        self, columns: Columns, rows: npt.NDArray[np.void], batch: Batch
    ) -> npt.NDArray[np.str_]:
        """Name the open episode of each row; most rows have none."""
        ids = np.zeros(len(rows), "U32")
        known_ids: dict[tuple[int, int, int, int], str] = {}
        for row in np.flatnonzero(rows["in_episode"]):
            verdict = rows[row]
            entity, column = int(columns.entity[row]), int(verdict["episode_column"])
            key = (entity, column, int(verdict["episode_key"]), int(verdict["episode_at"]))
            if key not in known_ids:
                known_ids[key] = episode_id(
                    batch,
                    key[3],
                    self.detector_id,
                    self.state.entities.name(entity),
                    self.state.metrics[column] if column >= 0 else None,
                    key[2],
                )
            ids[row] = known_ids[key]
        return ids


def _clear_unknown(found: Found, known: npt.NDArray[np.bool_]) -> None:
    """Remove the results of rows unknown to the trained model, where it alone decides.

    known : bool (n,); empty = there is no model
    """
    unknown = ~known if len(known) else np.ones(len(found.rows), np.bool_)
    found.rows["state"][unknown] = 0
    for name in ("score", "severity"):
        found.rows[name][unknown] = np.nan
    found.cells["metric_severity"][:] = np.nan


@lru_cache(64)
def _by_name(metrics: tuple[str, ...]) -> npt.NDArray[np.int32]:
    """Return the columns in the order of their names; kernels only read it."""
    return np.array(sorted(range(len(metrics)), key=metrics.__getitem__), np.int32)


def _marks(folded: Folded) -> npt.NDArray[np.uint8]:
    """Return the clock's marks of each row."""
    marks = np.full(len(folded.ahead), IN_ORDER, np.uint8)
    marks[folded.duplicate] = DUPLICATE
    marks[folded.late_by_ms > 0] = LATE
    marks[folded.ahead] = AHEAD
    return marks


def _limits(configuration: Configuration, metrics: list[str]) -> Limits:
    """What the user asks of each metric, by its name."""
    detection = configuration.detection
    rules = [detection.metrics.get(name) for name in metrics]

    def of(name: str) -> list[float]:
        default = getattr(detection, name)
        given = [getattr(rule, name) if rule else None for rule in rules]
        chosen = [default if value is None else value for value in given]
        return [_DIRECTIONS[value] for value in chosen] if name == "direction" else chosen

    return limits_for(
        len(metrics),
        configuration.detector.value,
        per_day=detection.alarms_per_day or 0.0,
        cold_start=detection.cold_start,
        lateness_ms=round(detection.max_lateness_h * HOUR_MS),
        deviations=Deviations(
            direction=np.array(of("direction"), np.float64),
            min_absolute=np.array(of("min_absolute"), np.float64),
            min_relative=np.array(of("min_relative"), np.float64),
        ),
    )


def _top_metrics(
    found: npt.NDArray[np.int32], values: Floats, folded: Folded
) -> npt.NDArray[np.int32]:
    """Return the metric that the fold names, else the one that deviates most; -1 = none is known.

    After the warm-up the ensemble names one in every row.
    """
    if (found >= 0).all():
        return found.astype(np.int32)
    return np.where(found >= 0, found, _most_deviating(values, folded)).astype(np.int32)


def _most_deviating(values: Floats, folded: Folded) -> npt.NDArray[np.int32]:
    """Metric with the largest deviation, in half widths of the band; -1 = none is known.

    Of equal ones it is the one that the entity reported first.
    """
    if not values.shape[1]:
        return np.full(len(values), -1, np.int32)
    half = (folded.upper - folded.lower) / 2
    smallest = 0.01 * np.abs(folded.expected) + np.finfo(np.float64).tiny
    with np.errstate(over="ignore"):
        deviation = np.abs(values - folded.expected) / np.maximum(half, smallest)
    deviation = np.where(np.isnan(deviation), -1.0, deviation)
    in_order = (folded.listed < 0) | (folded.listed == np.arange(values.shape[1]))
    if in_order.all():
        metric = deviation.argmax(axis=1)
        return np.where(deviation.max(axis=1) >= 0, metric, -1).astype(np.int32)
    is_listed = folded.listed >= 0
    listed = np.where(is_listed, folded.listed, 0)
    ranked = np.take_along_axis(deviation, listed, axis=1)
    ranked = np.where(is_listed, ranked, -1.0)
    largest = ranked.argmax(axis=1)[:, None]
    metric = np.take_along_axis(listed, largest, axis=1)[:, 0]
    return np.where(ranked.max(axis=1) >= 0, metric, -1).astype(np.int32)
