"""The shapes of values: blips, units, spread, stuck sensors, totals, heavy tails, counts, flags.

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
    Floats,
    Noise,
    between,
    cycle,
    daily,
    daily_at,
    draw_noise,
    hour_of,
    wave,
)

FLAT_OR_ANOMALY = ("flat_line", "anomaly")


def blips(
    seed: int,
    hosts: int = 8,
    days: int = 30,
    per_day: float = 1.0,
    height: float = 25.0,
    minutes: float = 30,
    incident_days: Sequence[int] = (18, 23, 27),
    noise: Noise = GAUSSIAN,
    step_s: int = 300,
) -> Scene:
    """Single high rows, about one a day, are usual; the same height for half an hour is not."""
    scene = Scene(seed, days, step_s)
    for number in range(hosts):
        name, time, rng = f"host-{number:02d}", scene.clock(), scene.rng(number)
        values = wave(rng, time, 50, 10, 3, noise)
        values[rng.random(len(time)) < per_day * step_s / DAY] += height
        for k, day in enumerate(incident_days):
            hour = (7 + 5 * (number + k)) % 23
            scene.incident(name, time, values, day, hour, minutes / 60, plus=height)
        scene.add(name, time, value=values)
    return scene


def scales(
    seed: int,
    factors: Sequence[float] = (1e-9, 1e-3, 1e6, 1e12),
    offsets: Sequence[float] = (1e5,),
    each: int = 2,
    days: int = 32,
    incident_days: Sequence[int] = (14, 20, 28),
    noise: Noise = GAUSSIAN,
    step_s: int = 300,
) -> Scene:
    """The same wave in tiny and huge units, and small on top of a large constant."""
    scene = Scene(seed, days, step_s)
    units = [(factor, 0.0) for factor in factors] + [(1.0, offset) for offset in offsets]
    for number, (factor, offset) in enumerate(cycle(units, each)):
        name, time = f"host-{number:02d}", scene.clock()
        values = wave(scene.rng(number), time, noise=noise)
        for day in incident_days:
            usual = offset + factor * daily_at(scene.at(day, 10.5))
            scene.incident(name, time, values, day, 10, 2, factor=2.2, usual=usual)
        scene.add(name, time, value=offset + factor * values)
    return scene


def noise_up(
    seed: int,
    hosts: int = 8,
    days: int = 32,
    factor: float = 4.0,
    hours: float = 6.0,
    incident_days: Sequence[int] = (20, 27),
    noise: Noise = GAUSSIAN,
    step_s: int = 300,
) -> Scene:
    """The level stays, the spread grows for some hours."""
    scene = Scene(seed, days, step_s)
    for number in range(hosts):
        name, time = f"host-{number:02d}", scene.clock()
        errors = 2.0 * draw_noise(scene.rng(number), len(time), noise)
        for k, day in enumerate(incident_days):
            hour = (3 + 4 * number + 7 * k) % 18
            scene.incident(name, time, errors, day, hour, hours, factor=factor)
        scene.add(name, time, value=daily(time, 60, 15) + errors)
    return scene


def frozen_sensor(
    seed: int,
    hosts: int = 10,
    days: int = 28,
    day: int = 20,
    hours: float = 36,
    noise: Noise = GAUSSIAN,
    step_s: int = 300,
) -> Scene:
    """A sensor repeats its last value; beside it is a metric that rightly never changes."""
    scene = Scene(seed, days, step_s)
    for number in range(hosts):
        name, time = f"host-{number:02d}", scene.clock()
        values = wave(scene.rng(number), time, 50, 10, 2, noise)
        start, end = scene.at(day, 2 * number), scene.at(day, 2 * number + hours)
        values[between(time, start, end)] = values[np.searchsorted(time, start) - 1]
        scene.expect(name, start, start + 25.5 * HOUR, "value", FLAT_OR_ANOMALY)
        scene.excuse(name, start, end + 2 * HOUR)
        kinds = ("anomaly", "flat_line")
        scene.quiet(name, scene.start, scene.at(days), metric="cores", kinds=kinds)
        scene.add(name, time, value=values, cores=np.full(len(time), 8.0))
    return scene


def counter_total(
    seed: int,
    hosts: int = 6,
    days: int = 36,
    reset_days: Sequence[float] = (12.4, 24.7),
    day: int = 30,
    hour: float = 11.0,
    hours: float = 6.0,
    rate: float = 1000.0,
    noise: Noise = GAUSSIAN,
    step_s: int = 300,
) -> Scene:
    """A total that only grows and restarts at 0; the anomaly is that it stands still for hours."""
    scene = Scene(seed, days, step_s)
    start, end = scene.at(day, hour), scene.at(day, hour + hours)
    for number in range(hosts):
        name, time = f"host-{number:02d}", scene.clock()
        drawn = wave(scene.rng(number), time, rate, rate * 0.5, rate * 0.05, noise)
        increments = np.clip(drawn, 0, None)
        increments[between(time, start, end)] = 0
        total, offset = np.cumsum(increments), np.zeros(len(time))
        for reset_day in reset_days:
            reset = scene.at(reset_day + number / 24)
            row = np.searchsorted(time, reset)
            offset[row:] = total[row - 1]
            scene.quiet(name, reset, reset + 12 * HOUR, at_most=1)
            scene.excuse(name, reset, reset + 12 * HOUR)
        scene.expect(name, start, end, None, ("anomaly", "flat_line"))
        scene.add(name, time, bytes_total=np.round(total - offset))
    return scene


def latency(
    seed: int,
    hosts: int = 8,
    days: int = 36,
    sigma: float = 0.45,
    factor: float = 2.0,
    hours: float = 3.0,
    incident_days: Sequence[int] = (20, 26, 33),
    median: float = 200.0,
    step_s: int = 300,
) -> Scene:
    """Heavy tails at all times; the anomaly is a median that is twice as high for hours."""
    scene = Scene(seed, days, step_s)
    for number in range(hosts):
        name, time = f"host-{number:02d}", scene.clock()
        season = 0.25 * np.cos(2 * np.pi * (hour_of(time) - 14) / 24)
        tail = sigma * scene.rng(number).normal(size=len(time))
        values: Floats = np.exp(np.log(median) + season + tail)
        for k, day in enumerate(incident_days):
            hour = (1 + 3 * number + 8 * k) % 20
            scene.incident(name, time, values, day, hour, hours, factor=factor)
        scene.add(name, time, p99_ms=values)
    return scene


def sparse_counts(
    seed: int,
    hosts: int = 8,
    days: int = 34,
    mean: float = 0.3,
    burst: float = 6.0,
    hours: float = 1.0,
    incident_days: Sequence[int] = (16, 23, 30),
    step_s: int = 300,
) -> Scene:
    """Rare whole numbers; the anomaly is an hour with many."""
    scene = Scene(seed, days, step_s)
    for number in range(hosts):
        name, time = f"host-{number:02d}", scene.clock()
        means = np.full(len(time), mean)
        for k, day in enumerate(incident_days):
            hour = (2 + 3 * number + 7 * k) % 22
            scene.incident(name, time, means, day, hour, hours, to=burst)
        scene.add(name, time, errors=scene.rng(number).poisson(means).astype(float))
    return scene


def zero_counters(
    seed: int,
    means: Sequence[float] = (0.0, 2 / 288),
    each: int = 3,
    days: int = 42,
    burst: float = 40.0,
    step_s: int = 300,
) -> Scene:
    """Errors that are 0 nearly always, and bursts: what is said of them must make sense.

    means : errors per row
    """
    scene = Scene(seed, days, step_s)
    for number, mean in enumerate(cycle(means, each)):
        name, time = f"host-{number:02d}", scene.clock()
        values = scene.rng(number).poisson(mean, len(time)).astype(float)
        scene.incident(name, time, values, 20, 3, 0.5, plus=burst, usual=0.0)
        scene.incident(name, time, values, 30, 3, 4, plus=3, usual=0.0)
        scene.incident(name, time, values, 36, 3, step_s / HOUR, plus=5, required=False)
        scene.add(name, time, errors=values)
    return scene


def small_integers(
    seed: int, hosts: int = 8, days: int = 34, top: int = 5, jump: float = 15.0, step_s: int = 300
) -> Scene:
    """A queue of 0 to 5; anomalies are half an hour far above, and a night at the day's top."""
    scene = Scene(seed, days, step_s)
    for number in range(hosts):
        name, time = f"host-{number:02d}", scene.clock()
        values = np.clip(np.round(wave(scene.rng(number), time, 2.0, 1.6, 0.8)), 0, top)
        scene.incident(name, time, values, 18, (2 * number) % 22, 0.5, to=jump)
        scene.incident(name, time, values, 26, 0, 5, to=float(top))
        scene.add(name, time, queue=values)
    return scene


