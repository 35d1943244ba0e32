"""Fields of nested records, and labels of maps, by dotted names.

Invariant: a name is the path of fields from the outermost record; arrays are not entered. A label
of a map of text has the map's name before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from shared.decode.avro.schema import AvroType, Field
from shared.decode.avro.times import values_of
from shared.decode.field_names import find

MOST_FIELDS = 4_096
"""Most nested fields that have a name; named types are expanded at each use."""

DEEPEST = 16


def nested_record(avro: AvroType) -> AvroType | None:
    """Return the type if it is a record, or the record of a union with null, else None."""
    values = values_of(avro)
    return values[0] if len(values) == 1 and values[0].kind == "record" else None


def nested_fields(record: AvroType) -> tuple[Field, ...]:
    """Return the fields below the outermost ones, named ``outer.inner``, at most MOST_FIELDS."""
    found: list[Field] = []
    for field in _below(record, "", ()):
        if len(found) == MOST_FIELDS:
            break
        found.append(field)
    return tuple(found)


def _below(record: AvroType, prefix: str, parents: tuple[AvroType, ...]) -> Iterator[Field]:
    """Yield the fields of the records in a record, depth first; a recursive type is not entered."""
    for field in record.fields:
        inner = nested_record(field.type)
        if inner is None or inner is record or inner in parents or len(parents) == DEEPEST:
            continue
        path = f"{prefix}{field.name}."
        for other in inner.fields:
            yield Field(path + other.name, other.type, logical=other.logical)
        yield from _below(inner, path, (*parents, record))


def label_of(wanted: str, fields: Sequence[Field]) -> str:
    """Return the label of a map that a setting means, as ``map.label``; empty if none.

    fields : may be maps of text; the map's name is compared ignoring case, the label exactly
    """
    found = [
        f"{field.name}{wanted[len(field.name) :]}"
        for field in fields
        if wanted.lower().startswith(f"{field.name.lower()}.")
        and len(wanted) > len(field.name) + 1
        and is_label_map(field.type)
    ]
    exact = [name for name in found if name == wanted]
    return max(exact or found, key=len, default="")


def is_label_map(avro: AvroType) -> bool:
    """Return whether it is a map of text, whose texts may be null, or such a map or null."""
    values = values_of(avro)
    if len(values) != 1 or values[0].items is None or values[0].kind != "map":
        return False
    texts = values_of(values[0].items)
    return len(texts) == 1 and texts[0].kind == "string"


def matching(wanted: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return the names that a setting means: the name itself, and all names below a record."""
    below = f"{wanted.lower()}."
    found = find(wanted, names)
    return (*found, *(name for name in names if name.lower().startswith(below)))
