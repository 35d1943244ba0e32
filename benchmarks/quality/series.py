"""Generated series as files: the fleet with and without anomalies, healthy series of all noises.

Invariant: the same arguments give the same files; the values are those of ``benchmarks.fleet`` and
           ``benchmarks.operator.signals``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.fleet.hosts import METRICS, Fleet
from benchmarks.operator.scene import Scene
from benchmarks.operator.signals import (
    Floats,
    Noise,
    Times,
    daily,
    draw_noise,
    hour_of,
    weekday_of,
)

DEVIATION = 3.0
SHAPES = 3
SEEDS_OF_SHAPE = 16


def host_name(number: int) -> str:
    """Return the name of a host of a fleet."""
    return f"host-{number:04d}"


def fleet_scene(fleet: Fleet) -> Scene:
    """Return a fleet's hosts as a scene."""
    scene = Scene(0, 0)
    for number, values in enumerate(fleet.values):
        columns = {name: values[:, column] for column, name in enumerate(METRICS)}
        scene.add(host_name(number), fleet.time_ms // 1000, **columns)
    return scene


def write_parts(scene: Scene, folder: Path, parts: int) -> list[Path]:
    """Write a scene's hosts into several folders, to be judged side by side."""
    folders = []
    for part in range(parts):
        own = Scene(scene.seed, scene.days, scene.step_s, hosts=scene.hosts[part::parts])
        if own.hosts:
            folders.append(folder / f"part-{part}")
            own.write(folders[-1])
    return folders


def healthy_scene(days: int, seed: int) -> Scene:
    """Generate hosts in which nothing happens, named after their noise: a wave, a week, a line."""
    scene = Scene(seed, days)
    time = scene.clock()
    for family_number, family in enumerate(Noise):
        for shape in range(SHAPES):
            for number in range(SEEDS_OF_SHAPE):
                rng = scene.rng(family_number, shape, number)
                values = _shape(time, shape) + DEVIATION * draw_noise(rng, len(time), family)
                scene.add(f"{family}-{shape}-{number}", time, value=values)
    return scene


def _shape(time: Times, shape: int) -> Floats:
    if shape == 0:
        return daily(time)
    if shape == 1:
        office_day = np.exp(-(((hour_of(time) - 13) / 4) ** 2))
        return np.asarray(20 + 60 * office_day * np.where(weekday_of(time) < 5, 1, 0.5))
    return np.full(len(time), 40.0)
