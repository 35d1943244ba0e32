"""How far reading and fitting have come: in the log, and on a terminal that watches.

Invariant: what is shown never changes what is read or fitted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import structlog

from consumer_training.fitting.reconstruction import Epoch
from consumer_training.reading.history import History

log = structlog.get_logger()

LOG_READING_EVERY_S = 10.0
SHOW_READING_EVERY_S = 1.0
BAR = 30
"""Characters of the bar that shows a loss."""


class Watcher:
    """Writes progress as lines, for ``train --watch``."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._largest = 0.0

    def reading(self, records: int, percent: float, records_per_s: float, left_s: float) -> None:
        """Show how much of the topic has been read, and how long the rest takes at this rate."""
        rate = f"{records_per_s:,.0f}/s  {_clock(left_s)} left"
        self._write(f"reading  {percent:5.1f} %  {records:,} records  {rate}")

    def epoch(self, epoch: Epoch) -> None:
        """Show the loss after a pass over the rows, and whether it is the best one so far."""
        so_far = self._largest if epoch.number > 1 else 0.0
        self._largest = max(so_far, epoch.validation)
        bar = "#" * round(BAR * epoch.validation / self._largest) if self._largest > 0.0 else ""
        best = "  best" if epoch.validation == epoch.best else ""
        self._write(
            f"pass {epoch.number:3d}  loss {epoch.loss:.4f}  held back {epoch.validation:.4f}"
            f"  {bar:<{BAR}}{best}".rstrip()
        )


class ReadProgress:
    """Logs how far reading has come, and shows it more often."""

    def __init__(
        self,
        clock: Callable[[], float],
        history: History,
        start: Mapping[int, int] | None,
        end: Mapping[int, int],
        watcher: Watcher | None = None,
    ) -> None:
        self.records = 0
        self._clock = clock
        self._history = history
        self._watcher = watcher
        self._began_s = self._logged_s = self._shown_s = clock()
        # the log may have lost its first records: then more is read than there is
        self._total = max(sum(end.values()) - sum((start or {}).values()), 1)

    def count(self, records: int) -> None:
        """Add records that were read."""
        self.records += records
        now_s = self._clock()
        percent = round(min(100.0 * self.records / self._total, 100.0), 1)
        per_s = self.records / max(now_s - self._began_s, 1e-3)
        left_s = max(self._total - self.records, 0) / max(per_s, 1e-3)
        is_due = now_s - self._shown_s >= SHOW_READING_EVERY_S or percent >= 100.0
        if self._watcher is not None and is_due:
            self._shown_s = now_s
            self._watcher.reading(self.records, percent, per_s, left_s)
        if now_s - self._logged_s >= LOG_READING_EVERY_S:
            self._logged_s = now_s
            log.info(
                "reading",
                records=self.records,
                percent=percent,
                records_per_s=round(per_s),
                left_s=round(left_s),
                events_read=len(self._history),
            )


def _clock(seconds: float) -> str:
    """Return a duration as minutes and seconds, or hours and minutes."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}"
