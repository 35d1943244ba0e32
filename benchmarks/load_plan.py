"""What a load needs: predictors, partitions and memory, computed from measured rows.

Invariant: every number comes from the files in ``benchmarks/results`` and the constants here; this
module imports nothing of the product.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

RESULTS = Path(__file__).with_name("results")
UTILISATION = 0.7
"""Share of a core that is planned for; the rest is for peaks, replays and rebalances."""

PARTITIONS_A_PREDICTOR = 3
"""So that the load can be divided evenly, also after a predictor has died."""

WHOLE_EVENTS, WHOLE_SERIES, METRICS = 1_000_000, 1_000_000, 3
RSS_SERIES = 30_000
"""Series of the row ``footprint.rss.10000x3``."""


class Measured(NamedTuple):
    """What one predictor takes; cpu_us: per event of three metrics, base_gb: without any series."""

    cpu_us: float
    series_kib: float
    base_gb: float
    score_bytes: float


class Plan(NamedTuple):
    """What a load needs; cores and memory are of the predictors, without the brokers."""

    predictors: int
    partitions: int
    cores: float
    memory_gb: float
    predictor_gb: float
    out_mb_per_s: float


def measured(results: Path = RESULTS) -> Measured:
    """Read the rows that the plan rests on.

    raises : ValueError that names the row which is missing
    """
    cpu_us = _row(results, "throughput", "throughput.predict.ensemble.native")["cpu_us_per_event"]
    rss = _row(results, "footprint", "footprint.rss.10000x3")
    empty = _row(results, "footprint", "footprint.rss.empty")
    series_kib = (rss["value"] - empty["value"]) * 1e9 / 1024 / RSS_SERIES
    return Measured(cpu_us, series_kib, empty["value"], rss["score_bytes"])


def plan(found: Measured, events_per_s: float, series: float) -> Plan:
    """Compute what a load of records with three metrics needs."""
    cores = events_per_s * found.cpu_us / 1e6
    predictors = max(1, math.ceil(cores / UTILISATION))
    series_gb = series * found.series_kib * 1024 / 1e9
    memory_gb = series_gb + predictors * found.base_gb
    return Plan(
        predictors,
        predictors * PARTITIONS_A_PREDICTOR,
        cores,
        memory_gb,
        memory_gb / predictors,
        events_per_s * found.score_bytes / 1e6,
    )


def _row(results: Path, name: str, id_: str) -> dict[str, Any]:
    file = results / f"{name}.json"
    rows = json.loads(file.read_text("utf-8"))["rows"] if file.exists() else []
    for row in rows:
        if row["id"] == id_:
            return dict(row)
    raise ValueError(f"{file.name} has no row {id_}: run `python -m benchmarks.{name} --json`")
