"""What a predictor holds at the moment, as gauges: its lag, entities by state, the model.

Law: measuring changes nothing and waits for nobody; what is no longer owned is no longer shown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from consumer_prediction.doors import Doors
from consumer_prediction.ownership import Owned
from shared.counters import CONSUMER_LAG, ENTITIES, MODEL_AGE_SECONDS, MODEL_INFO, Counters
from shared.events import State
from shared.models.model import Model

MEASURE_EVERY_S = 1.0
COUNT_EVERY_S = 10.0
"""Entities are counted this often: of a hundred thousand, that takes some ms."""

_NEVER = (-math.inf, np.zeros(len(State), np.int64))


class Gauges:
    """Measures now and then, and at once where partitions were taken over or given up.

    topic : the input's name
    """

    def __init__(self, doors: Doors, topic: str, counters: Counters) -> None:
        self._doors = doors
        self._topic = topic
        self._counters = counters
        self._measured_s = -math.inf
        self._lag: set[int] = set()
        self._counts: dict[int, tuple[float, npt.NDArray[np.int64]]] = {}
        self._shown: set[int] = set()
        self._model = ""

    def refresh(self, owned: Mapping[int, Owned], model: Model | None) -> None:
        """Bring the gauges up to date if it is time to.

        model : what judges the next record, besides the online members; None = no trained model
        """
        now_s = self._doors.clock()
        if now_s - self._measured_s < MEASURE_EVERY_S and owned.keys() == self._shown:
            return
        self._measured_s, self._shown = now_s, set(owned)
        self._measure_lag(owned)
        self._count_entities(owned, now_s)
        self._measure_model(model)

    def _measure_lag(self, owned: Mapping[int, Owned]) -> None:
        ends = self._doors.source.ends()
        lag = {p: max(0, ends[p] - one.state.next_offset) for p, one in owned.items() if p in ends}
        for partition in self._lag - lag.keys():
            self._counters.forget(CONSUMER_LAG, self._topic, partition)
        for partition, records in lag.items():
            self._counters.set(CONSUMER_LAG, records, self._topic, partition)
        self._lag = set(lag)

    def _count_entities(self, owned: Mapping[int, Owned], now_s: float) -> None:
        for partition in self._counts.keys() - owned.keys():
            del self._counts[partition]
        for partition, one in owned.items():
            if now_s - self._counts.get(partition, _NEVER)[0] >= COUNT_EVERY_S:
                counts = np.bincount(one.scorer.entity_states(), minlength=len(State))
                self._counts[partition] = (now_s, counts)
        total = sum((counts for _, counts in self._counts.values()), np.zeros(len(State), np.int64))
        for state in State:
            self._counters.set(ENTITIES, int(total[state]), state.name)

    def _measure_model(self, model: Model | None) -> None:
        named = "" if model is None else model.sha256
        if named != self._model:
            self._model = named
            self._counters.forget(MODEL_INFO)
            self._counters.forget(MODEL_AGE_SECONDS)
        if model is None:
            return
        self._counters.set(MODEL_INFO, 1, model.version, model.model_id, model.detector.value)
        published_s = self._doors.models.published_s(model.sha256)
        if published_s is not None:
            age_s = self._doors.now_ms() / 1000 - published_s
            self._counters.set(MODEL_AGE_SECONDS, max(0.0, age_s))
