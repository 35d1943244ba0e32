"""Draws one entity: its series, the expected values and the anomalies; needs matplotlib.

Invariant: only this module imports matplotlib, only while it draws, and without its global state.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt

from consumer_training.report import EntityView
from shared.events import CRITICAL, MAJOR, MINOR

INK, MUTED, FAINT, ACCENT, EXPECTED = "#1f2933", "#6b7885", "#e4e8ec", "#d6336c", "#8794a1"
_FONTS = (
    "Inter",
    "SF Pro Text",
    "Segoe UI",
    "Helvetica Neue",
    "Helvetica",
    "Arial",
    "Liberation Sans",
    "Noto Sans",
    "DejaVu Sans",
)
_TITLE = 70
_CLASSES = (
    ("minor", MINOR, MAJOR, "o", 16),
    ("major", MAJOR, CRITICAL, "D", 30),
    ("critical", CRITICAL, 1.01, "*", 95),
)
"""Name, lowest severity, severity limit (exclusive), marker, and its area in points."""


def draw(view: EntityView) -> bytes:
    """Draw an entity as a PNG, one panel per metric."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = max(len(view.metrics), 1)
    height = 1.4 + 1.55 * panels
    with mpl.rc_context(_style()):
        figure = Figure(figsize=(12, height), dpi=110, facecolor="white")
        canvas: Any = FigureCanvasAgg(figure)
        axes = figure.subplots(panels, 1, sharex=True, squeeze=False)[:, 0]
        figure.subplots_adjust(
            left=0.062, right=0.985, top=1 - 1.03 / height, bottom=0.36 / height, hspace=0.34
        )
        times = view.time_ms.astype("datetime64[ms]")
        for metric, axis in enumerate(axes[: len(view.metrics)]):
            _panel(axis, view, metric, times)
        _time_axis(axes[-1], times)
        _heading(figure, axes[0], view, height)
        target = io.BytesIO()
        canvas.print_png(target, metadata={"Software": "Lapwing"})
    return target.getvalue()


def _panel(axis: Any, view: EntityView, metric: int, times: npt.NDArray[np.datetime64]) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    gapped, (value, expected, lower, upper) = _with_gaps(
        view.time_ms,
        *(column[:, metric] for column in (view.values, view.expected, view.lower, view.upper)),
    )
    low, high = _limits(view, metric)
    axis.set_ylim(low, high)
    axis.fill_between(
        gapped,
        np.clip(lower, low, high),
        np.clip(upper, low, high),
        color=EXPECTED,
        alpha=0.12,
        linewidth=0,
    )
    axis.plot(gapped, expected, color=EXPECTED, linewidth=0.9)
    axis.plot(gapped, value, color=INK, linewidth=0.75)
    _draw_anomalies(axis, view, metric)
    _regions(axis, view, times)
    axis.text(
        0,
        1.05,
        view.metrics[metric],
        transform=axis.transAxes,
        color=INK,
        fontsize=10,
        fontweight="bold",
    )
    count = int((view.at_metric == metric).sum())
    noun = "anomaly" if count == 1 else "anomalies"
    caption = f"{count} {noun}" if count else "no anomaly"
    axis.text(
        1,
        1.05,
        caption,
        transform=axis.transAxes,
        color=ACCENT if count else MUTED,
        fontsize=9,
        ha="right",
    )
    axis.yaxis.set_major_locator(MaxNLocator(4))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axis.tick_params(length=0, labelsize=9, labelcolor=MUTED)
    axis.grid(axis="y", color=FAINT, linewidth=0.8)
    axis.set_axisbelow(True)
    for side in ("top", "left", "right"):
        axis.spines[side].set_visible(False)
    axis.spines["bottom"].set_color(FAINT)


def _draw_anomalies(axis: Any, view: EntityView, metric: int) -> None:
    """Draw anomalies in another colour, with a marker at the highest severity of each run."""
    times = view.at_ms.astype("datetime64[ms]")
    peaks = []
    for run in _runs_of(view, metric):
        axis.plot(times[run], view.at_value[run], color=ACCENT, linewidth=1.3, zorder=3)
        measured = run[~np.isnan(view.at_value[run])]
        if len(measured):
            peaks.append(int(measured[view.severity[measured].argmax()]))
    for _, low, high, marker, area in _CLASSES:
        chosen = np.array([peak for peak in peaks if low <= view.severity[peak] < high], np.int64)
        if len(chosen):
            grown = area * (1 + (view.severity[chosen] - low) / (high - low))
            axis.scatter(
                times[chosen], view.at_value[chosen], s=grown, marker=marker, color=ACCENT,
                linewidth=0.6, edgecolor="white",
                zorder=4,
            )  # fmt: skip
    missing = times[(view.at_metric == metric) & np.isnan(view.at_value)]
    if len(missing):
        bottom = axis.get_ylim()[0]
        axis.scatter(
            missing,
            np.full(len(missing), bottom),
            s=26,
            marker="x",
            color=ACCENT,
            linewidth=1.1,
            zorder=4,
            clip_on=False,
        )


def _runs_of(view: EntityView, metric: int) -> list[npt.NDArray[np.int64]]:
    """Return the metric's anomalies as runs of consecutive rows."""
    chosen = np.flatnonzero(view.at_metric == metric)
    rows = np.searchsorted(view.time_ms, view.at_ms[chosen])
    return [run for run in np.split(chosen, np.flatnonzero(np.diff(rows) > 1) + 1) if len(run)]


