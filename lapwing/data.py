"""Gets the series that are not in the repository, and says how far it is.

Law: what is fetched and checked is ``producer.fetch``'s matter; here it is only shown.
"""

from __future__ import annotations

import json
from pathlib import Path

from producer.fetch import DEFAULT_DIR, SOURCE_URL, Fetched, fetch


def fetch_nab(target: Path | None, source_url: str | None, *, as_json: bool) -> Fetched:
    """Fetch NAB, print what was done, and return it.

    raises : DataError for bytes that are not the pinned ones, TransportError, ConfigError
    """

    def told(name: str, done: int, total: int) -> None:
        if not as_json:
            print(f"{done + 1:3d} of {total}  {name}", flush=True)  # noqa: T201 - this is the command's output

    done = fetch(target or DEFAULT_DIR, source_url or SOURCE_URL, progress=told)
    if as_json:
        document = {
            "target": str(done.target),
            "written": done.written,
            "present": done.present,
        }
        print(json.dumps(document))  # noqa: T201
    else:
        said = f"{len(done.written)} files fetched, {len(done.present)} were there"
        print(f"{said}, in {done.target}")  # noqa: T201
    return done
