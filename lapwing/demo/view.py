"""The demo's view in a terminal: takes a frozen frame, returns lines.

Invariant: rendering is pure: the same frame gives the same picture, which shows no number that the
           frame does not hold.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from shared.events import SeverityClass
from shared.wording import minute

ACCENT = "#2a9d8f"
MARKS = {
    SeverityClass.INFO: ("·", "grey58"),
    SeverityClass.MINOR: ("○", "#d9a441"),
    SeverityClass.MAJOR: ("▲", "#e07a2f"),
    SeverityClass.CRITICAL: ("◆", "#c2418f"),
}
"""Severity is never colour alone: the shape grows with it."""

IN_MEMORY = "embedded broker: data in memory only, no transactions, so delivery is at-least-once"
MAX_LINES = 3
"""Of one anomaly; its reason takes one or two, unless the window is narrow."""

MAX_ENTITY, MIN_REASON, MIN_WIDTH = 28, 50, 30
"""Characters of a name, of a reason beside it (else it goes on below), and of any line."""

_TICKS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class Phase:
    """One step of the demo; share 0..1, NaN = not known."""

    name: str
    state: str = "waiting"
    text: str = ""
    share: float = math.nan


@dataclass(frozen=True, slots=True)
class AnomalyLine:
    """One anomaly as it is shown; ended_ms = end of its episode, None while it is open."""

    time_ms: int
    entity: str
    score: float | None
    severity: SeverityClass
    reason: str
    episode_id: str | None = None
    ended_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Frame:
    """One moment of the demo.

    rates      : events per second with a result, oldest first, one per half second
    lag        : records without a result, per partition
    event_ms   : newest event time that was scored; None before the first
    page       : address of the page; empty = none
    hints      : commands to try in another terminal
    p50_ms ... : latency of the live part; NaN = none yet
    """

    source: str
    predictors: int
    elapsed_s: float
    phases: tuple[Phase, ...] = ()
    sent: int = 0
    scored: int = 0
    dead: int = 0
    anomalies: int = 0
    rates: tuple[float, ...] = ()
    lag: tuple[int, ...] = ()
    event_ms: int | None = None
    p50_ms: float = math.nan
    p99_ms: float = math.nan
    model: str = ""
    newest: tuple[AnomalyLine, ...] = ()
    page: str = ""
    hints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures at the end; ``disagreements`` is empty when all counts agree.

    incidents : opened; open_incidents : of these, still open
    """

    produced: int
    scored: int
    dead_letters: int
    anomalies: int
    data_quality: int
    first_anomaly_s: float | None
    events_per_s: float
    p50_ms: float | None
    p99_ms: float | None
    live: int
    repeats: int
    unscored: int
    model: str
    partitions: Mapping[int, tuple[int, int, int]] = field(default_factory=dict)
    disagreements: tuple[str, ...] = ()
    incidents: int = 0
    open_incidents: int = 0

    @property
    def agrees(self) -> bool:
        """Whether every count agrees."""
        return not self.disagreements

    def document(self) -> dict[str, Any]:
        """Return what ``--json`` prints; the first eight keys are promised."""
        return {
            "produced": self.produced,
            "scored": self.scored,
            "dead_letters": self.dead_letters,
            "anomalies": self.anomalies,
            "first_anomaly_s": _rounded(self.first_anomaly_s, 2),
            "events_per_s": _rounded(self.events_per_s, 1),
            "p50_ms": _rounded(self.p50_ms, 1),
            "p99_ms": _rounded(self.p99_ms, 1),
            "agrees": self.agrees,
            "disagreements": list(self.disagreements),
            "live": self.live,
            "repeats": self.repeats,
            "data_quality": self.data_quality,
            "warming_up": self.unscored,
            "incidents": self.incidents,
            "open_incidents": self.open_incidents,
            "model": self.model,
            "delivery": "at-least-once",
            "partitions": {
                str(partition): {"produced": sent, "scored": scored, "dead_letters": dead}
                for partition, (sent, scored, dead) in self.partitions.items()
            },
        }


def render(frame: Frame, rows: int = 12) -> RenderableType:
    """Draw a frame; rows is how many lines the anomalies may take."""
    parts: list[RenderableType] = [
        _head(frame),
        Text(IN_MEMORY, "grey58"),
        Text(),
        _phases(frame.phases),
        Text(),
        _figures(frame),
        Text(),
        Text.assemble(
            ("anomalies ", "bold"),
            (f"{frame.anomalies:,}", "bold"),
            ("  newest of each host", "grey58"),
        ),
    ]
    none = Text("none so far", "grey58")
    parts.append(_Anomalies(frame.newest, rows) if frame.newest else none)
    if frame.hints:
        parts += [Text(), Text("to try in another terminal; Ctrl-C here ends the demo", "bold")]
        parts += [Text(hint, "grey58") for hint in frame.hints]
    return Padding(Group(*parts), (1, 2))


