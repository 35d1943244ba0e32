"""The decoder for JSON: one object per record, without a registry.

Invariant: a record is read by its own names and values and the settings alone; the order of records
decides nothing but the order of new metrics.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from shared.batch import Batch, Headers
from shared.columns import Columns
from shared.decode.field_choice import FieldChoice, Met, MetSchema, UnsupportedSchema
from shared.decode.json.choice import NameChoice, choose_names, metrics_of
from shared.decode.json.document import Leaf, Refusal, kind_of, printable, read_leaves
from shared.decode.kernels.iso_text import NO_TIME, iso_time
from shared.decode.one_by_one import Reading, decode_one_by_one
from shared.directory import Directory
from shared.events import Reason
from shared.settings import InputSettings
from shared.wording import iso

ISO = "iso"
MOST_SHAPES = 1_024
"""Most sets of names whose choice is kept."""

MOST_REPORTED = 20
"""Most sets of names that are reported as new."""

_LARGEST = 2**63 - 1
"""A larger number is outside every range of event times, in any unit."""

UNITS = ("s", "ms", "us", "ns")
_PER_MS = {"ms": 1, "us": 1_000, "ns": 1_000_000}


class JsonDecoder:
    """A ``Decoder`` that reads each record as one JSON object.

    met : called with the first sets of names in which a metric is new
    """

    def __init__(self, settings: InputSettings, met: Met) -> None:
        self._settings = settings
        self._met = met
        self._choices: dict[tuple[str, ...], NameChoice | UnsupportedSchema] = {}
        self._reported: set[str] = set()
        self._reports = 0

    @property
    def entity_name(self) -> str:
        """The names that make up the entity, joined by '/'."""
        return "/".join(self._settings.entity_fields)

    def prepare(self, batch: Batch) -> None:
        """Do nothing: JSON needs no lookup."""

    def decode(self, batch: Batch, entities: Directory, metrics: list[str]) -> Columns:
        """Decode a batch; see ``Decoder``."""
        return decode_one_by_one(batch, self._reading, self._settings, entities, metrics)

    def read(self, value: bytes) -> tuple[Mapping[str, Leaf], NameChoice, Reading] | Refusal:
        """Return a record's values, what its names mean, and what is read, or why it is not."""
        leaves = read_leaves(value)
        if isinstance(leaves, Refusal):
            return leaves
        choice = self._choice(tuple(leaves))
        if isinstance(choice, UnsupportedSchema):
            return Refusal(Reason.RECORD_UNFIT, str(choice))
        try:
            values = metrics_of(choice, leaves)
        except UnsupportedSchema as error:
            return Refusal(Reason.RECORD_UNFIT, str(error))
        entity = _entity([leaves[name] for name in choice.entity])
        time_ms = read_time(leaves[choice.time], self._settings.time_unit)
        return leaves, choice, Reading(entity, time_ms, values)

    def detail(self, value: bytes, headers: Headers, reason: Reason) -> str:
        """Return the field and the value that a record was rejected for; see ``Decoder``."""
        return printable(self._detail(value, reason))

    def _read_as(self, time: Leaf) -> Iterator[tuple[str, str]]:
        """Yield the units in which a time is within the limits, and the time in each."""
        for unit in (*UNITS, ISO):
            found = read_time(time, unit)
            if (
                found is not None
                and self._settings.min_time_ms <= found <= self._settings.max_time_ms
            ):
                yield unit, iso(int(found))

    def _detail(self, value: bytes, reason: Reason) -> str:
        found = self.read(value)
        if isinstance(found, Refusal):
            return found.detail if found.reason is reason else ""
        leaves, choice, reading = found
        if reason in (Reason.TIME_INVALID, Reason.TIME_OUT_OF_RANGE):
            time, unit = leaves[choice.time], self._settings.time_unit
            text = f"{choice.time} is {kind_of(time)}, input.time_unit is {unit}"
            return text + "".join(f"; as {other} it is {at}" for other, at in self._read_as(time))
        if reason is Reason.ENTITY_INVALID:
            return ", ".join(f"{name} is {kind_of(leaves[name])}" for name in choice.entity)
        if reason is Reason.NOT_FINITE:
            names = [
                name
                for name, number in reading.values.items()
                if number is not None and not math.isfinite(number)
            ]
            return f"{names[0]} is {kind_of(leaves[names[0]])}" if names else ""
        return ""

    def schema_sha256(self) -> list[str]:
        """Return nothing: records have no schema."""
        return []

    def _reading(self, value: bytes, _headers: Headers) -> Reading | Reason:
        found = self.read(value)
        if isinstance(found, Refusal):
            return found.reason
        _, choice, reading = found
        if not self._reported.issuperset(reading.values):
            self._report(choice, reading)
        return reading

    def _choice(self, names: tuple[str, ...]) -> NameChoice | UnsupportedSchema:
        choice = self._choices.get(names)
        if choice is None:
            try:
                choice = choose_names(names, self._settings)
            except UnsupportedSchema as error:
                choice = error
            if len(self._choices) == MOST_SHAPES:
                self._choices.clear()
            self._choices[names] = choice
        return choice

    def _report(self, choice: NameChoice, reading: Reading) -> None:
        """Report names in which a metric is new, a few times at most."""
        if self._reports < MOST_REPORTED:
            self._reports += 1
            self._reported.update(reading.values)
            fields = fields_of(choice, tuple(reading.values), {}, self._settings)
            self._met(MetSchema(None, {"record": fields.record, "read_as": fields.line}))


def fields_of(
    choice: NameChoice,
    metrics: Sequence[str],
    others: Mapping[str, str],
    settings: InputSettings,
) -> FieldChoice:
    """Return how the names of a record are read.

    metrics : the names whose values are numbers
    others  : {name: reason} of possible metrics that are none
    """
    unit = settings.time_unit
    by = f"{'text' if unit == ISO else 'a number'}, {unit} by input.time_unit"
    left_out = tuple({**others, **choice.left_out}.items())
    return FieldChoice("JSON", choice.entity, choice.time, unit, by, tuple(metrics), left_out)


def read_time(value: Leaf, unit: str) -> float | None:
    """Return a time, ms since 1970 UTC; None = null, NaN = not a time in this unit.

    Finer units of whole numbers are truncated, others are rounded to the millisecond.
    """
    if value is None:
        return None
    if unit == ISO:
        return _read_text_time(value) if isinstance(value, str) else math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    if isinstance(value, int):
        value = min(max(value, -_LARGEST), _LARGEST)
    if unit == "s":
        return value * 1000
    per_ms = _PER_MS[unit]
    return value // per_ms if isinstance(value, int) else value / per_ms


def _read_text_time(text: str) -> float:
    data = np.frombuffer(text.encode("utf-8", "surrogatepass") or b"\0", np.uint8)
    found = int(iso_time(data, 0, len(data)))
    return math.nan if found == NO_TIME else found


def _entity(parts: Sequence[Leaf]) -> str:
    """Return the entity's name; empty where a part is missing, empty or no text or whole number."""
    texts = [_entity_part(part) for part in parts]
    return "/".join(texts) if all(texts) else ""


def _entity_part(part: Leaf) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, bool) or not isinstance(part, int):
        return ""
    return str(part) if abs(part) <= _LARGEST else ""
