"""CSV files that tests write: times, values, lines, and a reader that also checks refusals."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pytest

from producer.files.columns import ColumnChoice
from producer.files.series import read_series
from shared.errors import DataError

START = datetime(2024, 3, 4)
STEP = timedelta(minutes=5)


class Reader:
    """Writes a file, reads it, or sees it refused."""

    def __init__(self, folder):
        self._path = folder / "f.csv"

    def read(self, header, rows, rules=None, **choice):
        """Read lines below a header."""
        self._path.write_text(header + "\n" + "".join(f"{row}\n" for row in rows), "utf-8")
        return read_series(self._path, "f", rules, ColumnChoice(**choice))

    def refused(self, header, rows, *says, **choice):
        """See to it that the file is refused with its line and these words."""
        with pytest.raises(DataError) as raised:
            self.read(header, rows, **choice)
        assert "f.csv, line " in str(raised.value)
        for part in says:
            assert part in str(raised.value)


def clock(n, step=STEP, start=START):
    return [start + step * row for row in range(n)]


def value(row):
    return f"{50 + 10 * np.sin(row / 7) + row % 3 / 7:.3f}"


def rows_of(times, *columns):
    """Lines of a file: a time and cells, each a constant or a function of the row."""
    return [
        ",".join([str(time), *(str(one(row)) if callable(one) else str(one) for one in columns)])
        for row, time in enumerate(times)
    ]