def render_summary(summary: Summary) -> RenderableType:
    """Draw the end: the counts by partition, whether they agree, and the figures."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("partition", style="grey58")
    for name in ("produced", "scored", "dead letters"):
        table.add_column(name, justify="right")
    table.add_column("")
    for partition, (sent, scored, dead) in sorted(summary.partitions.items()):
        table.add_row(
            str(partition), f"{sent:,}", f"{scored:,}", f"{dead:,}", _verdict(sent == scored + dead)
        )
    totals = (f"{summary.produced:,}", f"{summary.scored:,}", f"{summary.dead_letters:,}")
    table.add_row("all", *totals, _verdict(summary.agrees), style="bold")
    facts = _pairs(
        [
            (
                "anomalies",
                (
                    f"{summary.anomalies:,}, the first {_seconds(summary.first_anomaly_s)} after"
                    " the start"
                ),
            ),
            ("model", summary.model or "none"),
            (
                "data",
                (
                    f"{summary.data_quality:,} data-quality verdicts; {summary.unscored:,} events"
                    " while WARMING"
                ),
            ),
            ("incidents", f"{summary.incidents:,}, of which {summary.open_incidents:,} are open"),
            ("live part", f"{summary.live:,} events, {summary.events_per_s:,.0f} a second"),
            (
                "latency",
                (
                    f"event to result p50 {_ms(summary.p50_ms)}, p99 {_ms(summary.p99_ms)} by"
                    " Kafka's timestamps"
                ),
            ),
            ("delivery", f"at-least-once; {summary.repeats:,} results came twice and count once"),
        ]
    )
    parts: list[RenderableType] = [table, Text(), facts]
    parts += [
        Text(f"does not agree: {difference}", "bold red") for difference in summary.disagreements
    ]
    return Padding(Group(*parts), (1, 2))


def plain(frame: Frame) -> str:
    """Write a frame as one line, for logs."""
    now = next((phase for phase in frame.phases if phase.state == "running"), None)
    where = (
        f"{now.name} {now.share:.0%}"
        if now and not math.isnan(now.share)
        else now.name
        if now
        else "done"
    )
    behind = sum(frame.lag)
    rate = f"{frame.rates[-1]:,.0f}/s" if frame.rates else "-"
    return (
        f"{frame.elapsed_s:6.1f} s  {where}: {frame.sent:,} in, {frame.scored:,} scored,"
        f" {frame.dead:,} dead letters, {behind:,} behind, {rate}, {frame.anomalies:,} anomalies"
    )


def anomaly_mark(severity: SeverityClass) -> Text:
    """Return the symbol of a severity."""
    mark, colour = MARKS[severity]
    return Text(mark, colour)


def spark(values: Sequence[float], width: int) -> str:
    """Draw the last values as ticks of eight heights, scaled to the largest."""
    shown = list(values[-width:])
    top = max(shown, default=0.0)
    return "".join(
        _TICKS[min(7, int(7.999 * value / top))] if top > 0 else _TICKS[0] for value in shown
    )


def picture(frame: Frame, summary: Summary | None, width: int = 118) -> str:
    """Draw the frame, and the summary if there is one, as a self-contained SVG."""
    console = Console(
        record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    console.print(render(frame))
    if summary is not None:
        console.rule(style="grey30")
        console.print(render_summary(summary))
    return console.export_svg(title="lapwing demo", code_format=_SVG, unique_id="lapwing")


_SVG = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" role="img"\
 aria-label="lapwing demo">
  <style>
    .{unique_id}-matrix {{
      font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
      font-size: {char_height}px; line-height: {line_height}px; white-space: pre;
    }}
    {styles}
  </style>
  <defs>
    <clipPath id="{unique_id}-clip-terminal">\
<rect width="{terminal_width}" height="{terminal_height}"/></clipPath>
    {lines}
  </defs>
  <rect x="1" y="1" width="{terminal_width}" height="{terminal_height}" rx="10" fill="#16191d"\
 transform="translate(8, 28)"/>
  <g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
    {backgrounds}
    <g class="{unique_id}-matrix">
    {matrix}
    </g>
  </g>
</svg>
"""


