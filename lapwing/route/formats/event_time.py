"""Event times of a format's rows, by their unit.

Invariant: finer units of whole numbers are truncated to the millisecond, fractions are rounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from shared.decode.json.decoder import read_time
from shared.decode.json.document import kind_of

TimeReader = Callable[[object], int | None]
"""Returns a time, ms since 1970 UTC; None where the value is not a time in the unit."""

_PER_MS = {"ms": 1, "us": 1_000, "ns": 1_000_000}
_MOST = 2**63 - 1


def time_reader(unit: str) -> TimeReader:
    """Return how times of a unit are read: s, ms, us, ns of numbers, iso of text."""
    if unit == "s":
        return _seconds
    if unit == "iso":
        return _iso
    per_ms = _PER_MS[unit]

    def finer(value: object) -> int | None:
        return value // per_ms if type(value) is int else _fraction(value, 1 / per_ms)

    return finer


def time_refusal(name: str, value: object, unit: str, setting: str = "route.time_unit") -> str:
    """Return the sentence about a value that is not a time."""
    wanted = "text in ISO 8601" if unit == "iso" else f"a number in {unit}"
    return f"{name} is {kind_of(value)}; it must be {wanted} ({setting})"


def _seconds(value: object) -> int | None:
    return value * 1000 if type(value) is int else _fraction(value, 1000.0)


def _fraction(value: object, factor: float) -> int | None:
    if type(value) is not float or not math.isfinite(value):
        return None
    found = value * factor
    return math.floor(found + 0.5) if abs(found) < _MOST else _MOST


def _iso(value: object) -> int | None:
    if type(value) is not str:
        return None
    found = read_time(value, "iso")
    return None if found is None or not math.isfinite(found) else int(found)
