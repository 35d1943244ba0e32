"""From rows to metric events: entity, metrics and time of each, or why it is refused.

Invariant: rows keep their order; each row becomes its records, a refusal, or is left out because it
has no number. Bytes are a function of the source record, the settings and the schema ids alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, NamedTuple, cast

from lapwing.route.label_template import NAME, LabelTemplate
from lapwing.route.row_records import (
    MOST_CACHED,
    TIME_FIELD,
    EventTimes,
    Series,
    avro_string,
    field_name,
)
from lapwing.route.rows import (
    WHOLE_RECORD,
    RecordRefused,
    Refusal,
    Refused,
    RowDecoder,
    Sample,
    shown,
)
from shared.decode.field_names import says_time
from shared.errors import ConfigError
from shared.kernels.text import MAX_NAME_BYTES
from shared.settings import Settings
from shared.wording import iso

KEPT_REFUSALS = 20
"""Refusals of one record that are kept in full; the others are counted."""

MOST_PLANS = 20_000
"""Kinds of rows whose reading is kept."""

NAME_RULE = "must be 1 to 256 bytes of UTF-8 without control characters"

_CONTROL = re.compile("[\\x00-\\x1f\\x7f-\\x9f]")
_SHOWN_MS = range(-62_000_000_000_000, 250_000_000_000_000)
"""Times from year 6 to 9892 are shown in ISO 8601, others as numbers."""


@dataclass(frozen=True, slots=True)
class RouteRules:
    """What the settings say about rows.

    entity_field              : of the records
    metric_field, value_field : set in long form only
    include                   : input.include in lower case
    """

    entity: LabelTemplate
    metric: LabelTemplate
    entity_field: str
    metric_field: str
    value_field: str
    min_time_ms: int
    max_time_ms: int
    max_record_bytes: int
    max_rows: int
    max_schemas: int
    include: frozenset[str]

    @classmethod
    def of(cls, settings: Settings) -> RouteRules:
        """Return the rules; raises ConfigError for settings that no record could meet."""
        given, route = settings.input, settings.route
        if given.format != "avro":
            raise ConfigError("lapwing route writes Avro: set input.format=avro")
        if len(given.entity_fields) != 1:
            raise ConfigError(
                "lapwing route writes one entity field: let input.entity_fields name one, and join"
                " labels in route.entity"
            )
        if given.time_field not in ("", "timestamp"):
            raise ConfigError(
                "lapwing route writes the event time as timestamp: leave input.time_field empty"
            )
        names = [given.entity_fields[0], given.metric_field, given.value_field]
        for name in filter(None, names):
            if field_name(name) != name:
                raise ConfigError(
                    f"lapwing route cannot write a field {name!r}: a name in Avro has letters,"
                    " digits and _ (input.entity_fields, input.metric_field, input.value_field)"
                )
        return cls(
            LabelTemplate(route.entity, "route.entity"),
            LabelTemplate(route.metric, "route.metric"),
            names[0],
            names[1],
            names[2],
            given.min_time_ms,
            given.max_time_ms,
            route.max_record_bytes,
            route.max_rows,
            route.max_schemas,
            frozenset(name.lower() for name in given.include),
        )


@dataclass(slots=True)
class Routed:
    """What became of some records.

    keys, values : of the events, in order
    rows         : rows read, refused and left out ones included; a record refused as a whole
                   counts as one
    left_out     : rows without any number
    refused      : rows refused
    """

    keys: list[bytes] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)
    rows: int = 0
    left_out: int = 0
    refused: int = 0


class RecordRefusals(NamedTuple):
    """The refusals of one record.

    first : (row, refusal), at most KEPT_REFUSALS; the row is WHOLE_RECORD for all of it
    total : number of all
    """

    first: Sequence[tuple[int, Refusal]]
    total: int


class _Part(NamedTuple):
    """Records of one series, and the values of a row that go into them, by position."""

    series: Series
    positions: tuple[int, ...]


class _Plan(NamedTuple):
    """How rows of one kind become records: no parts = they have no number.

    single : the series, where a row becomes one record with one value, which is not null
    """

    parts: tuple[_Part, ...]
    has_nulls: bool
    refusal: Refusal | None = None
    single: Series | None = None


SchemaId = Callable[[Sequence[str]], int]
"""Returns the id of the schema of these metrics' records; raises TransportError, SchemaRefused."""


