"""One partition of the training input: its fold, and what a model would know of its rows.

Invariant: what is returned depends on the partition's log, the labels and the settings only, not on
           how the log is divided into batches. Nothing of other partitions is read or written, so
           that several partitions are folded at the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from consumer_training.reading.reservoir import ALARMED, BANDS, LABELLED, USABLE
from shared.batch import Batch
from shared.events import Anomaly, Kind, Phase, Reason
from shared.labels import Windows, find
from shared.ports import Decoder
from shared.scoring.scorer import Outcome, Scorer
from shared.scoring.state import PartitionState
from shared.wording import iso

MAX_EPISODES = 200
"""Episodes that are listed; all are counted."""

FIRST_ROWS, FIRST_BYTES = 250, 1 << 16
"""Rows that are folded at once while new metrics of entities appear, and the bytes of their values.

They bound by how much the memory of the fold may exceed its limit before that is noticed.
"""

MOST_ROWS, MOST_CELLS = 1 << 13, 1 << 18
"""Rows that are folded at once, and rows times metrics."""

_FACTS = (
    "first_offset", "next_offset", "accepted", "series", "rejected", "known", "appeared",
    "metrics", "numbers", "episodes", "episode_count", "rows_at_once",
)  # fmt: skip

FEW_NEW = 0.01
"""New metrics of entities per row up to which more rows are folded at once the next time."""


class Seen(NamedTuple):
    """Rows that a trained model would know.

    names    : (E,)              entities
    owner    : int64 (n,)        whose row it is, an index of names
    time_ms  : int64 (n,)
    values   : float64 (n, M)    in the order of the partition's metrics
    features : float64 (n, FEATURES)
    bands    : float64 (n, M, BANDS)
    use      : uint8 (n,)        USABLE, ALARMED or LABELLED
    """

    names: list[str]
    owner: npt.NDArray[np.int64]
    time_ms: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    features: npt.NDArray[np.float64]
    bands: npt.NDArray[np.float64]
    use: npt.NDArray[np.uint8]


@dataclass(slots=True)
class Partition:
    """A partition that is being read.

    accepted : records so far; rejected are counted by reason
    series   : most metrics of entities that the fold has remembered at the same time
    known    : rows that a trained model would know
    appeared : metrics in order of first appearance
    metrics  : those of them that had appeared when the newest row was known
    numbers  : {entity: number of its series in the reservoir}
    """

    scorer: Scorer
    first_offset: int
    next_offset: int
    accepted: int = 0
    series: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    known: int = 0
    appeared: list[str] = field(default_factory=list)
    metrics: list[str] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)
    episodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    episode_count: int = 0
    rows_at_once: int = FIRST_ROWS

    def facts(self) -> dict[str, Any]:
        """Return all but the state of the fold, as JSON takes it."""
        state = self.scorer.state
        return {name: getattr(self, name) for name in _FACTS} | {
            "state": {"metrics": state.metric_names(), "base": state.base}
        }

    def resume(self, facts: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Continue from ``facts`` and the arrays of the state of the fold.

        raises : ValueError, KeyError, TypeError where they do not fit together
        """
        for name in _FACTS:
            setattr(self, name, facts[name])
        state = facts["state"]
        self.scorer.state = PartitionState.from_arrays(
            arrays, state["metrics"], state["base"], self.next_offset, None
        )

    def read(
        self,
        batch: Batch,
        decoder: Decoder,
        labels: Windows | None,
        is_overfull: Callable[[], bool],
    ) -> Iterator[Seen]:
        """Fold a batch that the decoder has prepared; yield the rows that a model would know.

        is_overfull : where it returns True nothing more is folded: what was read is thrown away
        """
        low = 0
        while low < len(batch) and not is_overfull():
            high = self._end(batch, low)
            before = self.series
            outcome = self.scorer.process(batch.rows(low, high), decoder)
            self._count(outcome)
            is_settled = self.series - before <= FEW_NEW * (high - low)
            self.rows_at_once = 2 * self.rows_at_once if is_settled else FIRST_ROWS
            self.rows_at_once = min(self.rows_at_once, MOST_ROWS)
            low = high
            known = np.flatnonzero(outcome.trained.known)
            if len(known):
                yield self._seen(outcome, known, labels)

    def _end(self, batch: Batch, low: int) -> int:
        """Return the row before which to stop, so that memory stays bounded."""
        bounds, size = batch.values.bounds, FIRST_BYTES * self.rows_at_once // FIRST_ROWS
        cells = MOST_CELLS // max(len(self.scorer.state.metrics), 1)
        by_size = int(np.searchsorted(bounds, bounds[low] + size, "right")) - 1
        return max(min(low + min(self.rows_at_once, cells), by_size, len(batch)), low + 1)

    def _count(self, outcome: Outcome) -> None:
        self.next_offset = int(outcome.batch.offsets[-1]) + 1
        self.accepted += len(outcome.columns)
        self.series = max(self.series, self.scorer.state.slots_used)
        self.appeared = list(dict.fromkeys([*self.appeared, *self.scorer.state.metrics]))
        reasons, counts = np.unique(outcome.columns.reasons, return_counts=True)
        for reason, count in zip(reasons, counts, strict=True):
            code = Reason(reason).code
            self.rejected[code] = self.rejected.get(code, 0) + int(count)
        for anomaly in outcome.anomalies:
            self._note(anomaly)

    def _seen(self, outcome: Outcome, known: npt.NDArray[np.int64], labels: Windows | None) -> Seen:
        state, columns, verdicts = self.scorer.state, outcome.columns, outcome.verdicts
        self.known += len(known)
        self.metrics = list(self.appeared)
        places = {name: place for place, name in enumerate(self.metrics)}
        targets = [places[name] for name in state.metrics]
        present, owner = np.unique(columns.entity[known], return_inverse=True)
        names = [state.entities.name(int(index)) for index in present]
        time_ms = columns.time_ms[known]
        use = np.where(verdicts.episode_id[known] == "", USABLE, ALARMED).astype(np.uint8)
        if labels:
            _mark_labelled(use, names, owner, time_ms, labels)
        width = columns.values.shape[1]
        values = np.full((len(known), len(self.metrics)), np.nan)
        bands = np.full((*values.shape, BANDS), np.nan)
        values[:, targets[:width]] = columns.values[known]
        for place, name in enumerate(("expected", "lower", "upper")):
            bands[:, targets[:width], place] = getattr(verdicts, name)[known]
        features = outcome.trained.features[known]
        return Seen(names, owner, time_ms, values, features, bands, use)

    def _note(self, anomaly: Anomaly) -> None:
        """Keep the start and end of an episode; the first of a partition are listed."""
        if anomaly.episode_id is None or anomaly.kind not in (Kind.ANOMALY, Kind.EPISODE_CLOSED):
            return
        episode = self.episodes.get(anomaly.episode_id)
        if anomaly.kind is Kind.EPISODE_CLOSED:
            if episode is not None and anomaly.event_time is not None:
                episode["end"] = iso(anomaly.event_time)
            return
        if episode is not None:
            return
        self.episode_count += anomaly.phase is Phase.OPEN
        if len(self.episodes) < MAX_EPISODES and anomaly.episode_start is not None:
            self.episodes[anomaly.episode_id] = {
                "entity": anomaly.entity,
                "metric": anomaly.metric,
                "start": iso(anomaly.episode_start),
                "end": None,
            }


def _mark_labelled(
    use: npt.NDArray[np.uint8],
    names: list[str],
    owner: npt.NDArray[np.int64],
    time_ms: npt.NDArray[np.int64],
    labels: Windows,
) -> None:
    for number, name in enumerate(names):
        for window in find(labels, name) or ():
            inside = (time_ms >= window.start_ms) & (time_ms <= window.end_ms)
            use[inside & (owner == number)] = LABELLED
