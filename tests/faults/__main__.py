"""``python -m tests.faults``: the fault suite on a real Kafka, its table, and its JSON.

Without options a subset of a few minutes, as in CI, and with ``--few`` four rows, as in `make
test`; ``--quick`` carries out every row once, ``--full`` often enough for some hundred kills. A
seed repeats the same faults at the same moments of the same stream.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from shared.events import Detector
from tests.faults.suite import carry_out, chosen, versions
from tests.faults.table import ROWS, SOAK_MINUTES, Level, as_text
from tests.faults.testbed import Testbed

_SOAK = (
    "random faults for so long (default: %(const)s), and what a predictor that is not killed"
    " takes up"
)


def main() -> int:
    options = _parser().parse_args()
    named: tuple[Level, ...] = ("soak", "full", "quick", "few")
    level: Level = next((level for level in named if getattr(options, level)), "ci")
    rows = chosen(level, options.row)
    if options.list or not rows:
        print("\n".join(row.name for row in ROWS))
        return 0 if options.list else 2
    folder = Path(tempfile.mkdtemp(prefix="lapwing-faults-"))
    records: list[dict[str, object]] = []
    keep = options.keep
    try:
        testbed = Testbed(
            folder,
            Detector(options.detector),
            options.seed,
            engine=options.engine,
            protocol=options.protocol,
            threads=options.threads,
        )
        try:
            for record in carry_out(testbed, rows, level, _say, options.soak):
                records.append(record)
                _write(options.json, records, options, level)
        finally:
            testbed.close()
    except pytest.skip.Exception as skipped:
        print(f"SKIPPED: {skipped}", file=sys.stderr)
        return 1 if os.environ.get("REQUIRE_KAFKA") == "1" else 0
    except pytest.fail.Exception as failed:
        print(failed, file=sys.stderr)
        return 1
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    print(as_text(records))
    kills = sum(int(str(record["kills"])) for record in records)
    print(
        f"\n{len(records)} rows, {kills} kills, detector {options.detector}, engine"
        f" {options.engine}, protocol {options.protocol}, threads {options.threads}, seed"
        f" {options.seed}, {versions()}"
    )
    for record in records:
        for problem in record["problems"]:  # type: ignore[attr-defined]
            print(f"\n{record['row']}: {problem}")
    figures = ("lost", "duplicates", "wrong", "disorder")
    return int(
        any(record["problems"] or any(record[name] for name in figures) for record in records)
    )


def _write(
    path: Path | None, records: list[dict[str, object]], options: argparse.Namespace, level: str
) -> None:
    """Write what is known so far, so that a run that is broken off has not been in vain."""
    if path is not None:
        whole = {"rows": records, "seed": options.seed, "level": level, "versions": versions()}
        path.write_text(json.dumps(whole, indent=1) + "\n", "utf-8")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults", description="Break things, and count what is wrong then."
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--few", action="store_true", help="four rows, about a minute")
    size.add_argument("--quick", action="store_true", help="every row once")
    size.add_argument(
        "--full", action="store_true", help="every row often, some 600 kills; takes 75 minutes"
    )
    size.add_argument(
        "--soak",
        type=float,
        nargs="?",
        const=SOAK_MINUTES,
        default=0.0,
        metavar="MINUTES",
        help=_SOAK,
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table there")
    parser.add_argument(
        "--seed",
        type=int,
        default=_seed(),
        help="decides the stream and every moment (default: %(default)s)",
    )
    parser.add_argument(
        "--detector",
        default="ensemble",
        choices=[one.value for one in Detector],
        help="what judges",
    )
    parser.add_argument(
        "--engine",
        default="auto",
        choices=["auto", "native", "python"],
        help="Kafka client of the predictors",
    )
    parser.add_argument(
        "--protocol",
        default="classic",
        choices=["classic", "consumer"],
        help="group protocol of the predictors (kafka.group.protocol)",
    )
    parser.add_argument(
        "--threads", type=int, default=1, metavar="N", help="predict.threads of the predictors"
    )
    parser.add_argument(
        "--row",
        action="append",
        default=[],
        metavar="WORD",
        help="only rows with this word in their name",
    )
    parser.add_argument("--list", action="store_true", help="print the names of all rows")
    parser.add_argument(
        "--keep", action="store_true", help="keep logs, states and models in their temporary folder"
    )
    return parser


def _seed() -> int:
    """The same in CI every time, so that red means a change; else another one each time."""
    return 1 if os.environ.get("CI") else random.SystemRandom().randrange(2**31)


if __name__ == "__main__":
    sys.exit(main())
