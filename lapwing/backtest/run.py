"""Scores a feed as the predictor does, by one configuration or two, and keeps the results.

Invariant: only ``Scorer.process`` scores a record; what is kept depends only on the partition's
           log.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from lapwing.backtest.feeds import Feed
from shared.columns import Columns
from shared.directory import Directory
from shared.events import Anomaly, Kind, Reason
from shared.models.model import Model
from shared.scoring.configuration import Configuration
from shared.scoring.scorer import Outcome, Rules, Scorer
from shared.scoring.state import PartitionState

Floats = npt.NDArray[np.float64]
Times = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_ROW = (
    "entity",
    "time_ms",
    "severity",
    "is_anomaly",
    "cold_start",
    "state",
    "counted",
    "in_episode",
)
_CELL = ("values", "expected", "lower", "upper")


@dataclass(frozen=True, slots=True)
class Variant:
    """A variant: a configuration and, where it needs or is given one, a trained model."""

    name: str
    configuration: Configuration
    model: Model | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """The results of one entity's records in one partition, in log order.

    metrics  : (M,)             those that it reported
    severity : float64 (n,)     NaN = not scored
    is_anomaly, cold_start, counted, in_episode : bool (n,)   is_anomaly = an episode opens or
               becomes worse; cold_start = before the warm-up has ended; counted = neither late,
               ahead nor duplicate
    state    : uint8 (n,)       events.State
    values, expected, lower, upper : float64 (n, M)   NaN = missing, not known yet
    """

    entity: str
    partition: int
    metrics: tuple[str, ...]
    time_ms: Times
    severity: Floats
    is_anomaly: Flags
    cold_start: Flags
    state: npt.NDArray[np.uint8]
    counted: Flags
    in_episode: Flags
    values: Floats
    expected: Floats
    lower: Floats
    upper: Floats

    def __len__(self) -> int:
        return len(self.time_ms)

    @property
    def key(self) -> tuple[str, int]:
        """Entity and partition."""
        return self.entity, self.partition


@dataclass(frozen=True, slots=True)
class BacktestResult:
    """All results of one variant.

    alarms, closed, quality : in the order in which they came; closed = ends of episodes
    rejected        : {reason: records} that could not be read
    """

    variant: Variant
    series: tuple[Series, ...]
    alarms: tuple[Anomaly, ...]
    closed: tuple[Anomaly, ...]
    quality: tuple[Anomaly, ...]
    rejected: dict[str, int]
    late: int
    duplicates: int

    @property
    def rows(self) -> int:
        """Records that were scored."""
        return sum(map(len, self.series))


@dataclass(slots=True)
class _Partition:
    entities: Directory = field(default_factory=Directory)
    metrics: list[str] = field(default_factory=list)
    rows: dict[str, list[npt.NDArray[Any]]] = field(
        default_factory=lambda: {name: [] for name in _ROW}
    )
    cells: dict[str, list[Floats]] = field(default_factory=lambda: {name: [] for name in _CELL})

    def numbers(
        self, state: PartitionState, columns: Columns
    ) -> tuple[npt.NDArray[np.int32], list[int]]:
        """Return its own number of each row's entity, and of each column's metric.

        Those of the state change when it drops names that are no longer in use.
        """
        known, inverse = np.unique(columns.entity, return_inverse=True)
        own = [self.entities.add(state.entities.name(number)) for number in known.tolist()]
        names = state.metrics[: columns.values.shape[1]]
        self.metrics += [name for name in names if name not in self.metrics]
        return np.array(own, np.int32)[inverse], [self.metrics.index(name) for name in names]


class ResultCollector:
    """Collects the results of one variant.  Memory: 25 + 32 M bytes a record."""

    def __init__(self, variant: Variant) -> None:
        self.variant = variant
        self.alarms: list[Anomaly] = []
        self.closed: list[Anomaly] = []
        self.quality: list[Anomaly] = []
        self.rejected: dict[str, int] = {}
        self.late = self.duplicates = 0
        self._partitions: dict[int, _Partition] = {}

    def add(self, outcome: Outcome, state: PartitionState) -> None:
        """Add the results of a batch."""
        partition = self._partitions.setdefault(outcome.batch.partition, _Partition())
        columns, folded, verdicts = outcome.columns, outcome.folded, outcome.verdicts
        entity, targets = partition.numbers(state, columns)
        late = folded.late_by_ms > 0
        kept: dict[str, npt.NDArray[Any]] = {
            "entity": entity,
            "time_ms": columns.time_ms,
            "severity": verdicts.severity,
            "is_anomaly": verdicts.is_anomaly & ~folded.duplicate,
            "cold_start": verdicts.cold_start,
            "state": verdicts.state,
            "counted": folded.counted,
            "in_episode": verdicts.episode_id != "",
        }
        for name, column in kept.items():
            partition.rows[name].append(column)
        for name, cells in zip(
            _CELL, (columns.values, verdicts.expected, verdicts.lower, verdicts.upper), strict=True
        ):
            placed = np.full((len(cells), len(partition.metrics)), np.nan)
            placed[:, targets] = cells
            partition.cells[name].append(placed)
        self.late += int(late.sum())
        self.duplicates += int(folded.duplicate.sum())
        for anomaly in outcome.anomalies:
            if anomaly.is_anomaly:
                self.alarms.append(anomaly)
            elif anomaly.kind is Kind.EPISODE_CLOSED:
                self.closed.append(anomaly)
            else:
                self.quality.append(anomaly)
        for reason, count in zip(*np.unique(columns.reasons, return_counts=True), strict=True):
            code = Reason(int(reason)).code
            self.rejected[code] = self.rejected.get(code, 0) + int(count)

    def result(self) -> BacktestResult:
        """Return the results so far, ordered by series."""
        series = [
            entity_series
            for number in sorted(self._partitions)
            for entity_series in _series(number, self._partitions[number])
        ]
        return BacktestResult(
            self.variant,
            tuple(sorted(series, key=lambda entity_series: entity_series.key)),
            tuple(self.alarms),
            tuple(self.closed),
            tuple(self.quality),
            dict(sorted(self.rejected.items())),
            self.late,
            self.duplicates,
        )


def run(
    feed: Feed,
    variants: Sequence[Variant],
    report_progress: Callable[[int, int], object] = lambda rows, alarms: None,
    observe: Callable[[str, Outcome, PartitionState], object] | None = None,
) -> list[BacktestResult]:
    """Score every record of a feed by each variant; the feed is read once.

    report_progress : is called after each batch with the records so far and the first variant's
                      alarms
    observe         : is called with each variant's name and its outcome of each batch
    """
    collectors = [ResultCollector(variant) for variant in variants]
    scorers: list[dict[int, Scorer]] = [{} for _ in variants]
    rows = 0
    for batch in feed.batches():
        for variant, collector, of_partition in zip(variants, collectors, scorers, strict=True):
            scorer = of_partition.get(batch.partition)
            if scorer is None:
                scorer = Scorer(
                    PartitionState(int(batch.offsets[0])),
                    Rules(variant.configuration),
                )
                scorer.use(variant.model, variant.configuration)
                of_partition[batch.partition] = scorer
            outcome = scorer.process(batch, feed.decoder)
            collector.add(outcome, scorer.state)
            if observe is not None:
                observe(variant.name, outcome, scorer.state)
        rows += len(batch)
        report_progress(rows, len(collectors[0].alarms))
    return [collector.result() for collector in collectors]


def _series(number: int, partition: _Partition) -> list[Series]:
    metrics, names = partition.metrics, partition.entities.names()
    rows = {name: np.concatenate(chunks) for name, chunks in partition.rows.items()}
    order = np.argsort(rows["entity"], kind="stable")
    bounds = np.searchsorted(rows["entity"][order], np.arange(len(names) + 1))
    cells = {name: _joined(chunks, len(metrics))[order] for name, chunks in partition.cells.items()}
    series = []
    for index, (low, high) in enumerate(pairwise(bounds.tolist())):
        if low == high:
            continue
        values = cells["values"][low:high]
        shown = np.flatnonzero(~np.isnan(values).all(axis=0))
        arrays: dict[str, Any] = {name: rows[name][order[low:high]] for name in _ROW[1:]}
        arrays |= {name: np.ascontiguousarray(cells[name][low:high][:, shown]) for name in _CELL}
        series.append(
            Series(names[index], number, tuple(metrics[column] for column in shown), **arrays)
        )
    return series


def _joined(chunks: Sequence[Floats], metrics: int) -> Floats:
    """Join cells of batches that came before and after further metrics were known."""
    joined = np.full((sum(map(len, chunks)), metrics), np.nan)
    low = 0
    for chunk in chunks:
        joined[low : low + len(chunk), : chunk.shape[1]] = chunk
        low += len(chunk)
    return joined
