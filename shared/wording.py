"""Formats numbers, ratios, durations and times for sentences.

Invariant: a text depends on the numbers alone.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

from shared.kernels.units import DAY_MS, MINUTE_MS

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WEEKDAYS = ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays")


def short(value: float) -> str:
    """Format a number with three significant digits, thousands grouped."""
    size = abs(value)
    if size >= 1e12 or (0 < size < 1e-3):
        return f"{value:.2e}"
    if size == 0:
        return "0"
    return f"{value:,.0f}" if size >= 999.5 else f"{value:.3g}"


def relative_to_usual(value: float, usual: float) -> str:
    """Compare a value with its usual value; NaN = there is none."""
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
    """Format a duration in its two largest units."""
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
    """Format a duration as whole days if it has at least two."""
    whole = int(ms // DAY_MS)
    return f"{whole} days" if whole >= 2 else duration(ms)


def time_of_day(time_ms: int, *, weekly: bool) -> str:
    """Return the half hour of an event time (UTC); weekly: with the day of the week."""
    then = _moment(time_ms)
    clock = f"{then.hour:02d}:{then.minute // 30 * 30:02d}"
    return f"{_WEEKDAYS[then.weekday()]} {clock}" if weekly else clock


def minute(time_ms: int) -> str:
    """Format a time as ``2014-04-16 03:35``, UTC."""
    return f"{_moment(time_ms):%Y-%m-%d %H:%M}"


def moment(time_ms: int) -> str:
    """Format a time to the minute, or to the second if it has seconds."""
    if time_ms % MINUTE_MS == 0:
        return minute(time_ms)
    return f"{_moment(time_ms):%Y-%m-%d %H:%M:%S}"


def second(time_ms: int) -> str:
    """Format a time as ``2014-04-16 03:35:07``, UTC, with milliseconds if it has any."""
    text = f"{_moment(time_ms):%Y-%m-%d %H:%M:%S}"
    return f"{text}.{time_ms % 1000:03d}" if time_ms % 1000 else text


def iso(time_ms: int, *, finest: str = "milliseconds") -> str:
    """Format a time in ISO 8601, ``2014-04-16T03:35:07.000Z``.

    finest : ``seconds`` or ``milliseconds``
    raises : OverflowError for a time outside years 1 to 9999
    """
    return _moment(time_ms).isoformat(timespec=finest).replace("+00:00", "Z")


def _moment(time_ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=int(time_ms))


def _ratio(ratio: float) -> str:
    if ratio < 100:
        return f"{ratio:.1f}"
    return f"{ratio:,.0f}" if ratio < 1e6 else f"{ratio:.1e}"