class RowRouter:
    """Turns source records into metric events."""

    def __init__(self, decoder: RowDecoder, rules: RouteRules, schema_id: SchemaId) -> None:
        self.decoder = decoder
        self.rules = rules
        self._schema_id = schema_id
        self._plans: dict[tuple[object, ...], _Plan] = {}
        self._series: dict[tuple[str, ...], Series] = {}
        self._entities: dict[str, bytes] = {}
        self._times = EventTimes()
        self._low, self._high = rules.min_time_ms, rules.max_time_ms
        only = rules.entity.only_label
        self._only_label = "" if only == NAME else only
        self._is_plain = rules.metric.only_label == NAME
        self._entity_of = rules.entity.render

    def route(self, value: bytes, out: Routed) -> RecordRefusals | None:
        """Add the events of a record to ``out``; return what of it was refused.

        raises : what ``schema_id`` raises; ``out`` is unusable then
        """
        start = len(out.values)
        try:
            self._check_size(value)
            return self._route(value, out)
        except RecordRefused as error:
            del out.keys[start:]
            del out.values[start:]
            out.rows += 1
            out.refused += 1
            return RecordRefusals([(WHOLE_RECORD, error.refusal)], 1)

    def _check_size(self, value: bytes) -> None:
        if not value:
            raise RecordRefused(Refused.EMPTY, "the record has no value")
        if len(value) > self.rules.max_record_bytes:
            raise RecordRefused(
                Refused.TOO_LARGE,
                f"the record has {len(value)} bytes; route.max_record_bytes is"
                f" {self.rules.max_record_bytes}",
            )

    def _route(self, value: bytes, out: Routed) -> RecordRefusals | None:
        most_rows = self.rules.max_rows
        refusals: list[tuple[int, Refusal]] = []
        refused = left_out = 0
        row = -1
        for row, item in enumerate(self.decoder.rows(value)):
            if row >= most_rows:
                raise RecordRefused(
                    Refused.TOO_MANY_ROWS,
                    f"the record has more than {most_rows} rows, which is route.max_rows",
                )
            made = self._made(item) if type(item) is Sample else item
            if made is None:
                left_out += 1
            elif type(made) is Refusal:
                refused += 1
                if len(refusals) < KEPT_REFUSALS:
                    refusals.append((row, made))
            else:
                entity, records = cast(tuple[bytes, list[bytes]], made)
                if len(records) == 1:
                    out.values.append(records[0])
                    out.keys.append(entity)
                else:
                    out.values += records
                    out.keys += [entity] * len(records)
        out.rows += row + 1
        out.left_out += left_out
        out.refused += refused
        return RecordRefusals(refusals, refused) if refused else None

    def _made(self, sample: Sample) -> tuple[bytes, list[bytes]] | Refusal | None:
        """Return the records of a row with their key; None where it has no number."""
        name, labels, time_ms, fields = sample
        if not self._low <= time_ms <= self._high:
            return self._outside(time_ms)
        label = self._only_label
        text = labels.get(label) if label else self._entity_of(name, labels)
        if type(text) is not str or not text:
            detail = self.rules.entity.missing(name, labels)
            return Refusal(Refused.LABEL_MISSING, detail)
        entity = self._entities.get(text) or self._checked(text)
        if entity is None:
            return Refusal(Refused.ENTITY_INVALID, f"the entity '{shown(text)}' {NAME_RULE}")
        base = name if self._is_plain else self.rules.metric.render(name, labels)
        cells: list[Any] = list(fields.values())
        kind = (base, *fields, *map(type, cells))
        plan = self._plans.get(kind) or self._plan(kind, sample, base)
        if plan.single is not None:  # most rows of formats with a metric per row
            value = cells[plan.parts[0].positions[0]]
            if not isfinite(value):
                return _not_finite([value])
            time = self._times.known.get(time_ms) or self._times(time_ms)
            return entity, [plan.single.single(entity, time, value)]
        if plan.refusal is not None:
            return plan.refusal
        if not plan.parts:
            return None
        return self._records(entity, time_ms, plan, cells)

    def _records(
        self, entity: bytes, time_ms: int, plan: _Plan, cells: Sequence[Any]
    ) -> tuple[bytes, list[bytes]] | Refusal:
        time = self._times(time_ms)
        records = []
        for series, positions in plan.parts:
            if len(positions) == 1 and not plan.has_nulls:
                value = cells[positions[0]]
                if not isfinite(value):
                    return _not_finite([value])
                records.append(series.single(entity, time, value))
                continue
            values = [cells[at] for at in positions]
            if plan.has_nulls:
                if not all(one is None or isfinite(one) for one in values):
                    return _not_finite(values)
                records.append(series.record_with_nulls(entity, time, values))
            else:
                # A sum of finite values may overflow, so it only proves that all are finite.
                if not isfinite(sum(values)) and not all(map(isfinite, values)):
                    return _not_finite(values)
                records.append(series.record(entity, time, values))
        return entity, records

    def _outside(self, time_ms: int) -> Refusal:
        low, high = iso(self._low), iso(self._high)
        found = iso(time_ms) if time_ms in _SHOWN_MS else f"{shown(time_ms)} ms"
        return Refusal(
            Refused.TIME_OUT_OF_RANGE,
            f"the event time {found} lies outside input.min_time..input.max_time ({low} to {high});"
            " check the unit, route.time_unit",
        )

    def _checked(self, text: str) -> bytes | None:
        """Return a new entity's name as UTF-8, None if it is not allowed."""
        name = valid_name(text)
        if name is not None:
            if len(self._entities) >= MOST_CACHED:
                self._entities.clear()
            self._entities[text] = name
        return name

    # -- kinds of rows -----------------------------------------------------------------------------

    def _plan(self, kind: tuple[object, ...], sample: Sample, base: str | None) -> _Plan:
        """Return how rows of a kind are read, and keep it."""
        plan = self._new_plan(sample, base)
        if len(plan.parts) == 1 and len(plan.parts[0].positions) == 1 and not plan.has_nulls:
            plan = plan._replace(single=plan.parts[0].series)
        if len(self._plans) >= MOST_PLANS:
            self._plans.clear()
        self._plans[kind] = plan
        return plan

    def _new_plan(self, sample: Sample, base: str | None) -> _Plan:
        if base is None:
            detail = self.rules.metric.missing(sample.name, sample.labels)
            return _Plan((), False, Refusal(Refused.LABEL_MISSING, detail))
        cells = list(sample.fields.items())
        numbers = [
            (_metric(base, name), at)
            for at, (name, value) in enumerate(cells)
            if value is None or type(value) in (int, float)
        ]
        if all(cells[at][1] is None for _, at in numbers):
            return _Plan((), False)
        for metric, _ in numbers:
            if valid_name(metric) is None or not metric.isprintable():
                detail = f"the metric '{shown(metric)}' {NAME_RULE}, and be printable"
                return _Plan((), False, Refusal(Refused.METRIC_INVALID, detail))
        if not self.rules.metric_field:  # a time by its name is no metric for predictors
            numbers = [(metric, at) for metric, at in numbers if not self._is_time(metric)]
            if all(cells[at][1] is None for _, at in numbers):
                return _Plan((), False)
        if self.rules.metric_field:
            present = [(metric, at) for metric, at in numbers if cells[at][1] is not None]
            return _Plan(tuple(_Part(self._long(m), (at,)) for m, at in present), False)
        return self._wide(numbers, any(cells[at][1] is None for _, at in numbers))

    def _is_time(self, metric: str) -> bool:
        name = field_name(metric)
        return says_time(name) and name.lower() not in self.rules.include

    def _wide(self, numbers: Sequence[tuple[str, int]], has_nulls: bool) -> _Plan:
        named: dict[str, tuple[str, int]] = {
            self.rules.entity_field: ("the entity's field", -1),
            TIME_FIELD: ("the event time's field", -1),
        }
        for metric, at in numbers:
            name = field_name(metric)
            if name in named:
                detail = (
                    f"the metric '{shown(metric)}' would be the field {shown(name)}, which is"
                    f" '{shown(named[name][0])}' already; route.metric can tell them apart"
                )
                return _Plan((), False, Refusal(Refused.METRIC_INVALID, detail))
            named[name] = (metric, at)
        metrics = tuple(sorted(name for name, (_, at) in named.items() if at >= 0))
        series = self._series.get(metrics)
        if series is None:
            if len(self._series) >= self.rules.max_schemas:
                detail = (
                    f"its metrics ({shown(', '.join(metrics))}) would need a further schema, and"
                    f" there are {self.rules.max_schemas} (route.max_schemas); long form needs one"
                    " schema only: set input.metric_field and input.value_field"
                )
                return _Plan((), False, Refusal(Refused.TOO_MANY_SCHEMAS, detail))
            series = Series(self._schema_id(metrics), b"", len(metrics))
            self._series[metrics] = series
        return _Plan((_Part(series, tuple(named[name][1] for name in metrics)),), has_nulls)

    def _long(self, metric: str) -> Series:
        series = self._series.get((metric,))
        if series is None:
            if len(self._series) >= MOST_PLANS:
                self._series.clear()
            series = Series(self._schema_id(()), avro_string(metric.encode()), 1)
            self._series[metric,] = series
        return series


def valid_name(text: str) -> bytes | None:
    """Return a name as UTF-8, None if it is not one; see NAME_RULE."""
    try:
        name = text.encode()
    except UnicodeEncodeError:
        return None
    is_fit = 0 < len(name) <= MAX_NAME_BYTES and not _CONTROL.search(text)
    return name if is_fit else None


def _metric(base: str, field_: str) -> str:
    """Return the name of a metric: cpu and usage_idle give cpu_usage_idle."""
    return f"{base}_{field_}" if base and field_ else base or field_


def _not_finite(values: Sequence[float | None]) -> Refusal:
    found = next(one for one in values if one is not None and not isfinite(one))
    return Refusal(Refused.NOT_FINITE, f"a value is {found}; values are finite numbers")
