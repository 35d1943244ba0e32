"""Judge a build on labelled traces: ``python -m benchmarks.traces [DIR] [OPTIONS]``.

DIR holds a folder for each set (asd, js2, js3, ms) with data/*.csv, labels.json and period.json;
default: the variable LAPWING_TRACES_DIR. Words after ``--`` are passed on to ``lapwing backtest``.

Invariant: without data nothing is judged and the command says so; the product's own settings apply.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.builds import Build, BuildError, cores, installed_build, perturbed_build, this_build
from benchmarks.traces.judging import Figures
from benchmarks.traces.running import SETS, find_folder, run_sets
from shared.errors import LapwingError


def main() -> int:
    options = _options()
    folder, why_not = find_folder(options.folder)
    if folder is None:
        print(f"SKIPPED: {why_not}", file=sys.stderr)
        return 0
    began_s = time.monotonic()
    try:
        build = _build(options)
        figures = run_sets(build, folder, options.sets, options.options, options.jobs)
    except (BuildError, LapwingError) as error:
        print(f"benchmarks.traces: {error}", file=sys.stderr)
        return 2
    for name, found in figures.items():
        print(f"{name:<6} {found}")
    print(f"({time.monotonic() - began_s:.0f} s)")
    if options.json:
        document = {name: plain(found) for name, found in figures.items()}
        options.json.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    return 0


def _build(options: argparse.Namespace) -> Build:
    if options.perturb is not None:
        return perturbed_build(options.perturb)
    return this_build() if options.lapwing is None else installed_build(options.lapwing)


def plain(figures: Figures) -> dict[str, Any]:
    """Return the figures as JSON values."""
    derived = ("precision", "recall", "f1", "false_per_day", "delay_min")
    values = asdict(figures) | {name: getattr(figures, name) for name in derived}
    del values["delays_min"]
    return values


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.traces",
        description="Judge a build on labelled traces.",
        epilog="Words after -- are passed on to lapwing backtest.",
    )
    add = parser.add_argument
    add("folder", type=Path, nargs="?", metavar="DIR", help="default: $LAPWING_TRACES_DIR")
    add("--sets", nargs="+", default=list(SETS), choices=SETS, help="default: all")
    add("--lapwing", type=Path, metavar="COMMAND", help="an installed lapwing; default: this clone")
    add("--perturb", type=int, metavar="DRAW", help="perturb every constant but the threshold")
    add("--json", type=Path, metavar="FILE", help="write all figures")
    add("--jobs", type=int, default=cores(), metavar="N", help="sets at the same time")
    own, passed_on = _split(sys.argv[1:])
    options = parser.parse_args(own)
    options.options = passed_on
    return options


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """Return the words before and after the first ``--``."""
    at = words.index("--") if "--" in words else len(words)
    return words[:at], words[at + 1 :]


if __name__ == "__main__":
    sys.exit(main())
