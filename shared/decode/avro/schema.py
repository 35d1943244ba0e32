"""Avro schemas as a graph of types, parsed from their JSON text.

Invariant: a schema that Avro's specification forbids is refused, and the error has the path to the
fault; a parsed schema is never changed.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

NO_SCALE = -1
PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_FULL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*\Z")


class SchemaInvalid(ValueError):
    """The text is not an Avro schema; the message says where and why."""


@dataclass(eq=False, slots=True)
class Field:
    """A field of a record; ``default`` counts only where ``has_default``.

    logical : logicalType beside the type instead of inside it, which the specification ignores;
              empty if none
    """

    name: str
    type: AvroType
    aliases: tuple[str, ...] = ()
    has_default: bool = False
    default: Any = None
    doc: str = ""
    logical: str = ""


@dataclass(eq=False, slots=True)
class AvroType:
    """One type; references to a named type are the same object, so a recursive schema is a cycle.

    kind           : a primitive's name, or record, enum, fixed, array, map, union
    name, aliases  : full names of a record, enum or fixed
    logical        : logicalType; empty if none
    meaning        : connect.name of a primitive, set by Kafka Connect and Debezium; empty if none
    fields         : of a record
    symbols        : of an enum, like default_symbol
    size           : bytes of a fixed
    scale          : digits after the point of a decimal; NO_SCALE if it is not a whole number
    items          : element type of an array, value type of a map
    branches       : of a union
    """

    kind: str
    name: str = ""
    aliases: tuple[str, ...] = ()
    logical: str = ""
    meaning: str = ""
    fields: tuple[Field, ...] = ()
    symbols: tuple[str, ...] = ()
    default_symbol: str | None = None
    size: int = 0
    scale: int = 0
    items: AvroType | None = None
    branches: tuple[AvroType, ...] = ()

    def __str__(self) -> str:
        if self.kind == "union":
            return "[" + ", ".join(str(branch) for branch in self.branches) + "]"
        if self.items is not None:
            return f"{self.kind} of {self.items}"
        text = f"{self.kind} {self.name}".strip()
        annotation = self.logical or self.meaning
        return f"{text} ({annotation})" if annotation else text


def parse_schema(text: str) -> AvroType:
    """Parse an Avro schema; raises SchemaInvalid."""
    try:
        return _Parser().parse(json.loads(text), "", "schema")
    except SchemaInvalid:
        raise
    except ValueError as error:
        raise SchemaInvalid(f"not JSON: {error}") from error
    except RecursionError as error:
        raise SchemaInvalid("nested too deeply") from error


class _Parser:
    def __init__(self) -> None:
        self.named: dict[str, AvroType] = {}

    def parse(self, schema: Any, namespace: str, path: str) -> AvroType:
        """Parse the schema at ``path`` within ``namespace``."""
        if isinstance(schema, str):
            return self._named_or_primitive(schema, namespace, path)
        if isinstance(schema, list):
            return self._union(schema, namespace, path)
        if not isinstance(schema, dict) or "type" not in schema:
            raise SchemaInvalid(f"{path}: {json.dumps(schema)[:80]} is not a type")
        kind = schema["type"]
        if kind in ("record", "error"):
            return self._record(schema, namespace, path)
        if kind == "enum":
            return self._enum(schema, namespace, path)
        if kind == "fixed":
            return self._fixed(schema, namespace, path)
        if kind in ("array", "map"):
            inner = "items" if kind == "array" else "values"
            if inner not in schema:
                raise SchemaInvalid(f"{path}: {kind} without {inner!r}")
            return AvroType(kind, items=self.parse(schema[inner], namespace, f"{path}.{inner}"))
        if isinstance(kind, str) and kind in PRIMITIVES:
            return AvroType(
                kind,
                logical=_text(schema.get("logicalType")),
                meaning=_text(schema.get("connect.name")),
                scale=_scale(schema.get("scale", 0)),
            )
        return self.parse(kind, namespace, path)

    def _named_or_primitive(self, name: str, namespace: str, path: str) -> AvroType:
        if name in PRIMITIVES:
            return AvroType(name)
        found = self.named.get(_full_name(name, namespace)) or self.named.get(name)
        if found is None:
            raise SchemaInvalid(
                f"{path}: type {name!r} is not defined here (references to other subjects are not"
                " followed)"
            )
        return found

    def _union(self, schema: list[Any], namespace: str, path: str) -> AvroType:
        branches = tuple(
            self.parse(branch, namespace, f"{path}[{i}]") for i, branch in enumerate(schema)
        )
        keys = [branch.name or branch.kind for branch in branches]
        if len(set(keys)) != len(keys) or "union" in keys:
            raise SchemaInvalid(
                f"{path}: a union holds no union and no type twice, got {', '.join(keys)}"
            )
        if not branches:
            raise SchemaInvalid(f"{path}: a union without branches")
        return AvroType("union", branches=branches)

    def _record(self, schema: dict[str, Any], namespace: str, path: str) -> AvroType:
        record, inner = self._define("record", schema, namespace, path)
        if not isinstance(schema.get("fields"), list):
            raise SchemaInvalid(f"{path}: record {record.name} without a list of fields")
        fields = tuple(self._field(field, inner, record.name) for field in schema["fields"])
        names = [field.name for field in fields]
        if len(set(names)) != len(names):
            raise SchemaInvalid(
                f"{path}: record {record.name} has a field twice: {', '.join(names)}"
            )
        record.fields = fields
        return record

    def _field(self, schema: Any, namespace: str, record: str) -> Field:
        if (
            not isinstance(schema, dict)
            or "type" not in schema
            or not _NAME.match(_text(schema.get("name")))
        ):
            raise SchemaInvalid(
                f"{record}: a field needs a name of letters, digits and _ and a type, got"
                f" {json.dumps(schema)[:80]}"
            )
        return Field(
            schema["name"],
            self.parse(schema["type"], namespace, f"{record}.{schema['name']}"),
            _texts(schema.get("aliases")),
            "default" in schema,
            schema.get("default"),
            _text(schema.get("doc")),
            _text(schema.get("logicalType")),
        )

    def _enum(self, schema: dict[str, Any], namespace: str, path: str) -> AvroType:
        enum, _ = self._define("enum", schema, namespace, path)
        symbols = _texts(schema.get("symbols"))
        if not symbols or not all(map(_NAME.match, symbols)) or len(set(symbols)) != len(symbols):
            raise SchemaInvalid(
                f"{path}: enum {enum.name} needs different symbols of letters, digits and _"
            )
        enum.symbols = symbols
        enum.default_symbol = schema.get("default")
        if enum.default_symbol is not None and enum.default_symbol not in enum.symbols:
            raise SchemaInvalid(
                f"{path}: enum {enum.name} has no symbol {enum.default_symbol!r}, its default"
            )
        return enum

    def _fixed(self, schema: dict[str, Any], namespace: str, path: str) -> AvroType:
        fixed, _ = self._define("fixed", schema, namespace, path)
        size = schema.get("size")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 2**31:
            raise SchemaInvalid(
                f"{path}: fixed {fixed.name} needs a size of 0 or more bytes, got {size!r}"
            )
        fixed.size = size
        fixed.scale = _scale(schema.get("scale", 0))
        return fixed

    def _define(
        self, kind: str, schema: dict[str, Any], namespace: str, path: str
    ) -> tuple[AvroType, str]:
        """Define a named type; returns it and the namespace of its fields."""
        own = _text(schema.get("namespace")) if "namespace" in schema else namespace
        name = _full_name(_text(schema.get("name")), own)
        if not _FULL_NAME.match(name) or name in PRIMITIVES:
            raise SchemaInvalid(
                f"{path}: {kind} needs a name of letters, digits and _, got {schema.get('name')!r}"
            )
        if name in self.named:
            raise SchemaInvalid(f"{path}: type {name} is defined twice")
        inner = name.rpartition(".")[0]
        aliases = tuple(_full_name(alias, inner) for alias in _texts(schema.get("aliases")))
        defined = self.named[name] = AvroType(kind, name, aliases, _text(schema.get("logicalType")))
        return defined, inner


def _full_name(name: str, namespace: str) -> str:
    return name if "." in name or not namespace else f"{namespace}.{name}"


def _scale(value: Any) -> int:
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return value if is_whole and value >= 0 else NO_SCALE


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(_text(item) for item in value) if isinstance(value, list) else ()