def _regions(axis: Any, view: EntityView, times: npt.NDArray[np.datetime64]) -> None:
    warm = np.datetime64(view.warm_ms, "ms")
    if len(times) and warm > times[0]:
        axis.axvspan(
            times[0],
            warm,
            facecolor="none",
            edgecolor=MUTED,
            alpha=0.45,
            hatch="/////",
            linewidth=0,
        )
    if view.boundary_ms is not None:
        axis.axvline(
            np.datetime64(view.boundary_ms, "ms"), color=MUTED, linewidth=1.1, linestyle=(0, (1, 2))
        )
    for window in view.labels:
        if len(times) and window.end_ms >= view.time_ms[0] and window.start_ms <= view.time_ms[-1]:
            edges = np.array([window.start_ms, window.end_ms], "datetime64[ms]")
            axis.plot(
                edges,
                [1.0, 1.0],
                transform=axis.get_xaxis_transform(),
                color=INK,
                linewidth=3,
                solid_capstyle="butt",
            )


def _heading(figure: Any, axis: Any, view: EntityView, height: float) -> None:
    import matplotlib.dates
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    title = view.title if len(view.title) <= _TITLE else f"{view.title[: _TITLE - 1]}…"
    figure.text(
        0.012, 1 - 0.26 / height, title, color=INK, fontsize=14, fontweight="bold", va="center"
    )
    figure.text(
        0.985, 1 - 0.26 / height, view.subtitle, color=MUTED, fontsize=9, va="center", ha="right"
    )
    handles: list[Any] = [
        Line2D([], [], color=INK, linewidth=1.2, label="measured"),
        Line2D([], [], color=EXPECTED, linewidth=1.2, label="expected"),
        Patch(facecolor=EXPECTED, alpha=0.25, label="expected band"),
    ]
    handles += [
        Line2D(
            [],
            [],
            linestyle="none",
            marker=marker,
            color=ACCENT,
            markeredgecolor="white",
            markersize=1.3 * area**0.5,
            label=name,
        )
        for name, _, _, marker, area in _CLASSES
    ]
    if np.isnan(view.at_value).any():
        handles.append(
            Line2D(
                [], [], linestyle="none", marker="x", color=ACCENT, markersize=5, label="missing"
            )
        )
    if view.labels:
        handles.append(Line2D([], [], color=INK, linewidth=3, label="labelled"))
    if len(view.time_ms) and view.warm_ms > view.time_ms[0]:
        handles.append(
            Patch(
                facecolor="none",
                edgecolor=MUTED,
                hatch="/////",
                linewidth=0,
                alpha=0.6,
                label="warming",
            )
        )
    figure.legend(
        handles=handles, loc="center left", bbox_to_anchor=(0.012, 1 - 0.55 / height),
        ncols=len(handles), frameon=False, fontsize=9, borderpad=0, borderaxespad=0,
        labelcolor=MUTED, handlelength=1.4, columnspacing=1.4, handletextpad=0.5,
    )  # fmt: skip
    if view.boundary_ms is not None:
        dates: Any = matplotlib.dates
        boundary = dates.date2num(np.datetime64(view.boundary_ms, "ms"))
        for side, word, shift in (("right", "training", -5), ("left", "test", 5)):
            axis.annotate(
                word, (boundary, 1.05), xycoords=axis.get_xaxis_transform(),
                xytext=(shift, 0), textcoords="offset points", color=MUTED, fontsize=9, ha=side,
                va="baseline",
            )  # fmt: skip


def _time_axis(axis: Any, times: npt.NDArray[np.datetime64]) -> None:
    import matplotlib.dates

    dates: Any = matplotlib.dates
    locator = dates.AutoDateLocator(minticks=5, maxticks=12)
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
    axis.xaxis.get_offset_text().set(color=MUTED, fontsize=9)
    if len(times) > 1:
        axis.set_xlim(times[0], times[-1])


def _limits(view: EntityView, metric: int) -> tuple[float, float]:
    """Return the range of the measured values with a margin; the band may exceed it."""
    value = view.values[:, metric]
    if np.isnan(value).all():
        return 0.0, 1.0
    low, high = float(np.nanmin(value)), float(np.nanmax(value))
    margin = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    return low - margin, high + 1.6 * margin


def _with_gaps(
    time_ms: npt.NDArray[np.int64], *columns: npt.NDArray[np.float64]
) -> tuple[Any, list[npt.NDArray[np.float64]]]:
    """Insert NaN where no row came for six intervals, so that no line is drawn across the gap."""
    if len(time_ms) < 3:
        return time_ms.astype("datetime64[ms]"), list(columns)
    steps = np.diff(time_ms)
    gaps = np.flatnonzero(steps > 6 * np.median(steps)) + 1
    times = np.insert(time_ms, gaps, time_ms[gaps] - 1)
    return times.astype("datetime64[ms]"), [np.insert(column, gaps, np.nan) for column in columns]


def _short(value: float) -> str:
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g} {letter}"
    return f"{value:g}"


def _style() -> Any:
    from matplotlib import font_manager

    known = set(font_manager.get_font_names())
    return {
        "font.family": "sans-serif",
        "font.sans-serif": [font for font in _FONTS if font in known] or ["DejaVu Sans"],
        "hatch.linewidth": 0.5,
        "path.simplify_threshold": 0.4,
        "agg.path.chunksize": 20_000,
    }
