"""All judges in one table: ``python -m benchmarks.quality [--against REVISION] [OPTIONS]``.

Operator situations, labelled traces, NAB, recall on a generated fleet, false alarms on healthy
series, and the alarm budget. With ``--against`` a second column shows another revision, judged by
this revision's judges through its command line; NAB is scored by each revision's own scorer.

Invariant: both builds see the same files; a part that is skipped or fails is named with its reason.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.builds import Build, BuildError, this_build
from benchmarks.quality.parts import PARTS, Figures, Inputs, Sizes, Skipped
from benchmarks.quality.revisions import revision
from shared.errors import LapwingError

QUICK = Sizes(fleet_hosts=10, fleet_days=40, budget_hosts=4, budget_days=34, healthy_days=60)
"""Sizes of --quick: to see that everything runs; the figures are too noisy to compare."""


@dataclass
class Column:
    """Figures of one build.

    figures  : part -> figures
    problems : part -> why there are none
    """

    name: str
    figures: dict[str, Figures] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def measure(build: Build, inputs: Inputs, names: Sequence[str]) -> Column:
    """Run the parts on a build; a part that cannot be measured is noted."""
    column = Column(build.name)
    for name in names:
        began_s = time.monotonic()
        try:
            column.figures[name] = PARTS[name](build, inputs)
        except Skipped as reason:
            column.problems[name] = f"SKIPPED: {reason}"
        except (BuildError, LapwingError) as error:
            column.problems[name] = f"FAILED: {error}"
        column.seconds[name] = time.monotonic() - began_s
        outcome = column.problems.get(name, "measured")
        seconds = column.seconds[name]
        print(f"{build.name}, {name}: {outcome} ({seconds:.0f} s)", file=sys.stderr, flush=True)
    return column


def table(columns: Sequence[Column], names: Sequence[str]) -> str:
    """Write one line for each figure, one column for each build."""
    rows: list[tuple[str, ...]] = [("", "", *(column.name for column in columns))]
    for name in names:
        labels = dict.fromkeys(label for one in columns for label in one.figures.get(name, {}))
        for label in labels:
            cells = [_cell(column.figures.get(name, {}), label) for column in columns]
            rows.append((name, label, *cells))
        seconds = [f"{column.seconds[name]:.0f}" for column in columns]
        rows.append((name, "seconds", *seconds))
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = []
    for row in rows:
        words = [row[0].ljust(widths[0]), row[1].ljust(widths[1])]
        numbers = [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
        lines.append("  ".join([*words, *numbers]).rstrip())
    for column in columns:
        lines += [f"{column.name}, {name}: {why}" for name, why in column.problems.items()]
    return "\n".join(lines)


def _cell(figures: Mapping[str, float], label: str) -> str:
    value = figures.get(label, math.nan)
    return "-" if math.isnan(value) else f"{value:.4g}"


def main() -> int:
    options = _options()
    names = options.only or list(PARTS)
    began_s = time.monotonic()
    try:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            sizes = QUICK if options.quick else Sizes()
            inputs = Inputs(folder, options.traces, options.nab, options.seed, sizes)
            builds = [this_build()]
            if options.against:
                builds.insert(0, stack.enter_context(revision(options.against)))
            columns = [measure(build, inputs, names) for build in builds]
    except BuildError as error:
        print(f"benchmarks.quality: {error}", file=sys.stderr)
        return 2
    print(table(columns, names))
    print(f"{time.monotonic() - began_s:.0f} s in all")
    if options.json:
        options.json.write_text(
            json.dumps([vars(one) for one in columns], indent=1) + "\n", "utf-8"
        )
    failed = any(why.startswith("FAILED") for why in columns[-1].problems.values())
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality", description="All judges of detection in one table."
    )
    nab = os.environ.get("LAPWING_NAB_DIR")
    add = parser.add_argument
    add("--against", metavar="REVISION", help="another revision, in a column before this one")
    add("--only", nargs="+", choices=list(PARTS), help="these parts; default: all")
    add("--seed", type=int, default=0, metavar="N", help="of everything that is generated")
    add("--traces", type=Path, metavar="DIR", help="default: $LAPWING_TRACES_DIR")
    add("--nab", type=Path, metavar="DIR", default=Path(nab) if nab else None,
        help="default: $LAPWING_NAB_DIR")  # fmt: skip
    add("--quick", action="store_true", help="little data: to see that everything runs")
    add("--json", type=Path, metavar="FILE", help="write all figures")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
