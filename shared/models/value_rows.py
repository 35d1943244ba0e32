"""Rows as a model of values takes them: the entity's number, the local hour, a value per metric.

Invariant: a row depends on its own record and the model's list of entities alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from shared.kernels.clock import Zone
from shared.kernels.trained.peers import FIRST_METRIC, HOUR, HOURS, NUMBER
from shared.kernels.units import HOUR_MS

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

UNKNOWN = -1
"""Number of an entity that the model does not list."""


def hash_of(name: str) -> int:
    """Return the 64 bits by which a model lists an entity."""
    digest = hashlib.blake2b(name.encode(), digest_size=8, person=b"entity").digest()
    return int.from_bytes(digest, "little")


def list_entities(names: Sequence[str]) -> Hashes:
    """Return the hashes of entities, increasing, each once."""
    return np.unique(np.array([hash_of(name) for name in names], np.uint64))


def numbers_of(names: Sequence[str], entities: Hashes) -> Ints:
    """Return the place of each name in a list of entities, UNKNOWN where it is not in it.

    entities : uint64 (E,) increasing
    """
    if not len(entities):
        return np.full(len(names), UNKNOWN, np.int64)
    hashes = np.array([hash_of(name) for name in names], np.uint64)
    places = np.searchsorted(entities, hashes).astype(np.int64)
    found = entities[np.minimum(places, len(entities) - 1)] == hashes
    return np.where(found, places, UNKNOWN)


def local_hours(time_ms: Ints, zone: Zone) -> Ints:
    """Return the local hour of the day, 0..23."""
    shift = zone.shifts[np.searchsorted(zone.changes, time_ms, side="right") - 1]
    return (time_ms + shift) // HOUR_MS % HOURS


def value_rows(numbers: Ints, hours: Ints, values: Floats, columns: Sequence[int]) -> Floats:
    """Return rows for ``Model.score``, float64 (n, FIRST_METRIC + M).

    values  : float64 (n, K)  NaN = missing
    columns : (M,) the column of each of the model's metrics, -1 = there is none
    """
    X = np.full((len(values), FIRST_METRIC + len(columns)), np.nan)
    X[:, NUMBER] = numbers
    X[:, HOUR] = hours
    for metric, column in enumerate(columns):
        if column >= 0:
            X[:, FIRST_METRIC + metric] = values[:, column]
    return X
