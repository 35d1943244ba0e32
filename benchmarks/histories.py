"""Training's history of series that are known, without a topic.

Invariant: what is folded and sampled is what a topic of the same rows would give.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from consumer_training.reading.history import History
from shared.batch import Batch, Blob, Headers
from shared.columns import Columns
from shared.directory import Directory
from shared.events import Reason
from shared.labels import Windows
from shared.settings import Settings

BATCH_ROWS = 20_000


class Prepared:
    """A decoder of one partition whose columns are known; a record's offset is its row."""

    entity_name = "host"

    def __init__(self, columns: Columns, names: list[str], metrics: tuple[str, ...]) -> None:
        self._columns = columns
        self._names = names
        self._metrics = metrics

    def prepare(self, batch: Batch) -> None:
        """Do nothing: there is nothing to look up."""

    def decode(self, batch: Batch, entities: Directory, metrics: list[str]) -> Columns:
        """Return the columns of a batch."""
        for name in self._names:
            entities.add(name)
        metrics += [name for name in self._metrics if name not in metrics]
        rows = slice(int(batch.offsets[0]), int(batch.offsets[-1]) + 1)
        whole = self._columns
        return Columns(
            np.arange(len(batch)),
            whole.entity[rows],
            whole.time_ms[rows],
            whole.values[rows],
            whole.rejected,
            whole.reasons,
        )

    def detail(self, value: bytes, headers: Headers, reason: Reason) -> str:
        """Return nothing: no record is rejected."""
        return ""

    def schema_sha256(self) -> list[str]:
        """Return nothing: there is no schema."""
        return []


def read_series(
    times: Mapping[str, npt.NDArray[np.int64]],
    values: Mapping[str, npt.NDArray[np.float64]],
    metrics: tuple[str, ...],
    settings: Settings,
    labels: Windows | None = None,
    batch_rows: int = BATCH_ROWS,
) -> History:
    """Read the rows of entities, in order of time, as one partition.

    times  : int64 (n,) of each entity, increasing
    values : float64 (n, M) of each entity
    """
    names = sorted(values)
    joined_ms = np.concatenate([times[name] for name in names])
    owner = np.repeat(np.arange(len(names), dtype=np.int32), [len(times[name]) for name in names])
    order = np.lexsort((owner, joined_ms))
    stacked = np.concatenate([values[name] for name in names])
    columns = Columns(
        np.arange(len(order)),
        owner[order],
        joined_ms[order],
        np.ascontiguousarray(stacked[order], np.float64),
        np.empty(0, np.int64),
        np.empty(0, np.uint8),
    )
    batches = []
    for low in range(0, len(order), batch_rows):
        count = min(batch_rows, len(order) - low)
        blank = Blob.join([b""] * count)
        offsets = low + np.arange(count, dtype=np.int64)
        batches.append(Batch("metrics", 0, blank, blank, offsets, np.zeros(count, np.int64)))
    history = History(Prepared(columns, names, metrics), settings, labels)
    for batch in batches:
        history.add(batch)
    return history
