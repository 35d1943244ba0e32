"""What field names tell: which field a setting means, and whether a number is a time.

Invariant: names are compared ignoring case, but an exact match wins.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

TIME_NAMES = ("timestamp", "event_time", "eventTime", "event_timestamp", "time", "ts")
"""Usual names of the event time, in order of preference."""

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_UNITS = {
    "s",
    "sec",
    "secs",
    "second",
    "seconds",
    "ms",
    "msec",
    "millis",
    "milliseconds",
    "us",
    "usec",
    "micros",
}
_UNITS |= {"microseconds", "ns", "nsec", "nanos", "nanoseconds", "utc"}
_LAST_WORDS = {"timestamp", "ts", "datetime", "epoch", "date"}
_MOMENTS = {
    "event",
    "ingest",
    "ingestion",
    "create",
    "creation",
    "created",
    "update",
    "updated",
    "modified",
    "start",
    "end",
}
_MOMENTS |= {
    "begin",
    "log",
    "record",
    "recorded",
    "received",
    "receive",
    "sent",
    "collected",
    "observed",
    "measured",
    "sampled",
}
_MOMENTS |= {
    "published",
    "inserted",
    "arrival",
    "commit",
    "row",
    "window",
    "unix",
    "epoch",
    "posix",
    "utc",
    "local",
    "kafka",
}
_WHOLE = {
    "time",
    "eventtime",
    "unixtime",
    "rowtime",
    "proctime",
    "windowstart",
    "windowend",
    "lastseen",
    "lastupdate",
}
"""Additional time names, written without separators."""

_IDENTIFIERS = {"id", "uuid", "guid", "pk"}


def find(wanted: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return the exact match, else all names that differ from ``wanted`` in case only."""
    if wanted in names:
        return (wanted,)
    return tuple(name for name in names if name.lower() == wanted.lower())


def first_time_name(names: Sequence[str]) -> tuple[str, ...]:
    """Return the name that is first in TIME_NAMES; several if they differ in case only."""
    for wanted in TIME_NAMES:
        if wanted in names:
            return (wanted,)
    for wanted in TIME_NAMES:
        found = find(wanted, names)
        if found:
            return found
    return ()


def says_time(name: str) -> bool:
    """Return whether a number of this name is a point in time (``created_at``), not a duration."""
    words = [word.lower() for word in _WORD.findall(name)]
    while len(words) > 1 and words[-1] in _UNITS:
        words.pop()
    if not words:
        return False
    whole = "".join(words)
    if words[-1] in _LAST_WORDS or whole in _WHOLE or whole.endswith("timestamp"):
        return True
    return len(words) > 1 and (words[-1] == "at" or (words[-1] == "time" and words[-2] in _MOMENTS))


def says_identifier(name: str) -> bool:
    """Return whether a number of this name is an identifier (``device_id``), not a measurement."""
    words = [word.lower() for word in _WORD.findall(name)]
    return bool(words) and words[-1] in _IDENTIFIERS
