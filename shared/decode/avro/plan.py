"""Compiles an Avro writer schema to a plan, a list of steps that the decoding kernel executes.

Invariant: a plan is a function of the schema's text and the input settings. All fields are walked;
only those that the settings select are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from shared.decode.avro.fields import choose_fields
from shared.decode.avro.nested import nested_record
from shared.decode.avro.schema import AvroType, SchemaInvalid, parse_schema
from shared.decode.field_choice import FieldChoice, UnsupportedSchema
from shared.settings import InputSettings

__all__ = ["Op", "Role", "record_of"]

MAX_STEPS = 65_536
"""Most steps of a plan; named types are expanded at each use."""


class Op(IntEnum):
    """The operations; a step is four numbers: op, a, b, c."""

    END = 0  # the record is complete
    UNION = 1  # a branches; the next a steps are JUMPs, one per branch
    JUMP = 2  # continue at step a
    DOUBLE = 3  # a metric, or NONE
    FLOAT = 4  # a metric, or NONE
    LONG = 5  # b Role; a metric, entity part or units per ms
    INT = 6  # the same, 32 bits
    STRING = 7  # a entity part, or NONE
    BYTES = 8
    BOOLEAN = 9
    FIXED = 10  # a bytes
    ENUM = 11  # a number of symbols, b entity part or NONE, c its first symbol in the plan
    BLOCK = 12  # array or map: a step after it, b 1 if its items take no bytes
    NEXT = 13  # end of an item: a first step of an item
    TIME_DOUBLE = 14  # a units per ms
    TIME_TEXT = 15  # ISO 8601
    DECIMAL = 16  # a metric, b bytes of a fixed or 0, c bits of 10.0**scale
    LABEL = 17  # a map's key; the next a steps are WANTED, one per label that is read
    WANTED = 18  # a the label's symbol in the plan, b entity part
    LABEL_VALUE = 19  # the text of the key before it


class Role(IntEnum):
    """What a field is for."""

    SKIPPED = 0
    METRIC = 1
    PART = 2
    TIME = 3
    LABEL_TEXT = 4


NONE = -1
_PER_MS = {"s": -1000, "ms": 1, "us": 1000, "ns": 1_000_000, "iso": 0}
"""Units per millisecond; negative: minus the milliseconds per unit."""


@dataclass(frozen=True, slots=True)
class WriterPlan:
    """How to read records of one writer schema.

    fields        : how its fields are read
    steps         : int64 (k, 4)    see Op; step addresses count from 0
    depth         : nesting depth of arrays and maps
    symbols       : UTF-8 of the enum symbols that may be part of an entity's name
    symbol_bounds : int64           symbol i is symbols[symbol_bounds[i]:symbol_bounds[i + 1]]
    """

    fields: FieldChoice
    steps: npt.NDArray[np.int64]
    depth: int
    symbols: bytes
    symbol_bounds: npt.NDArray[np.int64]

    @property
    def record(self) -> str:
        """The schema's full name."""
        return self.fields.record

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the numeric fields that are kept, in schema order."""
        return self.fields.metrics

    @property
    def entity_parts(self) -> int:
        """Number of fields that make up the entity."""
        return len(self.fields.entity)

    @property
    def time_field(self) -> str:
        """Name of the event-time field."""
        return self.fields.time


def compile_plan(schema_text: str, input: InputSettings) -> WriterPlan:  # noqa: A002 - the section's name
    """Compile a writer schema.

    input  : selects the entity fields, the time field and the metrics
    raises : UnsupportedSchema that names the field which is missing, ambiguous or of the wrong type
    """
    try:
        written = parse_schema(schema_text)
        record = record_of(written)
        if record is None:
            raise UnsupportedSchema(f"the writer schema is a {written}, not a record")
        chosen = choose_fields(record, input)
        emitter = _Emitter(_roles(chosen))
        emitter.emit_top(written, record)
    except SchemaInvalid as error:
        raise UnsupportedSchema(f"the writer schema is not valid Avro: {error}") from error
    except RecursionError as error:
        raise UnsupportedSchema("the writer schema is nested too deeply") from error
    emitter.step(Op.END)
    return WriterPlan(
        chosen,
        np.array(emitter.steps, np.int64).reshape(-1, 4),
        emitter.depth,
        "".join(emitter.symbols).encode(),
        np.cumsum([0] + [len(symbol) for symbol in emitter.symbols], dtype=np.int64),
    )


def record_of(written: AvroType) -> AvroType | None:
    """Return the schema if it is a record, or the record of a union with null, else None.

    Kafka Connect writes an optional struct as such a union.
    """
    return nested_record(written)


Roles = dict[str, tuple[Role, int]]
"""Field of the record -> its role, and its metric, its entity part or its units per millisecond."""


def _roles(chosen: FieldChoice) -> Roles:
    roles: Roles = {name: (Role.PART, part) for part, name in enumerate(chosen.entity)}
    roles[chosen.time] = (Role.TIME, _PER_MS[chosen.time_unit])
    return roles | {name: (Role.METRIC, slot) for slot, name in enumerate(chosen.metrics)}


def _bits(number: float) -> int:
    return int(np.float64(number).view(np.int64))


class _Emitter:
    """Emits the steps of a record, in the order of its bytes."""

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
            raise UnsupportedSchema(f"the writer schema takes more than {MAX_STEPS} steps to read")
        self.steps.append([op, a, b, c])
        return len(self.steps) - 1

    def emit_top(self, written: AvroType, record: AvroType) -> None:
        """Append the outermost record, which may be in a union with null."""
        if written is record:
            self.emit_record(record, "")
            return
        self.step(Op.UNION, len(written.branches))
        jumps = [self.step(Op.JUMP) for _ in written.branches]
        first = len(self.steps)
        self.emit_record(record, "")
        for jump, branch in zip(jumps, written.branches, strict=True):
            self.steps[jump][1] = first if branch is record else len(self.steps)

    def emit_record(self, record: AvroType, path: str | None) -> None:
        """Append the fields of a record.

        path : prefix of their names, such as ``load.``; None = within an array or a map, without
               roles
        """
        if record.name in self._open:
            raise UnsupportedSchema(
                f"{record.name} contains itself; recursive types are not supported"
            )
        self._open.append(record.name)
        for field in record.fields:
            role, target = Role.SKIPPED, NONE
            if path is not None:
                role, target = self.roles.get(path + field.name, (role, target))
            self.emit(field.type, role, target, None if path is None else f"{path}{field.name}.")
        self._open.pop()

    def emit(self, avro: AvroType, role: Role, target: int, path: str | None) -> None:
        """Append the steps of one value; null and empty types have none.

        path : prefix of the names below it, see ``emit_record``
        """
        kept = target if role in (Role.METRIC, Role.PART) else NONE
        match avro.kind:
            case "record":
                self.emit_record(avro, path)
            case "union":
                self._emit_union(avro, role, target, path)
            case "array" | "map":
                self._emit_blocks(avro, path)
            case "bytes" | "fixed" if role == Role.METRIC:
                self.step(Op.DECIMAL, target, avro.size, _bits(10.0**avro.scale))
            case "double" | "string" if role == Role.TIME:
                self.step(Op.TIME_DOUBLE if avro.kind == "double" else Op.TIME_TEXT, target)
            case "double" | "float":
                self.step(Op.DOUBLE if avro.kind == "double" else Op.FLOAT, kept)
            case "long" | "int":
                self.step(Op.LONG if avro.kind == "long" else Op.INT, target, role)
            case "string" if role == Role.LABEL_TEXT:
                self.step(Op.LABEL_VALUE)
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

    def _emit_union(self, union: AvroType, role: Role, target: int, path: str | None) -> None:
        self.step(Op.UNION, len(union.branches))
        jumps = [self.step(Op.JUMP) for _ in union.branches]
        ends = []  # jumps to the step after the union
        for jump, branch in zip(jumps, union.branches, strict=True):
            first = len(self.steps)
            self.emit(branch, role, target, path)
            if len(self.steps) == first:
                ends.append(jump)
                continue
            self.steps[jump][1] = first
            if branch is not union.branches[-1]:
                ends.append(self.step(Op.JUMP))
        for end in ends:
            self.steps[end][1] = len(self.steps)

    def _emit_blocks(self, avro: AvroType, path: str | None) -> None:
        self._nesting += 1
        self.depth = max(self.depth, self._nesting)
        block = self.step(Op.BLOCK)
        assert avro.items is not None  # noqa: S101 - the parser gives every array and map its items
        labels = self._labels(path) if avro.kind == "map" else []
        if labels:
            self._emit_label(avro.items, labels)
        else:
            if avro.kind == "map":
                self.step(Op.STRING, NONE)
            self.emit(avro.items, Role.SKIPPED, NONE, None)
        self.steps[block][2] = int(len(self.steps) == block + 1)
        self.step(Op.NEXT, block + 1)
        self.steps[block][1] = len(self.steps)
        self._nesting -= 1

    def _labels(self, path: str | None) -> list[tuple[str, int]]:
        """Return the labels of a map that are entity parts; path as in ``emit``."""
        if path is None:
            return []
        return [
            (name[len(path) :], target)
            for name, (role, target) in self.roles.items()
            if role is Role.PART and name.startswith(path)
        ]

    def _emit_label(self, text: AvroType, labels: list[tuple[str, int]]) -> None:
        """Append a key and its text, which may be null."""
        self.step(Op.LABEL, len(labels))
        for label, part in labels:
            self.step(Op.WANTED, len(self.symbols), part)
            self.symbols += (label,)
        self.emit(text, Role.LABEL_TEXT, NONE, None)
