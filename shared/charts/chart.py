"""Draws a metric of one entity as SVG: measured, expected band, labels, alarms.

Invariant: drawing is pure; a long series is drawn by the least and greatest value of each pixel
           column, so that no spike is lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from shared.kernels.units import DAY_MS, HOUR_MS
from shared.wording import short

Floats = npt.NDArray[np.float64]
Times = npt.NDArray[np.int64]

WIDTH, HEIGHT = 900, 168
LEFT, RIGHT, TOP, BOTTOM = 52, 8, 8, 20
EPISODE = 4
"""Height of the line that an episode is."""

_HOLE_INTERVALS = 6
_LARGEST, _SMALLEST = 1e300, 1e-300
_STEPS_MS = tuple(
    [minutes * 60_000 for minutes in (1, 2, 5, 10, 15, 30)]
    + [hours * HOUR_MS for hours in (1, 2, 3, 6, 12)]
    + [days * DAY_MS for days in (1, 2, 4, 7, 14, 28, 56, 112, 224, 364)]
)
_SHAPES = {
    "info": "M-2,0a2,2 0 1 0 4,0a2,2 0 1 0 -4,0z",
    "minor": "M-3.6,0a3.6,3.6 0 1 0 7.2,0a3.6,3.6 0 1 0 -7.2,0z",
    "major": "M0,-5.4L5.4,0L0,5.4L-5.4,0z",
    "critical": "M0,-7L1.9,-2.3L7,-2.1L3,1.1L4.3,6L0,3.2L-4.3,6L-3,1.1L-7,-2.1L-1.9,-2.3z",
}
"""A class differs in its shape as well as in its colour."""


@dataclass(frozen=True, slots=True)
class Lines:
    """A metric over time, float64 (n,) each, times increasing; NaN = missing, not known yet."""

    time_ms: Times
    values: Floats
    expected: Floats
    lower: Floats
    upper: Floats

    def cut(self, start_ms: int, end_ms: int) -> Lines:
        """Return what lies in start_ms..end_ms, both included."""
        low, high = np.searchsorted(self.time_ms, [start_ms, end_ms + 1])
        part = slice(int(low), int(high))
        return Lines(
            self.time_ms[part],
            self.values[part],
            self.expected[part],
            self.lower[part],
            self.upper[part],
        )


@dataclass(frozen=True, slots=True)
class Mark:
    """An alarm.

    value : NaN = missing; it is drawn at the bottom
    style : further words for the style sheet: cold, removed, added
    """

    time_ms: int
    value: float
    severity_class: str
    text: str
    link: str = ""
    style: str = ""


@dataclass(frozen=True, slots=True)
class Span:
    """A marked stretch of time in a chart.

    ``style`` is ``label``, ``label missed``, ``warming``, ``trained``, or ``episode``, which is a
    line along the upper edge.

    metric : the one that it is about, empty = all
    """

    start_ms: int
    end_ms: int
    style: str
    text: str
    metric: str = ""


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where times and values lie in the picture."""

    first_ms: int
    last_ms: int
    low: float
    high: float
    width: int
    height: int

    @property
    def right(self) -> float:
        return self.width - RIGHT

    @property
    def bottom(self) -> float:
        return self.height - BOTTOM

    def x(self, time_ms: Times | Floats) -> Floats:
        span = max(self.last_ms - self.first_ms, 1)
        return np.asarray(LEFT + (time_ms - self.first_ms) / span * (self.right - LEFT), np.float64)

    def y(self, values: Floats) -> Floats:
        share = (np.clip(values, self.low, self.high) - self.low) / (self.high - self.low)
        return np.asarray(self.bottom - share * (self.bottom - TOP), np.float64)

    def one_x(self, time_ms: float) -> float:
        return float(np.clip(self.x(np.array([time_ms], np.float64))[0], LEFT, self.right))


