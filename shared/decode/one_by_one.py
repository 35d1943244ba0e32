"""Decoding with a function that reads one record, for formats without a kernel.

Invariant: records pass the same gates, in the same order and with the same reason codes, as with a
compiled decoder.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shared.batch import Batch, Blob, Headers
from shared.columns import Columns, layouts_of
from shared.decode.gates import columns_of, empty_rows, limits_of
from shared.decode.kernels.gate_checks import (
    FOUND,
    HAS_NO_TIME,
    HAS_NOT_FINITE,
    HAS_TIME,
    TIME,
    GatedRows,
    check_rows,
    check_sizes,
)
from shared.directory import Directory
from shared.events import Reason
from shared.settings import InputSettings

MOST_NAMES = 4_096
"""Most names of metrics in a partition; a record that would add further ones is rejected."""

_LARGEST_MS = 2**63 - 1


class Reading(NamedTuple):
    """One record as read.

    entity  : its name; empty = missing
    time_ms : event time, ms since 1970 UTC; None = missing, NaN = present but not a time
    values  : metric -> number; None = missing
    """

    entity: str
    time_ms: float | None
    values: Mapping[str, float | None]


Read = Callable[[bytes, Headers], Reading | Reason]
"""Reads a record from its value and headers, or returns the Reason why it cannot be read."""


def decode_one_by_one(
    batch: Batch,
    read: Read,
    settings: InputSettings,
    entities: Directory,
    metrics: list[str],
) -> Columns:
    """Decode a batch with a function that reads one record; see ``Decoder.decode``.

    read     : not called for records that are empty or too large
    settings : limits of size and event time
    metrics  : gets new names, in order of the first accepted record that has them and of that
               record's fields
    Cost     : some microseconds a record
    """
    reasons = np.empty(len(batch), np.uint8)
    check_sizes(batch.values.bounds, limits_of(settings), reasons)
    readings = _read_all(batch, read, reasons)
    names = Blob.join(
        [_utf8(readings[row].entity) if row in readings else b"" for row in range(len(batch))]
    )
    check_rows(
        _checked_cells(readings, len(batch)),
        np.frombuffer(names.data, np.uint8),
        names.bounds,
        limits_of(settings),
        reasons,
    )
    _reject_surplus_names(readings, metrics, reasons)
    columns = columns_of(*_gated(readings, names, reasons), entities)
    return _with_values(columns, [readings[row] for row in columns.accepted.tolist()], metrics)


def _read_all(batch: Batch, read: Read, reasons: npt.NDArray[np.uint8]) -> dict[int, Reading]:
    """Return the readings by row; write the reason of each record that cannot be read."""
    readings: dict[int, Reading] = {}
    for row in np.flatnonzero(reasons == Reason.ACCEPTED).tolist():
        result = read(batch.values[row], batch.headers.get(row, ()))
        if isinstance(result, Reason):
            reasons[row] = result
        else:
            readings[row] = result
    return readings


def _reject_surplus_names(
    readings: Mapping[int, Reading], metrics: Sequence[str], reasons: npt.NDArray[np.uint8]
) -> None:
    """Reject the accepted rows whose new names would exceed the limit of names."""
    known = set(metrics)
    for row in np.flatnonzero(reasons == Reason.ACCEPTED).tolist():
        values = readings[row].values
        if known.issuperset(values):
            continue
        wider = known.union(values)
        if len(wider) > MOST_NAMES:
            reasons[row] = Reason.TOO_MANY_NAMES
        else:
            known = wider


def _gated(
    readings: Mapping[int, Reading], names: Blob, reasons: npt.NDArray[np.uint8]
) -> tuple[GatedRows, int, int]:
    """Return the rows as a compiled decoder would, and how many are accepted and rejected."""
    accepted = np.flatnonzero(reasons == Reason.ACCEPTED)
    rejected = np.flatnonzero(reasons)
    n_accepted = len(accepted)
    n_rejected = len(rejected)
    rows = empty_rows(len(reasons), 0)
    rows.accepted[:n_accepted] = accepted
    rows.rejected[:n_rejected] = rejected
    rows.reasons[:n_rejected] = reasons[rejected]
    rows.time_ms[:n_accepted] = [_time(readings[row].time_ms) for row in accepted.tolist()]
    kept_names = Blob.join([names[row] for row in accepted.tolist()])
    rows.names[: len(kept_names.data)] = np.frombuffer(kept_names.data, np.uint8)
    rows.name_bounds[: n_accepted + 1] = kept_names.bounds
    return rows, n_accepted, n_rejected


def _checked_cells(readings: Mapping[int, Reading], n: int) -> npt.NDArray[np.int64]:
    """Return what the gates check, int64 (n, 4)."""
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
    """Return a time as an int64; a value that is none or does not fit is outside every range."""
    if time_ms is None or not math.isfinite(time_ms):
        return -_LARGEST_MS
    whole = time_ms if isinstance(time_ms, int) else math.floor(time_ms + 0.5)
    return min(max(whole, -_LARGEST_MS), _LARGEST_MS)


def _utf8(name: str) -> bytes:
    """Return a name as UTF-8; lone surrogates become bytes that the gates reject."""
    return name.encode("utf-8", "surrogatepass")


def _with_values(columns: Columns, readings: list[Reading], metrics: list[str]) -> Columns:
    """Append new metrics, and fill the columns of values."""
    column_of = {name: column for column, name in enumerate(metrics)}
    for reading in readings:
        for name in reading.values:
            if name not in column_of:
                column_of[name] = len(metrics)
                metrics.append(name)
    values = np.full((len(readings), len(metrics)), np.nan)
    for row, reading in enumerate(readings):
        for name, value in reading.values.items():
            if value is not None:
                values[row, column_of[name]] = value
    orders: dict[tuple[int, ...], int] = {}
    layout = np.zeros(len(readings), np.int32)
    for row, reading in enumerate(readings):
        order = tuple(column_of[name] for name in reading.values)
        layout[row] = orders.setdefault(order, len(orders))
    return replace(columns, values=values, layout=layout, layouts=layouts_of(list(orders)))
