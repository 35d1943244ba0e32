"""Gauges of a predictor: its lag, entities by state, and the model in use.

Invariant: measuring changes no state and never blocks; revoked partitions have no gauges.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from consumer_prediction.dependencies import Dependencies
from consumer_prediction.ownership import Owned
from shared.events import State
from shared.models.model import Model
from shared.operations.counters import (
    CONSUMER_LAG,
    ENTITIES,
    MODEL_AGE_SECONDS,
    MODEL_INFO,
    Counters,
)

MEASURE_EVERY_S = 1.0
COUNT_EVERY_S = 10.0
"""How often entities are counted; counting a hundred thousand takes some milliseconds."""

_NEVER = (-math.inf, np.zeros(len(State), np.int64))


class Gauges:
    """Measures at intervals, and at once after partitions were assigned or revoked.

    topic : the input's name
    """

    def __init__(self, dependencies: Dependencies, topic: str, counters: Counters) -> None:
        self._dependencies = dependencies
        self._topic = topic
        self._counters = counters
        self._measured_s = -math.inf
        self._lag: set[int] = set()
        self._counts: dict[int, tuple[float, npt.NDArray[np.int64]]] = {}
        self._shown: set[int] = set()
        self._model = ""

    def refresh(self, owned: Mapping[int, Owned], model: Model | None) -> None:
        """Update the gauges if they are due.

        model : trained model that scores the next record; None = online members only
        """
        now_s = self._dependencies.clock()
        if now_s - self._measured_s < MEASURE_EVERY_S and owned.keys() == self._shown:
            return
        self._measured_s, self._shown = now_s, set(owned)
        self._measure_lag(owned)
        self._count_entities(owned, now_s)
        self._measure_model(model)

    def _measure_lag(self, owned: Mapping[int, Owned]) -> None:
        ends = self._dependencies.source.ends()
        lag = {
            number: max(0, ends[number] - partition.state.next_offset)
            for number, partition in owned.items()
            if number in ends
        }
        for partition in self._lag - lag.keys():
            self._counters.forget(CONSUMER_LAG, self._topic, partition)
        for partition, records in lag.items():
            self._counters.set(CONSUMER_LAG, records, self._topic, partition)
        self._lag = set(lag)

    def _count_entities(self, owned: Mapping[int, Owned], now_s: float) -> None:
        for number in self._counts.keys() - owned.keys():
            del self._counts[number]
        for number, partition in owned.items():
            counted_s, _ = self._counts.get(number, _NEVER)
            if now_s - counted_s >= COUNT_EVERY_S:
                counts = np.bincount(partition.scorer.entity_states(), minlength=len(State))
                self._counts[number] = (now_s, counts)
        total = sum((counts for _, counts in self._counts.values()), np.zeros(len(State), np.int64))
        for state in State:
            self._counters.set(ENTITIES, int(total[state]), state.name)

    def _measure_model(self, model: Model | None) -> None:
        sha256 = "" if model is None else model.sha256
        if sha256 != self._model:
            self._model = sha256
            self._counters.forget(MODEL_INFO)
            self._counters.forget(MODEL_AGE_SECONDS)
        if model is None:
            return
        self._counters.set(MODEL_INFO, 1, model.version, model.model_id, model.detector.value)
        published_s = self._dependencies.models.published_s(model.sha256)
        if published_s is not None:
            age_s = self._dependencies.now_ms() / 1000 - published_s
            self._counters.set(MODEL_AGE_SECONDS, max(0.0, age_s))
