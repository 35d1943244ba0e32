"""How numbers, ratios and stretches of time are said in a sentence.

Law: the words depend on the numbers alone.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime

_WEEKDAYS = ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays")


def short(value: float) -> str:
    """Write a number as a person would: three digits, thousands grouped."""
    size = abs(value)
    if size >= 1e12 or (0 < size < 1e-3):
        return f"{value:.2e}"
    return f"{value:,.0f}" if size >= 1000 else f"{value:.3g}"


def against(value: float, usual: float) -> str:
    """Compare a value with its usual one; NaN = there is none."""
    if math.isnan(usual):
        return "never seen before"
    if usual > 0 and value > 0:
        ratio = value / usual
        if ratio >= 1.1:
            return f"{_ratio(ratio)}x its usual {short(usual)}"
        if ratio <= 0.9:
            return f"{ratio:.2g} of its usual {short(usual)}"
    return f"usually {short(usual)}"


def duration(ms: float) -> str:
    """Say a stretch of time in its two largest units."""
    seconds = round(ms / 1000)
    for size, unit, smaller, small_unit in (
        (86_400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if seconds >= size:
            rest = seconds % size // smaller
            return f"{seconds // size} {unit}" + (f" {rest} {small_unit}" if rest else "")
    return f"{seconds} s" if seconds or ms == 0 else f"{ms:.3g} ms"


def days(ms: float) -> str:
    """Say how long something has been watched."""
    whole = int(ms // 86_400_000)
    return f"{whole} days" if whole >= 2 else duration(ms)


def time_of_day(time_ms: int, *, weekly: bool) -> str:
    """Name the half hour of an event time (UTC), with the day of the week where that matters."""
    moment = datetime.fromtimestamp(time_ms / 1000, UTC)
    clock = f"{moment.hour:02d}:{moment.minute // 30 * 30:02d}"
    return f"{_WEEKDAYS[moment.weekday()]} {clock}" if weekly else clock


def _ratio(ratio: float) -> str:
    return f"{ratio:.1f}" if ratio < 100 else f"{ratio:,.0f}" if ratio < 1e6 else f"{ratio:.1e}"
