"""Reads timestamps of CSV cells as UTC milliseconds; what has no offset is UTC.

Law: a cell means the same whether it is read alone or with a million others.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt

ALLOWED = (
    "ISO 8601 or YYYY-MM-DD HH:MM:SS (UTC unless it has an offset), epoch seconds (9-10 digits) or milliseconds (12-13 digits)"
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_SECONDS = re.compile(r"-?\d{9,10}(\.\d+)?")
_MILLISECONDS = re.compile(r"-?\d{12,13}")
_DIGIT_PLACES = np.array([0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18])
_WIDTH = 19


def parse_time(cell: str) -> int | None:
    """Return the time of one cell in ms since 1970 UTC (fractions of a ms are cut off), None when it is no timestamp."""
    if not cell.isascii():
        return None
    if _MILLISECONDS.fullmatch(cell):
        return int(cell)
    if _SECONDS.fullmatch(cell):
        whole, _, fraction = cell.partition(".")
        milliseconds = int(f"{fraction:0<3}"[:3]) if fraction else 0
        return int(whole) * 1000 + (-milliseconds if cell.startswith("-") else milliseconds)
    try:
        time = datetime.fromisoformat(cell)
        return (time.replace(tzinfo=time.tzinfo or UTC) - _EPOCH) // _MILLISECOND
    except (ValueError, OverflowError):
        return None


def parse_times(cells: Sequence[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Read many cells: ``YYYY-MM-DD?HH:MM:SS`` (with or without Z) as whole columns, all else one by one.

    cells   : n strings without surrounding blanks
    returns : int64 (n,) ms since 1970 UTC; bool (n,) which cells are timestamps (time 0 where not)

    Twin: parse_time of each cell.  Cost: 0.2 us per cell in the common format, about 1 us otherwise.
    """
    time_ms, valid = _parse_columns(cells)
    for row in np.flatnonzero(~valid).tolist():
        time = parse_time(cells[row])
        if time is not None:
            time_ms[row], valid[row] = time, True
    return time_ms, valid


def _parse_columns(cells: Sequence[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    n = len(cells)
    try:
        fixed = np.array(cells, dtype=f"S{_WIDTH + 2}") if n else np.zeros(0, f"S{_WIDTH + 2}")
    except UnicodeEncodeError:
        return np.zeros(n, np.int64), np.zeros(n, np.bool_)
    letters = fixed.view(np.uint8).reshape(n, _WIDTH + 2)
    digits = letters[:, _DIGIT_PLACES].astype(np.int64) - ord("0")
    valid: npt.NDArray[np.bool_] = np.all((digits >= 0) & (digits <= 9), axis=1)
    valid &= (letters[:, [4, 7]] == ord("-")).all(axis=1) & (letters[:, [13, 16]] == ord(":")).all(axis=1)
    valid &= (letters[:, 10] == ord(" ")) | (letters[:, 10] == ord("T"))
    valid &= ((letters[:, _WIDTH] == 0) | (letters[:, _WIDTH] == ord("Z"))) & (letters[:, _WIDTH + 1] == 0)
    year = digits[:, 0] * 1000 + digits[:, 1] * 100 + digits[:, 2] * 10 + digits[:, 3]
    month, day, hour, minute, second = (digits[:, i] * 10 + digits[:, i + 1] for i in range(4, 14, 2))
    valid &= (year >= 1) & (month >= 1) & (month <= 12) & (day >= 1) & (hour <= 23) & (minute <= 59) & (second <= 59)
    months = np.where(valid, (year - 1970) * 12 + month - 1, 0)
    first_day = months.astype("M8[M]").astype("M8[D]").astype(np.int64)
    valid &= day <= (months + 1).astype("M8[M]").astype("M8[D]").astype(np.int64) - first_day
    seconds = (((first_day + day - 1) * 24 + hour) * 60 + minute) * 60 + second
    return np.where(valid, seconds * 1000, 0), valid


def format_time(time_ms: int) -> str:
    """Write a time as ``YYYY-MM-DD HH:MM:SS`` UTC, with milliseconds only where there are some."""
    time = _EPOCH + timedelta(milliseconds=int(time_ms))
    text = time.strftime("%Y-%m-%d %H:%M:%S")
    return f"{text}.{time.microsecond // 1000:03d}" if time.microsecond else text
