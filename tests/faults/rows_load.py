"""Rows at a fifth of one predictor's capacity: time until results appear again."""

from __future__ import annotations

import sys
import time

from shared.kafka import Admin
from tests.faults.run import Run
from tests.faults.table import Tally, row
from tests.faults.testbed import Testbed

SHARE = 0.2
BACKLOG = 20_000


def _at_load(testbed: Testbed) -> Run:
    """Return a run whose rate is a fifth of the measured maximum throughput."""
    if testbed.capacity is None:
        with Run(testbed) as run:
            testbed.capacity = _capacity(run)
        print(
            f"one predictor processes {testbed.capacity:,.0f} records/s",
            file=sys.stderr,
            flush=True,
        )
    return Run(testbed, rate=SHARE * testbed.capacity, LAPWING_PREDICT__SNAPSHOT_INTERVAL_S="5")


def _capacity(run: Run) -> float:
    """Return the records per second between the first commit and the last one of a backlog."""
    run.pacer.send(BACKLOG)
    run.slot("a").start()
    admin, group, topic = Admin(run.settings), run.settings.predict.group, run.settings.topics.input
    seen: list[tuple[float, int]] = []
    deadline = time.monotonic() + 120
    while (not seen or seen[-1][1] < BACKLOG) and time.monotonic() < deadline:
        committed = sum(position.offset for position in admin.committed(group, topic).values())
        if committed:
            seen.append((time.monotonic(), committed))
    admin.close()
    run.finish()
    (first_s, first), (last_s, last) = seen[0], seen[-1]
    return (last - first) / (last_s - first_s) if last > first else BACKLOG / 1.0


@row("at 20 % load: restart of the same slot", quick=0, full=1)
def restart_at_load(testbed: Testbed, tally: Tally) -> None:
    with _at_load(testbed) as run:
        slot = run.begin("a")
        for _ in range(5):
            time.sleep(tally.dice.uniform(0.5, 3.0))
            mark = run.mark()
            slot.kill()
            run.recovered(mark)
        tally.close(run, may_exit=False)


@row("at 20 % load: failover", quick=0, full=2)
def failover_at_load(testbed: Testbed, tally: Tally) -> None:
    with _at_load(testbed) as run:
        slots = run.begin_all("ab")
        time.sleep(tally.dice.uniform(1.0, 3.0))
        mark = run.mark()
        tally.dice.choice(slots).kill(again=False)
        run.recovered(mark)
        tally.close(run, may_exit=False)


@row("at 20 % load: broker kill -9 and return", quick=0, full=2)
def broker_at_load(testbed: Testbed, tally: Tally) -> None:
    """Recovery counts from when the broker answers again."""
    with _at_load(testbed) as run:
        run.begin("a")
        time.sleep(tally.dice.uniform(0.5, 2.0))
        mark = run.mark()
        testbed.kafka.kill()
        tally.kills += 1
        testbed.kafka.start()
        run.recovered(mark, since_s=time.monotonic())
        tally.close(run, may_exit=False)
