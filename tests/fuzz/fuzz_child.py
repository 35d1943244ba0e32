"""Loads the files of ``tests.fuzz.fuzz_models`` with no more around it than a predictor has.

Invariant: it reports the outcome of each file before it opens the next one.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

from shared.artifacts import load
from shared.errors import ArtifactRefused
from shared.models.signatures import Trust, read_public

LONGEST_REASON = 1000


def main(root: Path) -> None:
    """Load file after file; names.json says which, and how much room there is."""
    listed = json.loads((root / "names.json").read_text())
    trusts = {False: Trust(), True: Trust(keys=(read_public(listed["key"].encode()),))}
    for place, sha256 in enumerate(listed["good"]):
        for trust in trusts.values():
            load(root / f"good-{place}", sha256, trust)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + listed["room_bytes"]
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    print(json.dumps({"idle_bytes": peak_bytes()}), flush=True)
    for place in range(listed["start"], len(listed["names"])):
        sha256, signed = listed["names"][place]
        began_s = time.perf_counter()
        outcome = outcome_of(root / str(place), sha256, trusts[signed])
        took_s = time.perf_counter() - began_s
        print(
            json.dumps(
                {"place": place, "outcome": outcome, "took_s": took_s, "peak_bytes": peak_bytes()}
            ),
            flush=True,
        )


def outcome_of(folder: Path, sha256: str, trust: Trust) -> str:
    """Return loaded, refused, or the error; running out of memory counts as an error too."""
    try:
        load(folder, sha256, trust)
    except ArtifactRefused as error:
        message = str(error)
        return (
            message[:LONGEST_REASON]
            if "not enough memory" in message or len(message) > LONGEST_REASON
            else "refused"
        )
    except Exception as error:  # noqa: BLE001 - any other error is what is looked for
        return f"{type(error).__name__}: {error}"[:LONGEST_REASON]
    return "loaded"


def peak_bytes() -> int:
    """Return peak resident memory; getrusage reports at least the parent's at the fork."""
    status = Path("/proc/self/status").read_text()
    return (
        int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1])
        * 1024
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
