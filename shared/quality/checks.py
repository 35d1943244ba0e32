"""Data-quality verdicts: what is wrong with the data itself, kept apart from anomalies.

Invariant: the checks are a pure fold over the partition's log; one kind about one entity comes at
           most once per ``repeat_hours`` of event time, and a lasting condition comes once, however
           the log is divided into batches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.anomalies import Origin, Subject, event_of
from shared.batch import Batch
from shared.columns import Columns
from shared.directory import Directory
from shared.events import Anomaly, Kind, State
from shared.kernels.clock import UTC, Zone
from shared.kernels.units import HOUR_MS
from shared.quality.kernels import quality_layout as layout
from shared.quality.kernels.quality_arguments import Dropped, Memory, Rows
from shared.quality.kernels.quality_layout import (
    CLOCK_DTYPE,
    ENTITY_DTYPE,
    MIN_COVERED_MS,
    MIN_INTERVALS,
    PRESENCE_DTYPE,
    SERIES_DTYPE,
    Limits,
)
from shared.quality.kernels.quality_rows import watch_rows
from shared.settings import QualitySettings
from shared.wording import duration, minute, short

__all__ = [
    "KINDS",
    "Dropped",
    "QualityState",
    "Rows",
    "Signals",
    "limits_of",
    "verdicts",
    "watch",
]

KINDS = (
    Kind.MISSING,
    Kind.GAP,
    Kind.LATE,
    Kind.OUT_OF_ORDER,
    Kind.DUPLICATE,
    Kind.REPEATED_TIME,
    Kind.FLAT_LINE,
    Kind.STOPPED,
)
"""What ``Signals.kind`` counts: in the order of the kernel's numbers."""

_SPARSE, _LEAST_CAPACITY = 4, 64
"""Arrays shrink when they have this many times the space that is needed, or of the least."""

_DTYPES = {
    "entities": ENTITY_DTYPE,
    "presence": PRESENCE_DTYPE,
    "series": SERIES_DTYPE,
    "clock": CLOCK_DTYPE,
}


