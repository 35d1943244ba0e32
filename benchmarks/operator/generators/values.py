"""The shapes of values: blips, units, spread, stuck sensors, totals, heavy tails, counts, flags.

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
    Floats,
    Noise,
    between,
    cycle,
    daily,
    daily_at,
    hour_of,
)

FLAT_OR_ANOMALY = ("flat_line", "anomaly")


def blips(
    seed: int,
    hosts: int = 8,
    days: int = 30,
    minutes: float = 30,
    height: float = 25.0,
    incident_days: Sequence[int] = (18, 23, 27),
    noise: Noise = GAUSSIAN,
    step_s: int = 300,
) -> Scene:
    """Single high rows, about one a day, are usual; the same height for half an hour is not."""
    scene = Scene(seed, days, step_s)
    for host in scene.each_host(hosts):
        values = host.wave(50, 10, 3, noise)
        values[host.rng.random(len(host.time)) < step_s / DAY] += height
        for k, day in enumerate(incident_days):
            hour = (7 + 5 * (host.number + k)) % 23
            host.incident(values, day, hour, minutes / 60, Change(plus=height))
        host.add(value=values)
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
    for host, (factor, offset) in scene.each_host_of(cycle(units, each)):
        values = host.wave(noise=noise)
        for day in incident_days:
            usual = offset + factor * daily_at(scene.at(day, 10.5))
            host.incident(values, day, 10, 2, Change(factor=2.2), usual=usual)
        host.add(value=offset + factor * values)
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
    for host in scene.each_host(hosts):
        errors = 2.0 * host.draw_noise(noise)
        for k, day in enumerate(incident_days):
            hour = (3 + 4 * host.number + 7 * k) % 18
            host.incident(errors, day, hour, hours, Change(factor=factor))
        host.add(value=daily(host.time, 60, 15) + errors)
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
    for host in scene.each_host(hosts):
        values = host.wave(50, 10, 2, noise)
        start, end = scene.at(day, 2 * host.number), scene.at(day, 2 * host.number + hours)
        values[between(host.time, start, end)] = values[np.searchsorted(host.time, start) - 1]
        host.expect(start, start + 25.5 * HOUR, "value", FLAT_OR_ANOMALY)
        host.excuse(start, end + 2 * HOUR)
        kinds = ("anomaly", "flat_line")
        host.quiet(scene.start, scene.at(days), metric="cores", kinds=kinds)
        host.add(value=values, cores=np.full(len(host.time), 8.0))
    return scene


def counter_total(
    seed: int,
    hosts: int = 6,
    days: int = 36,
    reset_days: Sequence[float] = (12.4, 24.7),
    day: int = 30,
    rate: float = 1000.0,
    noise: Noise = GAUSSIAN,
    step_s: int = 300,
) -> Scene:
    """A counter that only grows and restarts at 0; as an anomaly it stays constant for hours."""
    hour = 11.0
    hours = 6.0
    scene = Scene(seed, days, step_s)
    start, end = scene.at(day, hour), scene.at(day, hour + hours)
    for host in scene.each_host(hosts):
        drawn = host.wave(rate, rate * 0.5, rate * 0.05, noise)
        increments = np.clip(drawn, 0, None)
        increments[between(host.time, start, end)] = 0
        total, offset = np.cumsum(increments), np.zeros(len(host.time))
        for reset_day in reset_days:
            reset = scene.at(reset_day + host.number / 24)
            row = np.searchsorted(host.time, reset)
            offset[row:] = total[row - 1]
            host.quiet(reset, reset + 12 * HOUR, at_most=1)
            host.excuse(reset, reset + 12 * HOUR)
        host.expect(start, end, None, ("anomaly", "flat_line"))
        host.add(bytes_total=np.round(total - offset))
    return scene


def latency(
    seed: int,
    hosts: int = 8,
    days: int = 36,
    sigma: float = 0.45,
    factor: float = 2.0,
    hours: float = 3.0,
    incident_days: Sequence[int] = (20, 26, 33),
    step_s: int = 300,
) -> Scene:
    """Heavy tails at all times; the anomaly is a median that is twice as high for hours."""
    median = 200.0
    scene = Scene(seed, days, step_s)
    for host in scene.each_host(hosts):
        season = 0.25 * np.cos(2 * np.pi * (hour_of(host.time) - 14) / 24)
        tail = sigma * host.rng.normal(size=len(host.time))
        values: Floats = np.exp(np.log(median) + season + tail)
        for k, day in enumerate(incident_days):
            hour = (1 + 3 * host.number + 8 * k) % 20
            host.incident(values, day, hour, hours, Change(factor=factor))
        host.add(p99_ms=values)
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
    for host in scene.each_host(hosts):
        means = np.full(len(host.time), mean)
        for k, day in enumerate(incident_days):
            hour = (2 + 3 * host.number + 7 * k) % 22
            host.incident(means, day, hour, hours, Change(to=burst))
        host.add(errors=host.rng.poisson(means).astype(float))
    return scene


def zero_counters(
    seed: int,
    means: Sequence[float] = (0.0, 2 / 288),
    each: int = 3,
    days: int = 42,
    burst: float = 40.0,
    step_s: int = 300,
) -> Scene:
    """Errors that are 0 nearly always, and bursts: the reasons must make sense.

    means : errors per row
    """
    scene = Scene(seed, days, step_s)
    for host, mean in scene.each_host_of(cycle(means, each)):
        values = host.rng.poisson(mean, len(host.time)).astype(float)
        host.incident(values, 20, 3, 0.5, Change(plus=burst), usual=0.0)
        host.incident(values, 30, 3, 4, Change(plus=3), usual=0.0)
        host.incident(values, 36, 3, step_s / HOUR, Change(plus=5), required=False)
        host.add(errors=values)
    return scene


def small_integers(
    seed: int, hosts: int = 8, days: int = 34, top: int = 5, jump: float = 15.0, step_s: int = 300
) -> Scene:
    """A queue of 0 to 5; anomalies are half an hour far above, and a night at the day's top."""
    scene = Scene(seed, days, step_s)
    for host in scene.each_host(hosts):
        values = np.clip(np.round(host.wave(2.0, 1.6, 0.8)), 0, top)
        host.incident(values, 18, (2 * host.number) % 22, 0.5, Change(to=jump))
        host.incident(values, 26, 0, 5, Change(to=float(top)))
        host.add(queue=values)
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
    for host in scene.each_host(2 * each):
        present = host.rng.random(len(host.time)) < per_day * step_s / DAY
        present[0] = True
        present |= between(host.time, scene.at(day, hour), scene.at(day, hour + 1))
        values = 1 + host.rng.poisson(0.5, len(host.time)).astype(float)
        host.incident(values, day, hour, 1, Change(plus=storm), metric="errors")
        if host.number < each:
            host.add(present, errors=values)
        else:
            errors = np.where(present, values, np.nan)
            host.add(errors=errors, duration=host.wave(80, 20, 4))
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
    for host in scene.each_host(2 * each):
        if host.number < each:
            values = host.wave(-60, 3, 1, noise)
            host.incident(values, day, 4, 4, Change(plus=-25), usual=usual)
            host.add(dbm=values)
        else:
            values = host.wave(2, 4, 0.5, noise)
            host.incident(values, day, 1, 4, Change(plus=12))
            host.add(celsius=values)
    return scene


def flapping(
    seed: int,
    hosts: int = 6,
    days: int = 38,
    rare: float = 0.0005,
    flapping_day: int = 25,
    down_day: int = 33,
    hours: float = 2.0,
    step_s: int = 300,
) -> Scene:
    """``up`` is 1 with rare zeros; anomalies are two hours of flapping and two hours of 0."""
    scene = Scene(seed, days, step_s)
    for host in scene.each_host(hosts):
        values = np.where(host.rng.random(len(host.time)) < rare, 0.0, 1.0)
        for day, every in ((flapping_day, 2), (down_day, 1)):
            hour = 4 + host.number
            start, end = scene.at(day, hour), scene.at(day, hour + hours)
            values[np.flatnonzero(between(host.time, start, end))[::every]] = 0
            host.expect(start, end)
        host.add(up=values)
    return scene
