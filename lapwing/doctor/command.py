"""Run of all checks in order, with their output.

Invariant: a check whose prerequisite is missing is reported as skipped; the exit code is 1 if a
check failed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

from lapwing.doctor.cluster import Cluster, check_broker, check_topics
from lapwing.doctor.files import check_folder, check_model
from lapwing.doctor.findings import Finding, skipped, summary, to_line
from lapwing.doctor.flow import Flow, Progress, Topics
from lapwing.doctor.input import NEWEST_RECORDS, check_input
from lapwing.doctor.notices import check_notices
from lapwing.doctor.registry import Subjects, check_clock, check_schemas, registry_time_s
from lapwing.inspect.command import inspect_topic
from lapwing.inspect.reading import Inspection
from shared.errors import LapwingError
from shared.kafka import Admin, Reader
from shared.registry import Registry
from shared.settings import Settings


@dataclass(frozen=True, slots=True)
class Dependencies:
    """External dependencies of the checks.

    inspect   : reads the newest records of the input
    clock     : seconds since 1970
    monotonic : seconds, for durations
    """

    cluster: Callable[[], Cluster]
    topics: Callable[[], Topics]
    registry: Callable[[], Subjects]
    inspect: Callable[[], Inspection]
    registry_clock: Callable[[Settings], float | None]
    clock: Callable[[], float]
    monotonic: Callable[[], float]
    sleep: Callable[[float], None]


def dependencies_of(settings: Settings) -> Dependencies:
    """Return the real dependencies."""
    return Dependencies(
        lambda: Admin(settings),
        lambda: Reader(settings),
        lambda: Registry(settings.registry),
        lambda: inspect_topic(settings, limit=NEWEST_RECORDS),
        registry_time_s,
        time.time,
        time.monotonic,
        time.sleep,
    )


def examine(settings: Settings, *, as_json: bool) -> int:
    """Run all checks and print the findings; return 1 if any failed, else 0."""
    found = []
    for finding in findings(settings, dependencies_of(settings)):
        found.append(finding)
        if not as_json:
            print(to_line(finding), flush=True)  # noqa: T201 - this is the command's output
    failed = sum(finding.result == "failed" for finding in found)
    warnings = sum(finding.result == "warning" for finding in found)
    if as_json:
        listed = [asdict(finding) for finding in found]
        document = {"ok": not failed, "failed": failed, "warnings": warnings, "findings": listed}
        print(json.dumps(document))  # noqa: T201
    else:
        print(f"\n{summary(found)}")  # noqa: T201
    return 1 if failed else 0


def findings(settings: Settings, dependencies: Dependencies) -> Iterator[Finding]:
    """Run the checks in order; progress is measured twice, with the other checks in between."""
    flow = Flow(settings, dependencies.cluster(), dependencies.topics())
    broker = check_broker(settings, flow.cluster)
    yield broker
    found = list(check_topics(settings, flow.cluster)) if broker.result == "ok" else []
    yield from found or skipped(("topics", "group"), "needs the broker")
    first = _first_progress(flow, dependencies.monotonic, found)
    metrics: list[str] = []

    def inspect() -> Inspection:
        inspection = dependencies.inspect()
        metrics.extend(name for reading in inspection.readings for name in reading.metrics)
        return inspection

    registered = list(check_schemas(settings, dependencies.registry()))
    yield from registered
    if broker.result == registered[0].result == "ok":
        yield check_input(settings, inspect)
    else:
        yield from skipped(("input",), "needs the broker and the registry")
    yield check_clock(settings, dependencies.registry_clock, dependencies.clock)
    yield check_model(settings, metrics)
    trains = "`lapwing train` writes models there, predictors only read"
    yield check_folder("models_dir", settings.models_dir, trains, needed=False)
    saves = "predictors keep their snapshots there"
    yield check_folder("state_dir", settings.state_dir, saves, needed=True)
    if isinstance(first, str):
        yield from skipped(("dead_letters", "results"), first)
        return
    yield flow.check_dead_letters(first)
    yield flow.check_results(first, dependencies.sleep, dependencies.monotonic)
    yield from check_notices(settings, flow.cluster, flow.topics)


def _first_progress(flow: Flow, clock: Callable[[], float], found: list[Finding]) -> Progress | str:
    """Return the progress, or the reason why it cannot be measured."""
    if not found:
        return "needs the broker"
    if any(finding.result == "skipped" for finding in found):
        return "needs the topics"
    try:
        return flow.measure(clock)
    except LapwingError as error:
        return str(error)
