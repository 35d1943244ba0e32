"""Decoding record by record with a plain function: for formats that have no kernel of their own.

Invariant: records pass the same gates, in the same order and with the same reasons, as those of a
compiled decoder.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shared.batch import Batch, Blob, Headers
from shared.columns import Columns
from shared.decode.gates import columns_of, limits_of, room_for
from shared.decode.kernels.gate_checks import (
    FOUND,
    HAS_NO_TIME,
    HAS_NOT_FINITE,
    HAS_TIME,
    TIME,
    check_rows,
    check_sizes,
)
from shared.directory import Directory
from shared.events import Reason
from shared.settings import InputSettings

_LARGEST_MS = 2**63 - 1


class Reading(NamedTuple):
    """What was read of one record.

    entity  : its name; empty = there is none
    time_ms : event time, ms since 1970 UTC; None = there is none, NaN = what stands for it is none
    values  : metric -> number; None = missing
    """

    entity: str
    time_ms: float | None
    values: Mapping[str, float | None]


Read = Callable[[bytes, Headers], Reading | Reason]
"""Reads a value, and perhaps its headers; a Reason says why that cannot be done."""


def decode_one_by_one(
    batch: Batch,
    read: Read,
    settings: InputSettings,
    entities: Directory,
    metrics: list[str],
    max_entities: int,
) -> Columns:
    """Decode a batch with a function that reads one record; for the rest see ``Decoder.decode``.

    read     : is not called for records that are empty or too large
    settings : limits of size and event time
    metrics  : names unseen so far are appended, in order of the first accepted record that has
               them and of that record's fields
    Cost     : some microseconds a record
    """
    reasons = np.empty(len(batch), np.uint8)
    check_sizes(batch.values.bounds, limits_of(settings), reasons)
    readings: dict[int, Reading] = {}
    for row in np.flatnonzero(reasons == Reason.ACCEPTED).tolist():
        found = read(batch.values[row], batch.headers.get(row, ()))
        if isinstance(found, Reason):
            reasons[row] = found
        else:
            readings[row] = found
    names = Blob.join(
        [_bytes_of(readings[row].entity) if row in readings else b"" for row in range(len(batch))]
    )
    check_rows(
        _found(readings, len(batch)),
        np.frombuffer(names.data, np.uint8),
        names.bounds,
        limits_of(settings),
        reasons,
    )
    accepted, rejected = np.flatnonzero(reasons == Reason.ACCEPTED), np.flatnonzero(reasons)
    rows = room_for(len(batch), 0)
    good, bad = len(accepted), len(rejected)
    rows.accepted[:good], rows.rejected[:bad] = accepted, rejected
    rows.reasons[:bad] = reasons[rejected]
    rows.time_ms[:good] = [_time(readings[row].time_ms) for row in accepted.tolist()]
    kept = Blob.join([names[row] for row in accepted.tolist()])
    rows.names[: len(kept.data)] = np.frombuffer(kept.data, np.uint8)
    rows.name_bounds[: good + 1] = kept.bounds
    columns = columns_of(rows, good, bad, entities, max_entities)
    return _with_values(columns, [readings[row] for row in columns.accepted.tolist()], metrics)


def _found(readings: Mapping[int, Reading], n: int) -> npt.NDArray[np.int64]:
    """Return what the gates look at, int64 (n, 4)."""
    found = np.zeros((n, FOUND), np.int64)
    for row, (_, time_ms, values) in readings.items():
        found[row, HAS_NOT_FINITE] = not _are_finite(values.values())
        if time_ms is not None:
            found[row, HAS_TIME] = 1
            found[row, HAS_NO_TIME] = not math.isfinite(time_ms)
            found[row, TIME] = _time(time_ms)
    return found


def _are_finite(values: Iterable[float | None]) -> bool:
    return all(value is None or math.isfinite(value) for value in values)


def _time(time_ms: float | None) -> int:
    """Return a time as an int64; one that is none or does not fit lies outside every range."""
    if time_ms is None or not math.isfinite(time_ms):
        return -_LARGEST_MS
    whole = time_ms if isinstance(time_ms, int) else math.floor(time_ms + 0.5)
    return min(max(whole, -_LARGEST_MS), _LARGEST_MS)


def _bytes_of(name: str) -> bytes:
    """Return a name as UTF-8; one that has no such form as bytes that no gate lets through."""
    return name.encode("utf-8", "surrogatepass")


def _with_values(columns: Columns, readings: list[Reading], metrics: list[str]) -> Columns:
    """Append the metrics that are new, and lay the values out by all of them."""
    for reading in readings:
        metrics += [name for name in reading.values if name not in metrics]
    column_of = {name: column for column, name in enumerate(metrics)}
    values = np.full((len(readings), len(metrics)), np.nan)
    for row, reading in enumerate(readings):
        for name, value in reading.values.items():
            if value is not None:
                values[row, column_of[name]] = value
    return Columns(
        columns.accepted,
        columns.entity,
        columns.time_ms,
        values,
        columns.rejected,
        columns.reasons,
    )
