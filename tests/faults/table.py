"""Rows of the fault table: name, number of runs at each level, results.

Invariant: a row and a seed determine everything that a run does deliberately; every deviation that
           it finds is counted.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal

from tests.faults.run import Counts, InputSpoilt, RowFailed, Run
from tests.faults.testbed import Testbed
from tests.support.services.service import ServiceFailed

Level = Literal["few", "ci", "quick", "full", "soak"]
SOAK_MINUTES = 30.0
HEADINGS = (
    "row",
    "runs",
    "kills",
    "lost",
    "duplicates",
    "wrong",
    "disorder",
    "recovery_p50_s",
    "recovery_max_s",
)


@dataclass
class Tally:
    """Results of a row so far.

    minutes  : length of a soak
    repeated : runs that were carried out again because their input was spoilt on its way to the
               broker
    skipped  : why the row was skipped
    more     : figures that only this row has
    """

    level: Level
    dice: random.Random
    minutes: float = SOAK_MINUTES
    runs: int = 0
    kills: int = 0
    events: int = 0
    counts: Counts = field(default_factory=Counts)
    recoveries: list[float] = field(default_factory=list)
    exits: dict[str, int] = field(default_factory=dict)
    repeated: int = 0
    skipped: str = ""
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def brief(self) -> bool:
        """Whether a run is to take seconds, not minutes."""
        return self.level in ("few", "ci")

    def pick(self, ci: float, quick: float, full: float, *, few: float | None = None) -> float:
        """Return what is meant for the level; ``few`` has what ``ci`` has unless it is given."""
        if self.level == "few" and few is not None:
            return few
        return ci if self.brief else quick if self.level == "quick" else full

    def close(
        self, run: Run, *, may_exit: bool = True, stopped: bool = False, may_repeat: bool = False
    ) -> None:
        """Finish a run and take its account.

        may_exit : whether a predictor may end with an error, to be started again
        stopped  : a guard has stopped every predictor for good; only what was committed until then
                   counts
        may_repeat : whether the very same bytes may come again, and out of order then; such results
                     are counted apart
        """
        counts = run.finish_stopped() if stopped else run.finish()
        if may_repeat:
            self.more["repeats"] = self.more.get("repeats", 0) + counts.duplicates
            counts.duplicates = counts.disorder = 0
        self.counts.add(counts)
        self.runs += 1
        self.kills += run.kills()
        self.events += sum(run.pacer.counts.values())
        self.recoveries += run.recoveries
        for code, times in run.exits().items():
            self.exits[str(code)] = self.exits.get(str(code), 0) + times
        if not may_exit and (
            ended := {code: n for code, n in run.exits().items() if code not in (0, -9)}
        ):
            self.counts.problems.append(f"{run.name}: predictors ended with {ended}\n{run.logs()}")

    def require(self, true: bool, what: str) -> None:
        """Note a problem unless something holds."""
        if not true:
            self.counts.problems.append(what)

    @property
    def clean(self) -> bool:
        counts = self.counts
        return not (
            counts.lost or counts.duplicates or counts.wrong or counts.disorder or counts.problems
        )

    def record(self, name: str) -> dict[str, Any]:
        """Return the row as a line of the table."""
        counts, times = self.counts, self.recoveries
        figures = [
            self.runs,
            self.kills,
            counts.lost,
            counts.duplicates,
            counts.wrong,
            counts.disorder,
        ]
        figures += [round(median(times), 1), round(max(times), 1)] if times else [None, None]
        more = {
            "events": self.events,
            "recoveries": len(times),
            "exits": self.exits,
            "repeated": self.repeated,
            "problems": counts.problems,
        }
        more |= self.more | ({"skipped": self.skipped} if self.skipped else {})
        return dict(zip(HEADINGS, [name, *figures], strict=True)) | more


Action = Callable[[Testbed, Tally], None]


@dataclass(frozen=True)
class Row:
    """One fault.

    times : how often it is carried out at each level; 0 = not at this one, as for all but the soak
            at its own
    """

    name: str
    action: Action
    times: Mapping[Level, int]

    def carry_out(
        self, testbed: Testbed, seed: int, level: Level, minutes: float = SOAK_MINUTES
    ) -> Tally:
        """Run the row as often as the level says; an aborted run is counted as a problem."""
        tally = Tally(level, random.Random(f"{seed} {self.name}"), minutes)
        for _ in range(self.times[level]):
            try:
                self._once(testbed, tally)
            except (RowFailed, ServiceFailed) as failed:
                tally.counts.problems.append(str(failed))
        return tally

    def _once(self, testbed: Testbed, tally: Tally) -> None:
        for chance in range(3):
            try:
                self.action(testbed, tally)
                return
            except InputSpoilt:
                tally.repeated += 1
                if chance == 2:
                    raise
            finally:
                testbed.restore()


ROWS: list[Row] = []


def row(
    name: str, *, few: int = 0, ci: int = 0, quick: int = 1, full: int = 1, soak: int = 0
) -> Callable[[Action], Action]:
    """Put a function into the table."""

    def enter(action: Action) -> Action:
        times: dict[Level, int] = {"few": few, "ci": ci, "quick": quick, "full": full, "soak": soak}
        ROWS.append(Row(name, action, times))
        return action

    return enter


def as_text(records: list[dict[str, Any]]) -> str:
    """Return the table for people."""
    cells = [list(HEADINGS)] + [
        ["-" if one[h] is None else str(one[h]) for h in HEADINGS] for one in records
    ]
    widths = [max(len(line[k]) for line in cells) for k in range(len(HEADINGS))]
    lines = [
        "  ".join(
            cell.ljust(width) if k == 0 else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in cells
    ]
    return "\n".join(line.rstrip() for line in lines)