def draw(
    lines: Lines,
    marks: Sequence[Mark] = (),
    spans: Sequence[Span] = (),
    ticks: Sequence[tuple[int, str]] = (),
    *,
    width: int = WIDTH,
    height: int = HEIGHT,
    label: str = "",
) -> str:
    """Draw a chart; its colours are those of ``STYLE``.

    ticks : (event time, text) of data-quality verdicts, at the bottom
    label : what it shows, for readers who cannot see it
    """
    if not len(lines.time_ms):
        return ""
    columns = (lines.values, lines.expected, lines.lower, lines.upper)
    lines = Lines(lines.time_ms, *(np.clip(column, -_LARGEST, _LARGEST) for column in columns))
    low, high = _limits(lines.values, lines.expected)
    frame = _Frame(int(lines.time_ms[0]), int(lines.time_ms[-1]), low, high, width, height)
    parts = [
        (
            f'<svg class="chart" viewBox="0 0 {width} {height}" role="img"'
            f' aria-label="{escape(label)}">'
        )
    ]
    parts += _spans(frame, spans)
    parts += _axes(frame)
    pixels, holes = max(int(frame.right - LEFT), 1), _holes(lines.time_ms)
    parts += _band(frame, lines, holes, pixels // 2)
    parts.append(
        _line(frame, "expected", *_means(lines.time_ms, lines.expected, pixels // 2), holes)
    )
    parts.append(_line(frame, "measured", *_extremes(lines.time_ms, lines.values, pixels), holes))
    for time_ms, text in ticks:
        if frame.first_ms <= time_ms <= frame.last_ms:
            x = frame.one_x(time_ms)
            parts.append(
                '<path class="tick"'
                f' d="M{x:.1f},{frame.bottom:.0f}v-7"><title>{escape(text)}</title></path>'
            )
    parts += [
        _mark(frame, mark) for mark in marks if frame.first_ms <= mark.time_ms <= frame.last_ms
    ]
    return "".join([*parts, "</svg>"])


def strip(
    first_ms: int,
    last_ms: int,
    marks: Sequence[tuple[int, str]],
    *,
    width: int = 180,
    height: int = 18,
) -> str:
    """Draw when alarms came, as a thin strip: (event time, severity class) each."""
    span = max(last_ms - first_ms, 1)
    columns: dict[int, str] = {}
    for time_ms, name in marks:
        x = round((time_ms - first_ms) / span * (width - 2))
        columns[x] = max(columns.get(x, name), name, key=tuple(_SHAPES).index)
    bars = "".join(
        f'<rect class="{name}" x="{x}" y="1" width="2" height="{height - 2}"/>'
        for x, name in sorted(columns.items())
    )
    background = f'<rect class="ground" width="{width}" height="{height}" rx="3"/>'
    return f'<svg viewBox="0 0 {width} {height}" class="strip">{background}{bars}</svg>'


def _limits(values: Floats, expected: Floats) -> tuple[float, float]:
    """Range of what was measured, and expected, with a margin; the band may run out of it."""
    known = values[~np.isnan(values)]
    known = known if len(known) else expected[~np.isnan(expected)]
    if not len(known):
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    margin = 0.07 * (high - low) or 0.1 * abs(high) or 1.0
    return low - margin, high + margin


def _holes(time_ms: Times) -> Times:
    """Times before which nothing came for long, so that no line is drawn across."""
    steps = np.diff(time_ms)
    if not len(steps):
        return time_ms[:0]
    return time_ms[1:][steps > _HOLE_INTERVALS * max(float(np.median(steps)), 1.0)]


def _buckets(time_ms: Times, columns: int) -> npt.NDArray[np.int64]:
    """First row of each bucket: equal stretches of time, those without a row left out."""
    span = max(int(time_ms[-1] - time_ms[0]), 1)
    column = (time_ms - time_ms[0]) * columns // (span + 1)
    return np.flatnonzero(np.diff(column, prepend=-1))


def _extremes(time_ms: Times, values: Floats, columns: int) -> tuple[Times, Floats]:
    """Reduce to the least and greatest value of each pixel column, in their original order."""
    known = ~np.isnan(values)
    time_ms, values = time_ms[known], values[known]
    if len(values) <= 2 * columns:
        return time_ms, values
    starts = _buckets(time_ms, columns)
    rows = []
    for low, high in zip(starts, [*starts[1:], len(values)], strict=True):
        least, greatest = int(low + values[low:high].argmin()), int(low + values[low:high].argmax())
        rows += sorted({least, greatest})
    return time_ms[rows], values[rows]


def _means(time_ms: Times, values: Floats, columns: int) -> tuple[Times, Floats]:
    known = ~np.isnan(values)
    time_ms, values = time_ms[known], values[known]
    if len(values) <= columns:
        return time_ms, values
    starts = _buckets(time_ms, columns)
    counts = np.diff(starts, append=len(values))
    middle = np.minimum(starts + counts // 2, len(values) - 1)
    return time_ms[middle], np.add.reduceat(values, starts) / counts


def _pieces(time_ms: Times, holes: Times) -> Iterator[slice]:
    cuts = np.searchsorted(time_ms, holes)
    edges = sorted({0, *cuts.tolist(), len(time_ms)})
    yield from (slice(low, high) for low, high in pairwise(edges) if high > low)


def _path(x: Floats, y: Floats) -> str:
    return "M" + "L".join(f"{a:.1f},{b:.1f}" for a, b in zip(x.tolist(), y.tolist(), strict=True))


def _line(frame: _Frame, style: str, time_ms: Times, values: Floats, holes: Times) -> str:
    if not len(values):
        return ""
    x, y = frame.x(time_ms), frame.y(values)
    text = "".join(
        _path(x[part], y[part]) + ("h.1" if part.stop - part.start == 1 else "")
        for part in _pieces(time_ms, holes)
    )
    return f'<path class="{style}" d="{text}"/>'


def _band(frame: _Frame, lines: Lines, holes: Times, columns: int) -> Iterator[str]:
    known = ~(np.isnan(lines.lower) | np.isnan(lines.upper))
    time_ms, lower, upper = lines.time_ms[known], lines.lower[known], lines.upper[known]
    if not len(time_ms):
        return
    if len(time_ms) > columns:
        starts = _buckets(time_ms, columns)
        time_ms, lower, upper = (
            time_ms[starts],
            np.minimum.reduceat(lower, starts),
            np.maximum.reduceat(upper, starts),
        )
    x, low, high = frame.x(time_ms), frame.y(lower), frame.y(upper)
    shapes = [
        _path(
            np.concatenate([x[part], x[part][::-1]]), np.concatenate([high[part], low[part][::-1]])
        )
        + "z"
        for part in _pieces(time_ms, holes)
    ]
    yield f'<path class="band" d="{"".join(shapes)}"/>'


def _spans(frame: _Frame, spans: Sequence[Span]) -> Iterator[str]:
    for span in spans:
        if span.end_ms < frame.first_ms or span.start_ms > frame.last_ms:
            continue
        left, right = frame.one_x(span.start_ms), frame.one_x(span.end_ms)
        height = EPISODE if span.style == "episode" else frame.bottom - TOP
        yield (
            f'<rect class="span {span.style}" x="{left:.1f}" y="{TOP}"'
            f' width="{max(right - left, 2):.1f}"'
            f' height="{height:.0f}"><title>{escape(span.text)}</title></rect>'
        )


def _mark(frame: _Frame, mark: Mark) -> str:
    x = frame.one_x(mark.time_ms)
    y = frame.bottom if np.isnan(mark.value) else float(frame.y(np.array([mark.value]))[0])
    style = f"mark {mark.severity_class} {mark.style}".strip()
    shape = (
        f'<path class="{style}" transform="translate({x:.1f},{y:.1f})"'
        f' d="{_SHAPES[mark.severity_class]}"><title>{escape(mark.text)}</title></path>'
    )
    return f'<a href="#{mark.link}">{shape}</a>' if mark.link else shape


def _axes(frame: _Frame) -> Iterator[str]:
    for value in _round_steps(frame.low, frame.high):
        y = float(frame.y(np.array([value]))[0])
        yield f'<path class="grid" d="M{LEFT},{y:.1f}H{frame.right}"/>'
        yield (
            f'<text class="axis" x="{LEFT - 6}" y="{y + 3.5:.1f}"'
            f' text-anchor="end">{escape(compact(value))}</text>'
        )
    for time_ms, text in _time_steps(frame):
        x = frame.one_x(time_ms)
        yield f'<path class="grid" d="M{x:.1f},{frame.bottom:.0f}v4"/>'
        yield (
            f'<text class="axis" x="{x:.1f}" y="{frame.height - 5}"'
            f' text-anchor="middle">{text}</text>'
        )


def _round_steps(low: float, high: float, most: int = 4) -> list[float]:
    """Round numbers between low and high, at most ``most`` of them."""
    rough = (high - low) / most
    if rough < _SMALLEST:
        return []
    size = 10.0 ** np.floor(np.log10(rough))
    step = next(
        size * factor for factor in (1.0, 2.0, 2.5, 5.0, 10.0, 20.0) if size * factor >= rough
    )
    first = int(np.ceil(low / step))
    return [number * step for number in range(first, first + most + 1) if number * step <= high]


def _time_steps(frame: _Frame) -> list[tuple[int, str]]:
    span = frame.last_ms - frame.first_ms
    most = max((frame.width - LEFT - RIGHT) // 84, 2)
    step = next((size for size in _STEPS_MS if span / size <= most), _STEPS_MS[-1])
    week_ms = 4 * DAY_MS if step >= 7 * DAY_MS else 0  # 1970-01-05 was a Monday
    first = -(-(frame.first_ms - week_ms) // step) * step + week_ms
    moments = range(first, frame.last_ms + 1, step)
    return [
        (time_ms, _moment(time_ms, step))
        for time_ms in moments
        if frame.one_x(time_ms) < frame.right - 18
    ]


def _moment(time_ms: int, step_ms: int) -> str:
    moment = datetime.fromtimestamp(time_ms / 1000, UTC)
    if step_ms < DAY_MS and time_ms % DAY_MS:
        return f"{moment:%H:%M}"
    return f"{moment.day} {moment:%b}" if step_ms < 56 * DAY_MS else f"{moment:%b %Y}"


def compact(value: float) -> str:
    """Write a number for an axis: 1.2 M, 3 k, .25."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size <= abs(value) < 1e15:
            return f"{value / size:.4g} {letter}"
    return short(value) if abs(value) >= 1e15 or 0 < abs(value) < 1e-3 else f"{value:.4g}"
