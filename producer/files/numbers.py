"""Reads cells as numbers, and decides whether a file uses decimal commas.

Invariant: an ambiguous number is refused, and so is one with thousands separators.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from producer.files.columns import Doubt

_COMMA = re.compile(r"[+-]?(\d+,\d*|,\d+)([eE][+-]?\d+)?", re.ASCII)
_GROUPS = re.compile(r"[+-]?[1-9]\d{0,2}([,.' ]\d{3})+([.,]\d+)?", re.ASCII)
_ONE_GROUP = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}", re.ASCII)


_NO_NUMBER = "-"
_UNIT = (
    r"%|°|°?[CFK]|[kKMGTP]?i?[Bb](it|yte)?s?(/s|ps)?|[munµ]?s|sec|min|h|hPa|bar|rpm|ppm"
    r"|[mkM]?(V|A|W|Wh|Hz|J|N|m|g|l|Pa)|mm|cm|km|m/s|km/h|[a-z]+/s|[$€£]|EUR|USD"
)
_DECORATED = re.compile(
    rf"[$€£]? ?[+-]?(\d{{1,3}}([,.' ]\d{{3}})+|\d+)([.,]\d+)? ?({_UNIT})?", re.ASCII
)


def is_decorated_number(cell: str) -> bool:
    """Whether a cell is a number with thousands separators or a common unit: 50.3 %, 1,234.5 MB."""
    return _DECORATED.fullmatch(cell) is not None


def is_number(cell: str) -> bool:
    """Whether a cell is a number with a decimal point, including inf and nan."""
    if not cell.isascii() or "_" in cell:
        return False
    try:
        float(cell)
    except ValueError:
        return False
    return True


def is_comma_number(cell: str) -> bool:
    """Whether a cell is a number written with a decimal comma."""
    return _COMMA.fullmatch(cell) is not None


@dataclass(slots=True)
class Decimals:
    """Collects evidence about the decimal sign.

    explicit : the sign given by an option, if any
    point    : some cell has a decimal point
    comma    : some cell can only have a decimal comma
    doubtful : row and text of the first ambiguous cell, such as 1,234
    """

    explicit: str | None = None
    point: bool = False
    comma: bool = False
    doubtful: tuple[int, str] | None = None

    def add(self, cells: Sequence[str], first_row: int) -> None:
        """Add cells of a column of numbers; first_row is the row of the first cell."""
        joined = "\n".join(cells)
        if "." in joined and not self.point:
            self.point = any("." in cell and is_number(cell) for cell in cells)
        if "," not in joined:
            return
        for row, cell in enumerate(cells):
            if "," not in cell or not _COMMA.fullmatch(cell):
                continue
            if not _ONE_GROUP.fullmatch(cell):
                self.comma = True
            elif self.doubtful is None or first_row + row < self.doubtful[0]:
                self.doubtful = (first_row + row, cell)

    @property
    def sign(self) -> str:
        """The decimal sign: a comma where one cell proves it and none has a point."""
        return self.explicit or ("," if self.comma and not self.point else ".")

    @property
    def doubt(self) -> Doubt | None:
        """The first ambiguous cell, where neither sign is proven; else None."""
        if self.doubtful is None or self.comma or self.point or self.explicit:
            return None
        row, cell = self.doubtful
        plain = cell.replace(",", "")
        return Doubt(
            row,
            f"{cell!r} can be {cell.replace(',', '.')} with a decimal comma, or {plain},"
            " and no cell of the file decides it: --decimal comma says that it is the decimal"
            " sign",
        )


def parse_numbers(
    cells: list[str], metric: str, bad: dict[int, str], decimal: str = "."
) -> npt.NDArray[np.float64]:
    """Read a column of numbers, at once if all cells are plain, else cell by cell.

    cells   : n strings without surrounding blanks; "" = missing
    bad     : receives {row: problem} of cells that are no finite number, one per row
    returns : float64 (n,)  NaN = missing or bad
    """
    written = cells
    if decimal == ",":
        cells = [_NO_NUMBER if "." in cell else cell.replace(",", ".", 1) for cell in cells]
    empty = cells.count("")
    try:
        values = np.array(
            [float(cell) if cell else np.nan for cell in cells]
            if empty
            else list(map(float, cells))
        )
        joined = "".join(cells)
        if (
            int(np.count_nonzero(~np.isfinite(values))) == empty
            and joined.isascii()
            and "_" not in joined
        ):
            return values
    except ValueError:
        pass
    values = np.full(len(cells), np.nan)
    for row, cell in enumerate(cells):
        if not cell:
            continue
        value = float(cell) if is_number(cell) else np.nan
        if np.isfinite(value):
            values[row] = value
        else:
            problem = _problem(written[row], metric, decimal, infinite=not np.isnan(value))
            bad.setdefault(row, problem)
    return values


def _problem(cell: str, metric: str, decimal: str, *, infinite: bool) -> str:
    if infinite:
        return f"{metric} is {cell!r}, which is infinite; an empty cell means missing"
    if _GROUPS.fullmatch(cell):
        return (
            f"{metric} is {cell!r}: thousands separators are not read; an empty cell means missing"
        )
    if decimal == ",":
        return (
            f"{metric} is {cell!r}, which is not a number with a decimal comma, as the file has"
            " them"
        )
    return f"{metric} is {cell!r}, which is not a number; an empty cell means missing"
