"""Why an alarm, and how an episode ended: one plain sentence.

Invariant: every number of a sentence is the row's own, or can be computed from the entity's rows
           before it; a sentence is about the metric, row and value at fault.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.ensemble.kernels.layout import AS_IT_IS, MINUTE_MEAN, MINUTE_RATE, VIEW_NAMES
from shared.events import ClosedBecause
from shared.kernels.units import DAY_MS, HOUR_MS, MINUTE_MS
from shared.wording import duration, short

Zone = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]

LEAST_DAYS = 2
"""Of fewer days nothing is claimed."""

NEW_MS = 4 * DAY_MS
"""So long a level or unit that was learned is called new: the rows before do not show it."""

NOTHING = 1e-15
"""Share of a value that its own rounding loses: a usual value below it is written as 0."""

LEAST_SPREAD, MOST_SPREAD = 0.3, 3.0
"""A usual spread that is smaller counts as so much; changes that are larger are cut (at 6)."""


class Speaker:
    """Writes sentences about what the fold found, in the local time of a zone.

    zone : int64 (k,), int64 (k,)  UTC ms from which on a shift in ms holds
    """

    def __init__(self, zone: Zone) -> None:
        self.zone = zone

    def opened(self, event: Any, metric: str | None, metrics: int) -> str:
        """Return why an episode opens.

        event   : of EVENT_DTYPE, phase OPEN or WORSE
        metrics : that the entity reports
        """
        name = metric or "the entity"
        if event["cold_start"]:
            return _cold(event, name)
        return _BY_VIEW[int(event["view"])](self, event, name, metrics)

    def worse(self, event: Any, metric: str | None, metrics: int) -> str:
        """Return in what way an episode has become worse."""
        now = int(event["time_ms"])
        began = self._moment(int(event["start_ms"]), now)
        is_peak = int(event["peak_ms"]) == now
        how = f"worse than since {began}" if is_peak else f"worse again in an episode since {began}"
        return f"{self.opened(event, metric, metrics)}; {how}"

    def closed(self, event: Any, metric: str | None, because: ClosedBecause) -> str:
        """Return how an episode ended."""
        name = metric or "the entity as a whole"
        start, seen, now = (int(event[key]) for key in ("start_ms", "seen_ms", "time_ms"))
        since = self._moment(start, now)
        span = f"from {since} to {self._moment(seen, now)}"
        peak = ""
        if not math.isnan(event["peak_value"]):
            peak = (
                f", peak {short(event['peak_value'])} at {self._moment(int(event['peak_ms']), now)}"
            )
        match because:
            case ClosedBecause.SILENT:
                return f"{name}: the episode since {since} ends, no data any more{peak}"
            case ClosedBecause.RESTARTED:
                return (
                    f"{name}: the episode since {since} ends, detection goes on with other"
                    f" settings{peak}"
                )
            case ClosedBecause.ACCEPTED:
                return (
                    f"{self._now(event, name)}; the deviation {span} has become what is usual{peak}"
                )
            case ClosedBecause.RECOVERED:
                return f"{self._recovered(event, name)}; the deviation lasted {span}{peak}"

    # -- a sentence for each view ------------------------------------------------------------------

    def _value(self, event: Any, name: str, _: int) -> str:
        return self._now(event, name) + _rarity(event)

    def _two_rows(self, event: Any, name: str, _: int) -> str:
        return f"{self._now(event, name)}, unusual for the second time in a row{_rarity(event)}"

    def _mean(self, event: Any, name: str, _: int) -> str:
        way = "higher" if event["direction"] > 0 else "lower"
        than = "than usual" if event["lately"] == 0 else "than lately"
        than = "than expected" if _is_new(event) else than
        return (
            f"{name} has been {way} {than} on average over the last"
            f" {_span(int(event['span_ms']))}: {self._remark(event, name)}"
        )

    def _jump(self, event: Any, name: str, _: int) -> str:
        way = "rose" if event["value"] > event["amount"] else "fell"
        return (
            f"{name} {way} to {short(event['value'])}{_unit(event)} from about"
            f" {short(event['amount'])}, the middle of the six values before;"
            f" {self._usually(event)}"
        )

    def _missed(self, event: Any, name: str, _: int) -> str:
        """Return what did not come in the half hour before the row's bin."""
        now, width = int(event["time_ms"]), int(event["width_ms"])
        end = now - (now + self._shift(now)) % width
        between = f"between {self._clock(end - int(event['span_ms']))} and {self._clock(end)}"
        verb, side = "usually falls to about", "above"
        if event["direction"] < 0:
            verb, side = "usually reaches about", "below"
        verb = "was expected at about" if _is_new(event) else verb
        means = f" ({_bin_mean(event)}s)" if _has_means(event) else ""
        return (
            f"{name} {verb} {short(event['usual_amount'])} {between}, but stayed at"
            f" about {short(event['amount'])} or {side}{means}"
        )

    def _level(self, event: Any, name: str, _: int) -> str:
        way = "above" if event["amount"] > 0 else "below"
        values = "the values expected" if _is_new(event) else "its usual values"
        return (
            f"{name} has been about {short(abs(event['amount']))} {way} {values} for most of the"
            f" last 24 hours: {self._remark(event, name)}"
        )

    def _spread(self, event: Any, name: str, _: int) -> str:
        least = event["usual_amount"] < LEAST_SPREAD or event["amount"] > MOST_SPREAD
        about = "at least" if least else "about"
        times = event["amount"] / max(event["usual_amount"], LEAST_SPREAD)
        return (
            f"{name} varies {about} {times:.1f} times as much as usual from one value to the next;"
            f" {self._now(event, name)}"
        )

    def _often(self, event: Any, name: str, _: int) -> str:
        return (
            f"{name} differs from what is usual about this time much more often than usual: about"
            f" {_share(event['amount'])} of its latest values, usually"
            f" {_share(event['usual_amount'])}; {self._now(event, name)}"
        )

    def _stuck(self, event: Any, name: str, _: int) -> str:
        value, span = float(event["value"]), duration(event["amount"])
        text = short(value)
        is_exact = float(text.replace(",", "")) == value
        exactly = "has read exactly" if is_exact else "has read exactly the same, about"
        return (
            f"{name} {exactly} {text}{_unit(event)} for {span}; usually it changes from one"
            " value to the next"
        )

    def _course(self, event: Any, name: str, _: int) -> str:
        if event["amount"] > 0:
            return f"{name} has not moved for longer than usual: {self._now(event, name)}"
        watched = duration(HOUR_MS * max(1, event["history_ms"] // HOUR_MS))
        return (
            f"the course of {name} over the last hours is unlike any in the {watched} before:"
            f" {self._remark(event, name)}"
        )

    def _combination(self, event: Any, name: str, _: int) -> str:
        return f"{name} does not follow the other metrics as usual: {self._now(event, name)}"

    def _trained(self, event: Any, _: str, __: int) -> str:
        """Return what is known where the model explains nothing; see ``explaining``."""
        return f"a trained model finds the metrics together unusual at {self._clock_of(event)}"

    def _joint(self, event: Any, name: str, metrics: int) -> str:
        return (
            f"at least {int(event['amount'])} of {metrics} metrics changed unusually at the same"
            f" time, most of all {self._now(event, name)}"
        )

    # -- parts -------------------------------------------------------------------------------------

    def _now(self, event: Any, name: str) -> str:
        """Return the value, and what is usual at this time of day."""
        return f"{name} {self._remark(event, name)}"

    def _remark(self, event: Any, _: str) -> str:
        value = f"is {short(event['value'])}{_unit(event)}"
        return value if math.isnan(event["expected"]) else f"{value}, {self._usually(event)}"

    def _usually(self, event: Any) -> str:
        """Return what is usual, and by how much that has changed lately.

        Of the first days after a change that was learned, the rows before show something else.
        """
        clock = self._clock_of(event)
        if _is_new(event):
            since = self._moment(int(event["moved_ms"]), int(event["time_ms"]))
            return f"about {_usual(event)} expected at {clock} by what was learned at {since}"
        if event["lately"] != 0:
            way = "more" if event["lately"] > 0 else "less"
            return (
                f"usually about {_usual(event)} at {clock}, lately about"
                f" {short(abs(event['lately']))} {way}"
            )
        near = "at" if event["watched_days"] > 0 else "within two hours of"
        return f"usually about {_usual(event)} {near} {clock}"

    def _recovered(self, event: Any, name: str) -> str:
        """Return that a deviation is over; the value may deviate in another way."""
        if math.isnan(event["value"]):
            return f"{name} is as usual again"
        remark = self._remark(event, name).removeprefix("is ")
        if event["lower"] <= event["value"] <= event["upper"]:
            return f"{name} is as usual again: {remark}"
        way = {1: "unusually high", -1: "unusually low"}.get(int(event["direction"]), "as unusual")
        return f"{name} is no longer {way}: {remark}"

    def _shift(self, time_ms: int) -> int:
        changes, shifts = self.zone
        return int(shifts[max(int(np.searchsorted(changes, time_ms, side="right")) - 1, 0)])

    def _local(self, time_ms: int) -> datetime:
        return datetime.fromtimestamp((time_ms + self._shift(time_ms)) / 1000, UTC)

    def _clock(self, time_ms: int) -> str:
        return f"{self._local(time_ms):%H:%M}"

    def _clock_of(self, event: Any) -> str:
        return self._clock(int(event["time_ms"]))

    def _moment(self, time_ms: int, now_ms: int) -> str:
        """Name a time, with its date where that is not today's."""
        local = self._local(time_ms)
        same = local.date() == self._local(now_ms).date()
        return f"{local:%H:%M}" if same else f"{local:%Y-%m-%d %H:%M}"


Sentence = Callable[[Speaker, Any, str, int], str]

SENTENCES: Mapping[str, Sentence] = {
    "value": Speaker._value,
    "two_rows": Speaker._two_rows,
    "quarter_hour": Speaker._mean,
    "hour": Speaker._mean,
    "four_hours": Speaker._mean,
    "jump": Speaker._jump,
    "missed": Speaker._missed,
    "level": Speaker._level,
    "spread": Speaker._spread,
    "often": Speaker._often,
    "stuck": Speaker._stuck,
    "course": Speaker._course,
    "combination": Speaker._combination,
    "trained": Speaker._trained,
    "joint": Speaker._joint,
}
"""The sentence of each view of a metric and of the entity."""

_BY_VIEW = tuple(SENTENCES[name] for name in VIEW_NAMES)  # a view without a sentence fails here


def _is_new(event: Any) -> bool:
    """Whether the days before show another level or unit than the one that was learned."""
    return bool(event["moved_ms"] > 0 and event["time_ms"] - event["moved_ms"] < NEW_MS)


def _unit(event: Any) -> str:
    """Return what of the metric is judged, if that is not the value itself."""
    match int(event["measure"]):
        case kind if kind == AS_IT_IS:
            return ""
        case kind if kind == MINUTE_MEAN:
            return " as the mean of a minute"
        case kind if kind == MINUTE_RATE:
            return " per second over a minute (it is a total)"
        case _:
            return " per second (it is a total)"


def _usual(event: Any) -> str:
    value, usual = float(event["value"]), float(event["usual"])
    return "0" if abs(usual) < NOTHING * abs(value) else short(usual)


def _share(share: float) -> str:
    return "less than 1%" if share < 0.005 else f"{share:.0%}"


def _span(span_ms: int) -> str:
    return "hour" if span_ms == HOUR_MS else duration(span_ms)


def _has_means(event: Any) -> bool:
    return bool(event["crowded"]) or event["measure"] in (MINUTE_MEAN, MINUTE_RATE)


def _bin_mean(event: Any) -> str:
    return f"{int(event['width_ms']) // MINUTE_MS}-minute mean"


def _rarity(event: Any) -> str:
    """Claim how rare the value is at this time of day, if that is known."""
    days = int(event["rarest_days"])
    if days < LEAST_DAYS:
        return ""
    up = event["direction"] > 0 if event["direction"] != 0 else event["value"] > event["expected"]
    what = f"no {_bin_mean(event)}" if _has_means(event) else "nothing"
    extreme = "high" if up else "low"
    return f"; {what} as {extreme} within 15 minutes of this time of day in the {days} days before"


def _cold(event: Any, name: str) -> str:
    watched = duration(float(event["history_ms"]))
    return (
        f"{name} is {short(event['value'])}{_unit(event)}, far outside of"
        f" {short(event['lower'])} to {short(event['upper'])}, its usual values in the first"
        f" {watched} (still warming up)"
    )
