"""One entity's rows as columns through the product's path: records of anomalies come out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from shared.batch import Batch, Blob
from shared.columns import Columns
from shared.directory import Directory
from shared.events import Anomaly, Detector, Kind
from shared.scoring.configuration import Configuration
from shared.scoring.scorer import Rules, Scorer
from shared.scoring.state import PartitionState
from shared.settings import load_settings


@dataclass(frozen=True)
class ColumnDecoder:
    """A decoder whose records are rows of arrays; a record's offset is its row.

    time_ms : int64 (n,), values : float64 (n, M)
    """

    entity: str
    metrics: tuple[str, ...]
    time_ms: Any
    values: Any

    entity_name = "host"

    def prepare(self, batch: Batch) -> None:
        """Nothing to look up."""

    def decode(self, batch: Batch, entities: Directory, metrics: list[str]) -> Columns:
        """Return the rows of a batch."""
        metrics += [name for name in self.metrics if name not in metrics]
        rows = batch.offsets
        entity = entities.find(self.entity)
        entity = entities.add(self.entity) if entity < 0 else entity
        return Columns(
            np.arange(len(rows)),
            np.full(len(rows), entity, np.int32),
            self.time_ms[rows],
            np.ascontiguousarray(self.values[rows]),
            np.empty(0, np.int64),
            np.empty(0, np.uint8),
        )

    def detail(self, value: bytes, headers: Any, reason: Any) -> str:
        """Nothing is rejected."""
        return ""

    def schema_sha256(self) -> list[str]:
        """No schema."""
        return []


def anomalies_of(
    time_ms: Any,
    values: Any,
    metrics: tuple[str, ...],
    timezone: str = "UTC",
    batches: int = 1,
    **detection: Any,
) -> list[Anomaly]:
    """Score one entity's rows in log order; returns alarms and ends of episodes.

    values : float64 (n, M)
    """
    settings = load_settings(
        {"features": {"timezone": timezone}, "detection": detection}, environ={}
    )
    configuration = Configuration.from_settings(settings)
    assert configuration.detector is Detector.ENSEMBLE
    scorer = Scorer(PartitionState(0), Rules(configuration))
    decoder = ColumnDecoder("a", metrics, time_ms, values)
    found: list[Anomaly] = []
    for rows in np.array_split(np.arange(len(time_ms)), batches):
        nothing = Blob.join([b""] * len(rows))
        batch = Batch("in", 0, nothing, nothing, rows, np.zeros(len(rows), np.int64))
        found += scorer.process(batch, decoder).anomalies
    return [a for a in found if a.kind in (Kind.ANOMALY, Kind.EPISODE_CLOSED)]
