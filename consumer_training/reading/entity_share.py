"""A decoder that reads a part of the entities, where a topic has too many.

Invariant: which entities are read follows from their names and the seed alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from consumer_training.reading.reservoir import salt_of
from shared.batch import Batch
from shared.columns import Columns
from shared.directory import Directory
from shared.errors import LapwingError
from shared.ports import Decoder

MOST_METRICS = 2_000
"""Metrics of a partition that training folds: its memory grows with their square."""


class EntityShare:
    """A decoder of the entities that the seed chooses: one in 2 ** halvings."""

    def __init__(self, decoder: Decoder, seed: int, halvings: int) -> None:
        self._decoder = decoder
        self._seed = seed
        self._halvings = halvings
        self._chosen: dict[str, bool] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._decoder, name)

    def decode(self, batch: Batch, entities: Directory, metrics: list[str]) -> Columns:
        """Decode a batch without the rows of the other entities.

        raises : LapwingError where a partition has too many metrics
        """
        columns = self._decoder.decode(batch, entities, metrics)
        if len(metrics) > MOST_METRICS:
            raise LapwingError(
                f"{batch.topic}[{batch.partition}] has {len(metrics)} metrics up to offset"
                f" {batch.offsets[-1]}, training folds at most {MOST_METRICS}; the last model stays"
                " in use. Choose metrics with input.include or input.exclude"
            )
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
