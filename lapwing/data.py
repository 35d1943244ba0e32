"""Download of the series that are not in the repository, with its progress.

Invariant: ``producer.fetch`` downloads and checks; this module only prints.
"""

from __future__ import annotations

import json
from pathlib import Path

from producer.fetch import DEFAULT_DIR, SOURCE_URL, Fetched, fetch


def fetch_nab(target: Path | None, source_url: str | None, *, as_json: bool) -> Fetched:
    """Download NAB, print a summary and return it.

    raises : DataError for bytes that are not the pinned ones, TransportError, ConfigError
    """

    def show_progress(name: str, done: int, total: int) -> None:
        if not as_json:
            print(f"{done + 1:3d} of {total}  {name}", flush=True)  # noqa: T201 - this is the command's output

    done = fetch(target or DEFAULT_DIR, source_url or SOURCE_URL, progress=show_progress)
    if as_json:
        document = {
            "target": str(done.target),
            "written": done.written,
            "present": done.present,
        }
        print(json.dumps(document))  # noqa: T201
    else:
        counts = f"{len(done.written)} files downloaded, {len(done.present)} already present"
        print(f"{counts}, in {done.target}")  # noqa: T201
    return done
