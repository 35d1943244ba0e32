"""Cost of the ensemble per value and series: ``python -m benchmarks.cost [OPTIONS]``.

Options: ``--metrics 1 3 10 50``, ``--series 100 10000 100000``, ``--histories 1 4 16``,
``--repeats N``, ``--against REVISION``, ``--json FILE``.

Each case folds the next rows of all entities, which come by turns, as in a topic. ``--against``
measures another revision, in turn with this one and on the same rows; ``ratio`` is its time over
this one's, and of KiB its size over this one's. A row is correct if nine in ten rows got a score:
those of a new entity are cheaper.

Invariant: only the processor time of the fold counts, on one thread and after compilation.

Times in microseconds hold for one machine; that they do not grow with the history holds for all.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.builds import Build, BuildError, this_build
from benchmarks.documents import report
from benchmarks.fleet.hosts import DAY_ROWS, generate
from benchmarks.quality.revisions import revision

CHILD = Path(__file__).parent / "others" / "cost_child.py"
WARMUP_ROWS = 3 * DAY_ROWS
"""The product's warm-up at five minutes a row."""

HOSTS = 16
"""Hosts whose values differ; with more entities, several have the same ones."""

VALUES, LEAST_ROWS = 200_000, 2
"""Values of one measurement, unless its entities have fewer than LEAST_ROWS rows each."""

LEAST_SCORED = 0.9
SMALLEST, USUAL_METRICS = 300, 3


class Case(NamedTuple):
    """One size.

    series  : metrics of all entities
    history : rows that each entity has behind it, in warm-ups
    """

    metrics: int
    series: int
    history: int = 1

    @property
    def entities(self) -> int:
        """Number of entities."""
        return max(1, round(self.series / self.metrics))

    @property
    def rows(self) -> int:
        """Rows of each entity in one measurement."""
        return max(LEAST_ROWS, VALUES // (self.entities * self.metrics))


class Child:
    """A process of one build."""

    def __init__(self, build: Build, series: Path) -> None:
        self.name = build.name
        self._process = subprocess.Popen(
            [build.python, str(CHILD), str(series)],
            cwd=build.root,
            env=dict(build.environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **request: int) -> dict[str, Any]:
        """Send a request; return the answer.

        raises : BuildError if the process ended
        """
        assert self._process.stdin
        assert self._process.stdout
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise BuildError(f"{self.name}: the process ended: {error}") from error
        line = self._process.stdout.readline()
        if not line:
            raise BuildError(f"{self.name}: ended with {self._process.wait()}, see above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def cases(metrics: Sequence[int], series: Sequence[int], histories: Sequence[int]) -> list[Case]:
    """Return all sizes after one warm-up, and the smallest one after longer histories."""
    found = [Case(m, n) for m in metrics for n in series]
    return found + [Case(USUAL_METRICS, SMALLEST, history) for history in histories]


def measure(case: Case, children: Sequence[Child], repeats: int) -> list[dict[str, Any]]:
    """Fold in turn; return the rows of this build, which is the last, against the first."""
    sizes = []
    for child in children:
        prepared = child.ask(
            entities=case.entities, metrics=case.metrics, history=case.history * WARMUP_ROWS
        )
        sizes.append(prepared["bytes_per_series"] / 1024)
        child.ask(rows=case.rows)
    times: list[list[float]] = [[] for _ in children]
    least_scored = 1.0
    for _ in range(repeats):
        for child, found in zip(children, times, strict=True):
            answer = child.ask(rows=case.rows)
            found.append(1e6 * answer["seconds"] / answer["values"])
            least_scored = min(least_scored, answer["scored"])
    ratios = [base / ours for base, ours in zip(times[0], times[-1], strict=True)]
    name = f"cost.{case.metrics}_metrics.{case.series}_series.{case.history}_warmups"
    base = children[0].name
    shared = {"base": base, "correct": least_scored >= LEAST_SCORED}
    ours_us, base_us = statistics.median(times[-1]), statistics.median(times[0])
    ratio = statistics.median(ratios)
    return [
        {"id": name, "value": ours_us, "unit": "us/value", "ratio": ratio, **shared}
        | {"base_value": base_us},
        {"id": f"{name}.size", "value": sizes[-1], "unit": "KiB/series", **shared}
        | {"ratio": sizes[0] / sizes[-1], "base_value": sizes[0]},
    ]


def write_series(path: Path, metrics: int, rows: int, seed: int) -> None:
    """Write the rows of HOSTS hosts; metrics beyond the fleet's are those of other days."""
    fleet = generate(HOSTS, -(-rows // DAY_ROWS) + 1, seed, anomalies=False)
    columns = [
        np.roll(fleet.values[:, :, place % 3], place // 3 * DAY_ROWS, axis=1)
        for place in range(metrics)
    ]
    np.savez(path, time_ms=fleet.time_ms[:rows], values=np.stack(columns, axis=2)[:, :rows])


def main() -> int:
    options = _options()
    chosen = cases(options.metrics, options.series, options.histories)
    folds = options.repeats + 1
    rows = max(case.history * WARMUP_ROWS + folds * case.rows for case in chosen)
    found = []
    try:
        with ExitStack() as stack:
            file = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "series.npz"
            write_series(file, max(case.metrics for case in chosen), rows, options.seed)
            builds = [this_build()]
            if options.against:
                builds.insert(0, stack.enter_context(revision(options.against)))
            children = [Child(build, file) for build in builds]
            for child in children:
                stack.callback(child.close)
            for case in chosen:
                found += measure(case, children, options.repeats)
                print(json.dumps(found[-2]), file=sys.stderr, flush=True)
    except BuildError as error:
        print(f"benchmarks.cost: {error}", file=sys.stderr)
        return 2
    return report(found, options.repeats, options.json)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cost", description=__doc__.splitlines()[0]
    )
    add = parser.add_argument
    add("--metrics", type=int, nargs="+", default=[1, 3, 10, 50], help="of an entity")
    add("--series", type=int, nargs="+", default=[100, 10_000, 100_000], help="of all entities")
    add("--histories", type=int, nargs="*", default=[1, 4, 16], help="in warm-ups, at one size")
    add("--seed", type=int, default=0)
    add("--repeats", type=int, default=5)
    add("--against", metavar="REVISION", help="another revision, in turn with this one")
    add("--json", type=Path, metavar="FILE", help="write all rows")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