class QualityState:
    """The checks' state of a partition; indices are the partition's entities and slots.

    entities : ENTITY_DTYPE (E,)
    presence : PRESENCE_DTYPE (E,)   changed by the entity's own rows only, as series is
    series   : SERIES_DTYPE (S,)
    clock    : CLOCK_DTYPE (1,)
    """

    def __init__(self) -> None:
        self.entities = np.zeros(0, ENTITY_DTYPE)
        self.presence = np.zeros(0, PRESENCE_DTYPE)
        self.series = np.zeros(0, SERIES_DTYPE)
        self.clock = np.zeros(1, CLOCK_DTYPE)

    def reserve(self, entities: int, slots: int) -> None:
        """Reserve space for this many entities and slots; capacity never enters the bytes.

        Capacity at least doubles when it grows.
        """
        if entities > len(self.entities):
            capacity = max(entities, 2 * len(self.entities))
            self.entities = _resized(self.entities, capacity)
            self.presence = _resized(self.presence, capacity)
        if slots > len(self.series):
            self.series = _resized(self.series, max(slots, 2 * len(self.series)))

    @property
    def clock_ms(self) -> int:
        """The partition's clock: the second largest of the entities' newest event times.

        -1 = fewer than two entities.
        """
        clock = self.clock[0]
        return int(clock["second_ms"]) if clock["reporting"] >= 2 else -1

    def stopped(self, settings: QualitySettings) -> npt.NDArray[np.bool_]:
        """Return which entities have stopped reporting by the partition's clock.

        returns : bool (E,) by their indices; E = those that ever reported
        Cost    : O(E)
        """
        clock = self.clock[0]
        known = self.entities[: clock["entities"]]
        if clock["reporting"] < 2:
            return np.zeros(len(known), np.bool_)
        rhythm = known["rhythm"]
        limit_ms = rhythm["interval_ms"] * np.maximum(
            settings.stopped_intervals, layout.USUAL_TWICE * rhythm["usual_gap"]
        )
        since_ms = np.maximum(known["newest_ms"], known["clock_ms"])
        silent_ms = clock["second_ms"] - np.maximum(since_ms, clock["resumed_ms"])
        has_stopped: npt.NDArray[np.bool_] = silent_ms > np.floor(limit_ms)
        has_stopped &= clock["second_ms"] > known["due_ms"]
        has_stopped &= rhythm["covered_ms"] >= MIN_COVERED_MS
        return has_stopped & (rhythm["intervals"] >= MIN_INTERVALS)

    def shrink(self, entities: int, slots: int) -> None:
        """Release memory where there is much more than these entities and slots need."""
        for name, needed in (("entities", entities), ("presence", entities), ("series", slots)):
            least = max(needed, _LEAST_CAPACITY)
            if len(getattr(self, name)) > _SPARSE * least:
                setattr(self, name, _resized(getattr(self, name), 2 * least))

    def to_arrays(self, entities: int, slots: int) -> dict[str, npt.NDArray[np.uint8]]:
        """Return what is in use as bytes, (n, record size) each; equal states give equal bytes."""
        self.reserve(entities, slots)
        used = {"entities": entities, "presence": entities, "series": slots, "clock": 1}
        return {
            f"quality_{name}": _as_bytes(getattr(self, name))[:count]
            for name, count in used.items()
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> QualityState:
        """Rebuild a state from ``to_arrays``.

        raises : ValueError naming the array that is missing or has another shape
        """
        state = cls()
        for name, dtype in _DTYPES.items():
            array = arrays.get(f"quality_{name}")
            if (
                array is None
                or array.dtype != np.uint8
                or array.ndim != 2
                or array.shape[1] != dtype.itemsize
            ):
                actual = "missing" if array is None else f"{array.dtype} {array.shape}"
                raise ValueError(f"quality_{name} is {actual}, not uint8 (n, {dtype.itemsize})")
            setattr(state, name, np.ascontiguousarray(array).copy().reshape(-1).view(dtype))
        if len(state.clock) != 1 or not 0 <= state.clock[0]["entities"] <= len(state.entities):
            raise ValueError(f"quality_clock does not fit {len(state.entities)} entities")
        if len(state.presence) != len(state.entities):
            raise ValueError(f"quality_presence does not fit {len(state.entities)} entities")
        return state


NOBODY = Dropped(np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros((0, 0), np.int32))


@dataclass(frozen=True, slots=True)
class Signals:
    """What is wrong with a batch: k signals in the order of their rows, and a mark per row.

    row      : int64 (k,)    row of columns that the signal hangs on
    kind     : uint8 (k,)    index into KINDS
    entity   : int32 (k,)    whom it is about; differs from the row's entity for ``stopped`` only
    metric   : int32 (k,)    the (first) metric, -1 = none
    since_ms : int64 (k,)    missing: its last value; gap, late, out of order, stopped: the entity's
               newest event before; flat line: its first equal value; -1 = none
    amount   : float64 (k,)  gap, stopped: length in ms; late, out of order: ms behind; missing:
               metrics; flat line: the value
    usual_ms : float64 (k,)  the entity's usual interval; missing: the metric's; NaN = not known yet
    others   : int32 (k,)    further metrics that the signal is about
    stale    : bool (n,)     the row is its entity's first after it had stopped
    """

    row: npt.NDArray[np.int64]
    kind: npt.NDArray[np.uint8]
    entity: npt.NDArray[np.int32]
    metric: npt.NDArray[np.int32]
    since_ms: npt.NDArray[np.int64]
    amount: npt.NDArray[np.float64]
    usual_ms: npt.NDArray[np.float64]
    others: npt.NDArray[np.int32]
    stale: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.row)


def limits_of(settings: QualitySettings) -> Limits:
    """Return the settings in the kernel's units."""
    return Limits(
        float(settings.gap_intervals),
        float(settings.stopped_intervals),
        round(settings.flat_hours * HOUR_MS),
        round(settings.repeat_hours * HOUR_MS),
    )


def watch(
    state: QualityState,
    rows: Rows,
    settings: QualitySettings,
    zone: Zone = UTC,
    dropped: Dropped = NOBODY,
) -> Signals:
    """Fold rows into the state and return what is wrong with them.

    See ``quality_rows.watch_rows``.

    state   : has room for all entities and slots that occur
    zone    : silences that recur do so in local time
    dropped : whose memory is dropped meanwhile
    returns : the same whether ``settings.events`` or not, so that switching it changes nothing
              but what is written
    Cost    : 0.3 us per row and 0.1 us per value
    """
    stale = np.zeros(len(rows.entity), np.bool_)
    limits, clock = limits_of(settings), state.clock[0]
    if len(rows.entity) and (clock["stopped_intervals"], clock["repeat_ms"]) != (
        limits.stopped_intervals,
        limits.repeat_ms,
    ):
        clock["stopped_intervals"], clock["repeat_ms"] = limits.stopped_intervals, limits.repeat_ms
        clock["due_ms"] = -layout.FAR_MS
        state.entities["due_ms"] = 0
    integers, floats = watch_rows(
        Rows(*map(np.ascontiguousarray, rows)),
        Dropped(*map(np.ascontiguousarray, dropped)),
        Zone(*map(np.ascontiguousarray, zone)),
        Memory(state.entities, state.presence, state.series, state.clock),
        limits,
        stale,
    )
    return Signals(
        integers[:, layout.ROW].copy(),
        integers[:, layout.KIND].astype(np.uint8),
        integers[:, layout.ENTITY].astype(np.int32),
        integers[:, layout.METRIC].astype(np.int32),
        integers[:, layout.SINCE_MS].copy(),
        floats[:, layout.AMOUNT].copy(),
        floats[:, layout.USUAL_MS].copy(),
        floats[:, layout.OTHERS].astype(np.int32),
        stale,
    )


