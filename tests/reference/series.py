"""The slow truth of reading CSV rows: one at a time, by the plainest means."""

from __future__ import annotations

import csv
import io
import math
import re

from producer.times import parse_time

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def read_rows(text):
    """Read ``timestamp,entity,v`` rows; return good ones as (time_ms, entity, value or None), and the lines of bad ones."""
    good, bad = [], []
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    next(reader)
    for row in reader:
        if not row or row == [""]:
            continue
        cells = [cell.strip() for cell in row]
        time_ms = parse_time(cells[0])
        fits = len(cells) == 3 and time_ms is not None and bool(cells[1]) and cells[1].isprintable()
        if fits and cells[2]:
            fits = NUMBER.fullmatch(cells[2]) is not None and math.isfinite(float(cells[2]))
        if fits:
            good.append((time_ms, cells[1], float(cells[2]) if cells[2] else None))
        else:
            bad.append(reader.line_num)
    return good, bad
