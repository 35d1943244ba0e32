"""Records as JSON: parsed once, refused with the offset.

Invariant: what is not one JSON text in UTF-8 is refused whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from lapwing.route.rows import RecordRefused, Refused, shown
from shared.decode.json.document import kind_of


def parse_json(value: bytes) -> Any:
    """Return a record's JSON; raises RecordRefused with line, column and offset."""
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise RecordRefused(Refused.MALFORMED, f"it is not JSON: {shown(error)}") from error


def object_of(value: object, where: str) -> Mapping[str, Any]:
    """Return an object; raises RecordRefused."""
    if type(value) is not dict:
        raise RecordRefused(Refused.MALFORMED, f"{where} is {kind_of(value)}, not an object")
    return value
