"""How many incidents alarms are: ``python -m benchmarks.incident_counts [OPTIONS]``.

Options: ``--examples N``, ``--json FILE``.

The detector runs as shipped over recorded metrics, NAB's CloudWatch series (LAPWING_NAB_DIR) and
the sets of traces (LAPWING_TRACES_DIR), each of which is skipped with a message where it is
missing; its alarms are folded by the fold of ``lapwing incidents``. Of each set the incidents with
the most metrics are shown. Then an outage: nineteen metrics of one host fall to nothing for three
hours, in generated series of eight seeds.

Invariant: exit code 1 unless each outage is one incident.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.histories import Prepared
from benchmarks.traces.running import SETS, find_folder
from lapwing.backtest.feeds import Feed, InputOptions, open_feed
from lapwing.backtest.run import BacktestResult, Variant, run
from shared.batch import Batch, Blob
from shared.columns import Columns
from shared.events import Phase
from shared.incidents.grouping import Rules
from shared.incidents.incident import Incident
from shared.incidents.of_anomalies import incidents_of
from shared.scoring.configuration import Configuration
from shared.settings import Settings
from shared.wording import duration, minute

CLOUDWATCH = Path("data") / "realAWSCloudwatch"
METRICS, DAYS, DAY_ROWS, STEP_MS = 19, 14, 288, 300_000
OUTAGE_DAY, OUTAGE_ROWS = 11.6, 36
BEGIN_MS = 1_704_067_200_000
SEEDS = range(8)


@dataclass(frozen=True, slots=True)
class Counts:
    """Of one set; metrics = most metrics of one entity."""

    name: str
    entities: int
    metrics: int
    alarms: int
    episodes: int
    incidents: int
    examples: tuple[str, ...]


def main() -> int:
    options = _options()
    found = []
    for name, feed in feeds():
        found.append(counted(name, feed, options.examples))
        _show(found[-1])
    outages = [outage(seed) for seed in SEEDS]
    for incidents in outages[: options.examples]:
        for one in incidents:
            print(f"  {described(one)}")
    is_one = [len(incidents) == 1 for incidents in outages]
    print(f"outage of {METRICS} metrics: {sum(is_one)} of {len(is_one)} are one incident")
    if options.json is not None:
        document = {"sets": [asdict(one) for one in found], "outages_as_one": sum(is_one)}
        options.json.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    return int(not all(is_one))


def feeds() -> Iterator[tuple[str, Feed]]:
    """Yield the sets that are there; say which are not."""
    folder = os.environ.get("LAPWING_NAB_DIR", "")
    if folder and (Path(folder) / CLOUDWATCH).is_dir():
        yield "realAWSCloudwatch", open_feed(Settings(), InputOptions(Path(folder) / CLOUDWATCH))
    else:
        print("SKIPPED: realAWSCloudwatch; LAPWING_NAB_DIR names no folder", file=sys.stderr)
    traces, why_not = find_folder(None)
    if traces is None:
        print(f"SKIPPED: {why_not}", file=sys.stderr)
        return
    for name in SETS:
        yield name, open_feed(Settings(), InputOptions(traces / name / "data"))


def judged(feed: Feed) -> tuple[BacktestResult, list[Incident]]:
    """Run the detector as shipped; return its results and their incidents."""
    (result,) = run(feed, [Variant("shipped", Configuration.from_settings(Settings()))])
    anomalies = (*result.alarms, *result.closed, *result.quality)
    return result, incidents_of(anomalies, Rules.of(Settings().incidents))


def counted(name: str, feed: Feed, examples: int) -> Counts:
    """Count a set's alarms, episodes and incidents; describe the widest incidents."""
    result, incidents = judged(feed)
    widest = sorted(
        incidents, key=lambda one: (-len(one.record()["metrics"]), -len(one.episodes), one.start)
    )
    return Counts(
        name,
        len({series.entity for series in result.series}),
        max((len(series.metrics) for series in result.series), default=0),
        len(result.alarms),
        sum(alarm.phase is Phase.OPEN for alarm in result.alarms),
        len(incidents),
        tuple(described(one) for one in widest[:examples]),
    )


def described(incident: Incident) -> str:
    """Return an incident as one line."""
    record = incident.record()
    lasted = "open" if record["end"] is None else f"for {duration(record['duration_ms'])}"
    return (
        f"{record['title']}; since {minute(record['start'])} UTC, {lasted};"
        f" {record['severity_class']}; {len(record['metrics'])} metric(s) named,"
        f" {record['entity_count']} host(s), {record['episode_count']} episode(s);"
        f" {record['closed_because'] or 'not closed'}"
    )


def outage(seed: int) -> list[Incident]:
    """Return the incidents of a host whose metrics all fall to nothing once."""
    random = np.random.default_rng(seed)
    rows = DAYS * DAY_ROWS
    angle = 2 * np.pi * np.arange(rows)[:, None] / DAY_ROWS + random.uniform(0, 6, METRICS)
    level = random.uniform(20, 200, METRICS)
    values = level * (1 + random.uniform(0.05, 0.3, METRICS) * np.sin(angle))
    values += level * random.uniform(0.01, 0.04, METRICS) * random.standard_normal(values.shape)
    first = round(OUTAGE_DAY * DAY_ROWS)
    values[first : first + OUTAGE_ROWS] = 0.0
    return judged(_feed(values))[1]


def _feed(values: np.ndarray[Any, np.dtype[np.float64]]) -> Feed:
    rows = len(values)
    offsets = np.arange(rows, dtype=np.int64)
    columns = Columns(
        np.arange(rows),
        np.zeros(rows, np.int32),
        BEGIN_MS + STEP_MS * offsets,
        np.ascontiguousarray(values),
        np.empty(0, np.int64),
        np.empty(0, np.uint8),
    )
    names = tuple(f"metric_{number:02d}" for number in range(values.shape[1]))
    blank = Blob.join([b""] * rows)
    batch = Batch("outage", 0, blank, blank, offsets, np.zeros(rows, np.int64))
    return Feed("outage", rows, Prepared(columns, ["host-0"], names), lambda: iter([batch]))


def _show(counts: Counts) -> None:
    print(
        f"{counts.name}: {counts.entities} entities with up to {counts.metrics} metrics:"
        f" {counts.alarms} alarms, {counts.episodes} episodes, {counts.incidents} incidents"
    )
    for one in counts.examples:
        print(f"  {one}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.incident_counts", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--examples", type=int, default=2, metavar="N", help="incidents to show")
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
