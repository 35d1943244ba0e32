"""``python -m tests.faults.mutants``: tests the fault table with mistakes planted in a copy.

Each mutant's predictors, and whoever publishes models for them, run from that copy; sender, reader
beside and oracle are the true ones. A row that fails without any mutant proves nothing about one.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from shared.events import Detector
from tests.faults.mutations import Mutant, copy_product, plant
from tests.faults.mutations_incidents import MUTANTS
from tests.faults.run import Counts
from tests.faults.suite import versions
from tests.faults.table import ROWS, Tally
from tests.faults.testbed import Testbed

FIGURES = ("lost", "duplicates", "wrong", "disorder")
HOW = 100
"""Characters of a problem that the table shows."""


@dataclass(frozen=True)
class Verdict:
    """Result of a mutant; caught_by = "" if no row detected it."""

    mutant: str
    caught_by: str
    how: str
    seconds: float = 0.0


def as_json(verdicts: Sequence[Verdict]) -> str:
    """Return the verdicts as a JSON list of {mutant, caught_by, how}; caught_by is null if none."""
    rows = [
        {"mutant": one.mutant, "caught_by": one.caught_by or None, "how": one.how}
        for one in verdicts
    ]
    return json.dumps(rows, indent=1) + "\n"


def as_table(verdicts: Sequence[Verdict]) -> str:
    """Return the table for people."""
    cells = [
        ("mutant", "caught by", "how"),
        *((one.mutant, one.caught_by or "NOBODY", one.how) for one in verdicts),
    ]
    widths = [max(len(line[k]) for line in cells) for k in range(2)]
    return "\n".join(
        f"{name:<{widths[0]}}  {row:<{widths[1]}}  {how}".rstrip() for name, row, how in cells
    )


def noticed(counts: Counts, sign: str) -> str:
    """Return what a row detected: its figures, or the first problem with the sign; "" = nothing."""
    figures = [f"{name} {getattr(counts, name)}" for name in FIGURES if getattr(counts, name)]
    if figures:
        return ", ".join(figures)
    problem = next((problem for problem in counts.problems if sign and sign in problem), "")
    return " ".join(problem.split())[:HOW]


class Trial:
    """One testbed for all mutants: copies the product, plants, and lets rows be carried out."""

    def __init__(self, testbed: Testbed, folder: Path, say: Callable[[str], None]) -> None:
        self.testbed = testbed
        self.folder = folder
        self.say = say
        self.whole = folder / "whole"
        self._clean: dict[tuple[str, float], bool] = {}
        copy_product(self.whole)

    def run(self, mutant: Mutant) -> Verdict:
        """Run the mutant's rows until one detects it."""
        began_s = time.monotonic()
        tree = self.folder / "mutant"
        plant(mutant, self.whole, tree)
        seen = []
        try:
            for name in mutant.rows:
                if not self._is_clean(name, mutant.patience_s):
                    seen.append(f"{name}: not clean without it")
                    continue
                for again in range(mutant.tries):
                    counts = self._carry_out(name, tree, mutant.patience_s, again).counts
                    if how := noticed(counts, mutant.sign):
                        return Verdict(mutant.name, name, how, time.monotonic() - began_s)
                    seen += [" ".join(problem.split())[:HOW] for problem in counts.problems]
        finally:
            shutil.rmtree(tree)
        return Verdict(mutant.name, "", "; ".join(seen), time.monotonic() - began_s)

    def _is_clean(self, name: str, patience_s: float) -> bool:
        """Whether a row is clean without a mutant; tried twice, as the machine may be busy."""
        key = name, patience_s
        for again in range(2):
            if key not in self._clean or not self._clean[key]:
                began_s = time.monotonic()
                tally = self._carry_out(name, self.whole, patience_s, again)
                self._clean[key] = tally.clean
                found = (
                    "clean without a mutant"
                    if tally.clean
                    else f"NOT CLEAN without a mutant: {tally.record(name)}"
                )
                self.say(f"{name}: {found}, {time.monotonic() - began_s:.1f} s")
        return self._clean[key]

    def _carry_out(self, name: str, tree: Path, patience_s: float, again: int) -> Tally:
        [row] = [row for row in ROWS if row.name == name]
        once = dataclasses.replace(row, times={"ci": 1})
        self.testbed.tree, self.testbed.patience_s = tree, patience_s
        try:
            return once.carry_out(self.testbed, self.testbed.seed + again, "ci")
        except Exception as error:  # noqa: BLE001 - whatever a mutant leads to, the others have their turn
            return Tally(
                "ci", random.Random(0), counts=Counts(problems=[f"the row was aborted: {error!r}"])
            )


def run_mutants(trial: Trial, mutants: Sequence[Mutant]) -> Iterator[Verdict]:
    """Run mutants one after another and yield their verdicts."""
    for mutant in mutants:
        verdict = trial.run(mutant)
        outcome = (
            f"caught by {verdict.caught_by!r}, {verdict.how}"
            if verdict.caught_by
            else f"SURVIVED {verdict.how}"
        )
        trial.say(f"{mutant.name}: {outcome}; {verdict.seconds:.1f} s")
        yield verdict


def main() -> int:
    options = _parser().parse_args()
    mutants = [
        one
        for one in MUTANTS
        if not options.mutant or any(word in one.name for word in options.mutant)
    ]
    if options.list or not mutants:
        print("\n".join(mutant.name for mutant in MUTANTS))
        return 0 if options.list else 2
    folder = Path(tempfile.mkdtemp(prefix="lapwing-mutants-"))
    began_s, verdicts = time.monotonic(), []
    try:
        (folder / "testbed").mkdir()
        testbed = Testbed(folder / "testbed", Detector.ENSEMBLE, options.seed)
        try:
            for verdict in run_mutants(Trial(testbed, folder, _say), mutants):
                verdicts.append(verdict)
                if options.json:
                    options.json.write_text(as_json(verdicts), "utf-8")
        finally:
            testbed.close()
    except pytest.skip.Exception as skipped:
        _say(f"SKIPPED: {skipped}")
        return 1 if os.environ.get("REQUIRE_KAFKA") == "1" else 0
    except pytest.fail.Exception as failed:
        _say(str(failed))
        return 1
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    print(as_table(verdicts))
    survived = [one.mutant for one in verdicts if not one.caught_by]
    took_min = (time.monotonic() - began_s) / 60
    print(
        f"\n{len(verdicts)} mutants, {len(survived)} survived, seed {options.seed}, {took_min:.1f}"
        f" min, {versions()}"
    )
    return int(bool(survived))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.mutants",
        description="Run the fault table against a product with planted mistakes.",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write [{mutant, caught_by, how}] there"
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=1,
        help="decides the stream and every moment (default: %(default)s)",
    )
    parser.add_argument(
        "--mutant",
        action="append",
        default=[],
        metavar="WORD",
        help="only mutants with this word in their name",
    )
    parser.add_argument("--list", action="store_true", help="print the names of all mutants")
    parser.add_argument(
        "--keep", action="store_true", help="keep logs, states and models in their temporary folder"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
