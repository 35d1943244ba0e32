"""Reads a column of times in one format: ISO 8601, epoch, date as digits, day or month first.

Invariant: a format reads each cell independently; all cells together decide a column's format.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

import numpy as np
import numpy.typing as npt

from producer.files.times import (
    ALLOWED,
    FIRST_DOUBTFUL_YEAR,
    FIRST_YEAR,
    LAST_YEAR,
    Flags,
    Times,
    civil_ms,
    parse_iso,
    parse_iso_times,
    parse_time,
)
from shared.errors import ConfigError

_NUMBER = re.compile(r"(-?)(\d+)(?:\.(\d*))?", re.ASCII)
_LOCAL = re.compile(
    r"(\d{1,2})([/.-])(\d{1,2})\2(\d{4})"
    r"(?:(?:, *| +|T)(\d{1,2}):(\d\d)(?::(\d\d)(?:[.,](\d+))?)?(?: *([AaPp])\.?[Mm]\.?)?)?"
    r"(?: *(Z|UTC|GMT|[+-]\d\d(?::?\d\d)?))?",
    re.ASCII,
)
_TIME_OF_DAY = re.compile(r"\d{1,2}:\d\d(:\d\d([.,]\d+)?)?( ?[AaPp][Mm])?", re.ASCII)
_FIELDS = {"YYYY": 4, "YY": 2, "MM": 2, "DD": 2, "HH": 2, "mm": 2, "SS": 2}
_MOST_DIGITS = 19
_LAST_MS = 253_402_300_799_999  # 9999-12-31
_PIVOT = 69  # of two-digit years, as POSIX has it: 69 is 1969, 68 is 2068


class Kind(Enum):
    """Kinds of cells: a date with the year first, a number, or a date with the year last."""

    ISO = "a date with the year first"
    DIGITS = "a number"
    LOCAL = "a date with the year last"


@dataclass(frozen=True, slots=True)
class TimeForm:
    """One format of times.

    name     : name for ``--time-format``
    widths   : numbers of digits that a cell may have
    unit     : unit of an epoch; "" for all other formats
    parts    : fields of a date written as digits, in order
    explicit : given by an option, so epochs that look like dates are still epochs
    """

    name: str
    text: str
    kind: Kind
    widths: tuple[int, ...] = ()
    unit: str = ""
    parts: tuple[str, ...] = ()
    explicit: bool = False


def _epoch(unit: str, text: str, *widths: int) -> TimeForm:
    return TimeForm(unit, f"epoch {text}", Kind.DIGITS, widths, unit)


def _digits(*parts: str) -> TimeForm:
    name = "".join(parts).upper()
    width = sum(_FIELDS[part] for part in parts)
    lost = (width - 1,) if parts[0] == "YY" else ()  # a spreadsheet drops the zero of 05
    return TimeForm(name, name, Kind.DIGITS, (width, *lost), "", parts)


ISO = TimeForm("iso", "ISO 8601", Kind.ISO)
DAY_FIRST = TimeForm("DD/MM/YYYY", "DD/MM/YYYY", Kind.LOCAL)
MONTH_FIRST = TimeForm("MM/DD/YYYY", "MM/DD/YYYY", Kind.LOCAL)
EPOCHS = (
    _epoch("s", "seconds", 9, 10),
    _epoch("ms", "milliseconds", 12, 13),
    _epoch("us", "microseconds", 16),
    _epoch("ns", "nanoseconds", 19),
)
DATES = (
    _digits("YYYY", "MM", "DD"),
    _digits("YYYY", "MM", "DD", "HH"),
    _digits("YYYY", "MM", "DD", "HH", "mm"),
    _digits("YYYY", "MM", "DD", "HH", "mm", "SS"),
    _digits("YY", "MM", "DD", "HH"),
    _digits("YY", "MM", "DD", "HH", "mm"),
    _digits("YY", "MM", "DD", "HH", "mm", "SS"),
)
FORMS = {form.name: form for form in (ISO, *EPOCHS, *DATES, DAY_FIRST, MONTH_FIRST)}


def find_form(name: str) -> TimeForm:
    """Return the format that ``--time-format`` names.

    raises : ConfigError that lists the formats
    """
    for form in FORMS.values():
        if form.name.lower() == name.strip().lower():
            return replace(form, explicit=True)
    raise ConfigError(f"--time-format {name}: one of {', '.join(FORMS)}")


def kind_of(cell: str) -> Kind | None:
    """Return the kind of a cell; None when it is no timestamp in any format."""
    number = _NUMBER.fullmatch(cell)
    if number:
        return Kind.DIGITS if _has_form(*number.groups()) else None
    if _LOCAL.fullmatch(cell):
        return None if _read_local(cell) == (None, None) else Kind.LOCAL
    return None if parse_iso(cell) is None else Kind.ISO


def _has_form(sign: str, whole: str, fraction: str | None) -> bool:
    """Whether a number is a timestamp in any format: read_digits for one cell, without arrays."""
    width = len(whole)
    begins_like_date = width >= 8 and FIRST_DOUBTFUL_YEAR <= int(whole[:4]) <= LAST_YEAR
    if not begins_like_date and any(width in form.widths for form in EPOCHS):
        return int(whole) < 2**63
    if sign or (fraction or "").strip("0"):
        return False
    return any(width in form.widths and _is_date(whole, form) for form in DATES)


def _is_date(whole: str, form: TimeForm) -> bool:
    whole, fields, at = whole.zfill(form.widths[0]), dict.fromkeys(("HH", "mm", "SS"), 0), 0
    for part in form.parts:
        fields[part] = int(whole[at : at + _FIELDS[part]])
        at += _FIELDS[part]
    year = fields.get("YYYY", 0)
    if "YY" in fields:
        year = fields["YY"] + (1900 if fields["YY"] >= _PIVOT else 2000)
    try:
        datetime(year, fields["MM"], fields["DD"], fields["HH"], fields["mm"], fields["SS"])
    except ValueError:
        return False
    return FIRST_YEAR <= year <= LAST_YEAR


def is_time_of_day(cell: str) -> bool:
    """Whether a cell is a time without a date: 00:05, 0:05:00.5 PM."""
    return _TIME_OF_DAY.fullmatch(cell) is not None


def explain(cell: str, form: TimeForm) -> str:
    """Return why a cell is no timestamp in a column with this format."""
    if form.explicit:
        return f"{cell!r} is not a timestamp in the format {form.text} of --time-format"
    if parse_time(cell) is None:
        if is_time_of_day(cell):
            return f"{cell!r} is a time of day without a date; --time DATE,TIME joins two columns"
        column = (
            ALLOWED if form.kind is Kind.ISO else f"the other cells have the format {form.text}"
        )
        return f"{cell!r} is not a timestamp: {column}{_as_epoch(cell)}"
    rule = "the format of this column; all of its cells must have the same format"
    return f"{cell!r} is not {form.text}, {rule}{_as_epoch(cell)}"


def _as_epoch(cell: str) -> str:
    """Return the option that reads a number as an epoch although it begins with a year."""
    digits = scan_digits([cell])
    if not begins_with_year(digits)[0]:
        return ""
    units = (form.name for form in EPOCHS if digits.width[0] in form.widths)
    return "".join(f"; --time-format {unit} takes it as an epoch" for unit in units)


def parse_times(cells: Sequence[str], form: TimeForm = ISO) -> tuple[Times, Flags]:
    """Read a column.

    cells   : n strings without surrounding blanks
    returns : int64 (n,) ms since 1970 UTC, fractions of a ms cut off; bool (n,) which cells have
              the format (time 0 where not)

    Twin: tests/reference/times.py::read.  Cost: 0.2 us per cell; 3 us with day or month first.
    """
    if form.kind is Kind.ISO:
        return parse_iso_times(cells)
    if form.kind is Kind.DIGITS:
        return read_digits(scan_digits(cells), form)
    local = scan_local(cells)
    return local.read(form)


# -- digits ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Digits:
    """Cells as numbers.

    whole   : int64 (n,)  without the fraction; 0 where a cell is no number
    thousandths : int64 (n,)  of the fraction, with the sign of the cell
    width   : int8 (n,)   digits before the point; 0 where a cell is no number of up to 19 digits
    exact   : bool (n,)   the fraction is 0 and there is no sign
    """

    whole: Times
    thousandths: Times
    width: npt.NDArray[np.int8]
    exact: Flags

    def __len__(self) -> int:
        return len(self.whole)

    @property
    def number(self) -> Flags:
        """Which cells are numbers."""
        return self.width > 0

    @staticmethod
    def join(parts: Sequence[Digits]) -> Digits:
        """Put parts of a column together."""
        return Digits(
            np.concatenate([part.whole for part in parts]),
            np.concatenate([part.thousandths for part in parts]),
            np.concatenate([part.width for part in parts]),
            np.concatenate([part.exact for part in parts]),
        )


def scan_digits(cells: Sequence[str]) -> Digits:
    """Read cells as numbers, at once where all are digits."""
    n = len(cells)
    width = np.fromiter(map(len, cells), np.int64, n)
    joined = "".join(cells)
    if (
        n
        and width.min() > 0
        and width.max() < _MOST_DIGITS
        and joined.isascii()
        and joined.isdigit()
    ):
        whole = np.fromiter(map(int, cells), np.int64, n)
        return Digits(whole, np.zeros(n, np.int64), width.astype(np.int8), np.ones(n, np.bool_))
    whole, thousandths = np.zeros(n, np.int64), np.zeros(n, np.int64)
    digits, exact = np.zeros(n, np.int8), np.zeros(n, np.bool_)
    for row, cell in enumerate(cells):
        found = _NUMBER.fullmatch(cell)
        if not found or len(found[2]) > _MOST_DIGITS or int(found[2]) >= 2**63:
            continue
        sign, text, fraction = found.groups()
        part = int(f"{fraction or '':0<3}"[:3])
        whole[row] = -int(text) if sign else int(text)
        thousandths[row] = -part if sign else part
        digits[row] = len(text)
        exact[row] = not sign and not (fraction or "").strip("0")
    return Digits(whole, thousandths, digits, exact)


def begins_with_year(digits: Digits) -> Flags:
    """Return which numbers begin with a year from 1970 to 2099, so that they are no epochs."""
    excess = np.clip(digits.width.astype(np.int64) - 4, 0, None)
    first = digits.whole // 10**excess
    return (digits.width >= 8) & (first >= FIRST_DOUBTFUL_YEAR) & (first <= LAST_YEAR)


def read_digits(digits: Digits, form: TimeForm) -> tuple[Times, Flags]:
    """Read numbers in one format; see parse_times."""
    valid: Flags = np.isin(digits.width, form.widths)
    if form.unit:
        return _read_epoch(digits, form, valid)
    valid &= digits.exact
    fields = {name: np.zeros(len(digits), np.int64) for name in ("HH", "mm", "SS")}
    rest = np.where(valid, digits.whole, 0)
    for part in reversed(form.parts):
        size = 10 ** _FIELDS[part]
        fields[part] = rest % size
        rest = rest // size
    if "YY" in fields:
        year = np.where(fields["YY"] >= _PIVOT, 1900, 2000) + fields["YY"]
    else:
        year = fields["YYYY"]
        valid &= (year >= FIRST_YEAR) & (year <= LAST_YEAR)
    return civil_ms(
        year, fields["MM"], fields["DD"], fields["HH"], fields["mm"], fields["SS"], valid
    )


def _read_epoch(digits: Digits, form: TimeForm, valid: Flags) -> tuple[Times, Flags]:
    if not form.explicit:
        valid &= ~begins_with_year(digits)
    whole = np.where(valid, digits.whole, 0)
    if form.unit == "s":
        time_ms = whole * 1000 + np.where(valid, digits.thousandths, 0)
    else:
        time_ms = whole // {"ms": 1, "us": 1000, "ns": 1_000_000}[form.unit]
    valid &= np.abs(time_ms) <= _LAST_MS
    return np.where(valid, time_ms, 0), valid


# -- day or month first ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Local:
    """Cells with the year last, in both readings.

    day_ms, month_ms : int64 (n,)  ms since 1970 UTC with the day or the month first; 0 = no date
    day, month       : bool (n,)   which readings are dates
    """

    day_ms: Times
    day: Flags
    month_ms: Times
    month: Flags

    def __len__(self) -> int:
        return len(self.day_ms)

    def read(self, form: TimeForm) -> tuple[Times, Flags]:
        """Return the times of one reading, and which cells are dates in it."""
        return (
            (self.day_ms, self.day) if form.name == DAY_FIRST.name else (self.month_ms, self.month)
        )

    @staticmethod
    def join(parts: Sequence[Local]) -> Local:
        """Put parts of a column together."""
        return Local(
            np.concatenate([part.day_ms for part in parts]),
            np.concatenate([part.day for part in parts]),
            np.concatenate([part.month_ms for part in parts]),
            np.concatenate([part.month for part in parts]),
        )


def scan_local(cells: Sequence[str]) -> Local:
    """Read cells with the day first and with the month first; with dots only the day can be."""
    read = [_read_local(cell) for cell in cells]
    day, month = _column([pair[0] for pair in read]), _column([pair[1] for pair in read])
    return Local(*day, *month)


def _column(times: Sequence[int | None]) -> tuple[Times, Flags]:
    time_ms = np.array([time or 0 for time in times], np.int64)
    return time_ms, np.array([time is not None for time in times], np.bool_)


def _read_local(cell: str) -> tuple[int | None, int | None]:
    """Return the time with the day first, and with the month first (never where dots separate)."""
    found = _LOCAL.fullmatch(cell)
    if not found:
        return None, None
    one, dot, other, year, hour, minute, second, fraction, half, zone = found.groups()
    clock = int(hour or 0)
    if half:
        if not 1 <= clock <= 12:
            return None, None
        clock = clock % 12 + (12 if half in "pP" else 0)
    rest = f"T{clock:02}:{minute or '00'}:{second or '00'}"
    rest += f".{fraction}" if fraction else ""
    rest += "+00:00" if zone in (None, "Z", "UTC", "GMT") else zone
    day_first = parse_iso(f"{year}-{other:0>2}-{one:0>2}{rest}")
    month_first = parse_iso(f"{year}-{one:0>2}-{other:0>2}{rest}")
    return day_first, None if dot == "." else month_first
