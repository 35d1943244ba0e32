"""From an Avro writer schema to a plan: the flat list of steps that the decoding kernel walks over each record.

Law: a plan is a function of the schema's text and the input settings; every field is walked, only what the settings ask for
is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from shared.avro_types import AvroType, Field, SchemaInvalid, parse_schema
from shared.settings import InputSettings

TIME_NAMES = ("timestamp", "event_time", "eventTime", "event_timestamp", "time", "ts")
"""Of several timestamp fields the event time is the one whose name stands first here."""

MAX_STEPS = 65_536
"""Named types are written out where they are used; a schema that grows beyond this is refused."""


class Op(IntEnum):
    """What one step does; a step is four numbers: op, a, b, c."""

    END = 0  # the record is complete
    UNION = 1  # a branches; the next a steps are JUMPs, one per branch
    JUMP = 2  # go on at step a
    DOUBLE = 3  # a metric, or NONE
    FLOAT = 4  # a metric, or NONE
    LONG = 5  # b what for (Role), a metric, entity part or divisor to ms
    INT = 6  # the same, 32 bits
    STRING = 7  # a entity part, or NONE
    BYTES = 8
    BOOLEAN = 9
    FIXED = 10  # a bytes
    ENUM = 11  # a symbols, b entity part or NONE, c its first symbol among the plan's
    BLOCK = 12  # of an array or map: a step after it, b 1 if its items have no bytes
    NEXT = 13  # end of an item: a first step of the items


class Role(IntEnum):
    """What an int or long is for."""

    SKIPPED = 0
    METRIC = 1
    PART = 2
    TIME = 3


NONE = -1
_NUMBERS = frozenset({"int", "long", "float", "double"})
_PARTS = frozenset({"string", "int", "long", "enum"})
_PER_MS = {"timestamp-millis": 1, "timestamp-micros": 1000}


class SchemaUnfit(ValueError):
    """Records of this schema cannot be used; the message names the field that is missing or does not fit."""


@dataclass(frozen=True, slots=True)
class WriterPlan:
    """How to read records of one writer schema.

    record        : the schema's full name
    metrics       : names of the numeric fields that are kept, in schema order
    entity_parts  : how many fields make up the entity
    time_field    : name of the field that is the event time
    steps         : int64 (k, 4)    what to do, see Op; step addresses count from 0
    depth         : how deeply arrays and maps are nested
    symbols       : text of the enum symbols that may name an entity, and its bounds
    """

    record: str
    metrics: tuple[str, ...]
    entity_parts: int
    time_field: str
    steps: npt.NDArray[np.int64]
    depth: int
    symbols: bytes
    symbol_bounds: npt.NDArray[np.int64]


def compile_plan(schema_text: str, input: InputSettings) -> WriterPlan:  # noqa: A002 - the section's name
    """Compile a writer schema.

    input  : names the entity field(s) and which numeric fields are metrics
    raises : SchemaUnfit that names the field which is missing, ambiguous or of the wrong type
    """
    try:
        record = parse_schema(schema_text)
        if record.kind != "record":
            raise SchemaUnfit(f"the writer schema is a {record}, not a record")
        roles, metrics, time_field = _choose_fields(record, input)
        emitter = _Emitter(roles)
        emitter.emit_record(record, at_top=True)
    except SchemaInvalid as error:
        raise SchemaUnfit(f"the writer schema is not valid Avro: {error}") from error
    except RecursionError as error:
        raise SchemaUnfit("the writer schema is nested too deeply") from error
    emitter.step(Op.END)
    return WriterPlan(
        record.name,
        metrics,
        len(input.entity_fields),
        time_field,
        np.array(emitter.steps, np.int64).reshape(-1, 4),
        emitter.depth,
        "".join(emitter.symbols).encode(),
        np.cumsum([0] + [len(symbol) for symbol in emitter.symbols], dtype=np.int64),
    )


Roles = dict[str, tuple[Role, int]]
"""Field of the record -> what it is for, and which metric, which entity part or how many units make a millisecond."""


def _choose_fields(record: AvroType, settings: InputSettings) -> tuple[Roles, tuple[str, ...], str]:
    fields = {field.name: field for field in record.fields}
    roles: Roles = {}
    for part, name in enumerate(settings.entity_fields):
        if name in roles:
            raise SchemaUnfit(f"input.entity_fields names {name!r} twice")
        if name not in fields:
            raise SchemaUnfit(
                f"{record.name} has no field {name!r}, the entity by input.entity_fields; it has {', '.join(fields)}"
            )
        if not _only(fields[name].type, _PARTS):
            raise SchemaUnfit(f"{record.name}.{name} is {fields[name].type}; an entity field is a string, int, long or enum")
        roles[name] = (Role.PART, part)
    time_field = _choose_time(record, roles)
    roles[time_field.name] = (Role.TIME, _PER_MS[_valued(time_field.type)[0].logical])
    metrics = _choose_metrics(record, roles, settings)
    roles.update({name: (Role.METRIC, slot) for slot, name in enumerate(metrics)})
    return roles, metrics, time_field.name


def _choose_time(record: AvroType, taken: Roles) -> Field:
    found = {field.name: field for field in record.fields if field.name not in taken and _is_time(field.type)}
    if len(found) == 1:
        return next(iter(found.values()))
    for name in TIME_NAMES:
        if name in found:
            return found[name]
    if found:
        raise SchemaUnfit(
            f"{record.name} has several timestamps ({', '.join(found)}) and none is named {', '.join(TIME_NAMES)}: "
            "which is the event time?"
        )
    raise SchemaUnfit(f"{record.name} has no long field of logicalType timestamp-millis or timestamp-micros for the event time")


def _choose_metrics(record: AvroType, taken: Roles, settings: InputSettings) -> tuple[str, ...]:
    free = [field for field in record.fields if field.name not in taken]
    for field in free:
        if field.name in settings.include and not _is_metric(field.type):
            raise SchemaUnfit(
                f"{record.name}.{field.name} is {field.type}; a metric (input.include) is an int, long, float or double"
            )
    numeric = [field.name for field in free if _is_metric(field.type)]
    wanted = [name for name in numeric if name in settings.include or not settings.include]
    metrics = tuple(name for name in wanted if name not in settings.exclude)
    if not metrics:
        left = f"; input.include and input.exclude leave none of {', '.join(numeric)}" if numeric else ""
        raise SchemaUnfit(f"{record.name} has no numeric field to use as a metric{left}")
    return metrics


def _valued(avro: AvroType) -> list[AvroType]:
    """Return the types that a field's value may have, null left out."""
    branches = avro.branches if avro.kind == "union" else (avro,)
    return [branch for branch in branches if branch.kind != "null"]


