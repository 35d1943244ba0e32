"""Draws one entity of the evaluation report as SVG: a chart for each metric.

Invariant: drawing is pure; the picture loads nothing from elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape

import numpy as np
import numpy.typing as npt

from consumer_training.report import EntityView
from shared.charts.chart import HEIGHT, WIDTH, Lines, Mark, Span, draw
from shared.charts.chart_style import chart_style
from shared.events import SeverityClass, severity_class
from shared.wording import moment

MARGIN, HEAD, CAPTION = 16, 74, 26
"""Pixels around the picture, of title and legend, and of the line above each chart."""

_TITLE = 70
_CHARACTER = 6.4
"""Average width of a character of the legend, pixels."""

_STYLE = """
text{fill:var(--ink);font:12px system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
.title{font-size:17px;font-weight:600}.metric{font-weight:600}.note{fill:var(--muted)}
.right{text-anchor:end}.page{fill:var(--paper)}
"""
_LEGEND = (
    ("measured", "ink"),
    ("expected", "expected"),
    ("labelled", "label"),
    *((name.value, name.value) for name in SeverityClass if name is not SeverityClass.INFO),
)
"""Text and colour of the legend."""

_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def picture(view: EntityView) -> bytes:
    """Draw an entity as a self-contained SVG, one panel per metric."""
    width = WIDTH + 2 * MARGIN
    height = HEAD + len(view.metrics) * (CAPTION + HEIGHT) + MARGIN
    size = f'width="{width}" height="{height}"'
    label = escape(view.title)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {size}',
        f' role="img" aria-label="{label}"><style>{chart_style()}{_STYLE}</style>',
        f'<rect class="page" {size}/>',
    ]
    parts += _heading(view, width)
    for metric in range(len(view.metrics)):
        parts += _panel(view, metric, HEAD + metric * (CAPTION + HEIGHT))
    return _NOT_XML.sub("\ufffd", "".join([*parts, "</svg>\n"])).encode()


def _heading(view: EntityView, width: int) -> Iterator[str]:
    title = view.title if len(view.title) <= _TITLE else f"{view.title[: _TITLE - 1]}…"
    yield f'<text class="title" x="{MARGIN}" y="30">{escape(title)}</text>'
    yield (f'<text class="note right" x="{width - MARGIN}" y="30">{escape(view.subtitle)}</text>')
    x = float(MARGIN)
    for name, colour in _LEGEND:
        yield f'<rect x="{x:.0f}" y="45" width="10" height="10" fill="var(--{colour})"/>'
        yield f'<text class="note" x="{x + 15:.0f}" y="54">{name}</text>'
        x += 15 + _CHARACTER * len(name) + 16
    shades = "grey: warming up; blue: training part; line above: anomalies in a row"
    yield f'<text class="note" x="{x:.0f}" y="54">{shades}</text>'


def _panel(view: EntityView, metric: int, top: int) -> Iterator[str]:
    count = int((view.at_metric == metric).sum())
    noun = "anomaly" if count == 1 else "anomalies"
    name = view.metrics[metric]
    yield f'<text class="metric" x="{MARGIN}" y="{top + CAPTION - 8}">{escape(name)}</text>'
    yield (
        f'<text class="note right" x="{MARGIN + WIDTH}" y="{top + CAPTION - 8}">'
        f"{count or 'no'} {noun}</text>"
    )
    columns = (view.values, view.expected, view.lower, view.upper)
    lines = Lines(view.time_ms, *(column[:, metric] for column in columns))
    runs = _runs_of(view, metric)
    spans = [*_shaded(view, name), *_rows_of_anomalies(view, runs)]
    chart = draw(lines, list(_marks(view, runs)), spans, label=name)
    place = f'x="{MARGIN}" y="{top + CAPTION}" width="{WIDTH}" height="{HEIGHT}"'
    yield f"<svg {place}>{chart}</svg>"


def _shaded(view: EntityView, metric: str) -> Iterator[Span]:
    """Yield warm-up, training part and labelled windows."""
    first_ms = int(view.time_ms[0]) if len(view.time_ms) else view.warm_ms
    if view.boundary_ms is not None:
        until = f"training part until {moment(view.boundary_ms)}"
        yield Span(first_ms, view.boundary_ms, "trained", until)
    if view.warm_ms > first_ms:
        yield Span(first_ms, view.warm_ms, "warming", f"warming up until {moment(view.warm_ms)}")
    for window in view.labels:
        if window.metric in ("", metric):
            text = f"labelled: {window.kind or window.name}, {moment(window.start_ms)}"
            yield Span(window.start_ms, window.end_ms, "label", text)


def _rows_of_anomalies(view: EntityView, runs: list[npt.NDArray[np.int64]]) -> Iterator[Span]:
    for run in runs:
        start_ms = int(view.at_ms[run[0]])
        end_ms = int(view.at_ms[run[-1]])
        text = f"{moment(start_ms)} to {moment(end_ms)}: {len(run)} anomalies in a row"
        yield Span(start_ms, end_ms, "episode", text)


def _marks(view: EntityView, runs: list[npt.NDArray[np.int64]]) -> Iterator[Mark]:
    """Yield a mark at the highest severity of each run."""
    for run in runs:
        peak = int(run[view.severity[run].argmax()])
        time_ms = int(view.at_ms[peak])
        value = float(view.at_value[peak])
        name = severity_class(float(view.severity[peak])).value
        yield Mark(time_ms, value, name, f"{moment(time_ms)} {name}")


def _runs_of(view: EntityView, metric: int) -> list[npt.NDArray[np.int64]]:
    """Return the metric's anomalies as runs of consecutive rows."""
    chosen = np.flatnonzero(view.at_metric == metric)
    rows = np.searchsorted(view.time_ms, view.at_ms[chosen])
    return [run for run in np.split(chosen, np.flatnonzero(np.diff(rows) > 1) + 1) if len(run)]