def _head(frame: Frame) -> RenderableType:
    grid = Table.grid(expand=True)
    grid.add_column()
    grid.add_column(justify="right")
    left = Text.assemble(
        ("lapwing", f"bold {ACCENT}"), (" demo", "bold"), (f"   {frame.source}", "")
    )
    grid.add_row(
        left, Text(f"{int(frame.elapsed_s) // 60:02d}:{int(frame.elapsed_s) % 60:02d}", "grey58")
    )
    return grid


def _phases(phases: Sequence[Phase]) -> RenderableType:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(width=11)
    grid.add_column(width=26)
    grid.add_column()
    for phase in phases:
        sign, style = {"done": ("✓", ACCENT), "running": ("●", "bold"), "waiting": (" ", "grey58")}[
            phase.state
        ]
        name = Text.assemble(
            (f"{sign} ", ACCENT), (phase.name, style if phase.state != "done" else "")
        )
        grid.add_row(
            name, _bar(phase, 24), Text(phase.text, "grey58" if phase.state != "running" else "")
        )
    return grid


def _bar(phase: Phase, width: int) -> Text:
    share = (
        1.0
        if phase.state == "done"
        else 0.0
        if phase.state == "waiting" or math.isnan(phase.share)
        else phase.share
    )
    full = min(width, int(share * width + 0.5))
    return Text.assemble(("━" * full, ACCENT), ("─" * (width - full), "grey30"))


def _figures(frame: Frame) -> RenderableType:
    rate = f"{frame.rates[-1]:,.0f} / s" if frame.rates else "-"
    lag = "   ".join(f"{count:,}" for count in frame.lag)
    page: list[tuple[str, str | Text]] = [("page", Text(frame.page, "bold"))] if frame.page else []
    return _pairs(
        [
            *page,
            (
                "events",
                f"{frame.sent:,} in   {frame.scored:,} scored   {frame.dead:,} dead letters",
            ),
            ("rate", Text.assemble((f"{rate:<12}", ""), (spark(frame.rates, 40), ACCENT))),
            (
                "behind",
                f"{sum(frame.lag):,}" + (f"   by partition: {lag}" if len(frame.lag) <= 16 else ""),
            ),
            ("latency", f"p50 {_ms(frame.p50_ms)}   p99 {_ms(frame.p99_ms)}"),
            ("model", frame.model or "none yet: events are scored as WARMING"),
            ("event time", minute(frame.event_ms) + " UTC" if frame.event_ms is not None else "-"),
        ]
    )


def _pairs(pairs: Sequence[tuple[str, str | Text]]) -> RenderableType:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(width=11, style="grey58")
    grid.add_column()
    for name, value in pairs:
        grid.add_row(name, value)
    return grid


def _ended(anomaly: AnomalyLine) -> str:
    """Return the end of an anomaly's episode; empty while it is open."""
    return "" if anomaly.ended_ms is None else f"until {minute(anomaly.ended_ms)}: "


@dataclass(frozen=True, slots=True)
class _Anomalies:
    """The newest anomalies with their whole reasons, wrapped; as many as fit into the height."""

    newest: Sequence[AnomalyLine]
    lines: int

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> Iterator[Text]:
        left, width = self.lines, max(MIN_WIDTH, options.max_width)
        entity_width = max(len(_short(anomaly.entity)) for anomaly in self.newest)
        for number, anomaly in enumerate(self.newest):
            sign = anomaly_mark(anomaly.severity)
            head = (
                f"{sign.plain}  {minute(anomaly.time_ms)}  {_short(anomaly.entity):<{entity_width}}"
            )
            head += f"  {score_text(anomaly):>4}  "
            indent = len(head) if width - len(head) >= MIN_REASON else 3
            drawn = textwrap.wrap(
                head + _ended(anomaly) + anomaly.reason,
                width,
                subsequent_indent=" " * indent,
                max_lines=MAX_LINES,
                placeholder=" …",
            )
            left -= len(drawn)
            if left < 0 and number:
                break
            text = Text("\n".join(drawn))
            text.stylize(sign.style, 0, 1)
            text.stylize("grey58", 3, 19)
            yield text


def _short(entity: str) -> str:
    return entity if len(entity) <= MAX_ENTITY else entity[: MAX_ENTITY - 1] + "…"


def score_text(anomaly: AnomalyLine) -> str:
    """Format the score of an anomaly; a cold start has none."""
    return "cold" if anomaly.score is None else f"{anomaly.score:.2f}"


def _verdict(good: bool) -> Text:
    return Text("agrees", ACCENT) if good else Text("does not agree", "bold red")


def _ms(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "-"
    return f"{value:,.0f} ms" if value < 10_000 else f"{value / 1000:,.1f} s"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s"


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None or math.isnan(value) else round(value, digits)
