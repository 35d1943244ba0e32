"""Several metrics of a host, and several hosts: new, gone and decoupled metrics, fleets, pods.

Invariant: a host's rows depend only on the scene's seed, the host's number and the parameters;
           those of ``one_differs`` also on the fleet's common load.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.operator.scene import Change, Scene
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
    for host in scene.each_host(hosts):
        memory = host.wave(50, 8, 2, noise)
        host.incident(memory, day, (8 + host.number) % 22, 2, Change(plus=35), metric="mem")
        host.quiet(scene.at(appears), scene.at(appears + 3), at_most=1)
        memory[host.time < scene.at(appears)] = np.nan
        cpu, network = host.wave(40, 15, 3, noise), host.wave(900, 300, 60, noise)
        host.add(cpu=cpu, net=network, mem=memory)
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
    for host in scene.each_host(hosts):
        cpu, disk = host.wave(40, 15, 3, noise), host.wave(60, 4, 0.8, noise)
        changes = (("disk", disk, 18.0), ("cpu", cpu, 40.0))
        for k, day in enumerate(incident_days):
            metric, values, plus = changes[(host.number + k) % 2]
            hour = (4 + 5 * host.number) % 19
            host.incident(values, day, hour, 4, Change(plus=plus), metric=metric)
        disk[np.arange(len(host.time)) % every != host.number % every] = np.nan
        host.add(cpu=cpu, disk=disk)
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
    """One metric of three is no longer sent: reported within a day; the others are watched on."""
    scene = Scene(seed, days, step_s)
    kinds = ("missing", "anomaly", "gap", "stopped", "flat_line")
    for host in scene.each_host(hosts):
        cpu, network = host.wave(40, 15, 3, noise), host.wave(900, 300, 60, noise)
        gone = scene.at(day, (10 + host.number) % 24)
        network[host.time >= gone] = np.nan
        host.expect(gone, gone + DAY, None, kinds)
        host.excuse(gone, gone + DAY)
        host.incident(cpu, later, (8 + host.number) % 22, 2, Change(plus=40), metric="cpu")
        host.add(cpu=cpu, net=network, disk=host.wave(60, 5, 1, noise))
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
    for host in scene.each_host(hosts):
        load = _changing_load(scene, host.rng)
        columns = [
            SCALES[k] * (0.3 + load * (1 + 0.03 * host.draw_noise(noise))) for k in range(metrics)
        ]
        for n, day in enumerate(incident_days):
            broken = (host.number + 2 * n) % metrics
            start, end = scene.at(day, 11), scene.at(day, 11 + hours)
            rows = between(host.time, start, end)
            spread = 0.03 * draw_noise(host.rng, int(rows.sum()), noise)
            columns[broken][rows] = SCALES[broken] * (0.3 + 0.75 * (1 + spread))
            mean = load[rows].mean()
            lift = CLEARLY_HIGH - mean + 0.1 if mean < CLEARLY_HIGH else 0.0
            for k in range(metrics):
                if k != broken and lift:
                    columns[k][rows] += SCALES[k] * lift
            host.expect(start, end, f"m{broken}")
        named: dict[str, Any] = {f"m{k}": column for k, column in enumerate(columns)}
        host.add(**named)
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
    for host in scene.each_host(hosts):
        columns: dict[str, Any] = {
            f"m{k:02d}": host.wave(
                100 * (k + 1), 30 * (k + 1), 6 * (k + 1), noise, peak=(8 + k) % 24
            )
            for k in range(metrics)
        }
        for n, day in enumerate(incident_days):
            metric = f"m{(7 * host.number + 5 * n) % metrics:02d}"
            hour = (9 + 3 * host.number + n) % 21
            change = Change(to=0.0) if n % 2 else Change(factor=2.2)
            values = columns[metric]
            host.incident(values, day, hour, 2, change, metric=metric)
        host.add(**columns)
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
    for host in scene.each_host(hosts):
        scale = scene.rng(host.number, 1).uniform(0.8, 1.2)
        values = load * scale + 12 * host.draw_noise(noise)
        if host.number < differing:
            hour = (9 + host.number) % 20
            host.incident(values, 20 + host.number, hour, hours, Change(factor=share))
        host.add(requests=values)
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
        host = scene.new_host(900 + number, f"db-{number}")
        host.time = host.time[host.time >= scene.at(lasting_from, number)]
        cpu = host.wave(40, 10, 2)
        host.incident(cpu, day, 6 + 4 * number, 2, Change(plus=45))
        host.add(cpu=cpu, mem=host.wave(60, 5, 1))
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
