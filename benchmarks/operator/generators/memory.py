"""Single events must not desensitise the detector: readings, bursts, leaks, levels, growth.

Invariant: a host's rows depend only on the scene's seed, the host's number and the parameters.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.operator.scene import Change, Scene
from benchmarks.operator.signals import (
    DAY,
    GAUSSIAN,
    HOUR,
    MINUTE,
    WEEK,
    Noise,
    cycle,
    daily_at,
)


def bogus_reading(
    seed: int,
    readings: Sequence[float | None] = (None, 65535.0, 10000.0, 2000.0),
    each: int = 2,
    days: int = 50,
    day: int = 8,
    every: int = 6,
    noise: Noise = GAUSSIAN,
    step_s: int = 300,
) -> Scene:
    """Single impossible readings; later incidents alternate between a surge and an outage.

    readings : on ``day``; None = a host without one
    """
    hour = 10.0
    factor = 2.2
    scene = Scene(seed, days, step_s)
    before_warmup = (65535.0, 1)
    pairs = [*((reading, day) for reading in readings), before_warmup]
    for host, (reading, reading_day) in scene.each_host_of(cycle(pairs, each)):
        values = host.wave(noise=noise)
        for k, incident_day in enumerate(range(14, days - 1, every)):
            if k % 2:
                host.incident(values, incident_day, hour + 5, 1, Change(to=0.0))
            else:
                host.incident(values, incident_day, hour, 2, Change(factor=factor))
        if reading is not None:
            moment = scene.at(reading_day, 3)
            values[np.searchsorted(host.time, moment)] = reading
            host.excuse(moment, moment + DAY)
        host.add(value=values)
    return scene


def small_then_outage(
    seed: int,
    bursting: int = 12,
    plain: int = 4,
    days: int = 26,
    day: int = 23,
    burst: float = 45.0,
    noise: Noise = GAUSSIAN,
    step_s: int = 300,
) -> Scene:
    """A short burst of one metric; hours later another metric of the host falls to zero."""
    hour = 21.0
    before_h = 2.0
    outage_h = 6.0
    scene = Scene(seed, days, step_s)
    outage = scene.at(day, hour)
    for host in scene.each_host(bursting + plain):
        requests = host.wave(1000, 600, 50, noise)
        disk = host.wave(40, 5, 1.5, noise)
        host.incident(requests, day, hour, outage_h, Change(to=0.0), metric="requests")
        scene.must_alarm[-1].end = outage + 30 * MINUTE
        host.excuse(outage, scene.at(day, hour + outage_h + 1))
        if host.number < bursting:
            host.incident(disk, day, hour - before_h, 0.25, Change(plus=burst), required=False)
        host.add(requests=requests, disk=disk)
    return scene


def long_quiet(
    seed: int,
    hosts: int = 8,
    days: int = 120,
    hour: float = 10.0,
    factor: float = 2.2,
    noise: Noise = GAUSSIAN,
    step_s: int = 300,
) -> Scene:
    """Months in which nothing happens, and one incident at the very end."""
    scene = Scene(seed, days, step_s)
    for host in scene.each_host(hosts):
        values = host.wave(noise=noise)
        host.incident(values, days - 2, hour, 2, Change(factor=factor))
        host.add(value=values)
    return scene


def slow_leak(
    seed: int,
    rates: Sequence[float] = (1.5, 6.0),
    each: int = 4,
    days: int = 24,
    day: int = 14,
    base: float = 40.0,
    noise: Noise = GAUSSIAN,
    step_s: int = 300,
) -> Scene:
    """Memory in percent that grows from one day on without a break, by ``rates`` points a day."""
    deviation = 0.5
    scene = Scene(seed, days, step_s)
    begins, ends = scene.at(day), scene.at(days)
    for host, rate in scene.each_host_of(cycle(rates, each)):
        leaked = np.clip((host.time - begins) / DAY, 0, None) * rate
        values = host.wave(base, 2, deviation, noise) + leaked
        host.add(memory_percent=np.clip(values, 0, 99))
        host.expect(begins, scene.at(day + 2))
        host.quiet(begins, ends, at_most=3)
        host.excuse(begins, ends)
    return scene


def level_shift(
    seed: int,
    hosts: int = 8,
    factor: float = 1.6,
    days: int = 45,
    day: int = 21,
    swing: float = 15.0,
    noise: Noise = GAUSSIAN,
    step_s: int = 300,
) -> Scene:
    """A new level that stays: alarmed when it comes, usual some days later.

    A later incident is measured against the new level.
    """
    hour = 9.0
    accept_days = 7
    scene = Scene(seed, days, step_s)
    usual = daily_at(scene.at(days - 6, 12.5), 50, swing) * factor
    for host in scene.each_host(hosts):
        values = host.wave(50, swing, 2.0, noise)
        shift = scene.at(day, hour + host.number % 4)
        values[host.time >= shift] *= factor
        accepted = shift + accept_days * DAY
        host.expect(shift, shift + 2 * HOUR)
        host.quiet(shift, accepted, at_most=5)
        host.excuse(shift, accepted)
        host.incident(values, days - 6, 12, 2, Change(factor=1.8), usual=usual)
        host.add(value=values)
    return scene


def constant(
    seed: int,
    hosts: int = 12,
    levels: Sequence[tuple[float, float]] = ((3.0, 5.0), (0.0, 2.0), (1.5, 1.0)),
    days: int = 24,
    day: int = 14,
    step_s: int = 300,
) -> Scene:
    """A metric that never moved changes for the first time, and stays there."""
    scene = Scene(seed, days, step_s)
    ends = scene.at(days)
    for host in scene.each_host(hosts):
        before, after = levels[host.number % len(levels)]
        change = scene.at(day, 2 * host.number % 24)
        host.add(value=np.where(host.time < change, before, after))
        host.expect(change, change + 30 * MINUTE)
        host.quiet(change + 2 * HOUR, ends, at_most=1)
        host.excuse(change, ends)
    return scene


def growth(
    seed: int,
    hosts: int = 6,
    weeks: int = 12,
    per_week: float = 1.03,
    incident_days: Sequence[int] = (60, 75),
    noise: Noise = GAUSSIAN,
    step_s: int = 600,
) -> Scene:
    """Traffic that grows by a few percent a week; now and then a surge."""
    scene = Scene(seed, weeks * 7, step_s)
    for host in scene.each_host(hosts):
        growing = per_week ** ((host.time - scene.start) / WEEK)
        values = host.wave(1000, 400, 40, noise) * growing
        for day in incident_days:
            middle = scene.at(day, 11.5)
            usual = daily_at(middle, 1000, 400) * per_week ** ((middle - scene.start) / WEEK)
            host.incident(values, day, 10.5, 2, Change(factor=1.8), usual=usual)
        host.add(requests=values)
    return scene
