"""Several metrics of a host, and several hosts: new, gone and decoupled metrics, fleets, pods.

Invariant: a host's rows depend only on the scene's seed, the host's number and the parameters;
           those of ``one_differs`` also on the fleet's common load.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.operator.scene import Scene
from benchmarks.operator.signals import (
    AUTOCORRELATED,
    DAY,
    GAUSSIAN,
    HOUR,
    Floats,
    Noise,
    between,
    daily,
    draw_noise,
    hour_of,
    wave,
)


def new_metric(
    seed: int,
    hosts: int = 8,
    days: int = 38,
    appears: int = 20,
    day: int = 33,
    noise: Noise = GAUSSIAN,
    step_s: int = 300,
) -> Scene:
    """A metric is added to a known host: no anomaly, and two weeks later it is watched."""
    scene = Scene(seed, days, step_s)
    for number in range(hosts):
        name, time, rng = f"host-{number:02d}", scene.clock(), scene.rng(number)
        memory = wave(rng, time, 50, 8, 2, noise)
        scene.incident(name, time, memory, day, (8 + number) % 22, 2, plus=35, metric="mem")
        scene.quiet(name, scene.at(appears), scene.at(appears + 3), at_most=1)
        memory[time < scene.at(appears)] = np.nan
        cpu, network = wave(rng, time, 40, 15, 3, noise), wave(rng, time, 900, 300, 60, noise)
        scene.add(name, time, cpu=cpu, net=network, mem=memory)
    return scene


def mixed_intervals(
    seed: int,
    hosts: int = 8,
    days: int = 36,
    every: int = 12,
    incident_days: Sequence[int] = (18, 25, 32),
    noise: Noise = GAUSSIAN,
    step_s: int = 300,
) -> Scene:
    """One metric in every row, one in every twelfth: empty cells are no news, both are watched."""
    scene = Scene(seed, days, step_s)
    for number in range(hosts):
        name, time, rng = f"host-{number:02d}", scene.clock(), scene.rng(number)
        cpu, disk = wave(rng, time, 40, 15, 3, noise), wave(rng, time, 60, 4, 0.8, noise)
        changes = (("disk", disk, 18.0), ("cpu", cpu, 40.0))
        for k, day in enumerate(incident_days):
            metric, values, plus = changes[(number + k) % 2]
            hour = (4 + 5 * number) % 19
            scene.incident(name, time, values, day, hour, 4, plus=plus, metric=metric)
        disk[np.arange(len(time)) % every != number % every] = np.nan
        scene.add(name, time, cpu=cpu, disk=disk)
    return scene


def metric_gone(
    seed: int,
    hosts: int = 8,
    days: int = 34,
    day: int = 20,
    later: int = 28,
    noise: Noise = GAUSSIAN,
    step_s: int = 300,
) -> Scene:
    """One metric of three is no longer sent: said within a day; the others are watched on."""
    scene = Scene(seed, days, step_s)
    kinds = ("missing", "anomaly", "gap", "stopped", "flat_line")
    for number in range(hosts):
        name, time, rng = f"host-{number:02d}", scene.clock(), scene.rng(number)
        cpu, network = wave(rng, time, 40, 15, 3, noise), wave(rng, time, 900, 300, 60, noise)
        gone = scene.at(day, (10 + number) % 24)
        network[time >= gone] = np.nan
        scene.expect(name, gone, gone + DAY, None, kinds)
        scene.excuse(name, gone, gone + DAY)
        scene.incident(name, time, cpu, later, (8 + number) % 22, 2, plus=40, metric="cpu")
        scene.add(name, time, cpu=cpu, net=network, disk=wave(rng, time, 60, 5, 1, noise))
    return scene


SCALES = (10.0, 55.0, 800.0, 3.0, 20_000.0, 120.0, 7.0, 42.0)
CLEARLY_HIGH = 1.25
"""Mean load from which on a metric at its own average clearly does not follow."""


def decoupled(
    seed: int,
    hosts: int = 6,
    days: int = 36,
    metrics: int = 5,
    incident_days: Sequence[int] = (24, 30),
    hours: float = 4.0,
    noise: Noise = GAUSSIAN,
    step_s: int = 300,
) -> Scene:
    """Metrics follow a load that differs from day to day; one stays at its average under load."""
    scene = Scene(seed, days, step_s)
    for number in range(hosts):
        name, time, rng = f"host-{number:02d}", scene.clock(), scene.rng(number)
        load = _changing_load(scene, rng)
        columns = [
            SCALES[k] * (0.3 + load * (1 + 0.03 * draw_noise(rng, len(time), noise)))
            for k in range(metrics)
        ]
        for n, day in enumerate(incident_days):
            broken = (number + 2 * n) % metrics
            start, end = scene.at(day, 11), scene.at(day, 11 + hours)
            rows = between(time, start, end)
            spread = 0.03 * draw_noise(rng, int(rows.sum()), noise)
            columns[broken][rows] = SCALES[broken] * (0.3 + 0.75 * (1 + spread))
            mean = load[rows].mean()
            lift = CLEARLY_HIGH - mean + 0.1 if mean < CLEARLY_HIGH else 0.0
            for k in range(metrics):
                if k != broken and lift:
                    columns[k][rows] += SCALES[k] * lift
            scene.expect(name, start, end, f"m{broken}")
        scene.add(name, time, **{f"m{k}": column for k, column in enumerate(columns)})
    return scene


def _changing_load(scene: Scene, rng: np.random.Generator) -> Floats:
    """Return a daily season plus what changes from day to day, about 1, float64 (n,)."""
    time = scene.clock()
    nodes = np.arange(0, scene.days + 1, 0.25)
    drawn = rng.normal(0, 0.25, int(scene.days / 0.25) + 4)[: len(nodes)]
    slow = np.interp(time, scene.start + nodes * DAY, drawn)
    season = 0.5 * np.cos(2 * np.pi * (hour_of(time) - 14) / 24)
    return np.clip(1 + season + slow, 0.1, None)


def twenty_metrics(
    seed: int,
    hosts: int = 4,
    metrics: int = 20,
    days: int = 30,
    incident_days: Sequence[int] = (18, 22, 26),
    noise: Noise = GAUSSIAN,
    step_s: int = 600,
) -> Scene:
    """A host with twenty metrics of which one breaks: it must be found and named."""
    scene = Scene(seed, days, step_s)
    for number in range(hosts):
        name, time, rng = f"host-{number:02d}", scene.clock(), scene.rng(number)
        columns = {
            f"m{k:02d}": wave(
                rng, time, 100 * (k + 1), 30 * (k + 1), 6 * (k + 1), noise, peak=(8 + k) % 24
            )
            for k in range(metrics)
        }
        for n, day in enumerate(incident_days):
            metric = f"m{(7 * number + 5 * n) % metrics:02d}"
            hour = (9 + 3 * number + n) % 21
            to, factor = (0.0, 1.0) if n % 2 else (None, 2.2)
            values = columns[metric]
            scene.incident(name, time, values, day, hour, 2, factor=factor, to=to, metric=metric)
        scene.add(name, time, **columns)
    return scene


def one_differs(
    seed: int,
    hosts: int = 30,
    differing: int = 8,
    days: int = 34,
    share: float = 0.55,
    hours: float = 3.0,
    noise: Noise = GAUSSIAN,
    step_s: int = 900,
) -> Scene:
    """A fleet under one load; some hosts keep a share of theirs for hours, each at its own time."""
    scene = Scene(seed, days, step_s)
    time = scene.clock()
    common = 1 + 0.04 * draw_noise(scene.rng(99), len(time), AUTOCORRELATED)
    load = daily(time, 500, 250) * common
    for number in range(hosts):
        name = f"host-{number:02d}"
        scale = scene.rng(number, 1).uniform(0.8, 1.2)
        values = load * scale + 12 * draw_noise(scene.rng(number), len(time), noise)
        if number < differing:
            hour = (9 + number) % 20
            scene.incident(name, time, values, 20 + number, hour, hours, factor=share)
        scene.add(name, time, requests=values)
    return scene


def pod_churn(
    seed: int,
    live: int = 10,
    life_h: float = 6.0,
    days: int = 18,
    lasting_from: int = 11,
    day: int = 16,
    step_s: int = 300,
) -> Scene:
    """Pods that live for hours come and go for weeks; hosts that join late must be watched."""
    scene = Scene(seed, days, step_s)
    life = round(life_h * HOUR)
    for pod in range(live):
        _add_pods(scene, pod, life, scene.start - pod * life // live)
    for number in range(3):
        name, time, rng = f"db-{number}", scene.clock(), scene.rng(900 + number)
        time = time[time >= scene.at(lasting_from, number)]
        cpu = wave(rng, time, 40, 10, 2)
        scene.incident(name, time, cpu, day, 6 + 4 * number, 2, plus=45)
        scene.add(name, time, cpu=cpu, mem=wave(rng, time, 60, 5, 1))
    return scene


def _add_pods(scene: Scene, pod: int, life: int, born: int) -> None:
    """Add pods one after the other, each for ``life`` seconds; the first is born at ``born``."""
    ends = scene.at(scene.days)
    while born < ends:
        time = np.arange(max(born, scene.start), min(born + life, ends), scene.step_s)
        time = time + (-time) % scene.step_s
        if len(time) > 2:
            rng = scene.rng(pod, born % 100_003)
            name = f"web-{pod}-{(born - scene.start + 7 * DAY) // life:05d}"
            cpu, memory = rng.uniform(10, 20, len(time)), rng.uniform(10, 20, len(time))
            scene.add(name, time, cpu=cpu, mem=memory)
        born += life
