"""Rows about at-least-once delivery: nothing is lost, and repeated results are identical."""

from __future__ import annotations

import time

from tests.faults.predictor import KILLED
from tests.faults.run import Run
from tests.faults.table import Tally, row
from tests.faults.testbed import Testbed

AT_LEAST_ONCE = {"LAPWING_PREDICT__DELIVERY": "at-least-once"}


@row("at-least-once: kill -9, repeats counted apart", full=3)
def killed_at_least_once(testbed: Testbed, tally: Tally) -> None:
    """Killed at random, and between acknowledgement and position, where results must repeat."""
    with Run(testbed, **AT_LEAST_ONCE) as run:
        victim = run.begin("a")
        for _ in range(int(tally.pick(1, 2, 5))):
            time.sleep(tally.dice.uniform(0.0, 1.5))
            mark = run.mark()
            victim.kill()
            run.recovered(mark)
            died = victim.exits[KILLED]
            victim.arm(f"before_offsets:{tally.dice.randint(1, 4)}")
            victim.kill()
            run.wait(
                lambda died=died: victim.exits[KILLED] >= died + 2, 60, "the end at the fail point"
            )
            run.recovered(run.mark())
        tally.close(run, may_exit=False, may_repeat=True)
    tally.require(tally.more["repeats"] > 0, "no result came again, so the row has shown nothing")
