"""The rhythm of the rows: order, intervals, gaps, hours of reporting.

Invariant: a host's rows depend only on the scene's seed, the host's number and the parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.operator.scene import Change, NewHost, Scene
from benchmarks.operator.signals import (
    DAY,
    GAUSSIAN,
    HOUR,
    MINUTE,
    Floats,
    Noise,
    Times,
    between,
    cycle,
    hour_of,
    weekday_of,
)


def clock_ahead(
    seed: int,
    ahead_days: Sequence[float] = (365.0, 2.0, 0.0),
    each: int = 2,
    days: int = 36,
    day: int = 10,
    incident_days: Sequence[int] = (14, 20, 26, 32),
    noise: Noise = GAUSSIAN,
    step_s: int = 300,
) -> Scene:
    """One row of some hosts is dated ahead, later rows are right; the order of arrival matters."""
    scene = Scene(seed, days, step_s)
    series: dict[str, tuple[Floats, float]] = {}
    for number, ahead in enumerate(cycle(ahead_days, each)):
        name = f"ahead-{ahead:g}d-{number}" if ahead else f"healthy-{number}"
        host = scene.new_host(number, name)
        values = host.wave(noise=noise)
        for incident_day in incident_days:
            host.incident(values, incident_day, 10, 2, Change(factor=2.2))
        host.add(value=values)
        series[name] = (values, ahead)
    slip = int(day * DAY // step_s) + 5
    scene.arrival = []
    for row, moment in enumerate(scene.clock().tolist()):
        rows = [(name, float(values[row]), ahead) for name, (values, ahead) in series.items()]
        scene.arrival += [(moment, name, value) for name, value, _ in rows]
        if row == slip:
            scene.arrival += [
                (moment + ahead * DAY, name, value) for name, value, ahead in rows if ahead
            ]
    return scene


def rhythm(
    seed: int,
    kinds: Sequence[str] = ("plain", "pair", "double", "fast10", "fast1"),
    each: int = 2,
    days: int = 34,
    day: int = 30,
    hour: float = 10.0,
    noise: Noise = GAUSSIAN,
    step_s: int = 300,
) -> Scene:
    """One wave at irregular times: two scrapers, two rows per time, a fast start. Two outages."""
    scene = Scene(seed, days, step_s)
    clocks = _clocks(scene)
    for number, kind in enumerate(cycle(kinds, each)):
        host = scene.new_host(number, f"{kind}-{number:02d}")
        host.time = clocks[kind]
        values = host.wave(noise=noise)
        host.incident(values, day - 10, hour, 3, Change(to=0.0))
        host.incident(values, day, hour + 2, 3, Change(to=0.0))
        host.add(value=values)
    return scene


def _clocks(scene: Scene, apart_s: int = 3, fast_min: int = 30) -> dict[str, Times]:
    """Return the times of the rows by kind: int64 (n,) each."""
    grid = scene.clock()
    fast_end = scene.start + fast_min * MINUTE
    first_minutes = np.arange(scene.start, scene.start + 180)
    return {
        "plain": grid,
        "pair": np.sort(np.concatenate([grid, grid + apart_s])),
        "double": np.repeat(grid, 2),
        "fast10": np.concatenate([np.arange(scene.start, fast_end, 10), grid[grid >= fast_end]]),
        "fast1": np.concatenate([first_minutes, grid[1:]]),
    }


@dataclass(frozen=True)
class Sampling:
    """How the times of rows deviate from regular ones.

    jitter  : share of the interval by which times are off at most
    missing : share of the rows that are left out
    """

    jitter: float = 0.0
    missing: float = 0.0

    def apply(self, host: NewHost) -> None:
        """Change the host's times."""
        step_s = host.scene.step_s
        if self.jitter:
            off = host.rng.uniform(-self.jitter, self.jitter, len(host.time)) * step_s
            host.time = host.time + np.round(off).astype(np.int64) + step_s
        if self.missing:
            host.time = host.time[host.rng.random(len(host.time)) >= self.missing]


REGULAR = Sampling()
SURGE = Change(factor=2.2)


