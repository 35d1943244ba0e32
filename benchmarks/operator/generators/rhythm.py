"""The rhythm of the rows: order, intervals, gaps, hours of reporting.

Invariant: a host's rows depend only on the scene's seed, the host's number and the parameters.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.operator.scene import Scene
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
    wave,
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
        time = scene.clock()
        values = wave(scene.rng(number), time, noise=noise)
        for incident_day in incident_days:
            scene.incident(name, time, values, incident_day, 10, 2, factor=2.2)
        scene.add(name, time, value=values)
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
    """The same wave at odd times: two scrapers, two rows per time, a fast start. Two outages."""
    scene = Scene(seed, days, step_s)
    clocks = _clocks(scene)
    for number, kind in enumerate(cycle(kinds, each)):
        name, time = f"{kind}-{number:02d}", clocks[kind]
        values = wave(scene.rng(number), time, noise=noise)
        scene.incident(name, time, values, day - 10, hour, 3, to=0.0)
        scene.incident(name, time, values, day, hour + 2, 3, to=0.0)
        scene.add(name, time, value=values)
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


def plain(
    seed: int,
    hosts: int = 8,
    days: float = 30,
    step_s: int = 300,
    deviation: float = 3.0,
    first_day: float = 10,
    every_days: float = 6.0,
    hour: float = 10.0,
    hours: float = 2.0,
    factor: float = 2.2,
    hop_h: float = 0.0,
    jitter: float = 0.0,
    missing: float = 0.0,
    to_zero: bool = False,
    noise: Noise = GAUSSIAN,
) -> Scene:
    """The ordinary case at any interval: a daily wave and incidents.

    hop_h   : hours between the times of day of incidents of neighbouring hosts
    jitter  : share of the interval by which times are off at most
    missing : share of the rows that are left out
    to_zero : an incident is an outage instead of a surge
    """
    scene = Scene(seed, days, step_s)
    for number in range(hosts):
        name, time, rng = f"host-{number:02d}", scene.clock(), scene.rng(number)
        if jitter:
            off = np.round(rng.uniform(-jitter, jitter, len(time)) * step_s).astype(np.int64)
            time = time + off + step_s
        if missing:
            time = time[rng.random(len(time)) >= missing]
        values = wave(rng, time, deviation=deviation, noise=noise)
        incident_days = np.arange(first_day, days - hours / 24, every_days)
        for k, day in enumerate(incident_days.tolist()):
            at_hour = (hour + hop_h * (number + 5 * k)) % 24
            if day + (at_hour + hours) / 24 >= days:
                continue
            if to_zero:
                scene.incident(name, time, values, day, at_hour, hours, to=0.0)
            else:
                scene.incident(name, time, values, day, at_hour, hours, factor=factor)
        scene.add(name, time, value=values)
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
    """Hours without rows, which must be said; their end is no anomaly. Incidents on other days."""
    scene = Scene(seed, days, step_s)
    for number in range(hosts):
        name, time = f"host-{number:02d}", scene.clock()
        values = wave(scene.rng(number), time, noise=noise)
        kept = np.ones(len(time), bool)
        for k, day in enumerate(gap_days):
            start = scene.at(day, (hour + 3 * (number + k)) % 20)
            end = start + round(gap_h * HOUR)
            kept &= ~between(time, start, end)
            scene.expect(name, start, end + 2 * step_s, None, ("gap", "stopped"))
            scene.quiet(name, end, end + 2 * HOUR)
        scene.incident(name, time, values, gap_days[0] - 3, 12, 2, factor=2.2)
        scene.incident(name, time, values, days - 2, 12, 2, factor=2.2)
        scene.add(name, time[kept], value=values[kept])
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
    for number in range(hosts):
        name, time = f"host-{number:02d}", scene.clock()
        is_open = (hour_of(time) >= opens) & (hour_of(time) < closes) & (weekday_of(time) < 5)
        time = time[is_open]
        values = wave(scene.rng(number), time, 60, 15, 3, noise, peak=13)
        for day, hour in incidents:
            scene.incident(name, time, values, day, hour, 2, factor=1.9)
        for day in range(21, days):
            if day % 7 < 5:
                morning = scene.at(day, opens)
                kinds = ("anomaly", "gap", "stopped")
                scene.quiet(name, morning, scene.at(day, opens + 1), kinds=kinds)
        scene.add(name, time, value=values)
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
    for number in range(hosts):
        name, time = f"host-{number:02d}", scene.clock()
        values = wave(scene.rng(number), time, noise=noise)
        scene.quiet(name, back, back + 12 * HOUR)
        scene.incident(name, time, values, off_day + off_days + 8, 10, 2, factor=2.2)
        scene.incident(name, time, values, off_day - 10, 10, 2, factor=2.2)
        kept = ~between(time, scene.at(off_day), back)
        scene.add(name, time[kept], value=values[kept])
    return scene
