"""The slow truth of reading CSV rows: one at a time, by the plainest means."""

from __future__ import annotations

import csv
import io
import math
import re

from tests.reference import times

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def read_rows(text):
    """Read ``timestamp,entity,v`` rows; return the good rows and the line numbers of the bad ones.

    A good row is (time_ms, entity, value or None). The whole column of times has one form; if two
    forms fit, the set of both is returned instead.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    next(reader)
    rows = [
        (reader.line_num, [cell.strip() for cell in row])
        for row in reader
        if any(cell.strip() for cell in row)
    ]
    form = times.choose([cells[0] for _, cells in rows if len(cells) == 3])
    if isinstance(form, set):
        return form
    good, bad = [], []
    for line, cells in rows:
        time_ms = times.read(cells[0], form)
        fits = len(cells) == 3 and time_ms is not None and bool(cells[1]) and cells[1].isprintable()
        if fits and cells[2]:
            fits = NUMBER.fullmatch(cells[2]) is not None and math.isfinite(float(cells[2]))
        if fits:
            good.append((time_ms, cells[1], float(cells[2]) if cells[2] else None))
        else:
            bad.append(line)
    return good, bad
