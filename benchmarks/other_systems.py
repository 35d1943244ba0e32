"""The same job in other systems: ``python -m benchmarks.other_systems [--rows PATTERN]``.

``forest``: a predictor with an Isolation Forest alone, and quixstreams with the same forest in a
compiled kernel, row by row, on one real Kafka. ``detector``: the ensemble's fold, and one Random
Cut Forest (Java) for each entity, on rows in memory. All are measured in turn. quixstreams is
correct if each record has exactly one result and all runs have the same bytes; forests, if every
score is finite. quixstreams and the Java library are fetched by pip and Maven on first use.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import ExitStack
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np

import schemas
from benchmarks.alternating import rows_of
from benchmarks.avro_codec import without_logical_types
from benchmarks.documents import PACKAGES, report
from benchmarks.environments import python_with
from benchmarks.fleet.hosts import METRICS, generate
from benchmarks.services import services
from benchmarks.throughput import Bench, Row, Run
from shared.artifacts import current, load, trust
from shared.ensemble.fold import EnsembleState, Rows, fold, limits_for
from shared.models.model import Forest
from shared.settings import ModelSettings

QUIXSTREAMS = ("quixstreams==3.28.1", "fastavro==1.13.1", "numba==0.68.1", "numpy==2.4.6")
RANDOM_CUT_FOREST = "software.amazon.randomcutforest:randomcutforest-core:4.4.0"
FOREST = Row("isolation_forest", "native")
OTHERS = Path(__file__).with_name("others")
GUARANTEES = {"exactly_once": "exactly-once", "at_least_once": "at-least-once"}


def forest(environ: dict[str, str], folder: Path, options: Any) -> list[dict[str, Any]]:
    """Compare a predictor with quixstreams on one Kafka."""
    bench = Bench(environ, folder, options.hosts, options.days, {"forest": FOREST})
    _write_forest(folder)
    python = python_with("quixstreams", QUIXSTREAMS)
    found: dict[str, list[Run]] = {name: [] for name in ("lapwing", *GUARANTEES)}
    for _ in range(options.repeats):
        found["lapwing"].append(bench.predict(FOREST))
        for name, guarantee in GUARANTEES.items():
            found[name].append(_quixstreams(bench, python, folder, guarantee))
        print({name: round(runs[-1].events_per_s) for name, runs in found.items()}, flush=True)
    total, rows = bench.totals[3], []
    for name, runs in found.items():
        ratios = [
            ours.events_per_s / theirs.events_per_s
            for ours, theirs in zip(found["lapwing"], runs, strict=True)
        ]
        is_complete = all(run.results == total for run in runs)
        rows.append(
            {
                "id": f"other_systems.forest.{_name(name)}",
                "value": statistics.median(run.events_per_s for run in runs),
                "unit": "events/s",
                "cpu_us_per_event": statistics.median(run.cpu_us for run in runs),
                "base": "other_systems.forest.lapwing",
                "ratio": 1.0 / statistics.median(ratios),
                "correct": is_complete and len({run.digest for run in runs}) == 1,
            }
        )
    return rows


def _name(name: str) -> str:
    return name if name == "lapwing" else f"quixstreams_{name}"


def _quixstreams(bench: Bench, python: Path, folder: Path, guarantee: str) -> Run:
    settings = bench.fresh(FOREST)
    given = {
        "address": settings.bootstrap,
        "input": settings.topics.input,
        "output": settings.topics.scores,
        "group": settings.predict.group,
        "guarantee": guarantee,
        "folder": str(folder),
    }
    command = [str(python), str(OTHERS / "quixstreams_forest.py"), json.dumps(given)]
    process = subprocess.Popen(command, cwd=folder, text=True)
    return bench.follow(process, settings, bench.totals[3])


def _write_forest(folder: Path) -> None:
    """Write the trained forest as plain arrays, and the schema of the input."""
    models = folder / FOREST.detector
    sha256 = current(models)
    if sha256 is None:
        raise RuntimeError(f"no model was trained in {models}")
    member = load(models, sha256, trust(ModelSettings())).member
    if not isinstance(member, Forest):
        raise TypeError(f"the model is a {type(member).__name__}")
    names = ("feature", "threshold", "left", "path_length", "offsets", "denominator", "features")
    arrays = {name: np.asarray(getattr(member, name)) for name in names}
    np.savez(folder / "forest.npz", cut=np.float64(0.6), **arrays)  # type: ignore[arg-type]
    schema = without_logical_types(json.loads(schemas.text(schemas.METRIC_EVENT)))
    (folder / "input.avsc").write_text(json.dumps(schema), "utf-8")


def detector(folder: Path, options: Any) -> list[dict[str, Any]]:
    """Compare the ensemble's fold with a Random Cut Forest for each entity."""
    hosts, warm, rows = options.entities, 3 * 288, options.rows_per_entity
    fleet = generate(hosts, -(-(warm + rows) // 288), seed=0, anomalies=False)
    values = fleet.values[:, : warm + rows].transpose(1, 0, 2).reshape(-1, len(METRICS))
    values = np.nan_to_num(np.ascontiguousarray(values))
    (folder / "rows.bin").write_bytes(values.astype("<f8").tobytes())
    times = np.repeat(fleet.time_ms[: warm + rows], hosts)
    entity = np.tile(np.arange(hosts, dtype=np.int32), warm + rows)
    slots = np.arange(hosts * len(METRICS), dtype=np.int32).reshape(hosts, -1)[entity]
    limits, state, cut = limits_for(len(METRICS)), EnsembleState(), hosts * warm

    def part(low: int, high: int) -> Rows:
        return Rows(entity[low:high], times[low:high], values[low:high], slots[low:high])

    state.reserve(hosts, hosts * len(METRICS))
    fold(state, part(0, cut), limits)
    arrays = state.to_arrays(hosts, hosts * len(METRICS))
    java = _java(folder, hosts, cut)
    found: dict[str, list[float]] = {"lapwing": [], "random_cut_forest": []}
    unknown = 0
    for _ in range(options.repeats):
        copy = EnsembleState.from_arrays(arrays)
        began_s = time.perf_counter()
        fold(copy, part(cut, len(values)), limits)
        found["lapwing"].append(time.perf_counter() - began_s)
        seconds, unknown_now = _ask(java)
        found["random_cut_forest"].append(seconds)
        unknown += unknown_now
    java.communicate()
    scale = 1e6 / (len(values) - cut)
    measured = rows_of("other_systems.detector", found, "lapwing", "us/row", scale)
    return [row | {"correct": not unknown} for row in measured]


def _java(folder: Path, hosts: int, before: int) -> subprocess.Popen[str]:
    """Start the Java program; Maven fetches the library."""
    jars = Path(tempfile.gettempdir()) / f"lapwing-bench-{RANDOM_CUT_FOREST.replace(':', '-')}"
    if not list(jars.glob("*.jar")):
        artifact = [f"-Dartifact={RANDOM_CUT_FOREST}", f"-DoutputDirectory={jars}"]
        subprocess.run(["mvn", "-q", "-B", "dependency:copy", *artifact], check=True)
    program = str(OTHERS / "RandomCutForestTimes.java")
    arguments = [str(folder / "rows.bin"), str(hosts), str(len(METRICS)), str(before)]
    return subprocess.Popen(
        ["java", "-XX:+UseSerialGC", "-Xmx2g", "-cp", f"{jars}/*", program, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _ask(java: subprocess.Popen[str]) -> tuple[float, int]:
    """Run one pass; return its seconds, and how many scores are not finite."""
    assert java.stdin is not None
    assert java.stdout is not None
    java.stdin.write("\n")
    java.stdin.flush()
    answer = java.stdout.readline().split()
    if len(answer) != 2:
        raise RuntimeError(f"the Java program ended with {java.wait()}")
    return float(answer[0]), int(answer[1])


def main() -> int:
    options = _options()
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if fnmatch("forest", options.rows):
            environ = {**os.environ, **services(stack)} | {
                "LAPWING_TOPICS__DATASET": f"bench{uuid.uuid4().hex[:8]}",
                "LAPWING_TELEMETRY__LOG_LEVEL": "warning",
            }
            rows += forest(environ, folder, options)
        if fnmatch("detector", options.rows):
            rows += detector(folder, options)
    return report(rows, options.repeats, options.json, ("confluent-kafka", *PACKAGES))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default="*", metavar="PATTERN", help="forest or detector")
    parser.add_argument("--hosts", type=int, default=48, help="of the topic")
    parser.add_argument("--days", type=int, default=8, help="of the topic")
    parser.add_argument("--entities", type=int, default=50, help="of the rows in memory")
    parser.add_argument("--rows-per-entity", type=int, default=288)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all rows")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
