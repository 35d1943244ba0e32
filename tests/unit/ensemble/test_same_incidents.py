"""The same incidents, reported in other ways, are the same episodes.

Another interval, a second scraper, jitter, missing rows, a backlog that arrives newest first. Equal
is, for an incident that begins at once, one episode of the same metric and direction that starts
within five minutes or an interval of the other; for one that grows, within an hour; both for 90 %.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest

from shared.ensemble.kernels.outputs import CLOSED, WORSE
from tests.support.episodes import judge, needs_speed
from tests.support.noise import DAY_MS, FAMILIES, HOUR_MS, between, clock, daily, days_of, noise

pytestmark = needs_speed

DAYS, LAST = 22, 18.0
MINUTE_MS, STEP = 60_000, 5
INTERVAL_MS = STEP * MINUTE_MS
SAME, SLOW = 0.9, 60.0

AT_ONCE = ("surge", "outage", "spike", "step", "missed_job", "missed_short_job")
GROWING = ("shift", "drift", "noise_burst", "stuck")
HOURS = {
    "surge": 3.0, "outage": 1.2, "spike": 0.25, "step": 1.0, "missed_job": 1.0,
    "missed_short_job": 0.25, "shift": 9.0, "drift": 10.0, "noise_burst": 6.0, "stuck": 20.0,
}  # fmt: skip
JOB_AT = 2.0
"""Hour of the day at which a nightly job begins."""


class Series(NamedTuple):
    """A metric once a minute, and the day on which its incident begins."""

    time_ms: Any
    values: Any
    start: float
    hours: float


@cache
def series(kind: str, family: str) -> Series:
    """Return a healthy series with one incident; each kind and family has its own noise."""
    seed = 10 * (AT_ONCE + GROWING).index(kind) + FAMILIES.index(family)
    time_ms, hours = clock(DAYS, 60), HOURS[kind]
    values = daily(time_ms) + 2 * noise(family, len(time_ms), seed)
    start = LAST + round(np.random.default_rng(seed).uniform(0.25, 0.8) * 288) / 288
    since = between(time_ms, start, hours)
    match kind:
        case "surge":
            values[since] *= 2.2
        case "outage":
            values[since] = 0.0
        case "spike":
            values[since] += 60
        case "step":
            values[since] += 24
        case "shift":
            values[since] += 8
        case "drift":
            values[since] += 4.5 * 24 * (days_of(time_ms)[since] - start)
        case "noise_burst":
            values[since] += 14 * noise(family, int(since.sum()), seed + 7)
        case "stuck":
            values[since] = values[since][0]
        case _:
            start = LAST + JOB_AT / 24
            runs = (time_ms % DAY_MS - JOB_AT * HOUR_MS) // (hours * HOUR_MS) == 0
            values[runs & ~between(time_ms, start, hours)] += 60
    return Series(time_ms, values, start, hours)


def every(step: int, made: Series) -> tuple[Any, Any]:
    return made.time_ms[::step], made.values[::step]


def two_scrapers(shift: int) -> Callable[[Series, Any], tuple[Any, Any]]:
    """Two producers of one entity, each every five minutes, so many minutes apart."""

    def rows(made: Series, _: Any) -> tuple[Any, Any]:
        minute = np.arange(len(made.time_ms)) % STEP
        either = (minute == 0) | (minute == shift)
        return made.time_ms[either], made.values[either]

    return rows


def seconds_apart(made: Series, _: Any) -> tuple[Any, Any]:
    time_ms, values = every(STEP, made)
    return np.sort(np.concatenate([time_ms, time_ms + 3000])), np.repeat(values, 2)


def jitter(made: Series, rng: Any) -> tuple[Any, Any]:
    time_ms, values = every(STEP, made)
    return time_ms + rng.integers(-MINUTE_MS, MINUTE_MS, len(time_ms)), values


def missing(made: Series, rng: Any) -> tuple[Any, Any]:
    time_ms, values = every(STEP, made)
    kept = rng.random(len(time_ms)) >= 0.1
    return time_ms[kept], values[kept]


def backlog(made: Series, rng: Any) -> tuple[Any, Any]:
    """Six hours arrive newest first; the incident begins in them."""
    time_ms, values = every(STEP, made)
    first = made.start - rng.uniform(0.02, 0.12)
    late = slice(*np.searchsorted(days_of(time_ms), [first, first + 0.25]))
    order = np.arange(len(time_ms))
    order[late] = order[late][::-1]
    return time_ms[order], values[order]


WAYS: dict[str, Callable[[Series, Any], tuple[Any, Any]]] = {
    "every minute": lambda made, _: every(1, made),
    "two scrapers, a minute apart": two_scrapers(1),
    "two scrapers, two minutes apart": two_scrapers(2),
    "two scrapers, seconds apart": seconds_apart,
    "jitter": jitter,
    "a tenth missing": missing,
}


def episodes(time_ms: Any, values: Any, made: Series) -> list[tuple[int, float]]:
    """Return direction and start of the incident's episodes, minutes after it began.

    Of an episode that was open already, it is when it became worse.
    """
    judged, found = judge(time_ms, values).events, {}
    for event in judged:
        name = (int(event["key"]), int(event["episode_ms"]))
        moment = "time_ms" if event["phase"] == WORSE else "start_ms"
        after = 1440 * float(days_of(event[moment]) - made.start)
        if -10 <= after <= 60 * made.hours + 90 and (event["phase"] != CLOSED or name in found):
            found[name] = (int(event["direction"]), min(after, found.get(name, (0, after))[1]))
    return list(found.values())


@cache
def as_every_five_minutes(kind: str, family: str) -> list[tuple[int, float]]:
    made = series(kind, family)
    return episodes(*every(STEP, made), made)


def compare(kind: str, family: str, way: Callable[[Series, Any], tuple[Any, Any]]) -> str:
    """Return what differs from the same series every five minutes; '' = nothing."""
    made = series(kind, family)
    rng = np.random.default_rng(FAMILIES.index(family))
    wanted, found = as_every_five_minutes(kind, family), episodes(*way(made, rng), made)
    assert wanted, (kind, family)
    direction, start = min(wanted, key=lambda episode: episode[1])
    same = [after for way, after in found if way == direction]
    most = INTERVAL_MS / MINUTE_MS + 1 if kind in AT_ONCE else SLOW
    if kind.startswith("missed"):
        most += 30  # it is known once half an hour has all its rows
    if not same:
        return f"{kind} {family}: not found, {found}"
    if kind in AT_ONCE and len(same) > 1:
        return f"{kind} {family}: twice, {found}"
    return "" if abs(min(same) - start) <= most else f"{kind} {family}: {found}, not {wanted}"


@pytest.mark.parametrize("kinds", [AT_ONCE, GROWING], ids=["at once", "growing"])
@pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))
def test_however_a_series_is_reported_its_episodes_are_the_same(way, kinds):
    different = [compare(kind, family, way) for kind in kinds for family in FAMILIES]
    wrong = "; ".join(filter(None, different))
    assert sum(not text for text in different) >= SAME * len(different), wrong


def test_a_backlog_of_six_hours_newest_first_gives_the_same_episodes():
    """Of incidents that a single value shows; the others need the rows in their order."""
    kinds = ("surge", "outage", "spike", "step")
    different = [compare(kind, family, backlog) for kind in kinds for family in FAMILIES]
    assert sum(not text for text in different) >= SAME * len(different), different


def test_growing_incidents_of_a_backlog_are_found():
    for family in FAMILIES:
        for kind in GROWING:
            made = series(kind, family)
            assert episodes(*backlog(made, np.random.default_rng(0)), made), (kind, family)
