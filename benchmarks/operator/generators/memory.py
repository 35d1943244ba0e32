"""What happened once must neither blind nor deafen: readings, bursts, leaks, levels, growth.

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
    WEEK,
    Noise,
    cycle,
    daily_at,
    wave,
)


def bogus_reading(
    seed: int,
    readings: Sequence[float | None] = (None, 65535.0, 10000.0, 2000.0),
    early_readings: Sequence[float] = (65535.0,),
    each: int = 2,
    days: int = 50,
    day: int = 8,
    every: int = 6,
    hour: float = 10.0,
    factor: float = 2.2,
    noise: Noise = GAUSSIAN,
    step_s: int = 300,
) -> Scene:
    """Single impossible readings; later incidents alternate between a surge and an outage.

    readings       : on ``day``; None = a host without one
    early_readings : on the second day, before the warm-up has ended
    """
    scene = Scene(seed, days, step_s)
    pairs = [(reading, day) for reading in readings] + [(reading, 1) for reading in early_readings]
    for number, (reading, reading_day) in enumerate(cycle(pairs, each)):
        name, time = f"host-{number:02d}", scene.clock()
        values = wave(scene.rng(number), time, noise=noise)
        for k, incident_day in enumerate(range(14, days - 1, every)):
            if k % 2:
                scene.incident(name, time, values, incident_day, hour + 5, 1, to=0.0)
            else:
                scene.incident(name, time, values, incident_day, hour, 2, factor=factor)
        if reading is not None:
            moment = scene.at(reading_day, 3)
            values[np.searchsorted(time, moment)] = reading
            scene.excuse(name, moment, moment + DAY)
        scene.add(name, time, value=values)
    return scene


def small_then_outage(
    seed: int,
    bursting: int = 12,
    plain: int = 4,
    days: int = 26,
    day: int = 23,
    hour: float = 21.0,
    before_h: float = 2.0,
    burst: float = 45.0,
    outage_h: float = 6.0,
    noise: Noise = GAUSSIAN,
    step_s: int = 300,
) -> Scene:
    """A short burst of one metric; hours later another metric of the host falls to zero."""
    scene = Scene(seed, days, step_s)
    outage = scene.at(day, hour)
    for number in range(bursting + plain):
        name, time, rng = f"host-{number:02d}", scene.clock(), scene.rng(number)
        requests = wave(rng, time, 1000, 600, 50, noise)
        disk = wave(rng, time, 40, 5, 1.5, noise)
        scene.incident(name, time, requests, day, hour, outage_h, to=0.0, metric="requests")
        scene.must_alarm[-1].end = outage + 30 * MINUTE
        scene.excuse(name, outage, scene.at(day, hour + outage_h + 1))
        if number < bursting:
            scene.incident(name, time, disk, day, hour - before_h, 0.25, plus=burst, required=False)
        scene.add(name, time, requests=requests, disk=disk)
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
    for number in range(hosts):
        name, time = f"host-{number:02d}", scene.clock()
        values = wave(scene.rng(number), time, noise=noise)
        scene.incident(name, time, values, days - 2, hour, 2, factor=factor)
        scene.add(name, time, value=values)
    return scene


def slow_leak(
    seed: int,
    rates: Sequence[float] = (1.5, 6.0),
    each: int = 4,
    days: int = 24,
    day: int = 14,
    base: float = 40.0,
    deviation: float = 0.5,
    noise: Noise = GAUSSIAN,
    step_s: int = 300,
) -> Scene:
    """Memory in percent that grows from one day on without a break, by ``rates`` points a day."""
    scene = Scene(seed, days, step_s)
    begins, ends = scene.at(day), scene.at(days)
    for number, rate in enumerate(cycle(rates, each)):
        name, time = f"host-{number:02d}", scene.clock()
        leaked = np.clip((time - begins) / DAY, 0, None) * rate
        values = wave(scene.rng(number), time, base, 2, deviation, noise) + leaked
        scene.add(name, time, memory_percent=np.clip(values, 0, 99))
        scene.expect(name, begins, scene.at(day + 2))
        scene.quiet(name, begins, ends, at_most=3)
        scene.excuse(name, begins, ends)
    return scene


def level_shift(
    seed: int,
    hosts: int = 8,
    factor: float = 1.6,
    days: int = 45,
    day: int = 21,
    hour: float = 9.0,
    accept_days: int = 7,
    swing: float = 15.0,
    noise: Noise = GAUSSIAN,
    step_s: int = 300,
) -> Scene:
    """A new level that stays: alarmed when it comes, usual some days later.

    A later incident is measured against the new level.
    """
    scene = Scene(seed, days, step_s)
    usual = daily_at(scene.at(days - 6, 12.5), 50, swing) * factor
    for number in range(hosts):
        name, time = f"host-{number:02d}", scene.clock()
        values = wave(scene.rng(number), time, 50, swing, 2.0, noise)
        shift = scene.at(day, hour + number % 4)
        values[time >= shift] *= factor
        accepted = shift + accept_days * DAY
        scene.expect(name, shift, shift + 2 * HOUR)
        scene.quiet(name, shift, accepted, at_most=5)
        scene.excuse(name, shift, accepted)
        scene.incident(name, time, values, days - 6, 12, 2, factor=1.8, usual=usual)
        scene.add(name, time, value=values)
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
    for number in range(hosts):
        name, time = f"host-{number:02d}", scene.clock()
        before, after = levels[number % len(levels)]
        change = scene.at(day, 2 * number % 24)
        scene.add(name, time, value=np.where(time < change, before, after))
        scene.expect(name, change, change + 30 * MINUTE)
        scene.quiet(name, change + 2 * HOUR, ends, at_most=1)
        scene.excuse(name, change, ends)
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
    for number in range(hosts):
        name, time = f"host-{number:02d}", scene.clock()
        growing = per_week ** ((time - scene.start) / WEEK)
        values = wave(scene.rng(number), time, 1000, 400, 40, noise) * growing
        for day in incident_days:
            middle = scene.at(day, 11.5)
            usual = daily_at(middle, 1000, 400) * per_week ** ((middle - scene.start) / WEEK)
            scene.incident(name, time, values, day, 10.5, 2, factor=1.8, usual=usual)
        scene.add(name, time, requests=values)
    return scene
