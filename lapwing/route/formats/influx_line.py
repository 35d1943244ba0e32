"""Influx line protocol: a row per line.

Invariant: a line is read by one pass of patterns that never go back, so time is linear in its
length. A line that cannot be read is refused with its column, and reading goes on after its end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from lapwing.route.formats.event_time import time_reader, time_refusal
from lapwing.route.rows import RecordRefused, Refusal, Refused, Row, Sample, shown

_NAME = re.compile(r"(?:[^, \\\n]|\\[^\n])+")
_KEY = re.compile(r"(?:[^,= \\\n]|\\[^\n])+")
_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_WORD = re.compile(r'[^, "\n]+')
_FLOAT = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?\Z", re.ASCII)
_INTEGER = re.compile(r"-?\d{1,20}[iu]\Z", re.ASCII)
_TIME = re.compile(r"-?\d{1,20}", re.ASCII)
_ESCAPED = re.compile(r"\\([, =\\])")
_BOOLEANS = frozenset({"t", "T", "true", "True", "TRUE", "f", "F", "false", "False", "FALSE"})
_MOST_DIGITS = 400


class _Unfit(Exception):
    """A line is not line protocol; the position is that of the first character that is not."""

    def __init__(self, at: int, wanted: str) -> None:
        super().__init__(wanted)
        self.at = at
        self.wanted = wanted


class InfluxLine:
    """A ``RowDecoder`` of Influx line protocol.

    unit : ``precision`` of the timestamps, ns by default
    """

    format = "influx"

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._time = time_reader(unit)

    def where(self, row: int) -> str:
        """See RowDecoder."""
        return f"line {row + 1}"

    def rows(self, value: bytes) -> Iterator[Row]:
        """See RowDecoder."""
        try:
            text = value.decode()
        except UnicodeDecodeError as error:
            detail = f"byte {error.start} is not UTF-8"
            raise RecordRefused(Refused.MALFORMED, detail) from error
        return self._rows(text)

    def _rows(self, text: str) -> Iterator[Row]:
        at, end = 0, len(text)
        while at < end:
            start = at
            if text[at] in "#\r\n":
                at = _line_end(text, at) + 1
                yield None
                continue
            try:
                name, tags, fields, time, at = _line(text, at)
            except _Unfit as error:
                found = shown(text[error.at : error.at + 1]) or "the end"
                yield Refusal(
                    Refused.MALFORMED,
                    f"column {error.at - start + 1} (offset {error.at}) is '{found}'; it must be"
                    f" {error.wanted}",
                )
                at = _line_end(text, max(at, error.at)) + 1
                continue
            at += 1
            time_ms = None if time is None else self._time(time)
            if time_ms is None:
                yield Refusal(Refused.TIME_INVALID, time_refusal("timestamp", time, self._unit))
            else:
                yield Sample(name, tags, time_ms, fields)


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _line(text: str, at: int) -> tuple[str, dict[str, object], dict[str, object], int | None, int]:
    """Return name, tags, fields, time and the position of the line's end; raises _Unfit."""
    name, at = _piece(_NAME, text, at, "the measurement")
    tags: dict[str, object] = {}
    while text.startswith(",", at):
        key, at = _piece(_KEY, text, at + 1, "a tag's name")
        tag, at = _piece(_KEY, text, _after(text, at, "="), "a tag's value")
        tags[key] = tag
    at = _after(text, at, " ")
    fields: dict[str, object] = {}
    while True:
        key, at = _piece(_KEY, text, at, "a field's name")
        at = _after(text, at, "=")
        fields[key], at = _value(text, at)
        if not text.startswith(",", at):
            break
        at += 1
    time = None
    if text.startswith(" ", at) and (found := _TIME.match(text, at + 1)):
        time, at = int(found.group()), found.end()
    while text.startswith((" ", "\r"), at):
        at += 1
    if at < len(text) and text[at] != "\n":
        raise _Unfit(at, "a timestamp, a whole number, or the end of the line")
    return name, tags, fields, time, at


def _piece(pattern: re.Pattern[str], text: str, at: int, what: str) -> tuple[str, int]:
    found = pattern.match(text, at)
    if found is None:
        raise _Unfit(at, what)
    piece = found.group()
    return _ESCAPED.sub(r"\1", piece) if "\\" in piece else piece, found.end()


def _after(text: str, at: int, sign: str) -> int:
    if not text.startswith(sign, at):
        raise _Unfit(at, f"'{sign}'")
    return at + 1


def _value(text: str, at: int) -> tuple[object, int]:
    """Return a field's value and the position after it; text and booleans are not numbers."""
    if text.startswith('"', at):
        quoted = _TEXT.match(text, at)
        if quoted is None:
            raise _Unfit(at, "text that ends with a quote")
        return "", quoted.end()
    found = _WORD.match(text, at)
    word = found.group().rstrip("\r") if found else ""
    end = at + len(word)
    if _INTEGER.match(word):
        return int(word[:-1]), end
    if len(word) <= _MOST_DIGITS and _FLOAT.match(word):
        return float(word), end
    if word in _BOOLEANS:
        return True, end
    raise _Unfit(at, "a number, text in quotes, true or false")
