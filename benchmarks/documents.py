"""What a benchmark of speed writes with ``--json``: the machine, the versions and its rows.

Invariant: docs/performance_page.py writes its tables from these documents alone.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("numba", "numpy")


def document(
    rows: Sequence[Mapping[str, Any]], repeats: int, load: float, packages: Sequence[str] = PACKAGES
) -> dict[str, Any]:
    """Return the rows with what they depend on.

    load     : load average while they were measured
    packages : whose versions matter
    """
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in packages},
        "repeats": repeats,
        "load": load,
        "rows": list(rows),
    }


def report(
    rows: Sequence[Mapping[str, Any]],
    repeats: int,
    path: Path | None,
    packages: Sequence[str] = PACKAGES,
) -> int:
    """Print the rows, write their document, and return the exit code: 0 if all are correct.

    path     : of the document; None = none
    packages : whose versions matter
    """
    for row in rows:
        print(json.dumps(row))
    if path is not None:
        found = document(rows, repeats, os.getloadavg()[0], packages)
        path.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    return 0 if all(row["correct"] for row in rows) else 1
