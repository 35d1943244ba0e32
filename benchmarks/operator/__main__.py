"""Judge everyday situations: ``python -m benchmarks.operator [OPTIONS]``.

Options: ``--seed N``, ``--only NAME``, ``--interval 10s|1min|15min|1h``, ``--noise FAMILY``,
``--variants``, ``--baseline``, ``--json FILE``; ``--help`` lists all.

Invariant: a situation's result depends neither on the others nor on the number of processes.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from benchmarks.builds import Build, BuildError, cores, installed_build, perturbed_build, this_build
from benchmarks.operator import report
from benchmarks.operator.oracles import judge_oracles
from benchmarks.operator.running import Request, Result, load_situations, run
from benchmarks.operator.signals import Noise
from benchmarks.operator.situations import Situation
from benchmarks.operator.variants import ALL, INTERVALS_S, ORIGINAL, Variant

UNUSABLE = 2
"""Exit code where an option cannot be used."""

MEDIAN_DAYS, MEDIAN_STEP_S = 35, 300


def main() -> int:
    options = _options()
    try:
        situations = _chosen(load_situations(options.situations), options.only)
        build = _build(options)
    except (BuildError, ValueError, OSError) as error:
        print(f"benchmarks.operator: {error}", file=sys.stderr)
        return UNUSABLE
    if options.list:
        print(report.table(situations))
        return 0
    if options.self_test:
        return self_test(situations, options)
    if options.variants:
        return run_variants(situations, build, options)
    began_s = time.monotonic()
    variant = Variant(options.interval, options.noise)
    results = judge_all(situations, build, options, variant)
    sums = report.totals(results)
    print(f"\n{sums}")
    if sums.failing:
        print(f"failing: {', '.join(sums.failing)}")
    print(f"({time.monotonic() - began_s:.0f} s)")
    if options.json:
        document = report.document(results, situations)
        options.json.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    return 1 if sums.failing else 0


def judge_all(
    situations: Sequence[Situation],
    build: Build | None,
    options: argparse.Namespace,
    variant: Variant = ORIGINAL,
    quiet: bool = False,
) -> list[Result]:
    """Run situations in processes of their own, the largest first; print them in their order."""
    with ProcessPoolExecutor(options.jobs) as pool:
        running = {
            situation.name: pool.submit(
                run,
                Request(
                    situation.name,
                    options.seed,
                    variant,
                    options.situations,
                    build,
                    options.keep,
                ),
            )
            for situation in sorted(situations, key=_size, reverse=True)
        }
        results = []
        for situation in situations:
            results.append(running[situation.name].result())
            if not quiet:
                print(report.show(results[-1]), flush=True)
    return results


def run_variants(
    situations: Sequence[Situation], build: Build | None, options: argparse.Namespace
) -> int:
    """Run all intervals and noises; print the share that passes of each, and what fails."""
    began_s = time.monotonic()
    documents = {}
    for variant in ALL:
        results = judge_all(situations, build, options, variant, quiet=True)
        sums = report.totals(results)
        share = sums.passed / max(sums.judged, 1)
        print(f"{variant!s:<16}{share:>5.0%}  {sums}", flush=True)
        print(f"{'':<16}failing: {', '.join(sums.failing) or 'none'}", flush=True)
        left = [result.name for result in results if result.verdict is None]
        print(f"{'':<16}not judged: {', '.join(left) or 'none'}", flush=True)
        documents[str(variant)] = report.document(results, situations)
    print(f"({time.monotonic() - began_s:.0f} s)")
    if options.json:
        options.json.write_text(json.dumps(documents, indent=1) + "\n", "utf-8")
    return 0


def self_test(situations: Sequence[Situation], options: argparse.Namespace) -> int:
    """Judge perfect alarms, constant ones and none; only the first may pass."""
    with_rows = [situation for situation in situations if situation.make is not None]
    wrong = 0
    with ProcessPoolExecutor(options.jobs) as pool:
        verdicts = pool.map(partial(judge_oracles, seed=options.seed), with_rows)
        for situation, by_oracle in zip(with_rows, verdicts, strict=True):
            for oracle, verdict in by_oracle.items():
                if verdict.passed == (oracle == "perfect"):
                    continue
                wrong += 1
                unmet = [f"{c.required}: {c.measured}" for c in verdict.checks if not c.passed]
                print(f"{situation.name}: {oracle} came out wrong {'; '.join(unmet)}")
    print(f"{len(with_rows)} situations: {wrong} wrong verdicts on perfect, constant and no alarms")
    return 1 if wrong else 0


def _chosen(situations: Sequence[Situation], names: Sequence[str]) -> list[Situation]:
    chosen = [
        situation
        for situation in situations
        if not names or any(name in situation.name for name in names)
    ]
    if not chosen:
        known = ", ".join(situation.name for situation in situations)
        raise ValueError(f"--only {' '.join(names)}: no situation is called so; there are {known}")
    return chosen


def _build(options: argparse.Namespace) -> Build | None:
    if options.baseline:
        return None
    if options.perturb is not None:
        return perturbed_build(options.perturb)
    if options.lapwing is not None:
        return installed_build(options.lapwing)
    importlib.import_module("lapwing.backtest.command")  # once, for all processes
    return this_build(in_process=True)


def _size(situation: Situation) -> float:
    """Estimate the rows of a situation, up to a factor."""
    days = situation.parameters.get("days", MEDIAN_DAYS)
    return float(days / situation.parameters.get("step_s", MEDIAN_STEP_S))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.operator",
        description="Judge everyday situations as an operator would.",
    )
    add = parser.add_argument
    add("--only", action="append", default=[], metavar="NAME", help="part of a name; repeatable")
    add("--seed", type=int, default=0, metavar="N", help="other data, same questions")
    add("--interval", choices=list(INTERVALS_S), help="instead of each situation's interval")
    add("--noise", choices=list(Noise), type=Noise, help="instead of each situation's noise")
    add("--variants", action="store_true", help="every interval and noise: the share that passes")
    add("--baseline", action="store_true", help="judge a plain median per time of day instead")
    add("--lapwing", type=Path, metavar="COMMAND", help="an installed lapwing; default: this clone")
    add("--perturb", type=int, metavar="DRAW", help="perturb every constant but the threshold")
    add("--situations", type=Path, metavar="FILE", help="Python file with a list SITUATIONS")
    add("--json", type=Path, metavar="FILE", help="write all criteria and measurements")
    add("--keep", type=Path, metavar="DIR", help="keep data and output of every situation")
    add("--jobs", type=int, default=cores(), metavar="N", help="processes; default: the cores")
    add("--self-test", action="store_true", help="judge perfect, constant and no alarms")
    add("--list", action="store_true", help="print the table of situations")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
