"""Shows the progress of the replay: a bar on a terminal, otherwise a log line every few seconds.

Invariant: it only displays the figures passed to it and never blocks.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from shared.operations.telemetry import Logger
from shared.wording import second

LINE_EVERY_S = 5.0
BAR_EVERY_S = 0.1
WAITING_EVERY_S = 10.0


class Progress(Protocol):
    """A display of the replay's progress."""

    def show(self, sent: int, acknowledged: int, time_ms: int | None, now_s: float) -> None:
        """Show the counts; time_ms is the event time of the last record sent."""
        ...

    def waiting(self, lags: Mapping[tuple[str, str], int], now_s: float) -> None:
        """Show that the replay waits for consumers; lags is the lag of each (group, topic)."""
        ...


class Lines:
    """A log line every five seconds."""

    def __init__(self, log: Logger, total: int | None, started_s: float) -> None:
        self._log = log
        self._total = total
        self._started_s = self._shown_s = started_s
        self._waiting_s: float | None = None
        self._sent = 0

    def show(self, sent: int, acknowledged: int, time_ms: int | None, now_s: float) -> None:
        """See Progress."""
        if sent != self._sent:
            self._sent = sent
            self._waiting_s = None
        if now_s - self._shown_s < LINE_EVERY_S:
            return
        self._shown_s = now_s
        share = (
            {} if self._total is None else {"percent": round(100 * sent / max(self._total, 1), 1)}
        )
        rate = round(acknowledged / (now_s - self._started_s), 1)
        at = {} if time_ms is None else {"event_time": second(time_ms)}
        self._log.info(
            "produced", sent=sent, acknowledged=acknowledged, **share, events_per_s=rate, **at
        )

    def waiting(self, lags: Mapping[tuple[str, str], int], now_s: float) -> None:
        """See Progress; logged when nothing could be sent for ten seconds."""
        if self._waiting_s is None:
            self._waiting_s = now_s
        elif now_s - self._waiting_s >= WAITING_EVERY_S:
            self._waiting_s = now_s
            text = ", ".join(
                f"group {group} has a lag of {lag} in {topic}"
                for (group, topic), lag in lags.items()
            )
            self._log.info("waiting for consumers", because=text)


class Bar(Lines):
    """A progress bar on standard error; log lines only for what a bar cannot show."""

    def __init__(self, log: Logger, total: int | None, started_s: float) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Rich

        super().__init__(log, total, started_s)
        columns = (
            TextColumn("replay"), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:,.0f}/s"), TextColumn("{task.fields[time]}"),
            TimeElapsedColumn(),
        )  # fmt: skip
        self.rich = Rich(*columns, console=Console(stderr=True), refresh_per_second=10)
        self._task = self.rich.add_task("replay", total=total, rate=0.0, time="")

    def show(self, sent: int, acknowledged: int, time_ms: int | None, now_s: float) -> None:
        """See Progress."""
        if sent != self._sent:
            self._sent = sent
            self._waiting_s = None
        if now_s - self._shown_s >= BAR_EVERY_S or sent == self._total:
            self._shown_s = now_s
            rate = acknowledged / max(now_s - self._started_s, 1e-3)
            time = "" if time_ms is None else second(time_ms)
            self.rich.update(self._task, completed=acknowledged, rate=rate, time=time)


@contextmanager
def open_progress(log: Logger, total: int | None, started_s: float) -> Iterator[Progress]:
    """Show a bar if standard error is a terminal, else write log lines.

    total : number of records of the whole replay; None = endless
    """
    if not sys.stderr.isatty():
        yield Lines(log, total, started_s)
        return
    bar = Bar(log, total, started_s)
    with bar.rich:
        yield bar
