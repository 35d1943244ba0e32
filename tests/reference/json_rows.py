"""Reference reader of JSON records, one at a time, written from docs/input.md."""

from __future__ import annotations

import json
import math
from typing import Any

from shared.decode.field_names import says_time
from shared.events import Reason
from shared.settings import InputSettings
from tests.reference.avro import Rejected, read_iso

Row = tuple[str, int, dict[str, float]]


def read_row(value: bytes, settings: InputSettings) -> Row | Reason:
    """Read a record; input.include, input.exclude and the long form are not known here."""
    try:
        return _read(value, settings)
    except Rejected as rejection:
        return rejection.reason


def _read(value: bytes, settings: InputSettings) -> Row:
    if not value:
        raise Rejected(Reason.EMPTY)
    if len(value) > settings.max_record_bytes:
        raise Rejected(Reason.TOO_LARGE)
    body = value[5:] if len(value) > 5 and value[0] == 0 else value
    try:
        pairs = json.loads(body.decode(), object_pairs_hook=tuple)
    except (ValueError, RecursionError):
        raise Rejected(Reason.NOT_JSON) from None
    if not isinstance(pairs, tuple):
        raise Rejected(Reason.NOT_JSON)
    leaves = dict[str, Any]()
    _flatten(pairs, "", 1, leaves)
    used = [_named(wanted, leaves) for wanted in (*settings.entity_fields, settings.time_field)]
    *parts, when = [leaves[name] for name in used]
    rest = {
        name: one
        for name, one in leaves.items()
        if name not in used and not says_time(name.split(".")[-1])
    }
    found = {name: one for name, one in rest.items() if _is_number(one)}
    is_unfit = any(isinstance(one, list) for one in rest.values())
    is_unfit = is_unfit or not any(one is None or _is_number(one) for one in rest.values())
    is_unfit = is_unfit or not all(
        0 < len(name.encode("utf-8", "replace")) <= 256 for name in found
    )
    if is_unfit or len(found) > 256 or not all(name.isprintable() for name in found):
        raise Rejected(Reason.RECORD_UNFIT)
    if not all(abs(one) <= 1.7976931348623157e308 for one in found.values()):
        raise Rejected(Reason.NOT_FINITE)
    time_ms = _time_ms(when)
    if not settings.min_time_ms <= time_ms <= settings.max_time_ms:
        raise Rejected(Reason.TIME_OUT_OF_RANGE)
    return _entity(parts), time_ms, {name: float(one) for name, one in found.items()}


def _named(wanted: str, leaves: dict[str, Any]) -> str:
    found = [name for name in leaves if name == wanted]
    found = found or [name for name in leaves if name.lower() == wanted.lower()]
    if len(found) != 1:
        raise Rejected(Reason.RECORD_UNFIT)
    return found[0]


def _flatten(pairs: tuple[Any, ...], prefix: str, depth: int, leaves: dict[str, Any]) -> None:
    names = [name for name, _ in pairs]
    if depth > 16 or len(set(names)) < len(names):
        raise Rejected(Reason.NOT_JSON)
    for name, one in pairs:
        if isinstance(one, tuple):
            _flatten(one, f"{prefix}{name}.", depth + 1, leaves)
        elif prefix + name in leaves:
            raise Rejected(Reason.NOT_JSON)
        else:
            leaves[prefix + name] = one
    _check_arrays(pairs)


def _check_arrays(pairs: tuple[Any, ...]) -> None:
    """Objects within arrays have unique names as well."""
    waiting = [one for _, one in pairs if isinstance(one, list)]
    while waiting:
        for one in waiting.pop():
            if isinstance(one, list):
                waiting.append(one)
            elif isinstance(one, tuple):
                names = [name for name, _ in one]
                if len(set(names)) < len(names):
                    raise Rejected(Reason.NOT_JSON)
                waiting.append([inner for _, inner in one])


def _is_number(one: Any) -> bool:
    return isinstance(one, int | float) and not isinstance(one, bool)


def _time_ms(when: Any) -> int:
    if when is None:
        raise Rejected(Reason.TIME_OUT_OF_RANGE)
    if not isinstance(when, str):
        raise Rejected(Reason.TIME_INVALID)
    try:
        return read_iso(when.encode())
    except UnicodeEncodeError:
        raise Rejected(Reason.TIME_INVALID) from None


def _entity(parts: list[Any]) -> str:
    texts = [
        str(part) if isinstance(part, int) and not isinstance(part, bool) else part
        for part in parts
    ]
    if not all(isinstance(text, str) and text for text in texts):
        raise Rejected(Reason.ENTITY_INVALID)
    name = "/".join(texts)
    is_control = any(character < " " or "\x7f" <= character <= "\x9f" for character in name)
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise Rejected(Reason.ENTITY_INVALID) from None
    if is_control or size > 256 or any(isinstance(p, int) and abs(p) >= 2**63 for p in parts):
        raise Rejected(Reason.ENTITY_INVALID)
    return name


def is_same(row: Row, values: dict[str, float]) -> bool:
    """Return whether the numbers of a row are these, to the bit; NaN = absent."""
    present = {name: one for name, one in values.items() if not math.isnan(one)}
    return {name: one.hex() for name, one in row[2].items()} == {
        name: one.hex() for name, one in present.items()
    }
