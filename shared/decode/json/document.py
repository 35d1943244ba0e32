"""A record's bytes as one JSON object, and its values by dotted names.

Invariant: every value of the object has one name; text that could mean two things is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

from shared.events import Reason

DEEPEST = 16
"""Most levels of nested objects."""

SHOWN_CHARACTERS = 60
"""Longest value that a message shows."""

LONGEST_DETAIL = 500
"""Most characters of a detail; a name may be as long as a record."""

_WIRE_HEADER_BYTES = 5

Leaf = str | int | float | bool | list[object] | None
"""A value that is not an object."""


class Refusal(NamedTuple):
    """Why a record cannot be read.

    detail : names the field or the character, and what is allowed
    """

    reason: Reason
    detail: str


def printable(text: str) -> str:
    """Return a text that holds names of a record so that it can be shown: short and printable."""
    short = text if len(text) <= LONGEST_DETAIL else f"{text[:LONGEST_DETAIL]}..."
    return short if short.isprintable() else short.encode("unicode_escape").decode()


class _NameTwice(ValueError):
    """An object has a name twice."""


def read_leaves(value: bytes) -> Mapping[str, Leaf] | Refusal:
    """Return the values of one JSON object by dotted names, in the record's order.

    ``{"host": "a", "load": {"one": 1}}`` has host and load.one; see ``read_document``.
    """
    document = read_document(value)
    if isinstance(document, Refusal):
        return document
    leaves: dict[str, Leaf] = {}
    refused = _add_leaves(document, "", 1, leaves)
    return Refusal(Reason.NOT_JSON, refused) if refused else leaves


def read_document(value: bytes) -> dict[str, object] | Refusal:
    """Return one JSON object.

    value : UTF-8; a schema id before it (Confluent's wire format) is skipped

    NaN and Infinity, which Python's and other writers emit, are read as numbers; the gates refuse
    them where they are metrics.
    """
    try:
        document = _parse(_without_schema_id(value).decode())
    except UnicodeDecodeError as error:
        return Refusal(Reason.NOT_JSON, f"byte {error.start} is not UTF-8")
    except json.JSONDecodeError as error:
        return Refusal(Reason.NOT_JSON, f"{error.msg} at character {error.pos}")
    except RecursionError:
        return Refusal(Reason.NOT_JSON, "it is nested too deeply")
    except ValueError as error:
        return Refusal(Reason.NOT_JSON, _shown(str(error)))
    if not isinstance(document, dict):
        return Refusal(Reason.NOT_JSON, f"it is {kind_of(document)}, not one object")
    return document


def kind_of(value: object) -> str:
    """Return what a JSON value is, for messages."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, str):
        return f"the text {_shown(json.dumps(value))}"
    if isinstance(value, int | float):
        return f"the number {_shown(str(value) if isinstance(value, float) else _digits(value))}"
    return "an array" if isinstance(value, list) else "an object"


def _digits(value: int) -> str:
    return str(value) if value.bit_length() < 256 else "with more than 70 digits"


def _shown(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


def _without_schema_id(value: bytes) -> bytes:
    is_prefixed = len(value) > _WIRE_HEADER_BYTES and value[0] == 0
    return value[_WIRE_HEADER_BYTES:] if is_prefixed else value


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise _NameTwice(f"the name {json.dumps(twice)} occurs twice in one object")
    return found


_parse = json.JSONDecoder(object_pairs_hook=_object).decode


def _add_leaves(
    document: Mapping[str, object], prefix: str, depth: int, leaves: dict[str, Leaf]
) -> str:
    """Add an object's values by dotted names; return why that is impossible, else ''."""
    if depth > DEEPEST:
        return f"{_shown(prefix)} is nested more than {DEEPEST} levels deep"
    for key, value in document.items():
        name = prefix + key
        if isinstance(value, dict):
            refused = _add_leaves(value, f"{name}.", depth + 1, leaves)
            if refused:
                return refused
            continue
        if name in leaves:
            return f"the name {_shown(json.dumps(name))} occurs twice, once with nested objects"
        leaves[name] = value  # type: ignore[assignment]  # what JSON has beside objects
    return ""
