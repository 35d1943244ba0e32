"""The fold's cost in one build, whichever is on PYTHONPATH; see ``benchmarks.cost``.

Usage: cost_child.py FILE, an .npz with ``time_ms`` (n,) and ``values`` (hosts, n, M). Reads a line
of JSON for each request and answers with one: ``{"entities", "metrics", "history"}`` prepares a
state, ``{"rows"}`` folds the next rows of every entity.

It imports nothing but numpy and the fold, whose names are the same in the builds that are compared.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from shared.ensemble.fold import EnsembleState, Rows, fold, limits_for
from shared.ensemble.kernels.layout import ENTITY_DTYPE, METRIC_DTYPE

PER_DAY = 0.5
"""Alarm budget, so that its adaptation is part of the cost."""


class Series(NamedTuple):
    """Rows of a few hosts: time_ms int64 (n,), values float64 (hosts, n, M)."""

    time_ms: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]


def rows_of(series: Series, entities: int, metrics: int, low: int, high: int) -> Rows:
    """Return rows low..high of all entities by turns, their first metrics.

    Entity e has the values of host e modulo the number of hosts.
    """
    hosts = np.arange(entities) % len(series.values)
    values = series.values[:, low:high, :metrics][hosts].transpose(1, 0, 2).reshape(-1, metrics)
    slots = np.arange(entities * metrics, dtype=np.int32).reshape(entities, metrics)
    entity = np.tile(np.arange(entities, dtype=np.int32), high - low)
    times = np.repeat(series.time_ms[low:high], entities)
    return Rows(entity, times, np.ascontiguousarray(values), slots[entity])


def state_of(series: Series, entities: int, metrics: int, history: int) -> EnsembleState:
    """Return the state of entities with so many rows behind them.

    Only as many entities are folded as there are hosts; the others are copies of them.
    """
    hosts = min(entities, len(series.values))
    state = EnsembleState()
    state.reserve(hosts, hosts * metrics)
    given = rows_of(series, hosts, metrics, 0, history)
    fold(state, given, limits_for(metrics, per_day=PER_DAY))
    copies = np.arange(entities) % hosts
    slots = (copies[:, None] * metrics + np.arange(metrics)).ravel()
    state.entities = _whole_records(state.entities)[copies].view(ENTITY_DTYPE)
    state.metrics = _whole_records(state.metrics)[slots].view(METRIC_DTYPE)
    return state


def _whole_records(records: npt.NDArray[Any]) -> npt.NDArray[np.void]:
    """View records without their fields, so that what lies between fields is copied as well."""
    return records.view(np.dtype((np.void, records.dtype.itemsize)))


class Case:
    """A state, and the rows that come next."""

    def __init__(self, series: Series, entities: int, metrics: int, history: int) -> None:
        self._series, self._entities, self._metrics = series, entities, metrics
        self._next = history
        self._limits = limits_for(metrics, per_day=PER_DAY)
        self._state = state_of(series, entities, metrics, history)

    def fold(self, rows: int) -> dict[str, Any]:
        """Fold the next rows of every entity; return processor time and what they were.

        returns : seconds, number of values, share of the rows that got a score
        """
        low, self._next = self._next, self._next + rows
        given = rows_of(self._series, self._entities, self._metrics, low, self._next)
        began_s = time.process_time()
        found = fold(self._state, given, self._limits)
        seconds = time.process_time() - began_s
        scored = float(np.isfinite(found.rows["score"]).mean())
        return {"seconds": seconds, "values": given.values.size, "scored": scored}


def main() -> int:
    with np.load(sys.argv[1]) as file:
        series = Series(file["time_ms"], file["values"])
    case: Case | None = None
    for line in sys.stdin:
        request = json.loads(line)
        if "rows" not in request:
            case = None  # before the next one is made: two states may be larger than the memory
            case = Case(series, **request)
            bytes_each = METRIC_DTYPE.itemsize + ENTITY_DTYPE.itemsize / request["metrics"]
            answer: dict[str, Any] = {"bytes_per_series": bytes_each}
        elif case is None:
            answer = {"error": "nothing is prepared"}
        else:
            answer = case.fold(**request)
        print(json.dumps(answer), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
