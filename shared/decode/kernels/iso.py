"""Times as text: ISO 8601, extended form, to the minute or finer; UTC unless it has an offset.

Invariant: a text is one instant or none; fractions of a millisecond are truncated.
"""

from __future__ import annotations

from shared.kernels.units import DAY_MS, HOUR_MS, MINUTE_MS
from shared.kernels.wire import Bytes, Int, helper

NO_TIME = -(2**63)
"""Returned for a text that is not a time."""

_ZERO, _NINE, _PLUS, _MINUS, _COMMA, _DOT, _COLON, _BLANK = 48, 57, 43, 45, 44, 46, 58, 32
_UPPER_T, _LOWER_T, _UPPER_Z, _LOWER_Z = 84, 116, 90, 122
_LONGEST = 64


@helper
def _number(data: Bytes, at: Int, stop: Int, digits: int) -> Int:
    """Return the number with this many digits at ``at``; -1 if there are fewer."""
    if stop - at < digits:
        return -1
    value = 0
    for i in range(digits):
        byte = int(data[at + i])
        if byte < _ZERO or byte > _NINE:
            return -1
        value = value * 10 + byte - _ZERO
    return value


@helper
def _is(data: Bytes, at: Int, stop: Int, byte: int) -> bool:
    return at < stop and int(data[at]) == byte


@helper
def _days(year: Int, month: Int, day: Int) -> Int:
    """Return the days from 1970-01-01 to a Gregorian date; NO_TIME if the date does not exist."""
    if year < 1 or month < 1 or month > 12 or day < 1:
        return NO_TIME
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    longest = 30 + (month + month // 8) % 2 if month != 2 else 28 + leap
    if day > longest:
        return NO_TIME
    years = year - 1 if month <= 2 else year
    months = month + 9 if month <= 2 else month - 3  # since March, so that the leap day comes last
    leap_days = years // 4 - years // 100 + years // 400
    return 365 * years + leap_days + (153 * months + 2) // 5 + day - 719_469


@helper
def read_iso(data: Bytes, start: Int, stop: Int) -> Int:
    """Return the instant of the text data[start:stop], ms since 1970 UTC; NO_TIME if it is none.

    ``2024-01-10T20:40``, ``2024-01-10 20:40:05.123Z``, ``2024-01-10T20:40:05+01:00``; an offset may
    also be +0100 or +01.

    Twin: tests/reference/avro.py::read_iso.  Cost: O(bytes), at most 64 of them.
    """
    if stop - start > _LONGEST:
        return NO_TIME
    year = _number(data, start, stop, 4)
    month = _number(data, start + 5, stop, 2)
    day = _number(data, start + 8, stop, 2)
    if year < 0 or month < 0 or day < 0:
        return NO_TIME
    if int(data[start + 4]) != _MINUS or int(data[start + 7]) != _MINUS:
        return NO_TIME
    days = _days(year, month, day)
    at = start + 10
    is_separated = _is(data, at, stop, _UPPER_T) or _is(data, at, stop, _LOWER_T)
    is_separated = is_separated or _is(data, at, stop, _BLANK)
    hour = _number(data, at + 1, stop, 2)
    minute = _number(data, at + 4, stop, 2)
    if days == NO_TIME or not is_separated or hour < 0 or hour > 23 or minute < 0 or minute > 59:
        return NO_TIME
    if int(data[at + 3]) != _COLON:
        return NO_TIME
    time_ms = days * DAY_MS + hour * HOUR_MS + minute * MINUTE_MS
    at += 6
    if _is(data, at, stop, _COLON):
        second = _number(data, at + 1, stop, 2)
        if second < 0 or second > 59:
            return NO_TIME
        time_ms += second * 1000
        at += 3
        if _is(data, at, stop, _DOT) or _is(data, at, stop, _COMMA):
            at += 1
            unit = 100
            first = at
            while at < stop and _ZERO <= int(data[at]) <= _NINE:
                time_ms += (int(data[at]) - _ZERO) * unit
                unit //= 10
                at += 1
            if at == first:
                return NO_TIME
    return _with_offset(data, at, stop, time_ms)


@helper
def _with_offset(data: Bytes, at: Int, stop: Int, time_ms: Int) -> Int:
    """Subtract the UTC offset at ``at`` from a time; NO_TIME if the text there is not one."""
    if at == stop:
        return time_ms
    if int(data[at]) in (_UPPER_Z, _LOWER_Z):
        return time_ms if at + 1 == stop else NO_TIME
    if int(data[at]) not in (_PLUS, _MINUS):
        return NO_TIME
    sign = 1 if int(data[at]) == _PLUS else -1
    hours = _number(data, at + 1, stop, 2)
    minutes = 0
    if at + 3 != stop:
        first = at + 4 if int(data[at + 3]) == _COLON else at + 3
        minutes = _number(data, first, stop, 2)
        if first + 2 != stop:
            return NO_TIME
    if hours < 0 or hours > 23 or minutes < 0 or minutes > 59:
        return NO_TIME
    return time_ms - sign * (hours * HOUR_MS + minutes * MINUTE_MS)
