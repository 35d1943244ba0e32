"""The demo's output: a live view on a terminal, plain lines elsewhere, a picture on request.

Invariant: the screen shows only the frames and texts that it is given; with ``--json`` only the
           summary reaches standard output.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.live import Live

from lapwing.demo.view import (
    IN_MEMORY,
    AnomalyLine,
    Frame,
    Summary,
    picture,
    plain,
    render,
    render_summary,
    score_text,
)
from shared.errors import ConfigError
from shared.operations.telemetry import line
from shared.wording import minute

LINE_EVERY_S, LINE_AT_LEAST_S = 2.0, 10.0
LINES_OF_ANOMALIES = 25
PLAIN_WIDTH = 120
PICTURE_AT = 0.6
"""Share of the live part at which the frame for the picture is taken."""


class Screen:
    """One demo's output."""

    def __init__(self, as_json: bool) -> None:
        terminal = Console(stderr=as_json).is_terminal
        self.console = Console(
            stderr=as_json, soft_wrap=not terminal, width=None if terminal else PLAIN_WIDTH
        )
        self.live = (
            Live(console=self.console, auto_refresh=False) if self.console.is_terminal else None
        )
        self._printed_s = 0.0
        self._printed_counts = (0, 0, 0, 0)
        self._anomalies: set[AnomalyLine] = set()
        self._picture_frame: Frame | None = None
        self._summary: Summary | None = None

    def __enter__(self) -> Screen:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.live is not None:
            self.live.stop()

    def begin(self, source: str, notes: tuple[str, ...]) -> None:
        """Print the source and its notes."""
        for note in notes:
            self.console.print(f"note: {note}", style="grey58", highlight=False)
        if self.live is None:
            self.console.print(f"lapwing demo: {source}", highlight=False)
            self.console.print(IN_MEMORY, highlight=False)
        else:
            self.live.start()

    def print_step(self, text: str) -> None:
        """Print a step; on a terminal the view shows it."""
        if self.live is None:
            self.console.print(text, highlight=False)

    def show(self, frame: Frame) -> None:
        """Show a frame."""
        live = next(
            (phase for phase in frame.phases if phase.name == "live" and phase.state == "running"),
            None,
        )
        if (
            live
            and not math.isnan(live.share)
            and (self._picture_frame is None or live.share <= PICTURE_AT)
        ):
            self._picture_frame = frame
        if self.live is not None:
            self.live.update(render(frame, max(3, min(16, self.console.height - 20))), refresh=True)
            return
        for anomaly in reversed(frame.newest):
            opened = replace(anomaly, ended_ms=None)  # not again when its episode ends
            if opened not in self._anomalies and len(self._anomalies) < LINES_OF_ANOMALIES:
                self._anomalies.add(opened)
                fields = {
                    "at": minute(anomaly.time_ms),
                    "host": anomaly.entity,
                    "score": score_text(anomaly),
                    "because": anomaly.reason,
                }
                self.console.print(line("anomaly", fields), highlight=False, markup=False)
                if len(self._anomalies) == LINES_OF_ANOMALIES:
                    self.console.print("further anomalies are counted only", highlight=False)
        self._status(frame)

    def _status(self, frame: Frame) -> None:
        """Print a line when a count has changed, and now and then when none has."""
        waited_s = time.monotonic() - self._printed_s
        counts = (frame.sent, frame.scored, frame.dead, frame.anomalies)
        if waited_s >= LINE_AT_LEAST_S or (
            waited_s >= LINE_EVERY_S and counts != self._printed_counts
        ):
            self._printed_s = time.monotonic()
            self._printed_counts = counts
            self.console.print(plain(frame), highlight=False)

    def finish(self, frame: Frame, summary: Summary) -> None:
        """Show the last frame and the summary."""
        self._summary = summary
        if self.live is not None:
            self.live.update(render(frame), refresh=True)
            self.live.stop()
        self.console.print(render_summary(summary))

    def save(self, path: Path) -> None:
        """Write the picture: a frame of the live part, and the summary.

        raises : ConfigError when the file cannot be written
        """
        if self._picture_frame is None:
            raise ConfigError(f"--svg {path}: there was no live part to draw")
        text = picture(self._picture_frame, self._summary)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        except OSError as error:
            raise ConfigError(f"--svg {path}: {error.strerror or error}") from error
