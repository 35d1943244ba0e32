"""Runs rows of the table and collects their records."""

from __future__ import annotations

import importlib.metadata
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from shared.events import STATE_VERSION, Detector
from tests.faults import (
    rows_at_least_once,
    rows_clients,
    rows_cluster,
    rows_data,
    rows_guards,
    rows_incidents,
    rows_load,
    rows_models,
    rows_notify,
    rows_processes,
    rows_route,
    rows_security,
    rows_services,
    rows_soak,
    rows_upgrade,
)
from tests.faults.table import ROWS, SOAK_MINUTES, Level, Row
from tests.faults.testbed import Testbed
from tests.support.services import maven

MODULES = (
    rows_processes,
    rows_clients,
    rows_services,
    rows_data,
    rows_models,
    rows_at_least_once,
    rows_load,
    rows_cluster,
    rows_guards,
    rows_incidents,
    rows_notify,
    rows_route,
    rows_security,
    rows_soak,
    rows_upgrade,
)
"""Imported for the rows that they enter, which are carried out in this order."""
ROWS.sort(key=lambda row: [module.__name__ for module in MODULES].index(row.action.__module__))


def chosen(level: Level, words: Sequence[str] = ()) -> list[Row]:
    """Return the rows of a level whose names hold one of the words, or all of them."""
    return [
        row
        for row in ROWS
        if row.times[level] and (not words or any(word in row.name for word in words))
    ]


def carry_out(
    testbed: Testbed,
    rows: Sequence[Row],
    level: Level,
    say: Callable[[str], None],
    minutes: float = SOAK_MINUTES,
) -> Iterator[dict[str, Any]]:
    """Run rows one after another and yield their records; minutes = duration of a soak."""
    for row in rows:
        began_s = time.monotonic()
        tally = row.carry_out(testbed, testbed.seed, level, minutes)
        record = row_record(row, tally, round(time.monotonic() - began_s, 1), testbed.detector)
        found = (
            f"SKIPPED, {tally.skipped}"
            if tally.skipped
            else "as it should be"
            if tally.clean
            else "FAILED"
        )
        say(f"{row.name}: {found}, {record['seconds']} s")
        yield record


def row_record(row: Row, tally: Any, seconds: float, detector: Detector) -> dict[str, Any]:
    """Return a row's record with where and how long."""
    return tally.record(row.name) | {"seconds": seconds, "detector": detector.value}


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    libraries = {
        name: importlib.metadata.version(name) for name in ("confluent-kafka", "numpy", "numba")
    }
    return libraries | {
        "kafka": maven.version("kafka"),
        "registry": maven.version("apicurio"),
        "python": platform.python_version(),
        "state_version": str(STATE_VERSION),
    }
