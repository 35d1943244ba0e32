"""Three faults with each Kafka client in each group protocol, whatever the suite runs with.

Invariant: only CI carries these rows out; a run of all rows with another client or protocol is
           ``--engine`` and ``--protocol``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import product

from tests.faults.run import Run
from tests.faults.table import Action, Tally, row
from tests.faults.testbed import Testbed

CLIENTS = list(product(("python", "native"), ("classic", "consumer")))[1:]
"""Engines and protocols; the first pair is what the other rows of CI run with."""


def killed(run: Run, tally: Tally) -> None:
    """A killed predictor comes back under its own slot."""
    victim = run.begin("a")
    time.sleep(tally.dice.uniform(0.0, 1.0))
    mark = run.mark()
    victim.kill()
    run.recovered(mark)


def failover(run: Run, tally: Tally) -> None:
    """The partitions of one that does not come back go to the other."""
    slots = run.begin_all("ab")
    mark = run.mark()
    tally.dice.choice(slots).kill(again=False)
    run.recovered(mark)


def drained(run: Run, tally: Tally) -> None:
    """A predictor that is shut down leaves nothing open, and its slot is free at once."""
    slot = run.begin("a")
    time.sleep(tally.dice.uniform(0.0, 1.0))
    began_s = time.monotonic()
    code = slot.stop()
    tally.require(code == 0, f"{run.name}: ended with {code} after SIGTERM\n{run.logs()}")
    run.wait(lambda: slot.process is None, 5, "the end of the process")
    mark = run.mark()  # what is sent from here on only the next process has
    slot.start()
    run.recovered(mark, since_s=began_s)


FAULTS: dict[str, Callable[[Run, Tally], None]] = {
    "kill -9": killed,
    "failover": failover,
    "SIGTERM": drained,
}


def _with_client(engine: str, protocol: str, fault: Callable[[Run, Tally], None]) -> Action:
    def action(testbed: Testbed, tally: Tally) -> None:
        with testbed.other_client(engine, protocol), Run(testbed) as run:
            fault(run, tally)
            tally.close(run, may_exit=False)

    return action


for (engine, protocol), (name, fault) in product(CLIENTS, FAULTS.items()):
    row(f"{engine}, {protocol} groups: {name}", ci=1)(_with_client(engine, protocol, fault))