def verdicts(
    signals: Signals,
    batch: Batch,
    columns: Columns,
    entities: Directory,
    metrics: list[str],
    detector_id: str,
    states: npt.NDArray[np.uint8] | None = None,
) -> list[Anomaly]:
    """Put signals into words, one event each, in the order of their rows.

    states : uint8 (n,)  events.State of each row; None = all are warming up.  A stopped entity is
             stale.
    """
    return [
        _verdict(signals, k, batch, columns, entities, metrics, detector_id, states)
        for k in range(len(signals))
    ]


def _verdict(
    signals: Signals,
    k: int,
    batch: Batch,
    columns: Columns,
    entities: Directory,
    metrics: list[str],
    detector_id: str,
    states: npt.NDArray[np.uint8] | None,
) -> Anomaly:
    kind, row = KINDS[signals.kind[k]], int(signals.row[k])
    entity = entities.name(int(signals.entity[k]))
    metric = metrics[signals.metric[k]] if signals.metric[k] >= 0 else None
    amount, since_ms = float(signals.amount[k]), int(signals.since_ms[k])
    state = State.WARMING if states is None else State(int(states[row]))
    usual_ms, others = float(signals.usual_ms[k]), int(signals.others[k])
    time_ms = int(columns.time_ms[row])
    reason = _sentence(kind, entity, metric, time_ms, since_ms, amount, usual_ms, others)
    origin = Origin(batch, columns, row, detector_id)
    event = event_of(origin, Subject(kind, entity, metric), state, reason)
    event = replace(
        event,
        is_anomaly=False,
        value=amount if kind is Kind.FLAT_LINE else None,
        imputed=kind is Kind.MISSING,
        late_by_ms=int(amount) if kind in (Kind.LATE, Kind.OUT_OF_ORDER) else None,
        since=since_ms if since_ms != -1 else None,
    )
    if kind is not Kind.STOPPED:
        return event
    stopped_ms = since_ms + int(amount)  # the row is another entity's, which only made it known
    return replace(event, event_time=stopped_ms, state=State.STALE, traceparent=None)


def _sentence(
    kind: Kind,
    entity: str,
    metric: str | None,
    time_ms: int,
    since_ms: int,
    amount: float,
    usual_ms: float,
    others: int,
) -> str:
    usual = "" if np.isnan(usual_ms) else f" (usually every {duration(float(f'{usual_ms:.2g}'))})"
    more = (
        ""
        if not others
        else " and 1 other metric"
        if others == 1
        else f" and {others} other metrics"
    )
    match kind:
        case Kind.MISSING:
            return (
                f"{metric}{more} {'are' if others else 'is'} missing; last value"
                f" {minute(since_ms)}{usual}"
            )
        case Kind.GAP:
            return (
                f"no data for {duration(amount)}{usual}{_saving(amount - usual_ms / 2, usual_ms)}"
            )
        case Kind.LATE:
            return (
                f"{duration(amount)} late: older than the newest row of {minute(since_ms)}{usual}"
                + _saving(amount + usual_ms / 2, usual_ms)
            )
        case Kind.OUT_OF_ORDER:
            return f"out of order: {duration(amount)} older than the newest row{usual}"
        case Kind.DUPLICATE:
            return "duplicate: a row with the same time and values came before"
        case Kind.REPEATED_TIME:
            return (
                f"rows with different values for {minute(time_ms)}: daylight saving or two"
                " writers; taken as data"
            )
        case Kind.FLAT_LINE:
            sentence = (
                f"{metric} has read exactly {short(amount)} for {duration(time_ms - since_ms)}"
            )
            return sentence + (
                f"; {more[5:]} {'has' if others == 1 else 'have'} not changed either"
                if others
                else ""
            )
        case _:
            return f"{entity} stopped reporting: nothing since {minute(since_ms)}{usual}"


def _saving(shift_ms: float, usual_ms: float) -> str:
    """Return a note when rows moved by one hour, else an empty text.

    A row of the interval itself may be lost or not, so its half is in shift_ms.
    """
    return (
        "; just one hour: looks like a daylight-saving jump"
        if abs(shift_ms - HOUR_MS) <= usual_ms
        else ""
    )


def _as_bytes(records: npt.NDArray[np.void]) -> npt.NDArray[np.uint8]:
    return records.view(np.uint8).reshape(len(records), records.dtype.itemsize)


def _resized(records: npt.NDArray[np.void], size: int) -> npt.NDArray[np.void]:
    resized = np.zeros(size, records.dtype)
    _as_bytes(resized)[: len(records)] = _as_bytes(records)[:size]
    return resized
