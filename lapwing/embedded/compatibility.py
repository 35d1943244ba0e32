"""Compatibility of Avro schemas under the levels of a schema registry.

Invariant: the rules are those of the Avro specification (Schema Resolution), with names compared as
in the Java library.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shared.decode.avro.schema import AvroType

LEVELS = (
    "NONE",
    "BACKWARD",
    "BACKWARD_TRANSITIVE",
    "FORWARD",
    "FORWARD_TRANSITIVE",
    "FULL",
    "FULL_TRANSITIVE",
)

_PROMOTIONS = {
    "int": ("long", "float", "double"),
    "long": ("float", "double"),
    "float": ("double",),
    "string": ("bytes",),
    "bytes": ("string",),
}
"""Written type -> other types that can read it."""

_JSON_TYPES: dict[str, tuple[type, ...]] = {
    "boolean": (bool,),
    "int": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "bytes": (str,),
    "string": (str,),
    "fixed": (str,),
}


def violations(level: str, new: AvroType, earlier: Sequence[AvroType]) -> list[str]:
    """Return why a level forbids a schema after earlier ones (oldest first); empty = allowed."""
    if level == "NONE" or not earlier:
        return []
    compared = earlier if level.endswith("_TRANSITIVE") else earlier[-1:]
    found: list[str] = []
    for old in compared:
        if level.startswith(("BACKWARD", "FULL")):
            found += [
                f"the new schema cannot read the old one's data: {why}"
                for why in unreadable(new, old)
            ]
        if level.startswith(("FORWARD", "FULL")):
            found += [
                f"the old schema cannot read the new one's data: {why}"
                for why in unreadable(old, new)
            ]
    return list(dict.fromkeys(found))


def unreadable(reader: AvroType, writer: AvroType) -> list[str]:
    """Return why a reader cannot read all data of a writer; empty = it can."""
    return _Resolution().resolve(reader, writer, reader.name or "schema")


def wrong_defaults(avro: AvroType) -> list[str]:
    """Return the fields whose default does not match their type."""
    found: list[str] = []
    seen: set[int] = set()
    waiting = [avro]
    while waiting:
        current = waiting.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        for field in current.fields:
            if field.has_default and not _fits(field.default, field.type):
                found.append(f"{current.name}.{field.name}: {field.default!r} is no {field.type}")
            waiting.append(field.type)
        waiting += current.branches
        waiting += [current.items] if current.items else []
    return found


class _Resolution:
    """One comparison; it tracks open pairs of records, so recursive schemas terminate."""

    def __init__(self) -> None:
        self._under_way: set[tuple[int, int]] = set()

    def resolve(self, reader: AvroType, writer: AvroType, place: str) -> list[str]:
        if writer.kind == "union":
            return [
                why for branch in writer.branches for why in self.resolve(reader, branch, place)
            ]
        if reader.kind == "union":
            tried = [self.resolve(branch, writer, place) for branch in reader.branches]
            return [] if [] in tried else [f"{place}: no branch of {reader} reads {writer}"]
        if reader.kind != writer.kind:
            promoted = reader.kind in _PROMOTIONS.get(writer.kind, ())
            return [] if promoted else [f"{place}: {reader} does not read {writer}"]
        match reader.kind:
            case "record":
                return self._resolve_records(reader, writer, place)
            case "enum":
                return _resolve_enums(reader, writer, place)
            case "fixed":
                same = _same_name(reader, writer) and reader.size == writer.size
                wanted = f"fixed {reader.name}({reader.size})"
                return [] if same else [f"{place}: {wanted} is not {writer.name}({writer.size})"]
            case "array" | "map":
                assert reader.items is not None  # noqa: S101 - the parser gives every array and map its items
                assert writer.items is not None  # noqa: S101
                return self.resolve(reader.items, writer.items, f"{place}[]")
        return []

    def _resolve_records(self, reader: AvroType, writer: AvroType, place: str) -> list[str]:
        pair = (id(reader), id(writer))
        if pair in self._under_way:
            return []
        if not _same_name(reader, writer):
            return [f"{place}: record {reader.name} is not {writer.name}"]
        self._under_way.add(pair)
        found: list[str] = []
        written = {field.name: field for field in writer.fields}
        for field in reader.fields:
            source = next(
                (written[name] for name in (field.name, *field.aliases) if name in written), None
            )
            if source is not None:
                found += self.resolve(field.type, source.type, f"{place}.{field.name}")
            elif not field.has_default:
                found.append(
                    f"{place}.{field.name}: has no default and is not among the written fields"
                )
        self._under_way.discard(pair)
        return found


def _resolve_enums(reader: AvroType, writer: AvroType, place: str) -> list[str]:
    if not _same_name(reader, writer):
        return [f"{place}: enum {reader.name} is not {writer.name}"]
    unknown = [symbol for symbol in writer.symbols if symbol not in reader.symbols]
    if unknown and reader.default_symbol is None:
        return [f"{place}: enum {reader.name} lacks {', '.join(unknown)} and has no default"]
    return []


def _same_name(reader: AvroType, writer: AvroType) -> bool:
    """Return whether names match without namespaces, or by an alias of the reader."""
    return (
        reader.name.rpartition(".")[2] == writer.name.rpartition(".")[2]
        or writer.name in reader.aliases
    )


def _fits(value: Any, avro: AvroType) -> bool:
    """Return whether a JSON value is a valid default; for a union, any branch may match."""
    match avro.kind:
        case "null":
            return value is None
        case "union":
            return any(_fits(value, branch) for branch in avro.branches)
        case "enum":
            return value in avro.symbols
        case "array":
            return (
                isinstance(value, list)
                and avro.items is not None
                and all(_fits(item, avro.items) for item in value)
            )
        case "map":
            return (
                isinstance(value, dict)
                and avro.items is not None
                and all(_fits(v, avro.items) for v in value.values())
            )
        case "record":
            return isinstance(value, dict) and all(
                _fits(value[field.name], field.type) if field.name in value else field.has_default
                for field in avro.fields
            )
    if isinstance(value, bool) and avro.kind != "boolean":
        return False
    bits = {"int": 31, "long": 63}.get(avro.kind)
    in_range = bits is None or (isinstance(value, int) and -(1 << bits) <= value < 1 << bits)
    right_size = avro.kind != "fixed" or (isinstance(value, str) and len(value) == avro.size)
    return isinstance(value, _JSON_TYPES[avro.kind]) and in_range and right_size