@dataclass(frozen=True)
class Incidents:
    """Incidents of every host.

    every_days : from the first day on
    hop_h      : hours between the times of day of incidents of neighbouring hosts
    change     : a surge, or Change(to=0.0) for an outage
    """

    first_day: float = 10
    every_days: float = 6.0
    hour: float = 10.0
    hours: float = 2.0
    hop_h: float = 0.0
    change: Change = SURGE

    def add_to(self, host: NewHost, values: Floats) -> None:
        """Change values in place; an incident that the scene's end would cut is left out."""
        days = host.scene.days
        every_day = np.arange(self.first_day, days - self.hours / 24, self.every_days)
        for k, day in enumerate(every_day.tolist()):
            hour = (self.hour + self.hop_h * (host.number + 5 * k)) % 24
            if day + (hour + self.hours) / 24 < days:
                host.incident(values, day, hour, self.hours, self.change)


def plain(
    seed: int,
    hosts: int = 8,
    days: float = 30,
    step_s: int = 300,
    deviation: float = 3.0,
    incidents: Incidents = Incidents(),
    sampling: Sampling = REGULAR,
    noise: Noise = GAUSSIAN,
) -> Scene:
    """The ordinary case at any interval: a daily wave and incidents."""
    scene = Scene(seed, days, step_s)
    for host in scene.each_host(hosts):
        sampling.apply(host)
        values = host.wave(deviation=deviation, noise=noise)
        incidents.add_to(host, values)
        host.add(value=values)
    return scene


def gaps(
    seed: int,
    hosts: int = 8,
    days: int = 34,
    gap_h: float = 2.0,
    gap_days: Sequence[int] = (15, 22, 29),
    hour: float = 9.0,
    noise: Noise = GAUSSIAN,
    step_s: int = 300,
) -> Scene:
    """Hours without rows are a gap; their end is no anomaly. Incidents on other days."""
    scene = Scene(seed, days, step_s)
    for host in scene.each_host(hosts):
        values = host.wave(noise=noise)
        kept = np.ones(len(host.time), bool)
        for k, day in enumerate(gap_days):
            start = scene.at(day, (hour + 3 * (host.number + k)) % 20)
            end = start + round(gap_h * HOUR)
            kept &= ~between(host.time, start, end)
            host.expect(start, end + 2 * step_s, None, ("gap", "stopped"))
            host.quiet(end, end + 2 * HOUR)
        host.incident(values, gap_days[0] - 3, 12, 2, Change(factor=2.2))
        host.incident(values, days - 2, 12, 2, Change(factor=2.2))
        host.add(kept, value=values)
    return scene


def business_hours(
    seed: int,
    hosts: int = 6,
    days: int = 49,
    opens: float = 8.0,
    closes: float = 18.0,
    incidents: Sequence[tuple[int, int]] = ((30, 11), (38, 14)),
    noise: Noise = GAUSSIAN,
    step_s: int = 300,
) -> Scene:
    """Rows only while the office is open: neither silent evenings nor mornings are news.

    incidents : (day, hour)
    """
    scene = Scene(seed, days, step_s)
    for host in scene.each_host(hosts):
        is_open = (
            (hour_of(host.time) >= opens)
            & (hour_of(host.time) < closes)
            & (weekday_of(host.time) < 5)
        )
        host.time = host.time[is_open]
        values = host.wave(60, 15, 3, noise, peak=13)
        for day, hour in incidents:
            host.incident(values, day, hour, 2, Change(factor=1.9))
        for day in range(21, days):
            if day % 7 < 5:
                morning = scene.at(day, opens)
                kinds = ("anomaly", "gap", "stopped")
                host.quiet(morning, scene.at(day, opens + 1), kinds=kinds)
        host.add(value=values)
    return scene


def return_after_absence(
    seed: int,
    hosts: int = 5,
    days: int = 80,
    off_day: int = 45,
    off_days: int = 10,
    noise: Noise = GAUSSIAN,
    step_s: int = 600,
) -> Scene:
    """A host that was off for days comes back healthy; incidents long before and after."""
    scene = Scene(seed, days, step_s)
    back = scene.at(off_day + off_days)
    for host in scene.each_host(hosts):
        values = host.wave(noise=noise)
        host.quiet(back, back + 12 * HOUR)
        host.incident(values, off_day + off_days + 8, 10, 2, Change(factor=2.2))
        host.incident(values, off_day - 10, 10, 2, Change(factor=2.2))
        kept = ~between(host.time, scene.at(off_day), back)
        host.add(kept, value=values)
    return scene
