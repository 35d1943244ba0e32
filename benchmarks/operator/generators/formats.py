"""Formats of files: compact times, a second column of times.

Invariant: the rows are those of ``rhythm.plain``; only how they are written differs.
"""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np

from benchmarks.operator.generators.rhythm import Incidents, plain
from benchmarks.operator.scene import Scene
from benchmarks.operator.signals import between, iso


def compact_times(
    seed: int, form: str = "%Y%m%d%H", days: int = 40, hosts: int = 2, interval_s: int = 3600
) -> Scene:
    """Times as digits without separators: read as what they are, or refused with file and line."""
    scene = plain(
        seed,
        hosts=hosts,
        days=days,
        step_s=interval_s,
        incidents=Incidents(first_day=20, every_days=9, hours=3),
    )
    scene.files = {}
    for host in scene.hosts:
        stamps = [
            datetime.fromtimestamp(moment, UTC).strftime(form) for moment in host.time.tolist()
        ]
        rows = zip(stamps, host.columns["value"].tolist(), strict=True)
        body = "".join(f"{stamp},{value:.6g}\n" for stamp, value in rows)
        scene.files[f"{host.name}.csv"] = f"timestamp,value\n{body}"
    return scene


def second_time(
    seed: int, days: int = 32, hosts: int = 4, column: str = "ingested_at", interval_s: int = 300
) -> Scene:
    """Beside the metric is the time of writing in milliseconds, which a backfill makes jump."""
    incidents = Incidents(first_day=15, every_days=6)
    scene = plain(seed, hosts=hosts, days=days, step_s=interval_s, incidents=incidents)
    scene.files = {}
    for number, host in enumerate(scene.hosts):
        written = host.time + scene.rng(number, 7).integers(1, 20, len(host.time))
        backfilled = between(host.time, scene.at(22, 6), scene.at(22, 12))
        written[backfilled] = scene.at(22, 12) + np.arange(int(backfilled.sum()))
        cpu = host.columns["value"]
        rows = zip(iso(host.time), (written * 1000).tolist(), cpu.tolist(), strict=True)
        body = "".join(f"{stamp},{cell},{value:.6g}\n" for stamp, cell, value in rows)
        scene.files[f"{host.name}.csv"] = f"timestamp,{column},cpu\n{body}"
        scene.quiet(host.name, scene.start, scene.at(days), metric=column)
        host.columns = {"cpu": cpu}
    return scene
