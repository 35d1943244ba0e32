"""The training input: what the fold sees of the rows of all partitions, as a bounded sample.

Invariant: the result depends on the partitions' logs, the labels and the settings only, not on
           batch sizes or the order in which partitions were read.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from consumer_training.reading.reservoir import (
    ALARMED,
    LABELLED,
    USABLE,
    Chosen,
    Reservoir,
    salt_of,
)
from shared.batch import Batch
from shared.columns import Columns
from shared.directory import Directory
from shared.events import Anomaly, Detector, Kind, Phase, Reason
from shared.features.vectors import FEATURES
from shared.labels import Windows, find
from shared.ports import Decoder
from shared.scoring.configuration import Configuration
from shared.scoring.scorer import Outcome, Rules, Scorer
from shared.scoring.state import PartitionState
from shared.settings import Settings
from shared.wording import iso

MAX_SERIES = 10_000
"""Metrics of entities that are folded at once; of more, a part of the entities is read."""

MAX_EPISODES = 200
"""Episodes that are listed; all are counted."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Sampled rows, series by series, in order of time.

    A series holds the rows of one entity in one partition.

    series   : (S,) entity and partition, sorted
    bounds   : int64 (S + 1,)    series i is rows bounds[i]:bounds[i + 1]
    metrics  : (M,) in order of first appearance, lowest partition first
    time_ms  : int64 (n,)        event time
    values   : float64 (n, M)    NaN = missing
    features : float64 (n, FEATURES)  what a trained model sees
    bands    : float64 (n, M, 3) expected value, lower and upper end of the usual range
    use      : uint8 (n,)        USABLE, ALARMED or LABELLED
    """

    series: tuple[tuple[str, int], ...]
    bounds: npt.NDArray[np.int64]
    metrics: tuple[str, ...]
    time_ms: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    features: npt.NDArray[np.float64]
    bands: npt.NDArray[np.float64]
    use: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.time_ms)


@dataclass(slots=True)
class _Partition:
    scorer: Scorer
    first_offset: int
    next_offset: int
    accepted: int = 0
    series: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    known: int = 0
    metrics: list[str] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)
    episodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    episode_count: int = 0


class _Part:
    """A decoder that reads a part of the entities, chosen by seed."""

    def __init__(self, decoder: Decoder, seed: int, halvings: int) -> None:
        self._decoder = decoder
        self._seed = seed
        self._halvings = halvings
        self._chosen: dict[str, bool] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._decoder, name)

    def decode(self, batch: Batch, entities: Directory, metrics: list[str]) -> Columns:
        columns = self._decoder.decode(batch, entities, metrics)
        if self._halvings == 0 or not len(columns):
            return columns
        present, owner = np.unique(columns.entity, return_inverse=True)
        names = [entities.name(int(index)) for index in present]
        keep = np.array([self._is_chosen(name) for name in names])[owner]
        layout = columns.layout
        return replace(
            columns,
            accepted=columns.accepted[keep],
            entity=columns.entity[keep],
            time_ms=columns.time_ms[keep],
            values=np.ascontiguousarray(columns.values[keep]),
            layout=None if layout is None else layout[keep],
        )

    def _is_chosen(self, name: str) -> bool:
        if name not in self._chosen:
            self._chosen[name] = salt_of(name, self._seed) % (1 << self._halvings) == 0
        return self._chosen[name]


class History:
    """Folds the batches of all partitions as a predictor does, and samples their rows.

    Each partition's batches come in log order. Memory: the fold's state of at most MAX_SERIES
    series, and the reservoir's budget. Rows in an episode that alarmed, and those that labels name,
    are kept apart.
    """

    def __init__(
        self, decoder: Decoder, settings: Settings, labels: Windows | None = None, halvings: int = 0
    ) -> None:
        self.decoder = decoder
        self.settings = settings
        self.labels = labels
        self.halvings = halvings
        configuration = Configuration.from_settings(settings)
        self._rules = Rules(replace(configuration, detector=Detector.ENSEMBLE))
        self._part: Any = _Part(decoder, settings.train.seed, halvings)
        self._reservoir = Reservoir(settings.train.seed)
        self._salts: list[int] = []
        self._columns: dict[str, int] = {}
        self._partitions: dict[int, _Partition] = {}

    @property
    def share(self) -> float:
        """Share of the entities that are read."""
        return 0.5**self.halvings

    @property
    def is_overfull(self) -> bool:
        """Whether the entities have more metrics than are folded at once."""
        return sum(partition.series for partition in self._partitions.values()) > MAX_SERIES

    def halved(self) -> History:
        """Return an empty history that reads half of these entities."""
        return History(self.decoder, self.settings, self.labels, self.halvings + 1)

    def add(self, batch: Batch) -> None:
        """Decode and fold a batch, and sample its rows.

        raises : TransportError, SchemaNotAllowed
        """
        if not len(batch):
            return
        self.decoder.prepare(batch)
        first = int(batch.offsets[0])
        if batch.partition not in self._partitions:
            scorer = Scorer(PartitionState(first), self._rules, features=True)
            self._partitions[batch.partition] = _Partition(scorer, first, first)
        partition = self._partitions[batch.partition]
        outcome = partition.scorer.process(batch, self._part)
        partition.next_offset = int(batch.offsets[-1]) + 1
        partition.accepted += len(outcome.columns)
        state = partition.scorer.state
        partition.series = max(partition.series, state.slots_used)
        for reason, count in zip(
            *np.unique(outcome.columns.reasons, return_counts=True), strict=True
        ):
            code = Reason(reason).code
            partition.rejected[code] = partition.rejected.get(code, 0) + int(count)
        for anomaly in outcome.anomalies:
            _note(partition, anomaly)
        self._sample(partition, outcome, batch.partition)

    def __len__(self) -> int:
        return sum(partition.accepted for partition in self._partitions.values())

    @property
    def rejected(self) -> int:
        """Number of records rejected so far."""
        return sum(
            count
            for partition in self._partitions.values()
            for count in partition.rejected.values()
        )

    def facts(self) -> dict[str, Any]:
        """Return per partition the offsets read, accepted rows, and rejected records by reason."""
        return {
            str(number): {
                "first_offset": partition.first_offset,
                "next_offset": partition.next_offset,
                "accepted": partition.accepted,
                "rejected": dict(sorted(partition.rejected.items())),
            }
            for number, partition in sorted(self._partitions.items())
        }

    def sampling(self) -> dict[str, Any]:
        """Return how much of the input the sample stands for, and which episodes are left out."""
        episodes = [
            episode
            for partition in self._partitions.values()
            for episode in partition.episodes.values()
        ]
        episodes.sort(key=lambda one: (one["start"], one["entity"], one["metric"] or ""))
        return {
            "entity_share": self.share,
            "entities": len({name for p in self._partitions.values() for name in p.numbers}),
            "rows_read": len(self),
            "rows_known": sum(partition.known for partition in self._partitions.values()),
            "rows_kept_per_series": self._reservoir.rows,
            "episodes": sum(partition.episode_count for partition in self._partitions.values()),
            "left_out_episodes": episodes[:MAX_EPISODES],
        }

    def rows(self) -> Rows:
        """Return the sampled rows, sorted by series."""
        ordered = sorted(self._partitions.items())
        metrics = tuple(
            dict.fromkeys(name for _, partition in ordered for name in partition.metrics)
        )
        columns = [self._columns[name] for name in metrics]
        numbers = sorted(
            (name, number, series)
            for number, partition in ordered
            for name, series in partition.numbers.items()
        )
        kept = [self._reservoir.kept(series) for _, _, series in numbers]
        sizes = [len(part["time_ms"]) for part in kept]
        joined = {
            name: np.concatenate([part[name] for part in kept])
            for name in ("time_ms", "values", "features", "bands", "use")
            if kept
        }
        if not kept:
            joined = {
                "time_ms": np.empty(0, np.int64),
                "values": np.empty((0, 0)),
                "features": np.empty((0, FEATURES)),
                "bands": np.empty((0, 0, 3)),
                "use": np.empty(0, np.uint8),
            }
        return Rows(
            tuple((name, number) for name, number, _ in numbers),
            np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            metrics,
            joined["time_ms"],
            joined["values"][:, columns],
            joined["features"].astype(np.float64),
            joined["bands"][:, columns].astype(np.float64),
            joined["use"],
        )

    def _sample(self, partition: _Partition, outcome: Outcome, number: int) -> None:
        """Offer the rows that a trained model would know to the reservoir."""
        known = np.flatnonzero(outcome.trained.known)
        if not len(known):
            return
        partition.known += len(known)
        state = partition.scorer.state
        targets = self._targets(partition, state.metrics)
        present, owner = np.unique(outcome.columns.entity[known], return_inverse=True)
        names = [state.entities.name(int(index)) for index in present]
        series = np.array([self._series(partition, name, number) for name in names])[owner]
        self._reservoir.reserve(np.array(self._salts, np.uint64), len(self._columns))
        use = np.where(outcome.verdicts.episode_id[known] == "", USABLE, ALARMED).astype(np.uint8)
        if self.labels:
            self._mark_labelled(use, names, owner, outcome.columns.time_ms[known])
        values = np.full((len(known), len(self._columns)), np.nan)
        bands = np.full((*values.shape, 3), np.nan)
        width = outcome.columns.values.shape[1]
        values[:, targets[:width]] = outcome.columns.values[known]
        for place, name in enumerate(("expected", "lower", "upper")):
            bands[:, targets[:width], place] = getattr(outcome.verdicts, name)[known]
        order = np.argsort(series, kind="stable")
        self._reservoir.add(
            Chosen(
                series[order],
                outcome.columns.time_ms[known][order],
                values[order],
                outcome.trained.features[known][order],
                bands[order],
                use[order],
            )
        )

    def _targets(self, partition: _Partition, metrics: list[str]) -> list[int]:
        """Return the reservoir's column of each metric of a partition."""
        for name in metrics:
            if name not in partition.metrics:
                partition.metrics.append(name)
            self._columns.setdefault(name, len(self._columns))
        return [self._columns[name] for name in metrics]

    def _series(self, partition: _Partition, name: str, number: int) -> int:
        """Return the number of a series, which gets one if it has none."""
        if name not in partition.numbers:
            partition.numbers[name] = len(self._salts)
            self._salts.append(salt_of(name, number))
        return partition.numbers[name]

    def _mark_labelled(
        self,
        use: npt.NDArray[np.uint8],
        names: list[str],
        owner: npt.NDArray[np.int64],
        time_ms: npt.NDArray[np.int64],
    ) -> None:
        for number, name in enumerate(names):
            for window in find(self.labels or {}, name) or ():
                inside = (time_ms >= window.start_ms) & (time_ms <= window.end_ms)
                use[inside & (owner == number)] = LABELLED


def _note(partition: _Partition, anomaly: Anomaly) -> None:
    """Keep the start and end of an episode; the first of a partition are listed."""
    if anomaly.episode_id is None or anomaly.kind not in (Kind.ANOMALY, Kind.EPISODE_CLOSED):
        return
    episode = partition.episodes.get(anomaly.episode_id)
    if anomaly.kind is Kind.EPISODE_CLOSED:
        if episode is not None and anomaly.event_time is not None:
            episode["end"] = iso(anomaly.event_time)
        return
    if episode is not None:
        return
    partition.episode_count += anomaly.phase is Phase.OPEN
    if len(partition.episodes) < MAX_EPISODES and anomaly.episode_start is not None:
        partition.episodes[anomaly.episode_id] = {
            "entity": anomaly.entity,
            "metric": anomaly.metric,
            "start": iso(anomaly.episode_start),
            "end": None,
        }
