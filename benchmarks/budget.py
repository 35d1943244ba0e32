"""Requested against actual alarms: ``python -m benchmarks.budget [OPTIONS]``.

Options: ``--hosts N --days N --seed N``, ``--data NAB_DIR``, ``--json FILE``.

Invariant: every entity is processed on its own, as in the product; days count from the end of the
           warm-up, and no later row is left out.

The generated hosts are those of ``benchmarks.fleet`` without anomalies. The AWS series of NAB are
only reported, because they are too short for a small budget.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.detecting import fold_entity
from benchmarks.fleet.hosts import generate
from benchmarks.nab.corpus import read_corpus
from shared.ensemble.fold import EnsembleParams, limits_for
from shared.errors import LapwingError
from shared.kernels.units import DAY_MS

Floats = npt.NDArray[np.float64]

ASKED = (0.1, 0.5, 1.0)
FORTNIGHT = 14
FACTOR = 1.5
"""The goal: actual alarms are within this factor of the requested ones."""

CATEGORY = "realAWSCloudwatch"


@dataclass(frozen=True)
class Entity:
    """One entity's rows: int64 (n,) and float64 (n, M)."""

    time_ms: npt.NDArray[np.int64]
    values: Floats


@dataclass(frozen=True)
class Given:
    """Alarms per entity and day after the warm-up.

    expected  : requested rate times the judged days of all entities
    first     : in the first fortnight
    quarters  : in each quarter of the time after the warm-up
    spread    : deviation between entities
    threshold : median over the entities, at the end
    """

    asked: float
    expected: float
    overall: float
    first: float
    second_half: float
    quarters: tuple[float, ...]
    spread: float
    threshold: float

    @property
    def within(self) -> bool:
        """Whether overall, first fortnight and second half are within FACTOR of the request."""
        return all(
            self.asked / FACTOR <= rate <= self.asked * FACTOR
            for rate in (self.overall, self.first, self.second_half)
        )


def measure(entities: Sequence[Entity], asked: float) -> Given:
    """Fold every entity with a budget and count."""
    parts, firsts, days, thresholds = [], [], [], []
    for entity in entities:
        n, metrics = entity.values.shape
        limits = limits_for(metrics, per_day=asked, cold_start=False)
        verdicts = fold_entity(entity.time_ms, entity.values, limits, EnsembleParams())
        judged = np.flatnonzero(~np.isnan(verdicts.score))
        if not len(judged):
            continue
        first = int(judged[0])
        edges = np.linspace(first, n, 5).round().astype(int)
        parts.append([int(verdicts.opened[low:high].sum()) for low, high in pairwise(edges)])
        end = int(np.searchsorted(entity.time_ms, entity.time_ms[first] + FORTNIGHT * DAY_MS))
        lasted = float(entity.time_ms[min(end, n - 1)] - entity.time_ms[first]) / DAY_MS
        firsts.append((int(verdicts.opened[first:end].sum()), lasted))
        days.append(float(entity.time_ms[-1] - entity.time_ms[first]) / DAY_MS)
        thresholds.append(float(verdicts.threshold[-1]))
    counts, total = np.array(parts), sum(days)
    rates = counts.sum(axis=1) / np.array(days)
    return Given(
        asked=asked,
        expected=asked * total,
        overall=float(counts.sum()) / total,
        first=sum(opened for opened, _ in firsts) / sum(lasted for _, lasted in firsts),
        second_half=float(counts[:, 2:].sum()) / (total / 2),
        quarters=tuple((counts.sum(axis=0) / (total / 4)).tolist()),
        spread=float(rates.std()),
        threshold=float(np.median(thresholds)),
    )


def line(given: Given) -> str:
    """Return one budget as one line."""
    quarters = " ".join(f"{rate:6.3f}" for rate in given.quarters)
    return (
        f"{given.asked:5.2f} {given.expected:9.0f} {given.overall:8.3f} {given.first:10.3f}"
        f" {given.second_half:12.3f} "
        f" {quarters} {given.spread:8.3f} {given.threshold:10.2f} "
        f" {'yes' if given.within else 'no'}"
    )


HEAD = (
    "asked  expected  overall  fortnight  second half  quarters                    spread"
    "  threshold  within a factor 1.5"
)


def fleet_entities(hosts: int, days: int, seed: int) -> list[Entity]:
    """Generate hosts without anomalies."""
    fleet = generate(hosts, days, seed, anomalies=False)
    return [Entity(fleet.time_ms, values) for values in fleet.values]


def nab_entities(folder: Path) -> list[Entity]:
    """Read the AWS series, each an entity with one metric.

    raises : DataError
    """
    corpus = read_corpus(folder)
    return [
        Entity(series.time_ms, series.values[:, None])
        for series in corpus
        if series.category == CATEGORY
    ]


def main() -> int:
    options = _options()
    generated = (
        f"{options.hosts} generated hosts x 3 metrics, {options.days} days, seed {options.seed}"
    )
    document: dict[str, Any] = {}
    try:
        groups = {generated: fleet_entities(options.hosts, options.days, options.seed)}
        if options.data:
            groups["the AWS series of NAB (too short to judge)"] = nab_entities(options.data)
    except LapwingError as error:
        print(f"benchmarks.budget: {error}", file=sys.stderr)
        return error.exit_code
    for name, entities in groups.items():
        print(f"{name}\n{HEAD}", flush=True)
        for asked in options.asked:
            began_s = time.process_time()
            given = measure(entities, asked)
            print(line(given), flush=True)
            document.setdefault(name, []).append(asdict(given) | {"within": given.within})
            print(
                f"{time.process_time() - began_s:6.1f} s  asked {asked:g}",
                file=sys.stderr,
                flush=True,
            )
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.budget", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--hosts", type=int, default=32)
    parser.add_argument("--days", type=int, default=75)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--asked", type=float, nargs="+", default=list(ASKED), help="alarms per entity and day"
    )
    parser.add_argument(
        "--data", type=Path, metavar="NAB_DIR", help="a NAB checkout, or its data folder"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
