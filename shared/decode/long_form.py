"""Long form: records of one metric each, whose name is a field, for the decoders of all formats.

Invariant: a record is one row with one metric. Its name passes the gates of an entity's name; a
rejected record adds neither entity nor metric.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared.batch import Batch, Headers
from shared.columns import Columns, layouts_of
from shared.decode.one_by_one import MOST_NAMES
from shared.directory import Directory
from shared.events import Reason
from shared.ports import Decoder
from shared.settings import InputSettings

_NONE = -1
Int64s = npt.NDArray[np.int64]
Reasons = npt.NDArray[np.uint8]


def with_long_form(settings: InputSettings, make: Callable[[InputSettings], Decoder]) -> Decoder:
    """Return the decoder of a format, for the long form if input.metric_field is set.

    make : returns the format's decoder, which reads input.value_field as the only metric
    """
    by_entity = make(settings)
    if not settings.metric_field:
        return by_entity
    by_metric = make(settings.model_copy(update={"entity_fields": (settings.metric_field,)}))
    return LongForm(by_entity, by_metric, settings)


@dataclass(slots=True)
class _Rows:
    """The records of a batch, accepted or not.

    reasons : uint8 (n,)    Reason of each record
    metric  : int64 (n,)    its metric's index in names; undefined where it is rejected
    names   : of the metrics in the batch
    """

    reasons: Reasons
    metric: Int64s
    names: list[str]


class LongForm:
    """A ``Decoder`` of records with one metric each.

    by_entity : reads entity, time and value
    by_metric : reads the metric's name as if it were the entity
    """

    def __init__(self, by_entity: Decoder, by_metric: Decoder, settings: InputSettings) -> None:
        self._by_entity = by_entity
        self._by_metric = by_metric
        self._settings = settings

    @property
    def entity_name(self) -> str:
        """See ``Decoder``."""
        return self._by_entity.entity_name

    def prepare(self, batch: Batch) -> None:
        """Look up what both decoders need; see ``Decoder``."""
        self._by_entity.prepare(batch)
        self._by_metric.prepare(batch)

    def decode(self, batch: Batch, entities: Directory, metrics: list[str]) -> Columns:
        """Decode a batch; see ``Decoder``."""
        hosts = Directory()
        read = self._by_entity.decode(batch, hosts, [])
        rows = self._rows(batch, read)
        _reject_surplus_names(rows, metrics)
        accepted = np.flatnonzero(rows.reasons == Reason.ACCEPTED)
        kept = rows.reasons[read.accepted] == Reason.ACCEPTED
        column_of = self._add_metrics(rows, accepted, metrics)
        columns = column_of[rows.metric[accepted]]
        values = np.full((len(accepted), len(metrics)), np.nan)
        present = columns != _NONE
        values[present, columns[present]] = _only_value(read)[kept][present]
        rejected = np.flatnonzero(rows.reasons)
        used = np.unique(columns)
        layouts = layouts_of([[column] if column != _NONE else [] for column in used.tolist()])
        return Columns(
            accepted,
            _interned(read.entity[kept], hosts, entities),
            read.time_ms[kept],
            values,
            rejected,
            rows.reasons[rejected],
            np.searchsorted(used, columns).astype(np.int32),
            layouts,
        )

    def detail(self, value: bytes, headers: Headers, reason: Reason) -> str:
        """Return details of a rejected record; see ``Decoder``."""
        if reason is Reason.METRIC_INVALID:
            return self._by_metric.detail(value, headers, Reason.ENTITY_INVALID)
        return self._by_entity.detail(value, headers, reason)

    def schema_sha256(self) -> list[str]:
        """See ``Decoder``."""
        return self._by_entity.schema_sha256()

    def _rows(self, batch: Batch, read: Columns) -> _Rows:
        """Return which records are accepted, and their metrics."""
        names = Directory()
        named = self._by_metric.decode(batch, names, [])
        reasons = np.zeros(len(batch), np.uint8)
        reasons[named.rejected] = named.reasons
        reasons[reasons == Reason.ENTITY_INVALID] = Reason.METRIC_INVALID
        metric = np.zeros(len(batch), np.int64)
        metric[named.accepted] = named.entity
        usable = np.array([name.isprintable() for name in names.names()], bool)
        is_unusable = np.zeros(len(batch), bool)
        is_unusable[named.accepted] = ~usable[named.entity]
        reasons[is_unusable] = Reason.METRIC_INVALID
        reasons[read.rejected] = read.reasons
        return _Rows(reasons, metric, names.names())

    def _add_metrics(self, rows: _Rows, accepted: Int64s, metrics: list[str]) -> Int64s:
        """Append new metrics; return the column of each name, -1 where the settings leave it out.

        accepted : int64 (n,)  accepted rows; the order of their names is that of new metrics
        """
        columns = {name: column for column, name in enumerate(metrics)}
        column_of = np.full(len(rows.names) + 1, _NONE, np.int64)
        for number in _in_order(rows.metric[accepted]):
            name = rows.names[number]
            if not is_wanted(name, self._settings):
                continue
            if name not in columns:
                columns[name] = len(metrics)
                metrics.append(name)
            column_of[number] = columns[name]
        return column_of


def is_wanted(name: str, settings: InputSettings) -> bool:
    """Return whether input.include and input.exclude keep a metric, ignoring case."""
    return not (
        _is_among(name, settings.exclude)
        or (settings.include and not _is_among(name, settings.include))
    )


def _is_among(name: str, wanted: Sequence[str]) -> bool:
    return name.lower() in {other.lower() for other in wanted}


def _only_value(read: Columns) -> npt.NDArray[np.float64]:
    """Return the value of each row; NaN where it is missing."""
    if read.values.shape[1] == 0:
        return np.full(len(read), np.nan)
    return read.values[:, 0]


def _in_order(numbers: Int64s) -> list[int]:
    """Return the distinct numbers in order of their first appearance."""
    found, first = np.unique(numbers, return_index=True)
    return [int(found[place]) for place in np.argsort(first)]


def _reject_surplus_names(rows: _Rows, metrics: Sequence[str]) -> None:
    """Reject the rows whose new names would exceed the limit of names."""
    known: Mapping[str, None] = dict.fromkeys(metrics)
    accepted = rows.reasons == Reason.ACCEPTED
    new = [n for n in _in_order(rows.metric[accepted]) if rows.names[n] not in known]
    surplus = new[max(MOST_NAMES - len(known), 0) :]
    rows.reasons[accepted & np.isin(rows.metric, surplus)] = Reason.TOO_MANY_NAMES


def _interned(
    entity: npt.NDArray[np.int32], hosts: Directory, entities: Directory
) -> npt.NDArray[np.int32]:
    """Return indices of ``hosts`` as indices of ``entities``, which gets the names in order."""
    index_of = np.zeros(len(hosts) + 1, np.int32)
    for number in _in_order(entity.astype(np.int64)):
        index_of[number] = entities.add(hosts.name(number))
    return index_of[entity]