def sparse_errors(
    seed: int,
    each: int = 5,
    days: int = 56,
    per_day: float = 8.0,
    day: int = 45,
    hour: float = 3.0,
    storm: float = 40.0,
    step_s: int = 300,
) -> Scene:
    """Rows, or cells, only when there were errors; the anomaly is an hour with many."""
    scene = Scene(seed, days, step_s)
    for number in range(2 * each):
        name, time, rng = f"host-{number:02d}", scene.clock(), scene.rng(number)
        present = rng.random(len(time)) < per_day * step_s / DAY
        present[0] = True
        present |= between(time, scene.at(day, hour), scene.at(day, hour + 1))
        values = 1 + rng.poisson(0.5, len(time)).astype(float)
        scene.incident(name, time, values, day, hour, 1, plus=storm, metric="errors")
        if number < each:
            scene.add(name, time[present], errors=values[present])
        else:
            errors = np.where(present, values, np.nan)
            scene.add(name, time, errors=errors, duration=wave(rng, time, 80, 20, 4))
    return scene


def negative_values(
    seed: int,
    each: int = 3,
    days: int = 38,
    day: int = 30,
    noise: Noise = GAUSSIAN,
    step_s: int = 300,
) -> Scene:
    """Signal strength in dBm and temperature in Celsius, which have no ratio."""
    scene = Scene(seed, days, step_s)
    usual = daily_at(scene.at(day, 6), -60, 3)
    for number in range(2 * each):
        name, time, rng = f"host-{number:02d}", scene.clock(), scene.rng(number)
        if number < each:
            values = wave(rng, time, -60, 3, 1, noise)
            scene.incident(name, time, values, day, 4, 4, plus=-25, usual=usual)
            scene.add(name, time, dbm=values)
        else:
            values = wave(rng, time, 2, 4, 0.5, noise)
            scene.incident(name, time, values, day, 1, 4, plus=12)
            scene.add(name, time, celsius=values)
    return scene


def flapping(
    seed: int,
    hosts: int = 6,
    days: int = 38,
    rare: float = 0.0005,
    flapping_day: int = 25,
    down_day: int = 33,
    hour: float = 4.0,
    hours: float = 2.0,
    step_s: int = 300,
) -> Scene:
    """``up`` is 1 with rare zeros; anomalies are two hours of flapping and two hours of 0."""
    scene = Scene(seed, days, step_s)
    for number in range(hosts):
        name, time, rng = f"host-{number:02d}", scene.clock(), scene.rng(number)
        values = np.where(rng.random(len(time)) < rare, 0.0, 1.0)
        for day, every in ((flapping_day, 2), (down_day, 1)):
            start, end = scene.at(day, hour + number), scene.at(day, hour + number + hours)
            values[np.flatnonzero(between(time, start, end))[::every]] = 0
            scene.expect(name, start, end)
        scene.add(name, time, up=values)
    return scene