def _only(avro: AvroType, kinds: frozenset[str]) -> bool:
    values = _valued(avro)
    return bool(values) and all(value.kind in kinds for value in values)


def _is_time(avro: AvroType) -> bool:
    values = _valued(avro)
    return len(values) == 1 and values[0].kind == "long" and values[0].logical in _PER_MS


def _is_metric(avro: AvroType) -> bool:
    calendar = ("date", "time-", "timestamp-", "local-timestamp-")
    return _only(avro, _NUMBERS) and not any(value.logical.startswith(calendar) for value in _valued(avro))


class _Emitter:
    """Writes the steps of a record, types in the order in which their bytes lie."""

    def __init__(self, roles: Roles) -> None:
        self.roles = roles
        self.steps: list[list[int]] = []
        self.symbols: list[str] = []
        self.depth = 0
        self._open: list[str] = []
        self._nesting = 0

    def step(self, op: Op, a: int = 0, b: int = 0, c: int = 0) -> int:
        """Append a step; return its address."""
        if len(self.steps) >= MAX_STEPS:
            raise SchemaUnfit(f"the writer schema takes more than {MAX_STEPS} steps to read")
        self.steps.append([op, a, b, c])
        return len(self.steps) - 1

    def emit_record(self, record: AvroType, *, at_top: bool = False) -> None:
        """Append the fields of a record; only those of the outermost have roles."""
        if record.name in self._open:
            raise SchemaUnfit(f"{record.name} contains itself; recursive types are not supported")
        self._open.append(record.name)
        for field in record.fields:
            role, target = self.roles.get(field.name, (Role.SKIPPED, NONE)) if at_top else (Role.SKIPPED, NONE)
            self.emit(field.type, role, target)
        self._open.pop()

    def emit(self, avro: AvroType, role: Role, target: int) -> None:
        """Append the steps of one value; null and empty types have none."""
        kept = target if role in (Role.METRIC, Role.PART) else NONE
        match avro.kind:
            case "record":
                self.emit_record(avro)
            case "union":
                self._emit_union(avro, role, target)
            case "array" | "map":
                self._emit_blocks(avro)
            case "double" | "float":
                self.step(Op.DOUBLE if avro.kind == "double" else Op.FLOAT, kept)
            case "long" | "int":
                self.step(Op.LONG if avro.kind == "long" else Op.INT, target, role)
            case "string":
                self.step(Op.STRING, kept)
            case "bytes":
                self.step(Op.BYTES)
            case "boolean":
                self.step(Op.BOOLEAN)
            case "fixed" if avro.size:
                self.step(Op.FIXED, avro.size)
            case "enum":
                self.step(Op.ENUM, len(avro.symbols), kept, len(self.symbols))
                self.symbols += avro.symbols if role == Role.PART else ()

    def _emit_union(self, union: AvroType, role: Role, target: int) -> None:
        self.step(Op.UNION, len(union.branches))
        jumps = [self.step(Op.JUMP) for _ in union.branches]
        ends = []  # jumps to what follows the union
        for jump, branch in zip(jumps, union.branches, strict=True):
            first = len(self.steps)
            self.emit(branch, role, target)
            if len(self.steps) == first:
                ends.append(jump)
                continue
            self.steps[jump][1] = first
            if branch is not union.branches[-1]:
                ends.append(self.step(Op.JUMP))
        for end in ends:
            self.steps[end][1] = len(self.steps)

    def _emit_blocks(self, avro: AvroType) -> None:
        self._nesting += 1
        self.depth = max(self.depth, self._nesting)
        block = self.step(Op.BLOCK)
        if avro.kind == "map":
            self.step(Op.STRING, NONE)
        assert avro.items is not None  # noqa: S101 - the parser gives every array and map its items
        self.emit(avro.items, Role.SKIPPED, NONE)
        self.steps[block][2] = int(len(self.steps) == block + 1)
        self.step(Op.NEXT, block + 1)
        self.steps[block][1] = len(self.steps)
        self._nesting -= 1
