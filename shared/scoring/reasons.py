"""Why an alarm, and how an episode ended: one plain sentence.

Invariant: every number of a sentence is the row's own, or can be computed from the entity's rows
           before it; a sentence is
about the metric, row and value at fault.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.ensemble.kernels.layout import (
    AS_IT_IS,
    BIN_MS,
    COURSE,
    CROSS,
    HOUR,
    HOURS4,
    JOINED,
    JUMP,
    LEVEL,
    MINUTE_MEAN,
    MINUTE_RATE,
    MISSED,
    OFTEN,
    QUARTER,
    RING,
    SPREAD,
    STUCK,
    TWO,
)
from shared.events import ClosedBecause
from shared.wording import duration, short

Zone = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]

LEAST_DAYS = 2
"""Of fewer days nothing is claimed."""

NOTHING = 1e-6
"""Share of a value below which a usual value is written as 0."""

_SPANS = {QUARTER: "15 minutes", HOUR: "hour", HOURS4: "4 hours"}


class Speaker:
    """Says what the fold found, in the local time of a zone.

    zone : int64 (k,), int64 (k,)  UTC ms from which on a shift in ms holds
    """

    def __init__(self, zone: Zone) -> None:
        self.zone = zone

    def opened(self, event: Any, metric: str | None, metrics: int) -> str:
        """Say why an episode opens.

        event   : of EVENT_DTYPE, phase OPEN or WORSE
        metrics : that the entity reports
        """
        name = metric or "the entity"
        if event["cold_start"]:
            return _cold(event, name)
        sentence = self._said(event, name)
        match int(event["view"]):
            case view if view <= TWO:
                twice = " for the second time in a row" if view == TWO else ""
                return sentence + twice + _rarity(event)
            case view if view in _SPANS:
                way = "higher" if event["direction"] > 0 else "lower"
                return (
                    f"{name} has been {way} than usual on average over the last {_SPANS[view]}:"
                    f" {sentence.removeprefix(name + ' ')}"
                )
            case view if view == JUMP:
                return self._jump(event, name)
            case view if view == MISSED:
                return self._missed(event, name)
            case view if view == LEVEL:
                way = "above" if event["amount"] > 0 else "below"
                return (
                    f"{name} has been about {short(abs(event['amount']))} {way} its usual values"
                    " for"
                    f" most of the last 24 hours: {sentence.removeprefix(name + ' ')}"
                )
            case view if view == SPREAD:
                times = event["amount"] / max(event["usual_amount"], 0.3)
                return (
                    f"{name} varies about {times:.1f} times as much as usual from one value to the"
                    f" next; {self._now(event, name)}"
                )
            case view if view == OFTEN:
                return (
                    f"{name} differs from its usual {short(event['expected'])} much more often than"
                    f" usual: about {event['amount']:.0%} of its latest values, usually"
                    f" {event['usual_amount']:.0%}"
                )
            case view if view == STUCK:
                return (
                    f"{name} has read exactly {short(event['value'])} for"
                    f" {duration(event['amount'])}; usually it changes from one value to the next"
                )
            case view if view == COURSE:
                return self._course(event, name)
            case view if view == CROSS:
                return (
                    f"{name} does not follow the other metrics as usual: {self._now(event, name)}"
                )
            case view if view == JOINED:
                return (
                    f"at least {int(event['amount'])} of {metrics} metrics changed unusually at the"
                    f" same time, most of all {sentence}"
                )
            case _:
                return f"the metrics together are unusual; {sentence}"

    def worse(self, event: Any, metric: str | None, metrics: int) -> str:
        """Say that an episode has become worse."""
        began = self._moment(int(event["start_ms"]), int(event["time_ms"]))
        return f"{self.opened(event, metric, metrics)}; worse than since {began}"

    def closed(self, event: Any, metric: str | None, because: ClosedBecause) -> str:
        """Say how an episode ended."""
        name = metric or "the entity as a whole"
        start, seen, now = (int(event[key]) for key in ("start_ms", "seen_ms", "time_ms"))
        span = f"from {self._moment(start, now)} to {self._moment(seen, now)}"
        peak = ""
        if not math.isnan(event["peak_value"]):
            peak = (
                f", peak {short(event['peak_value'])} at {self._moment(int(event['peak_ms']), now)}"
            )
        match because:
            case ClosedBecause.SILENT:
                return (
                    f"{name}: the episode since {self._moment(start, now)} ends,"
                    f" no data any more{peak}"
                )
            case ClosedBecause.RESTARTED:
                return (
                    f"{name}: the episode since {self._moment(start, now)} ends, detection goes on"
                    f" with other settings{peak}"
                )
            case ClosedBecause.ACCEPTED:
                return (
                    f"{self._now(event, name)}; the deviation {span} has become what is usual{peak}"
                )
            case _:
                if math.isnan(event["value"]):
                    return f"{name} is as usual again; the deviation lasted {span}{peak}"
                return (
                    f"{name} is as usual again:"
                    f" {self._now(event, name).removeprefix(name + ' is ')};"
                    f" the deviation lasted {span}{peak}"
                )

    # -- parts -------------------------------------------------------------------------------------

    def _said(self, event: Any, name: str) -> str:
        """Say the value, and what is usual at this time of day."""
        return self._now(event, name)

    def _now(self, event: Any, name: str) -> str:
        value = f"{name} {_measured(event)}"
        if math.isnan(event["expected"]):
            return value
        return f"{value}, usually about {_usual(event)} at {self._clock(int(event['time_ms']))}"

    def _jump(self, event: Any, name: str) -> str:
        way = "rose" if event["value"] > event["amount"] else "fell"
        before = f"{name} {way} to {short(event['value'])} from about {short(event['amount'])}"
        return (
            f"{before}, the middle of the six values before; usually about {_usual(event)} at"
            f" {self._clock(int(event['time_ms']))}"
        )

    def _missed(self, event: Any, name: str) -> str:
        """Say what did not come in the half hour before the row's bin."""
        width, now = int(event["width_ms"]), int(event["time_ms"])
        end = now - (now + self._shift(now)) % width
        near = max(1, (RING // 2) * BIN_MS // width) if width < RING // 2 * BIN_MS else 1
        begin = end - (2 * near + 1) * width
        between = f"between {self._clock(begin)} and {self._clock(end)}"
        if event["direction"] < 0:
            return (
                f"{name} usually reaches about {short(event['usual_amount'])} {between}, but stayed"
                f" at {short(event['amount'])} or below"
            )
        return (
            f"{name} usually falls to about {short(event['usual_amount'])} {between}, but stayed at"
            f" {short(event['amount'])} or above"
        )

    def _course(self, event: Any, name: str) -> str:
        watched = duration(3_600_000 * max(1, event["history_ms"] // 3_600_000))
        if event["amount"] > 0:
            return f"{name} has not moved for longer than usual: {self._now(event, name)}"
        return (
            f"the course of {name} over the last hours is unlike any in the {watched} before:"
            f" {self._now(event, name).removeprefix(name + ' ')}"
        )

    def _shift(self, time_ms: int) -> int:
        changes, shifts = self.zone
        return int(shifts[max(int(np.searchsorted(changes, time_ms, side="right")) - 1, 0)])

    def _local(self, time_ms: int) -> datetime:
        return datetime.fromtimestamp((time_ms + self._shift(time_ms)) / 1000, UTC)

    def _clock(self, time_ms: int) -> str:
        return f"{self._local(time_ms):%H:%M}"

    def _moment(self, time_ms: int, now_ms: int) -> str:
        """Name a time, with its date where that is not today's."""
        local = self._local(time_ms)
        same = local.date() == self._local(now_ms).date()
        return f"{local:%H:%M}" if same else f"{local:%Y-%m-%d %H:%M}"


def _measured(event: Any) -> str:
    value = short(event["value"])
    match int(event["measure"]):
        case kind if kind == AS_IT_IS:
            return f"is {value}"
        case kind if kind == MINUTE_MEAN:
            return f"is {value} as the mean of a minute"
        case kind if kind == MINUTE_RATE:
            return f"is {value} per second over a minute (it is a total)"
        case _:
            return f"is {value} per second (it is a total)"


def _usual(event: Any) -> str:
    value, usual = float(event["value"]), float(event["expected"])
    return "0" if abs(usual) < NOTHING * abs(value) else short(usual)


def _rarity(event: Any) -> str:
    """Claim how rare the value is at this time of day, if that is known."""
    days = int(event["rarest_days"])
    if days < LEAST_DAYS:
        return ""
    extreme = "high" if event["value"] > event["expected"] else "low"
    what = "nothing" if event["measure"] == AS_IT_IS else "no 5-minute mean"
    return f"; {what} as {extreme} within 15 minutes of this time of day in {days} days"


def _cold(event: Any, name: str) -> str:
    watched = duration(float(event["history_ms"]))
    return (
        f"{name} {_measured(event)}, far outside of {short(event['lower'])} to"
        f" {short(event['upper'])}, its usual values in the first {watched} (still warming up)"
    )
