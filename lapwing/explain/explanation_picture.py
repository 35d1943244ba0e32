"""Draws the rows around a verdict as SVG: a chart for each metric, with expected value and band.

Invariant: drawing is pure; the picture loads nothing from elsewhere.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from html import escape

import numpy as np

from lapwing.explain.recomputation import SeenRow
from shared.charts.chart import HEIGHT, WIDTH, Lines, Mark, Span, draw
from shared.charts.chart_style import chart_style
from shared.events import severity_class
from shared.kernels.units import HOUR_MS
from shared.wording import moment

BEFORE_MS, AFTER_MS = 12 * HOUR_MS, 3 * HOUR_MS
"""Event time that is drawn before and after the record."""

MARGIN, HEAD, CAPTION = 16, 44, 26
_STYLE = """
text{fill:var(--ink);font:12px system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
.title{font-size:15px;font-weight:600}.metric{font-weight:600}.page{fill:var(--paper)}
"""
_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def explanation_picture(
    title: str, rows: Sequence[SeenRow], at_ms: int, severity: float | None
) -> bytes:
    """Draw the rows of one entity, one panel for each metric.

    rows     : in any order; late ones are sorted in
    at_ms    : event time of the explained record
    severity : of its verdict, None = it has none
    """
    rows = sorted(rows, key=lambda row: (row.time_ms, row.offset))
    metrics = list(dict.fromkeys(name for row in rows for name in row.value))
    metrics = [name for name in metrics if not all(_missing(row, name) for row in rows)]
    width = WIDTH + 2 * MARGIN
    height = HEAD + len(metrics) * (CAPTION + HEIGHT) + MARGIN
    size = f'width="{width}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {size}',
        f' role="img" aria-label="{escape(title)}"><style>{chart_style()}{_STYLE}</style>',
        f'<rect class="page" {size}/>',
        f'<text class="title" x="{MARGIN}" y="28">{escape(title)}</text>',
    ]
    for panel, metric in enumerate(metrics):
        parts += _panel(metric, rows, (at_ms, severity), HEAD + panel * (CAPTION + HEIGHT))
    return _NOT_XML.sub("\ufffd", "".join([*parts, "</svg>\n"])).encode()


def _panel(
    metric: str, rows: Sequence[SeenRow], at: tuple[int, float | None], top: int
) -> Iterator[str]:
    at_ms, severity = at
    lines = Lines(
        np.array([row.time_ms for row in rows], np.int64),
        *(
            np.array([getattr(row, name).get(metric, math.nan) for row in rows])
            for name in ("value", "expected", "lower", "upper")
        ),
    )
    marks = [
        Mark(row.time_ms, row.value.get(metric, math.nan), _class(severity), moment(row.time_ms))
        for row in rows
        if row.time_ms == at_ms
    ]
    spans = [
        Span(row.time_ms, row.time_ms, "episode", f"alarm at {moment(row.time_ms)}")
        for row in rows
        if row.is_anomaly
    ]
    yield f'<text class="metric" x="{MARGIN}" y="{top + CAPTION - 8}">{escape(metric)}</text>'
    chart = draw(lines, marks, spans, label=metric)
    yield (f'<svg x="{MARGIN}" y="{top + CAPTION}" width="{WIDTH}" height="{HEIGHT}">{chart}</svg>')


def _class(severity: float | None) -> str:
    return severity_class(0.0 if severity is None else severity).value


def _missing(row: SeenRow, metric: str) -> bool:
    return math.isnan(row.value.get(metric, math.nan))
